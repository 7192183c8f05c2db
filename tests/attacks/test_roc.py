"""The ROC is the rates at each score, and an operating point says what it really is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from attacks.errors import InvalidScores
from attacks.statistics.intervals import Proportion, clopper_pearson
from attacks.statistics.roc import OperatingPoint, auc, roc_curve, tpr_at_fpr
from attacks.statistics.targets import ScoredTargets


def rates(point: OperatingPoint) -> tuple[Proportion, Proportion]:
    """True- and false-positive rate of a point that is not withheld."""
    assert point.tpr is not None
    assert point.fpr is not None
    return point.tpr, point.fpr


@st.composite
def labelled(draw, smallest=2):
    size = draw(st.integers(smallest, 60))
    scores = draw(st.lists(st.integers(-5, 5), min_size=size, max_size=size))
    members = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    members[:2] = [True, False]
    return ScoredTargets.of(scores, np.array(members))


@settings(max_examples=60, deadline=None)
@given(labelled())
def test_the_curve_holds_the_rates_of_every_score_and_the_area_lies_under_it(targets):
    curve = roc_curve(targets)
    assert (curve.fpr[0], curve.tpr[0], curve.thresholds[0]) == (0.0, 0.0, np.inf)
    assert curve.thresholds[1:].tolist() == sorted(set(targets.scores), reverse=True)
    for fpr, tpr, cut in zip(curve.fpr, curve.tpr, curve.thresholds, strict=True):
        called = targets.scores >= cut
        assert tpr == pytest.approx(called[targets.is_member].mean())
        assert fpr == pytest.approx(called[~targets.is_member].mean())
    assert auc(targets) == pytest.approx(np.trapezoid(curve.tpr, curve.fpr))


def test_area_of_a_hand_example_with_a_tie():
    # Pairs (member, other): (3,1) won, (3,2) won, (2,1) won, (2,2) half: 3.5 of 4.
    targets = ScoredTargets.of([3, 2, 2, 1], np.array([True, True, False, False]))
    assert auc(targets) == 3.5 / 4


@settings(max_examples=60, deadline=None)
@given(labelled(smallest=12), st.sampled_from([0.1, 0.2, 0.25, 0.5, 0.9]))
def test_operating_point_is_the_best_that_the_target_allows(targets, target_fpr):
    point = tpr_at_fpr(targets, target_fpr)
    others = int((~targets.is_member).sum())
    if others < 1 / target_fpr:
        assert (point.tpr, point.fpr) == (None, None)
        assert str(others) in (point.withheld or "")
        return
    curve = roc_curve(targets)
    allowed = curve.fpr <= target_fpr + 1e-12
    tpr, fpr = rates(point)
    assert tpr.value == pytest.approx(curve.tpr[allowed].max())
    assert fpr.value <= target_fpr + 1e-12
    assert point.withheld is None


def population(members, others, seed=0, gap=1.0):
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(gap, 1, members), rng.normal(0, 1, others)])
    return ScoredTargets.of(scores, np.arange(members + others) < members)


def test_the_tenth_of_a_percent_is_withheld_below_a_thousand_distinct_non_members():
    below = tpr_at_fpr(population(50, 999), 0.001)
    assert below.tpr is None
    assert below.withheld == "999 distinct non-members; a false-positive rate of 0.001 needs 1000"
    _, reached = rates(tpr_at_fpr(population(50, 1000), 0.001))
    assert (reached.successes, reached.trials) == (1, 1000)


def test_the_realised_rate_is_the_multiple_that_exists():
    tpr, fpr = rates(tpr_at_fpr(population(300, 250), 0.01))
    assert (fpr.successes, fpr.trials) == (2, 250)  # 0.8%, not 1%
    assert tpr.interval(0.95) == clopper_pearson(tpr.successes, 300)


def test_ties_at_the_cut_are_not_accused():
    # All scores equal: accusing one accuses all, so nobody is accused.
    targets = ScoredTargets.of(np.zeros(40), np.arange(40) < 20)
    tpr, fpr = rates(tpr_at_fpr(targets, 0.1))
    assert (tpr.successes, fpr.successes) == (0, 0)


def test_true_positive_rate_interval_covers_although_the_cut_was_chosen_on_the_data():
    # Given the cut, the truth is P[N(1, 1) > cut]; nominal 95%, exact is at least that.
    rng = np.random.default_rng(11)
    hits = 0
    for seed in rng.integers(0, 2**32, 400):
        targets = population(80, 200, seed)
        tpr, _ = rates(tpr_at_fpr(targets, 0.05))
        cut = np.sort(targets.scores[~targets.is_member])[-11]
        hits += tpr.interval(0.95).holds(stats.norm.sf(cut - 1))
    # Coverage of at least .95 gives fewer than 368 of 400 less than once in 150 seeds.
    assert hits >= 368


def test_several_records_of_one_patient_are_no_independent_trials():
    targets = ScoredTargets.of(
        np.arange(40.0), np.arange(40) < 20, list(np.repeat(np.arange(20), 2))
    )
    with pytest.raises(InvalidScores, match="40 records of 20 patients"):
        tpr_at_fpr(targets, 0.1)


@pytest.mark.parametrize("target", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_target_that_is_no_rate_is_refused(target):
    with pytest.raises(InvalidScores, match="target_fpr"):
        tpr_at_fpr(population(20, 20), target)
