"""Between mu, epsilon and delta, against integration; Andrew's estimate where truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from attacks.epsilon.gaussian_dp import (
    gaussian_delta,
    gaussian_epsilon,
    hockey_stick,
    point_estimate,
)
from attacks.errors import InvalidScores, TooFewTargets

DELTA = 1e-5


def integrated(mean, deviation, other_mean, other_deviation, epsilon):
    """max(0, p - e^epsilon q) summed on a fine grid: no algebra in common with the closed form."""
    widest = max(deviation, other_deviation)
    x = np.linspace(min(mean, other_mean) - 12 * widest, max(mean, other_mean) + 12 * widest, 40001)
    p, q = stats.norm.pdf(x, mean, deviation), stats.norm.pdf(x, other_mean, other_deviation)
    return np.trapezoid(np.maximum(p - math.exp(epsilon) * q, 0.0), x)


def test_delta_of_unit_noise_at_epsilon_one():
    # Sensitivity 1, noise 1, epsilon 1: the figure of Balle & Wang's analytic Gaussian.
    assert gaussian_delta(1.0, 1.0) == pytest.approx(0.12693673750664397, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-2, 2),
    st.floats(0.3, 3),
    st.floats(-2, 2),
    st.one_of(st.none(), st.floats(0.3, 3)),
    st.floats(0, 4),
)
def test_hockey_stick_equals_integration(mean, deviation, other_mean, other, epsilon):
    other_deviation = deviation if other is None else other  # equal deviations: a straight line
    case = (mean, deviation, other_mean, other_deviation, epsilon)
    assert hockey_stick(*case) == pytest.approx(integrated(*case), abs=1e-5)


@given(st.floats(0.01, 20), st.floats(0, 30))
def test_equal_deviations_give_the_gaussian_mechanism(mu, epsilon):
    closed = gaussian_delta(mu, epsilon)
    assert hockey_stick(mu, 1.0, 0.0, 1.0, epsilon) == pytest.approx(closed, abs=1e-9)
    assert hockey_stick(0.0, 1.0, mu, 1.0, epsilon) == pytest.approx(closed, abs=1e-9)


def test_identical_laws_leak_nothing():
    assert hockey_stick(0.4, 1.3, 0.4, 1.3, 0.0) == 0.0


@given(st.floats(0.001, 30), st.sampled_from([1e-9, 1e-5, 1e-2]))
def test_epsilon_is_the_smallest_that_delta_allows(mu, delta):
    epsilon = gaussian_epsilon(mu, delta)
    assert gaussian_delta(mu, epsilon) <= delta * (1 + 1e-6)
    if epsilon > 1e-6:
        assert gaussian_delta(mu, epsilon * (1 - 1e-6)) > delta * (1 - 1e-9)


def test_no_difference_is_no_epsilon():
    assert gaussian_epsilon(0.0, DELTA) == 0.0


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, float("nan")])
def test_a_delta_that_is_none_is_refused(delta):
    for call in (
        lambda: gaussian_epsilon(1.0, delta),
        lambda: point_estimate(np.arange(30.0), np.arange(30.0), delta),
    ):
        with pytest.raises(InvalidScores, match="delta"):
            call()


@pytest.mark.parametrize("mu", [-1.0, float("nan"), 101.0])
def test_a_mu_out_of_range_is_refused(mu):
    with pytest.raises(InvalidScores, match="mu"):
        gaussian_epsilon(mu, DELTA)


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
def test_point_estimate_finds_a_gaussian_mechanisms_epsilon(mu):
    rng = np.random.default_rng(3)
    included, excluded = rng.normal(mu, 1, 20_000), rng.normal(0, 1, 20_000)
    assert point_estimate(included, excluded, DELTA) == pytest.approx(
        gaussian_epsilon(mu, DELTA), rel=0.06
    )


def test_point_estimate_does_not_depend_on_the_scale_of_the_scores():
    rng = np.random.default_rng(4)
    included, excluded = rng.normal(1, 1, 200), rng.normal(0, 1, 200)
    same = point_estimate(1000 * included - 7, 1000 * excluded - 7, DELTA)
    assert same == pytest.approx(point_estimate(included, excluded, DELTA), rel=1e-6)


def test_point_estimate_of_hopeless_separation_is_infinite():
    rng = np.random.default_rng(4)
    included, excluded = rng.normal(1000, 1, 50), rng.normal(0, 1, 50)
    assert point_estimate(included, excluded, DELTA) == math.inf


def test_point_estimate_is_no_bound_it_passes_the_truth_half_the_time():
    rng = np.random.default_rng(5)
    truth = gaussian_epsilon(1.0, DELTA)
    over = sum(
        point_estimate(rng.normal(1, 1, 100), rng.normal(0, 1, 100), DELTA) > truth
        for _ in range(60)
    )
    assert over > 15  # a 95% bound would be over it 3 times


def test_a_fit_of_few_or_of_equal_scores_is_refused():
    with pytest.raises(TooFewTargets, match="19 included"):
        point_estimate(np.arange(19.0), np.arange(30.0), DELTA)
    with pytest.raises(InvalidScores, match="all excluded canaries have one score"):
        point_estimate(np.arange(30.0), np.zeros(30), DELTA)
