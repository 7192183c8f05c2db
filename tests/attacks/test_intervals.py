"""Intervals cover what they say they cover, patients are resampled whole, Holm holds."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from attacks.errors import InvalidScores, TooFewTargets
from attacks.statistics.intervals import (
    Interval,
    Proportion,
    Resampled,
    _patient_counts,
    auc_by_patient,
    clopper_pearson,
    holm,
)
from attacks.statistics.targets import ScoredTargets


@given(st.integers(1, 400), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_clopper_pearson_equals_scipy(trials, data, confidence):
    successes = data.draw(st.integers(0, trials))
    ours = clopper_pearson(successes, trials, confidence)
    exact = stats.binomtest(successes, trials).proportion_ci(confidence, method="exact")
    assert (ours.lower, ours.upper) == pytest.approx((exact.low, exact.high), abs=1e-9)


@pytest.mark.parametrize("trials", [1, 7, 30, 200])
def test_clopper_pearson_covers_every_truth_exactly(trials):
    # No sampling: for each truth the probability of all counts whose interval holds it.
    truths = np.linspace(0.001, 0.999, 333)
    intervals = [clopper_pearson(k, trials) for k in range(trials + 1)]
    for truth in truths:
        holding = [k for k, interval in enumerate(intervals) if interval.holds(truth)]
        assert stats.binom.pmf(holding, trials, truth).sum() >= 0.95


def test_the_rule_of_three_is_found_again():
    assert clopper_pearson(0, 1000, 0.90).upper == pytest.approx(3 / 1000, rel=0.005)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(InvalidScores, match="not a proportion"):
        clopper_pearson(successes, trials)
    with pytest.raises(InvalidScores, match="not a proportion"):
        Proportion(successes, trials)


@pytest.mark.parametrize("confidence", [0.0, 0.3, 1.0, 95, float("nan")])
def test_a_confidence_that_is_none_is_refused(confidence):
    with pytest.raises(InvalidScores, match="confidence"):
        clopper_pearson(1, 2, confidence)


@given(st.integers(1, 200), st.data(), st.floats(0.01, 0.99))
def test_proportion_p_value_is_the_binomial_tail(trials, data, threshold):
    successes = data.draw(st.integers(0, trials))
    ours = Proportion(successes, trials).p_value_at_most(threshold)
    tail = sum(
        math.comb(trials, k) * threshold**k * (1 - threshold) ** (trials - k)
        for k in range(successes, trials + 1)
    )
    assert ours == pytest.approx(tail, rel=1e-8, abs=1e-14)


@given(st.integers(1, 100), st.data(), st.floats(0.01, 0.99))
def test_p_value_and_interval_of_a_proportion_agree(trials, data, threshold):
    proportion = Proportion(data.draw(st.integers(0, trials)), trials)
    p = proportion.p_value_at_most(threshold)
    if abs(p - 0.025) > 1e-9:
        assert (p < 0.025) == (proportion.interval(0.95).lower > threshold)


# --- the AUC by patient -------------------------------------------------------------------------


def patients_with_slices(rng, patients, slices, gap):
    """Half members; slices of a patient share most of their score."""
    owner = np.repeat(np.arange(patients), slices)
    member = owner % 2 == 0
    scores = rng.normal(size=patients)[owner] + 0.2 * rng.normal(size=owner.size) + gap * member
    return scores, member, owner


def test_repeating_each_patients_records_does_not_narrow_the_interval():
    rng = np.random.default_rng(1)
    scores, member, owner = patients_with_slices(rng, 60, 2, 0.7)
    once = auc_by_patient(ScoredTargets.of(scores, member, owner), np.random.default_rng(5))
    five = auc_by_patient(
        ScoredTargets.of(np.tile(scores, 5), np.tile(member, 5), np.tile(owner, 5).tolist()),
        np.random.default_rng(5),
    )
    assert five.interval(0.95).lower == pytest.approx(once.interval(0.95).lower, abs=0.01)
    assert five.interval(0.95).upper == pytest.approx(once.interval(0.95).upper, abs=0.01)


def test_calling_slices_patients_would_have_narrowed_it():
    rng = np.random.default_rng(2)
    scores, member, owner = patients_with_slices(rng, 60, 8, 0.7)

    def width(targets):
        interval = auc_by_patient(targets, np.random.default_rng(5)).interval(0.95)
        return interval.upper - interval.lower

    by_patient = width(ScoredTargets.of(scores, member, owner))
    by_slice = width(ScoredTargets.of(scores, member))
    assert by_patient > 1.8 * by_slice


def test_bootstrap_equals_a_naive_one_that_copies_patients_into_lists():
    rng = np.random.default_rng(3)
    scores, member, owner = patients_with_slices(rng, 40, 3, 0.5)
    ours = auc_by_patient(ScoredTargets.of(scores, member, owner), np.random.default_rng(9), 4000)

    naive = []
    records = {p: np.flatnonzero(owner == p) for p in range(40)}
    for _ in range(4000):
        drawn = [*rng.choice(range(0, 40, 2), 20), *rng.choice(range(1, 40, 2), 20)]
        rows = np.concatenate([records[p] for p in drawn])
        inside, outside = scores[rows][member[rows]], scores[rows][~member[rows]]
        naive.append((inside[:, None] > outside[None, :]).mean())
    # Two independent bootstraps of one sample: quantiles differ by their own noise, sd up to .004.
    wanted = np.quantile(naive, [0.025, 0.25, 0.5, 0.75, 0.975])
    assert isinstance(ours, Resampled)
    assert np.quantile(ours.replicates, [0.025, 0.25, 0.5, 0.75, 0.975]) == pytest.approx(
        wanted, abs=0.016
    )
    assert ours.value == pytest.approx(roc_auc_score(member, scores), abs=1e-12)


def test_cluster_bootstrap_covers_the_true_auc():
    # The truth from the model: slices differ by N(gap, 2 (1 + 0.04)) between patients.
    gap, hits, simulations = 0.8, 0, 200
    truth = stats.norm.cdf(gap / np.sqrt(2 * (1 + 0.04)))
    rng = np.random.default_rng(7)
    for _ in range(simulations):
        scores, member, owner = patients_with_slices(rng, 80, 3, gap)
        targets = ScoredTargets.of(scores, member, owner)
        hits += auc_by_patient(targets, rng, 300).interval(0.95).holds(truth)
    # At a true coverage of .93 fewer than 176 of 200 happen once in 300; by slices it is .76.
    assert hits >= 176


def test_complete_separation_gets_a_wide_interval_and_not_a_point():
    rng = np.random.default_rng(0)
    member = np.arange(24) < 12
    perfect = auc_by_patient(ScoredTargets.of(member * 1.0, member), rng)
    assert perfect.value == 1.0
    assert perfect.interval(0.95) == clopper_pearson(12, 12)
    assert perfect.interval(0.95).lower == pytest.approx(0.025 ** (1 / 12))
    reversed_scores = auc_by_patient(ScoredTargets.of(-1.0 * member, member), rng)
    assert reversed_scores.value == 0.0
    assert reversed_scores.interval(0.95).upper == pytest.approx(1 - 0.025 ** (1 / 12))


def test_each_replicate_draws_as_many_patients_of_a_class_as_there_are():
    is_member = np.arange(50) < 11
    counts = _patient_counts(is_member, 300, np.random.default_rng(0))
    assert (counts[:, is_member].sum(axis=1) == 11).all()
    assert (counts[:, ~is_member].sum(axis=1) == 39).all()
    assert (counts.std(axis=0) > 0).all()  # and every patient is drawn more and less often


def test_the_same_seed_gives_the_same_interval():
    member = np.arange(40) % 2 == 0
    targets = ScoredTargets.of(np.random.default_rng(4).normal(size=40) + member, member)
    first, second = (auc_by_patient(targets, np.random.default_rng(8)) for _ in range(2))
    assert first.interval(0.95) == second.interval(0.95)


def test_nine_patients_of_a_class_are_too_few():
    member = np.arange(40) < 9
    with pytest.raises(TooFewTargets, match="9 member and 31 non-member"):
        auc_by_patient(ScoredTargets.of(np.arange(40.0), member), np.random.default_rng(0))


def test_a_handful_of_replicates_is_refused():
    member = np.arange(40) < 20
    with pytest.raises(InvalidScores, match="99 replicates"):
        auc_by_patient(ScoredTargets.of(np.arange(40.0), member), np.random.default_rng(0), 99)


def test_p_value_of_replicates_is_never_zero():
    sample = Resampled(0.8, np.linspace(0.7, 0.9, 999))
    assert sample.p_value_at_most(0.5) == 1 / 1000
    assert sample.p_value_at_most(0.8) == pytest.approx(0.5, abs=0.01)
    assert sample.p_value_at_most(1.0) == 1.0


def test_an_interval_holds_its_ends():
    interval = Interval(0.4, 0.6, 0.95)
    assert interval.holds(0.4)
    assert interval.holds(0.6)
    assert not interval.holds(0.39999)
    assert not interval.holds(float("nan"))


# --- Holm ---------------------------------------------------------------------------------------


def test_holm_on_a_worked_example():
    # .005 x 4 = .02; .01 x 3 = .03; .03 x 2 = .06; .04 x 1 = .04, raised to its predecessor's .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7), st.sampled_from([0.01, 0.05, 0.3]))
def test_holm_rejects_what_the_closed_bonferroni_test_rejects(p_values, level):
    # Closed testing: a hypothesis falls if every set of hypotheses with it falls by Bonferroni.
    indices = range(len(p_values))
    for i, adjusted in enumerate(holm(p_values)):
        sets = (
            chosen
            for size in range(1, len(p_values) + 1)
            for chosen in itertools.combinations(indices, size)
            if i in chosen
        )
        falls = all(min(p_values[j] for j in chosen) * len(chosen) <= level for chosen in sets)
        assert (adjusted <= level) == falls


def test_holm_of_nothing_is_nothing():
    assert holm([]) == []


@pytest.mark.parametrize("bad", [[-0.1], [1.1], [float("nan")]])
def test_holm_refuses_what_is_no_probability(bad):
    with pytest.raises(InvalidScores, match="p-values"):
        holm(bad)
