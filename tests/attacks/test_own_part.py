"""A hospital that attacks takes its own update off the mean, exactly where it can."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from attacks.own_part import without_own_part
from attacks.subject import Subject
from securefed.exposure import Exposure, RoundView

RNG = np.random.default_rng(5)
PATIENTS = {"a": 10, "b": 30, "c": 20}
UPDATES = {name: RNG.normal(size=7).astype(np.float32) for name in PATIENTS}


def mean_of(*names: str) -> np.ndarray:
    weights = [PATIENTS[name] for name in names]
    return np.average([UPDATES[name] for name in names], axis=0, weights=weights)


def subject(*, shared_noise: bool = False) -> Subject:
    """Only what is asked of one here."""
    hospitals = [SimpleNamespace(name=name, weight=n) for name, n in PATIENTS.items()]
    training = SimpleNamespace(shared_noise=shared_noise)
    return cast(Subject, SimpleNamespace(hospitals=hospitals, training=training))


def seen(*known: str, members: tuple[str, ...] = ("b",), survivors: str = "abc") -> Exposure:
    updates = {name: UPDATES[name] for name in known}
    mean = mean_of(*survivors).astype(np.float32)
    view = RoundView(1, np.zeros(7, np.float32), updates, {}, mean, tuple(survivors))
    return Exposure("peer", members, "secure", (view,), np.zeros(7, np.float32))


def test_the_mean_of_the_others_is_left_weighted_by_patients():
    (view,) = without_own_part(seen("b"), subject()).rounds
    assert view.mean is not None
    np.testing.assert_allclose(view.mean, mean_of("a", "c"), rtol=1e-5)
    assert view.survivors == ("a", "c")
    assert view.updates == {}


def test_all_but_one_are_left_with_the_last_ones_update():
    (view,) = without_own_part(seen("a", "b", "c", members=("a", "b")), subject()).rounds
    assert view.mean is not None
    assert np.allclose(view.mean, UPDATES["c"], rtol=1e-4, atol=0)
    assert list(view.updates) == ["c"]


def test_whoever_was_alone_in_a_round_saw_nobody():
    (view,) = without_own_part(seen("b", survivors="b"), subject()).rounds
    assert view.mean is None
    assert view.survivors == ()


@pytest.mark.parametrize(
    "exposure",
    [seen(), seen("b", survivors="ac"), replace(seen("a"), members=())],
    ids=["own update not recorded", "not in the round", "no hospital"],
)
def test_where_there_is_nothing_to_take_off_the_mean_stays(exposure: Exposure):
    (before,), (after,) = exposure.rounds, without_own_part(exposure, subject()).rounds
    assert after.mean is not None
    assert before.mean is not None
    assert np.array_equal(after.mean, before.mean)
    assert after.survivors == before.survivors


def test_a_peer_that_is_not_told_who_took_part_takes_all_for_granted():
    (view,) = seen("b").rounds
    blind = replace(seen("b"), rounds=(replace(view, survivors=()),))
    (after,) = without_own_part(blind, subject()).rounds
    assert after.mean is not None
    np.testing.assert_allclose(after.mean, mean_of("a", "c"), rtol=1e-5)
    assert after.survivors == ("a", "c")


def test_one_shared_noise_leaves_no_weights_to_take_off():
    exposure = seen("b")
    assert without_own_part(exposure, subject(shared_noise=True)) is exposure
