"""The curve of composed subsampled noise: against the closed form, then the accountant."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from attacks.epsilon.bounds import composed_bound, f_dp_bound, gaussian_curve
from attacks.epsilon.gaussian_dp import gaussian_delta, gaussian_epsilon
from attacks.epsilon.trade_off import LOSS_LARGEST, SubsampledGaussian
from attacks.errors import InvalidScores
from securefed.privacy.accounting import Event, epsilon

ONE = SubsampledGaussian(1.0, 1)
RUN = SubsampledGaussian(1 / 3, 80)  # the default run's sampling
RIGHT = np.linspace(1e-4, 1 - 1e-4, 101)


@pytest.mark.parametrize("noise", [0.25, 1.0, 4.0, 100.0])
def test_one_full_step_is_the_gaussian_curve_and_never_above_it(noise):
    curve, exact = ONE.curve(noise), gaussian_curve(1 / noise)
    short = np.array([exact(x) - curve(x) for x in RIGHT])
    assert short.min() >= 0
    assert short.max() < 5e-5
    assert curve.epsilon(1e-5) == pytest.approx(gaussian_epsilon(1 / noise, 1e-5), rel=1e-4)
    assert curve.delta(1.0) == pytest.approx(gaussian_delta(1 / noise, 1.0), abs=2e-6)


def test_full_steps_compose_to_one_step_with_less_noise():
    # The composition of T Gaussian releases is one of noise / sqrt(T).
    composed, single = SubsampledGaussian(1.0, 25).curve(5.0), ONE.curve(1.0)
    assert composed.epsilon(1e-5) == pytest.approx(single.epsilon(1e-5), rel=1e-3)
    assert max(abs(composed(x) - single(x)) for x in RIGHT) < 1e-4


@pytest.mark.parametrize(
    ("noise", "rate", "steps"),
    [(1.978, 1 / 3, 80), (0.989, 1 / 3, 80), (1.0, 0.01, 1000), (0.5, 1 / 3, 80), (1.3, 0.9, 30)],
)
@pytest.mark.parametrize("delta", [1e-5, 1e-7])
def test_epsilon_is_the_accountants(noise, rate, steps, delta):
    # PRV is asked for its upper end: 0.01 above its estimate, which is itself within 0.01.
    upper = epsilon([Event(noise, rate, steps)], delta)
    found = SubsampledGaussian(rate, steps).curve(noise).epsilon(delta)
    assert upper - 0.021 <= found <= upper


def test_neither_direction_is_forgotten():
    # One subsampled step, both directions by quadrature: adding is the worse one at large delta.
    rate, noise, level = 0.3, 0.7, 0.2
    x = np.linspace(-12, 14, 400_001)
    width = x[1] - x[0]
    out = stats.norm.pdf(x, 0, noise)
    drawn = (1 - rate) * out + rate * stats.norm.pdf(x, 1, noise)
    exact = [
        np.maximum(p - math.exp(level) * q, 0).sum() * width
        for p, q in ((drawn, out), (out, drawn))
    ]
    found = SubsampledGaussian(rate, 1).curve(noise).delta(level)
    assert max(exact) - 1e-9 <= found <= max(exact) + 1e-6


def test_the_curve_is_convex_decreasing_and_below_perfect_privacy():
    values = np.array([RUN.curve(2.0)(x) for x in RIGHT])
    assert (np.diff(values) >= 0).all()  # of the probability of a right guess
    assert (np.diff(values, 2) >= -1e-12).all()
    assert (values <= RIGHT + 1e-12).all()
    assert values[0] >= 0


def test_no_test_does_better_than_the_curve():
    # Threshold tests on the summed canary, simulated: their error is never under the curve's.
    rng = np.random.default_rng(4)
    runs, curve = 200_000, RUN.curve(1.976)
    inside = rng.binomial(80, 1 / 3, runs) + rng.normal(0, 1.976 * math.sqrt(80), runs)
    outside = rng.normal(0, 1.976 * math.sqrt(80), runs)
    for cut in (-20, 0, 10, 20, 30, 40, 50):
        right, wrong = (inside > cut).mean(), (outside > cut).mean()
        # Five standard errors: a false alarm in three million.
        assert wrong >= curve(right) - 5 * math.sqrt(0.25 / runs)


def test_a_gaussian_of_the_same_epsilon_is_not_conservative():
    # Why the curve is built at all: where guesses are few and mostly right, it promises more.
    noise = 1.0
    mechanism = SubsampledGaussian(0.01, 1000)
    curve = mechanism.curve(noise)
    mu = next(
        m for m in np.linspace(0.1, 3, 2901) if gaussian_epsilon(m, 1e-5) >= curve.epsilon(1e-5)
    )
    gaussian = gaussian_curve(float(mu))
    assert max(gaussian(x) - curve(x) for x in (1e-5, 1e-4, 1e-3, 1e-2)) > 0
    for canaries, guesses, correct in ((1000, 1000, 560), (1000, 1000, 600)):
        ours = composed_bound(canaries, guesses, correct, mechanism, 1e-5)
        assert ours != pytest.approx(f_dp_bound(canaries, guesses, correct, 1e-5), rel=1e-3)


@pytest.mark.parametrize(("target", "delta"), [(0.5, 1e-5), (8.0, 1e-5), (2.0, 1e-3)])
def test_the_noise_of_an_epsilon_has_that_epsilon(target, delta):
    noise = RUN.noise_multiplier(target, delta)
    assert RUN.curve(noise).epsilon(delta) == pytest.approx(target, rel=1e-3)


def test_less_noise_promises_less():
    noises = [0.6, 1.0, 1.7, 3.0, 10.0]
    epsilons = [RUN.curve(noise).epsilon(1e-5) for noise in noises]
    assert epsilons == sorted(epsilons, reverse=True)
    for less, more in itertools.pairwise(noises):
        assert all(RUN.curve(less)(x) <= RUN.curve(more)(x) + 1e-12 for x in RIGHT)


def test_where_losses_are_beyond_all_bounds_nothing_is_promised():
    curve = SubsampledGaussian(1.0, 100).curve(0.1)
    assert curve.epsilon(1e-5) == math.inf
    assert curve.delta(0.0) == 1.0
    assert [curve(x) for x in (0.0, 0.5, 1.0)] == [0.0, 0.0, 0.0]
    assert LOSS_LARGEST < 700  # exp() of it is finite


# --- the bound over noise multipliers -----------------------------------------------------------


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "published"),
    [(1000, 100, 90, 2.4564), (1000, 1000, 750, 1.8189), (100, 100, 50, 0.0)],
)
def test_for_one_full_step_the_published_f_dp_figures_come_out_and_not_above(
    canaries, guesses, correct, published
):
    bound = composed_bound(canaries, guesses, correct, ONE, 1e-5)
    assert published - 0.004 <= bound <= published + 1e-4  # the grid rounds towards 0


@pytest.mark.parametrize("correct", [100, 116, 130, 170, 200])
def test_the_bound_grows_with_right_guesses_and_stays_under_the_whole_of_them(correct):
    bound = composed_bound(200, 200, correct, RUN, 1e-5)
    more = composed_bound(200, 200, min(correct + 10, 200), RUN, 1e-5)
    assert 0 <= bound <= more
    if correct < 200 and more > 0:
        assert bound < more


@pytest.mark.parametrize(
    "make",
    [
        lambda: SubsampledGaussian(0.0, 10),
        lambda: SubsampledGaussian(1.5, 10),
        lambda: SubsampledGaussian(0.1, 0),
        lambda: SubsampledGaussian(0.1, 2.0),  # type: ignore[arg-type]  # what is refused
        lambda: RUN.curve(0.0),
        lambda: RUN.curve(math.inf),
        lambda: RUN.curve(1.0).epsilon(0.0),
        lambda: RUN.noise_multiplier(1e9, 1e-5),
        lambda: composed_bound(10, 11, 5, RUN, 1e-5),
        lambda: composed_bound(10, 10, 5, RUN, 0.0),
    ],
)
def test_what_cannot_be_is_refused(make):
    with pytest.raises(InvalidScores):
        make()
