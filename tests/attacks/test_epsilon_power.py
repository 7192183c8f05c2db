"""Power is what simulation finds, and the smallest visible epsilon is the smallest."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from attacks.epsilon.bounds import one_run_bound
from attacks.epsilon.canaries import CanaryPlan, flip_coins, guess
from attacks.epsilon.gaussian_dp import gaussian_delta
from attacks.epsilon.power import guess_accuracy_gaussian, smallest_visible_epsilon
from attacks.errors import InvalidScores


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


@pytest.mark.parametrize(("canaries", "guesses"), [(1000, 100), (1000, 1000), (300, 60)])
def test_the_smallest_visible_epsilon_is_seen_exactly_four_times_in_five(canaries, guesses):
    epsilon = smallest_visible_epsilon(canaries, guesses, 1e-5)
    mu = optimize.brentq(lambda x: gaussian_delta(x, epsilon) - 1e-5, 1e-12, 100.0)
    visible = (v for v in range(guesses + 1) if one_run_bound(canaries, guesses, v, 1e-5) > 0)
    accuracy = guess_accuracy_gaussian(mu, guesses / canaries)
    assert stats.binom.sf(next(visible) - 1, guesses, accuracy) == pytest.approx(0.8, abs=1e-5)


def test_nothing_is_visible_with_one_guess():
    # Even right, a guess is right half the time by chance.
    assert smallest_visible_epsilon(100, 1, 1e-5) == math.inf


def test_fifty_canaries_see_less_than_a_thousand():
    few, many = (smallest_visible_epsilon(m, m // 5, 1e-5) for m in (50, 1000))
    assert many < 1 < 3 < few


@pytest.mark.parametrize(("mu", "share"), [(1.0, 0.0), (1.0, 1.1), (-1.0, 0.5), (1.0, math.nan)])
def test_an_attacker_that_cannot_be_is_refused(mu, share):
    with pytest.raises(InvalidScores, match="no attacker"):
        guess_accuracy_gaussian(mu, share)
