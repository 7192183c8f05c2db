"""From coins to the bound: the whole path keeps its promise over simulated runs."""

import functools
import math

import numpy as np
import pytest

from attacks.epsilon.bounds import f_dp_bound, one_run_bound
from attacks.epsilon.canaries import CanaryPlan, EpsilonAudit, audit_epsilon, flip_coins, guess
from attacks.epsilon.composed_power import CanaryView
from attacks.epsilon.gaussian_dp import gaussian_epsilon
from attacks.epsilon.trade_off import SubsampledGaussian
from attacks.errors import InvalidScores

PLAN = CanaryPlan(canaries=200, guesses_in=20, guesses_out=20, delta=1e-5)


def correct_guesses(plan, scores, coins):
    guesses = guess(plan, scores)
    return int(((guesses > 0) == coins)[guesses != 0].sum())


def bounds_over_simulations(plan, mechanism, rng, bound, simulations=500):
    """The bound of each simulated run; equal counts are computed once."""
    at = functools.cache(lambda v: bound(plan.canaries, plan.guesses, v, plan.delta))
    runs = (
        (coins := flip_coins(plan.canaries, rng), mechanism(coins, rng)) for _ in range(simulations)
    )
    return np.array([at(correct_guesses(plan, scores, coins)) for coins, scores in runs])


def randomised_response(epsilon):
    """Tells each coin truly with probability e^eps / (1 + e^eps): (epsilon, 0)-DP, tight."""

    def mechanism(coins, rng):
        truly = rng.random(coins.size) < 1 / (1 + math.exp(-epsilon))
        return np.where(coins == truly, 1.0, -1.0)

    return mechanism


# 500 simulations at an error of at most .05 give more than 25 by chance in up to half of all
# seeds when the error is .05 itself; the seeds are fixed, and test_epsilon_bounds computes the
# error exactly. Here the whole path from coin to bound is what is tested.


@pytest.mark.parametrize(("canaries", "half"), [(1000, 50), (200, 100), (64, 16)])
@pytest.mark.parametrize("bound", [one_run_bound, f_dp_bound])
def test_at_epsilon_zero_the_bound_is_above_it_in_at_most_five_percent(canaries, half, bound):
    plan = CanaryPlan(canaries, half, half, 1e-5)
    bounds = bounds_over_simulations(
        plan, lambda coins, rng: rng.normal(size=coins.size), np.random.default_rng(21), bound
    )
    assert (bounds > 0).mean() <= 0.05


def test_the_null_would_notice_scores_that_saw_the_coins():
    plan = CanaryPlan(1000, 50, 50, 1e-5)
    bounds = bounds_over_simulations(
        plan,
        lambda coins, rng: rng.normal(size=coins.size) + 0.5 * coins,
        np.random.default_rng(21),
        one_run_bound,
        100,
    )
    assert (bounds > 0).mean() > 0.5


@pytest.mark.parametrize(
    ("epsilon", "canaries", "guesses", "delta"),
    # Epsilon 8 takes 10,000 right guesses to reach at all, and a delta that m of them allow.
    [
        (2.0, 1000, 100, 1e-5),
        (2.0, 1000, 1000, 1e-5),
        pytest.param(8.0, 10_000, 10_000, 1e-9, marks=pytest.mark.slow),
    ],
)
def test_the_bound_exceeds_the_truth_in_at_most_five_percent_and_is_not_vacuous(
    epsilon, canaries, guesses, delta
):
    plan = CanaryPlan(canaries, guesses // 2, guesses // 2, delta)
    bounds = bounds_over_simulations(
        plan, randomised_response(epsilon), np.random.default_rng(5), one_run_bound
    )
    assert (bounds > epsilon).mean() <= 0.05
    assert np.median(bounds) > 0.6 * epsilon


def test_the_f_dp_bound_covers_a_gaussian_run():
    plan = CanaryPlan(1000, 50, 50, 1e-5)
    mu = 1.0
    bounds = bounds_over_simulations(
        plan,
        lambda coins, rng: rng.normal(size=coins.size) + mu * coins,
        np.random.default_rng(5),
        f_dp_bound,
    )
    truth = gaussian_epsilon(mu, 1e-5)
    assert (bounds > truth).mean() <= 0.05
    assert np.median(bounds) > 0.4 * truth


# --- coins --------------------------------------------------------------------------------------


def test_coins_are_fair_independent_and_not_an_exact_half():
    tosses = np.stack([flip_coins(64) for _ in range(2000)])
    # 128,000 tosses: sd of the share is .0014; six of them is a false alarm in 5e8.
    assert tosses.mean() == pytest.approx(0.5, abs=0.0084)
    assert np.abs(tosses.mean(axis=0) - 0.5).max() < 6 * 0.5 / math.sqrt(2000)
    assert tosses.sum(axis=1).var() == pytest.approx(16, abs=16 * 6 * math.sqrt(2 / 2000))


def test_coins_of_a_simulation_are_repeatable_and_real_ones_are_not():
    first, second = (flip_coins(256, np.random.default_rng(3)) for _ in range(2))
    assert (first == second).all()
    assert (flip_coins(256) != flip_coins(256)).any()


@pytest.mark.parametrize("canaries", [1, 7, 8, 9, 1000])
def test_there_is_one_coin_for_each_canary(canaries):
    assert flip_coins(canaries).shape == (canaries,)
    assert flip_coins(canaries).dtype == np.bool_


def test_no_canary_has_no_coin():
    with pytest.raises(InvalidScores, match="0 canaries"):
        flip_coins(0)


# --- plan and guesses ---------------------------------------------------------------------------


def test_the_highest_are_called_in_the_lowest_out_and_the_middle_is_left():
    plan = CanaryPlan(6, guesses_in=2, guesses_out=1, delta=1e-5)
    assert guess(plan, [0.3, 9.0, -4.0, 0.1, 5.0, 0.2]).tolist() == [0, 1, -1, 0, 1, 0]


def test_guesses_on_one_side_only_are_a_plan():
    plan = CanaryPlan(4, guesses_in=0, guesses_out=2, delta=1e-5)
    assert guess(plan, [4.0, 1.0, 3.0, 2.0]).tolist() == [0, -1, 0, -1]


def test_the_number_of_guesses_is_the_plans_even_where_scores_tie():
    assert np.abs(guess(PLAN, np.zeros(200))).sum() == PLAN.guesses == 40


def test_a_plan_cannot_be_changed_after_the_scores_are_seen():
    with pytest.raises(AttributeError):
        PLAN.guesses_in = 5  # type: ignore[misc]  # what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"guesses_in": 101, "guesses_out": 100}, "impossible"),
        ({"guesses_in": 0, "guesses_out": 0}, "impossible"),
        ({"guesses_in": -1}, "no plan"),
        ({"delta": 0.0}, "delta"),
        ({"significance": 0.7}, "significance"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(change, message):
    with pytest.raises(InvalidScores, match=message):
        CanaryPlan(**{"canaries": 200, "guesses_in": 1, "guesses_out": 1, "delta": 1e-5} | change)


# --- the audit ----------------------------------------------------------------------------------


def leaky(seed=0, mu=3.0):
    rng = np.random.default_rng(seed)
    coins = flip_coins(200, rng)
    return rng.normal(size=200) + mu * coins, coins


def test_an_audit_reports_both_bounds_and_certifies_the_planned_one():
    scores, coins = leaky()
    audit = audit_epsilon(PLAN, scores, coins)
    assert isinstance(audit, EpsilonAudit)
    assert audit.correct == correct_guesses(PLAN, scores, coins) >= 38
    assert audit.one_run_bound == one_run_bound(200, 40, audit.correct, 1e-5)
    assert audit.f_dp_bound == f_dp_bound(200, 40, audit.correct, 1e-5) > audit.one_run_bound
    assert audit.certified == audit.one_run_bound > 1.0
    assert audit.largest_bound == one_run_bound(200, 40, 40, 1e-5) >= audit.certified
    assert audit.power_halved_noise is None
    view = CanaryView(SubsampledGaussian(1.0, 1), claimed_noise=1.0, rounds=1)
    claimed = audit_epsilon(CanaryPlan(200, 20, 20, 1e-5, view=view), scores, coins, 1.0)
    assert claimed.certified == claimed.f_dp_bound
    # One release: the composed bound is the Gaussian one, but for the grid of noises.
    assert claimed.f_dp_bound == pytest.approx(audit.f_dp_bound, rel=0.01)
    assert claimed.power_halved_noise is not None
    assert claimed.power_halved_noise > 0


def test_a_claim_is_not_tested_without_its_mechanism_nor_a_mechanism_without_claim():
    view = CanaryView(SubsampledGaussian(1.0, 1), claimed_noise=1.0, rounds=1)
    for plan, claim in ((PLAN, 1.0), (CanaryPlan(200, 20, 20, 1e-5, view=view), None)):
        scores, coins = leaky()
        with pytest.raises(InvalidScores, match="go together"):
            audit_epsilon(plan, scores, coins, claimed_epsilon=claim)


def test_scores_upside_down_certify_nothing():
    scores, coins = leaky()
    audit = audit_epsilon(PLAN, -scores, coins)
    assert (audit.one_run_bound, audit.f_dp_bound) == (0.0, 0.0)


def test_too_few_canaries_give_no_point_estimate_and_still_a_bound():
    rng = np.random.default_rng(1)
    coins = flip_coins(30, rng)
    audit = audit_epsilon(CanaryPlan(30, 15, 15, 1e-5), coins * 1.0 + rng.normal(size=30), coins)
    assert audit.point_estimate is None
    assert audit.largest_bound > 0


@pytest.mark.parametrize("claimed", [0.0, -1.0, math.inf, math.nan])
def test_a_claim_that_is_none_is_refused(claimed):
    scores, coins = leaky()
    with pytest.raises(InvalidScores, match="claimed epsilon"):
        audit_epsilon(PLAN, scores, coins, claimed_epsilon=claimed)


def test_scores_and_coins_of_the_wrong_size_or_kind_are_refused():
    scores, coins = leaky()
    with pytest.raises(InvalidScores, match="199 scores for 200 canaries"):
        audit_epsilon(PLAN, scores[:-1], coins)
    with pytest.raises(InvalidScores, match="included must be 200 booleans"):
        audit_epsilon(PLAN, scores, coins[:-1])
    with pytest.raises(InvalidScores, match="included must be 200 booleans"):
        audit_epsilon(PLAN, scores, coins.astype(int))
    scores[3] = np.nan
    with pytest.raises(InvalidScores, match="the first at 3"):
        audit_epsilon(PLAN, scores, coins)
