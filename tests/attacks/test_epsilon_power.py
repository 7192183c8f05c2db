"""Power is what simulation finds, and the smallest visible epsilon is the smallest."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from attacks.epsilon.bounds import f_dp_bound, one_run_bound
from attacks.epsilon.canaries import CanaryPlan, flip_coins, guess
from attacks.epsilon.gaussian_dp import gaussian_epsilon, gaussian_mu
from attacks.epsilon.power import (
    critical_correct,
    guess_accuracy_gaussian,
    power,
    power_against_halved_noise,
    smallest_visible_epsilon,
)
from attacks.errors import InvalidScores


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 80).flatmap(lambda r: st.tuples(st.integers(r, 300), st.just(r))),
    st.floats(0, 3),
    st.sampled_from([1e-5, 1e-3]),
    st.sampled_from(["one_run", "f_dp"]),
)
def test_critical_count_is_the_first_whose_bound_exceeds(
    sizes: tuple[int, int], epsilon, delta, method
):
    bound = one_run_bound if method == "one_run" else f_dp_bound
    above = [v for v in range(sizes[1] + 1) if bound(*sizes, v, delta) > epsilon + 1e-6]
    level = [v for v in range(sizes[1] + 1) if bound(*sizes, v, delta) > epsilon - 1e-6]
    critical = critical_correct(*sizes, epsilon, delta, method=method)
    if above == level:  # the bound's own rounding decides the rest
        assert critical == min(above, default=None)


def test_an_audit_that_cannot_exceed_has_no_power():
    assert power(10, None, 1.0) == 0.0


@pytest.mark.parametrize(("mu", "share"), [(0.0, 0.3), (1.0, 0.1), (1.0, 1.0), (3.0, 0.5)])
def test_ideal_accuracy_is_what_guessing_achieves(mu, share):
    rng = np.random.default_rng(6)
    canaries = 200_000
    coins = flip_coins(canaries, rng)
    scores = rng.normal(size=canaries) + mu * coins
    half = round(canaries * share / 2)
    guesses = guess(CanaryPlan(canaries, half, half, 1e-5), scores)
    made = guesses != 0
    right = ((guesses > 0) == coins)[made].mean()
    # Four standard deviations of that share, plus the spread of the empirical cuts.
    assert right == pytest.approx(guess_accuracy_gaussian(mu, share), abs=3 / math.sqrt(made.sum()))


def test_every_canary_guessed_gives_the_normal_accuracy():
    assert guess_accuracy_gaussian(2.0, 1.0) == pytest.approx(stats.norm.cdf(1.0))


@pytest.mark.parametrize("attacker", ["randomised response", "gaussian"])
@pytest.mark.parametrize("method", ["one_run", "f_dp"])
@pytest.mark.parametrize(("canaries", "guesses"), [(1000, 100), (1000, 1000), (300, 60)])
def test_the_smallest_visible_epsilon_has_exactly_the_wanted_power(
    attacker, method, canaries, guesses
):
    epsilon = smallest_visible_epsilon(canaries, guesses, 1e-5, attacker=attacker, method=method)
    critical = critical_correct(canaries, guesses, 0.0, 1e-5, method=method)
    if attacker == "gaussian":
        accuracy = guess_accuracy_gaussian(gaussian_mu(epsilon, 1e-5), guesses / canaries)
    else:
        accuracy = 1 / (1 + math.exp(-epsilon))
    assert critical is not None
    assert stats.binom.sf(critical - 1, guesses, accuracy) == pytest.approx(0.8, abs=1e-5)


def test_nothing_is_visible_with_one_guess():
    # Even right, a guess is right half the time by chance.
    assert smallest_visible_epsilon(100, 1, 1e-5, attacker="gaussian") == math.inf


def test_fifty_canaries_see_less_than_a_thousand():
    few, many = (smallest_visible_epsilon(m, m // 5, 1e-5, attacker="gaussian") for m in (50, 1000))
    assert many < 1 < 3 < few


def test_power_against_halved_noise_is_what_simulation_finds():
    claimed, sizes = 4.0, (1000, 200)
    predicted = power_against_halved_noise(*sizes, claimed, 1e-5, method="f_dp")
    critical = critical_correct(*sizes, claimed, 1e-5, method="f_dp")
    plan = CanaryPlan(1000, 100, 100, 1e-5)
    rng = np.random.default_rng(12)
    caught = honest = 0
    for factor in (2, 1):
        for _ in range(200):
            coins = flip_coins(1000, rng)
            scores = rng.normal(size=1000) + factor * gaussian_mu(claimed, 1e-5) * coins
            guesses = guess(plan, scores)
            right = ((guesses > 0) == coins)[guesses != 0].sum()
            caught += factor == 2 and right >= critical
            honest += factor == 1 and right >= critical
    assert predicted > 0.99
    assert caught >= 190
    assert honest <= 2  # a bound's error is at most .05, here far less


def test_half_the_noise_means_more_than_twice_the_epsilon():
    mu = gaussian_mu(2.0, 1e-5)
    assert gaussian_epsilon(2 * mu, 1e-5) > 4.0


@pytest.mark.parametrize("wanted", [0.0, 1.0, -1.0, float("nan")])
def test_a_power_that_is_no_probability_is_refused(wanted):
    with pytest.raises(InvalidScores, match="wanted_power"):
        smallest_visible_epsilon(10, 10, 1e-5, attacker="gaussian", wanted_power=wanted)


@pytest.mark.parametrize(("mu", "share"), [(1.0, 0.0), (1.0, 1.1), (-1.0, 0.5), (1.0, math.nan)])
def test_an_attacker_that_cannot_be_is_refused(mu, share):
    with pytest.raises(InvalidScores, match="no attacker"):
        guess_accuracy_gaussian(mu, share)
