"""The epsilon bounds: published figures, naive oracles, and error rates computed exactly."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from attacks.epsilon.bounds import (
    f_dp_bound,
    f_dp_mu_bound,
    f_dp_refutes,
    fewest_refuting,
    gaussian_curve,
    one_run_bound,
    one_run_p_value,
)
from attacks.epsilon.gaussian_dp import gaussian_delta, gaussian_epsilon
from attacks.epsilon.power import guess_accuracy_gaussian
from attacks.errors import InvalidScores


def approximate_dp_curve(epsilon, delta):
    """The worst curve that (epsilon, delta)-DP allows (Wasserman & Zhou 2010)."""
    grow, shrink = math.exp(epsilon), math.exp(-epsilon)
    return lambda right: max(0.0, shrink * (right - delta), 1 - delta - grow * (1 - right))


def mu_of(epsilon):
    """The Gaussian mechanism that is (epsilon, 1e-5)-DP and no better."""
    return optimize.brentq(lambda mu: gaussian_delta(mu, epsilon) - 1e-5, 1e-12, 100.0)


counts = st.integers(1, 60).flatmap(
    lambda r: st.tuples(st.integers(r, 200), st.just(r), st.integers(0, r))
)


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "delta", "published", "digits"),
    [
        (1000, 100, 75, 1e-4, 0.673, 1e-4),
        (100_000, 1510, 1439, 1e-5, 2.675, 1e-3),  # published with three digits, cut off
        (1000, 100, 90, 1e-5, 1.6261, 1e-4),
        (1000, 1000, 750, 1e-5, 0.97637, 1e-5),
        (100, 100, 50, 1e-5, 0.0, 0.0),
    ],
)
def test_one_run_bound_reproduces_published_figures(
    canaries, guesses, correct, delta, published, digits
):
    assert one_run_bound(canaries, guesses, correct, delta) == pytest.approx(published, abs=digits)


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "published"),
    [(1000, 100, 90, 2.4564), (1000, 1000, 750, 1.8189), (100, 100, 50, 0.0)],
)
def test_f_dp_bound_reproduces_published_figures(canaries, guesses, correct, published):
    assert f_dp_bound(canaries, guesses, correct, 1e-5) == pytest.approx(published, abs=1e-4)


# --- oracles ------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(counts, st.floats(0, 8), st.sampled_from([0.0, 1e-5, 1e-3, 0.1]))
def test_p_value_equals_the_formula_term_by_term(sizes, epsilon, delta):
    m, r, v = sizes
    q, rest = math.exp(epsilon) / (1 + math.exp(epsilon)), 1 / (1 + math.exp(epsilon))
    masses = [math.comb(r, k) * q**k * rest ** (r - k) for k in range(r + 1)]
    beta = sum(masses[v:])
    alpha = max((sum(masses[v - i : v]) / i for i in range(1, v + 1)), default=0)
    assert one_run_p_value(m, r, v, epsilon, delta) == pytest.approx(
        min(1.0, beta + 2 * m * delta * alpha), rel=1e-7, abs=1e-13
    )


@settings(max_examples=60, deadline=None)
@given(counts, st.sampled_from([0.0, 1e-5, 1e-3, 0.05]))
def test_everything_below_the_bound_is_refuted_and_nothing_above(sizes, delta):
    m, r, v = sizes
    bound = one_run_bound(m, r, v, delta)
    grid = np.linspace(0, bound + 6, 200)
    for epsilon in grid[np.abs(grid - bound) > 1e-6]:
        assert (one_run_p_value(m, r, v, epsilon, delta) < 0.05) == (epsilon < bound)


def refuted_by_full_recursion(m, r, v, mu, level):
    """Algorithm 3 of Mahloujifar et al. written out with both sequences and no early end."""
    h, x = [0.0] * (v + 1), [0.0] * (v + 1)
    h[v], x[v] = level * (r - v) / m, level * v / m
    for i in range(v - 1, -1, -1):
        h[i] = max(h[i + 1], float(stats.norm.cdf(stats.norm.ppf(min(x[i + 1], 1.0)) - mu)))
        x[i] = x[i + 1] + i / (r - i) * (h[i] - h[i + 1])
    return x[0] + h[0] > r / m


@settings(max_examples=60, deadline=None)
@given(counts, st.floats(0, 6), st.sampled_from([0.01, 0.05, 0.2]))
def test_f_dp_test_equals_the_recursion_written_out(
    sizes: tuple[int, int, int], mu: float, level: float
):
    assert f_dp_refutes(*sizes, gaussian_curve(mu), level) == refuted_by_full_recursion(
        *sizes, mu, level
    )


@settings(max_examples=60, deadline=None)
@given(counts)
def test_f_dp_refutes_every_mu_below_its_bound_and_none_above(sizes: tuple[int, int, int]):
    bound = f_dp_mu_bound(*sizes)
    grid = np.linspace(0, (bound or 0) + 4, 80)
    for mu in grid[np.abs(grid - (bound or 0)) > 1e-6]:
        assert f_dp_refutes(*sizes, gaussian_curve(mu)) == (bound is not None and mu < bound)


@settings(max_examples=30, deadline=None)
@given(counts, st.floats(0, 3), st.sampled_from([1e-5, 1e-3]), st.booleans())
def test_the_fewest_refuting_count_is_the_first_whose_bound_exceeds(sizes, epsilon, delta, f_dp):
    m, r, _ = sizes
    curve = gaussian_curve(optimize.brentq(lambda x: gaussian_delta(x, epsilon) - delta, 1e-12, 99))

    def refuted(v):
        if f_dp:
            return f_dp_refutes(m, r, v, curve)
        return one_run_p_value(m, r, v, epsilon, delta) < 0.05

    bounds = [(f_dp_bound if f_dp else one_run_bound)(m, r, v, delta) for v in range(r + 1)]
    above = [v for v, bound in enumerate(bounds) if bound > epsilon + 1e-6]
    level = [v for v, bound in enumerate(bounds) if bound > epsilon - 1e-6]
    if above == level:  # the bound's own rounding decides the rest
        assert fewest_refuting(r, refuted) == min(above, default=None)


@given(counts, st.sampled_from([1e-6, 1e-4]))
def test_one_more_right_guess_never_lowers_a_bound(sizes, delta):
    m, r, v = sizes
    if v < r:
        assert one_run_bound(m, r, v + 1, delta) >= one_run_bound(m, r, v, delta)
        assert f_dp_bound(m, r, v + 1, delta) >= f_dp_bound(m, r, v, delta)


@given(counts)
def test_more_canaries_or_a_larger_delta_never_raise_the_one_run_bound(sizes):
    m, r, v = sizes
    bound = one_run_bound(m, r, v, 1e-4)
    assert one_run_bound(m, r, v, 1e-3) <= bound
    assert one_run_bound(2 * m, r, v, 1e-4) <= bound


# --- error rates, without sampling --------------------------------------------------------------

SIZES = [(20, 20), (100, 100), (1000, 100), (1000, 1000), (500, 60), (10_000, 10_000)]


@pytest.mark.parametrize(("canaries", "guesses"), SIZES)
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0, 8.0])
def test_one_run_bound_passes_the_truth_of_randomised_response_at_most_one_time_in_twenty(
    canaries, guesses, epsilon
):
    # Right guesses are binomial, so the error is a sum: P[at least the critical count].
    critical = fewest_refuting(
        guesses, lambda v: one_run_p_value(canaries, guesses, v, epsilon, 0.0) < 0.05
    )
    if critical is None:
        assert one_run_bound(canaries, guesses, guesses, 0.0) <= epsilon
        return
    assert one_run_bound(canaries, guesses, critical, 0.0) > epsilon
    assert one_run_bound(canaries, guesses, critical - 1, 0.0) <= epsilon
    q = 1 / (1 + math.exp(-epsilon))
    error = stats.binom.sf(critical - 1, guesses, q)
    assert error <= 0.05
    # And it is not simply timid: one right guess fewer would break the promise.
    assert error + stats.binom.pmf(critical - 1, guesses, q) > 0.05


@pytest.mark.parametrize(("canaries", "guesses"), SIZES)
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0, 8.0])
def test_f_dp_test_with_the_worst_curve_holds_for_randomised_response(canaries, guesses, epsilon):
    # Monotone in the count (tested above), so the first refuting count gives the error.
    curve = approximate_dp_curve(epsilon, 0.0)
    q = 1 / (1 + math.exp(-epsilon))
    typical = int(guesses * q)
    refuting = (v for v in range(typical, guesses + 1) if f_dp_refutes(canaries, guesses, v, curve))
    first = next(refuting, None)
    assert first is None or stats.binom.sf(first - 1, guesses, q) <= 0.05


@pytest.mark.parametrize(
    ("canaries", "guesses"), [(100, 100), (1000, 100), (1000, 1000), (300, 60)]
)
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 2.0, 8.0])
def test_f_dp_bound_passes_the_truth_of_a_gaussian_at_most_one_time_in_twenty(
    canaries, guesses, epsilon
):
    curve = gaussian_curve(mu_of(epsilon))
    critical = fewest_refuting(guesses, lambda v: f_dp_refutes(canaries, guesses, v, curve))
    if critical is None:
        assert f_dp_bound(canaries, guesses, guesses, 1e-5) <= epsilon
        return
    accuracy = guess_accuracy_gaussian(mu_of(epsilon), guesses / canaries)
    assert stats.binom.sf(critical - 1, guesses, accuracy) <= 0.05


def test_f_dp_bound_overstates_a_mechanism_that_is_not_gaussian():
    # Why it is called conditional: randomised response at epsilon 2 is right 88 times in 100.
    assert f_dp_bound(1000, 100, 88, 1e-5) > 2.2
    assert one_run_bound(1000, 100, 88, 1e-5) < 2.0
    assert not f_dp_refutes(1000, 100, 88, approximate_dp_curve(2.0, 1e-5))


def test_f_dp_bound_is_the_tighter_one_for_a_gaussian():
    mu = mu_of(4.0)
    right = round(200 * guess_accuracy_gaussian(mu, 0.2))
    one_run, f_dp = (b(1000, 200, right, 1e-5) for b in (one_run_bound, f_dp_bound))
    assert one_run < 0.7 * f_dp < f_dp < 4.0


@given(st.floats(0.05, 6), st.floats(0.001, 0.999))
def test_gaussian_curve_obeys_the_worst_curve_of_its_own_epsilon(mu, right):
    worst = approximate_dp_curve(gaussian_epsilon(mu, 1e-5), 1e-5)
    assert gaussian_curve(mu)(right) >= worst(right) - 1e-9


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "r", "v"), [(10, 11, 5), (10, 5, 6), (10, 5, -1), (10, 0, 0)])
def test_impossible_counts_are_refused(m, r, v):
    for call in (
        lambda: one_run_bound(m, r, v, 1e-5),
        lambda: f_dp_bound(m, r, v, 1e-5),
        lambda: one_run_p_value(m, r, v, 1.0, 1e-5),
        lambda: f_dp_refutes(m, r, v, gaussian_curve(1.0)),
    ):
        with pytest.raises(InvalidScores, match="impossible"):
            call()


@pytest.mark.parametrize(
    ("epsilon", "delta"), [(-1.0, 1e-5), (float("nan"), 1e-5), (1.0, -1e-9), (1.0, 1.0)]
)
def test_a_guarantee_that_is_none_is_refused(epsilon, delta):
    with pytest.raises(InvalidScores, match="no privacy guarantee"):
        one_run_p_value(10, 10, 5, epsilon, delta)


@pytest.mark.parametrize("level", [0.0, 0.6, float("nan"), -0.05])
def test_a_significance_that_is_none_is_refused(level):
    with pytest.raises(InvalidScores, match="significance"):
        one_run_bound(10, 10, 9, 1e-5, level)
    with pytest.raises(InvalidScores, match="significance"):
        f_dp_bound(10, 10, 9, 1e-5, level)


def test_f_dp_bound_needs_a_delta_above_zero():
    with pytest.raises(InvalidScores, match="delta"):
        f_dp_bound(10, 10, 9, 0.0)
