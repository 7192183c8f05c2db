"""The bound from scores as they are: exact error for normal laws, and how much it sees."""

import math

import numpy as np
import pytest
from scipy import stats

from attacks.epsilon.composed_power import CanaryView, choose_guesses, power_of
from attacks.epsilon.gaussian_dp import gaussian_delta, gaussian_epsilon, hockey_stick
from attacks.epsilon.gaussian_pair import (
    _tail,
    least_visible,
    normal_enough,
    pair_bound,
    pair_mu,
    pair_power,
)
from attacks.epsilon.trade_off import SubsampledGaussian
from attacks.errors import InvalidScores, TooFewTargets

DELTA = 1e-5
Array = np.ndarray[tuple[int], np.dtype[np.float64]]


def view(steps: int, claim: float, rate: float = 1 / 3, ratio: float = 1.0) -> CanaryView:
    mechanism = SubsampledGaussian(rate, steps)
    return CanaryView(mechanism, mechanism.noise_multiplier(claim, DELTA), steps, 1, ratio)


def scores(
    seen: CanaryView, share: float, rng: np.random.Generator, count: int = 350
) -> tuple[Array, Array]:
    """Sums of the rounds of simulated canaries that are in, and of those that are out."""
    rate, steps = seen.mechanism.sample_rate, seen.rounds
    coins = rng.random(count) < 0.5
    noise = share * seen.claimed_noise * seen.noise_ratio * math.sqrt(steps)
    sums = noise * rng.normal(size=count) + coins * rng.binomial(steps, rate, count)
    return sums[coins], sums[~coins]


@pytest.mark.parametrize(("ratio", "mu"), [(0.5, 0.2), (2.5, 2.0), (1.0, 0.0)])
def test_the_tail_is_that_of_a_noncentral_t(ratio: float, mu: float) -> None:
    error = math.sqrt(1 / 60 + 1 / 60)
    exact = stats.nct.sf(ratio / error, 59, mu / error)
    assert _tail(ratio, mu, (60, 60)) == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("wider", [1.0, 1.5, 4.0])
def test_equal_deviations_are_the_least_that_two_laws_leave(wider: float) -> None:
    """Whichever of the two is narrower, one order of the two is told apart as well."""
    for apart in (0.3, 1.0, 3.0):
        for epsilon in (0.0, 0.5, 2.0, 6.0):
            equal = gaussian_delta(apart / wider, epsilon)
            orders = (
                hockey_stick(apart, 1.0, 0.0, wider, epsilon),
                hockey_stick(0.0, wider, apart, 1.0, epsilon),
            )
            assert max(orders) >= equal - 1e-12


@pytest.mark.parametrize("mu", [0.0, 0.4, 1.6, 3.0])
@pytest.mark.parametrize("narrow", [1.0, 0.5])
def test_it_passes_the_truth_as_often_as_it_says(mu: float, narrow: float) -> None:
    rng, above = np.random.default_rng(11), 0
    for _ in range(200):
        inside, outside = narrow * rng.normal(size=40) + mu, rng.normal(size=30)
        above += pair_mu(inside, outside, significance=0.05) > mu
    # 200 at .05: four standard errors are .062.
    assert above / 200 <= 0.05 + 0.062
    if narrow == 1.0 and mu < 1:
        assert above / 200 >= 0.01  # nor is it timid


@pytest.mark.parametrize(
    ("steps", "rate", "claim"), [(80, 1 / 3, 8.0), (40, 1 / 3, 8.0), (80, 1 / 3, 2.0)]
)
def test_power_is_what_simulation_finds(steps: int, rate: float, claim: float) -> None:
    seen, rng = view(steps, claim, rate), np.random.default_rng(4)
    predicted = pair_power(175, 175, seen, claim, DELTA)
    caught = [pair_bound(*scores(seen, 0.5, rng), DELTA) > claim for _ in range(80)]
    # Two and a half standard errors of 80, of a share of .92.
    assert np.mean(caught) == pytest.approx(predicted, abs=0.07)
    assert predicted > 0.9
    honest = [pair_bound(*scores(seen, 1.0, rng), DELTA) > claim for _ in range(80)]
    assert sum(honest) <= 4  # of .8 expected at most: more once in 700


def test_it_notices_in_forty_rounds_what_guesses_cannot() -> None:
    seen = view(40, 8.0)
    calls = choose_guesses(350, seen)
    guesses = power_of(350, calls, seen, DELTA, 0.05)
    assert guesses.against_halved < 0.8 < 0.98 < pair_power(175, 175, seen, 8.0, DELTA)


def test_everybodys_noise_takes_the_power_away() -> None:
    assert pair_power(175, 175, view(80, 8.0, ratio=2.0), 8.0, DELTA) < 1e-3
    alone, summed = (least_visible(175, 175, view(80, 8.0, ratio=r), DELTA) for r in (1.0, 2.0))
    assert alone < summed < 8.0


def test_the_least_that_is_visible_shows_four_times_in_five() -> None:
    seen = view(80, 8.0)
    epsilon = least_visible(175, 175, seen, DELTA)
    share = seen.mechanism.noise_multiplier(epsilon, DELTA) / seen.claimed_noise
    rng = np.random.default_rng(5)
    shown = [pair_bound(*scores(seen, share, rng), DELTA) > 0 for _ in range(200)]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.1)


def test_few_rounds_of_rare_draws_are_not_normal_and_many_are() -> None:
    rare = view(3, 8.0, rate=0.02)
    assert not normal_enough(rare, DELTA, 8.0)
    assert normal_enough(view(80, 8.0), DELTA, 8.0)
    # One release is normal whatever its number.
    assert normal_enough(view(1, 2.0, rate=1.0), DELTA, 2.0)
    # A claim that scores of this very mechanism would pass is none to hold them against.
    assert not normal_enough(view(80, 8.0), DELTA, 2.0)


def test_scores_that_never_vary_are_as_far_apart_as_can_be_said() -> None:
    ones, zeros = np.ones(30), np.zeros(30)
    assert pair_mu(ones, zeros) == 100.0
    assert pair_mu(zeros, ones) == pair_mu(ones, ones) == 0.0
    assert pair_bound(ones, zeros, DELTA) == gaussian_epsilon(100.0, DELTA)


def test_what_cannot_be_bounded_is_refused() -> None:
    few, many = np.arange(19.0), np.arange(40.0)
    for inside, outside in ((few, many), (many, few)):
        with pytest.raises(TooFewTargets, match="need 20"):
            pair_bound(inside, outside, DELTA)
    with pytest.raises(InvalidScores):
        pair_bound(np.append(many, math.nan), many, DELTA)
    with pytest.raises(InvalidScores, match="significance"):
        pair_bound(many, many, DELTA, significance=0.7)
    with pytest.raises(TooFewTargets, match="need 20"):
        pair_power(10, 40, view(80, 8.0), 8.0, DELTA)
