"""Scored targets: the patient is the unit, and nothing of anybody is printed."""

import numpy as np
import pytest

from attacks.errors import InvalidScores
from attacks.statistics.targets import ScoredTargets

SCORES = [0.1, 0.2, 0.3, 0.4]


def test_patients_are_counted_once_however_many_records_they_have():
    targets = ScoredTargets.of(SCORES, np.array([True, True, False, False]), ["a", "a", "b", "c"])
    assert (targets.member_patients, targets.non_member_patients) == (1, 2)


def test_without_patients_every_record_is_its_own():
    targets = ScoredTargets.of(SCORES, np.array([True, False, True, False]))
    assert (targets.member_patients, targets.non_member_patients) == (2, 2)


def test_a_patient_on_both_sides_is_refused_without_being_named():
    with pytest.raises(InvalidScores, match="1 patients are both") as refusal:
        ScoredTargets.of(SCORES, np.array([True, False, True, False]), ["ann", "ann", "b", "c"])
    assert "ann" not in str(refusal.value)


@pytest.mark.parametrize(
    ("scores", "is_member", "message"),
    [
        ([], np.array([], dtype=bool), "non-empty"),
        ([1.0, np.nan], np.array([True, False]), "the first at 1"),
        ([1.0, np.inf], np.array([True, False]), "not finite"),
        ([1.0, 2.0], np.array([1, 0]), "booleans"),
        ([1.0, 2.0], np.array([True]), "booleans"),
        ([1.0, 2.0], np.array([True, True]), "2 of 2"),
        ([1.0, 2.0], np.array([False, False]), "0 of 2"),
        ([[1.0], [2.0]], np.array([True, False]), "vector"),
        (["x", "y"], np.array([True, False]), "numbers"),
    ],
)
def test_scores_and_labels_that_mean_nothing_are_refused(scores, is_member, message):
    with pytest.raises(InvalidScores, match=message):
        ScoredTargets.of(scores, is_member)


def test_too_few_patient_names_are_refused():
    with pytest.raises(InvalidScores, match="1 patients for 2 scores"):
        ScoredTargets.of([1.0, 2.0], np.array([True, False]), ["a"])


def test_repr_shows_neither_scores_nor_membership():
    targets = ScoredTargets.of([0.123456, 0.654321], np.array([True, False]))
    assert repr(targets) == "ScoredTargets()"


def test_permuted_membership_moves_whole_patients_and_keeps_the_counts():
    patients = np.repeat(np.arange(30), 3)
    is_member = patients < 10
    targets = ScoredTargets.of(np.arange(90.0), is_member, list(patients))
    dealt = targets.permuted(np.random.default_rng(0))
    assert dealt.member_patients == 10
    assert (dealt.is_member.reshape(30, 3).sum(axis=1) % 3 == 0).all()
    assert (dealt.is_member != targets.is_member).any()
    assert (dealt.scores == targets.scores).all()
