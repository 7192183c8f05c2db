"""Case mix from rounds: told where hospitals are told apart, and why it is not elsewhere."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from attacks.membership.federation_replay import Pool, ReplayPlan, trajectory
from attacks.membership.shadow_models import Candidates, NoShadows
from attacks.properties import attack as properties
from attacks.properties.controls import SHARES, controls, error, positive, unequal_fixture
from attacks.properties.shares import shares
from attacks.releases import releases
from attacks.result import AttackResult, Effort
from attacks.source.controls import sums
from attacks.statistics.targets import Bools
from attacks.verdicts import gate_complaint
from securefed.auditing.policy import read_policy
from securefed.exposure import Exposure, Observer, RoundView
from securefed.model.network import NetworkShape
from securefed.model.patients import PatientTensors

PROPERTIES = properties.names_of(NetworkShape())
Fixture = tuple[Pool, ReplayPlan, Bools, list[RoundView]]


@pytest.fixture(scope="module")
def fixture() -> Fixture:
    pool, plan, has = unequal_fixture(0)
    pool = positive(pool, has)
    return pool, plan, has, list(trajectory(plan, pool, pool.is_member, 0))


def test_controls_meet_every_gate_of_the_default_policy():
    gates = [gate for gate in read_policy().gates if gate.attack == "property inference"]
    found = controls(0, lambda share: None).controls
    assert len(gates) == 3
    assert [gate_complaint(gate, found) for gate in gates] == [None] * 3


def test_sums_of_changing_cohorts_are_taken_apart(fixture: Fixture):
    pool, plan, has, views = fixture
    one, other = (each.name for each in plan.hospitals)
    assert error(pool, plan, has, sums(plan, views, [(one,), (one, other)])) < 0.22


def test_another_property_is_told_like_labels():
    pool, plan, has = unequal_fixture(1)
    without = torch.from_numpy(has)
    label = torch.arange(len(pool)) % 2
    present = pool.records.present.clone()
    present[:, 0] = ~without
    records = replace(pool.records, label=label.float(), present=present)
    pool = replace(pool, records=records)
    views = list(trajectory(plan, pool, pool.is_member, 1))
    known = ~pool.is_member.numpy()
    kinds = np.stack([label.double().numpy(), without.double().numpy()], axis=1)
    rounds = [releases(plan.training, plan.hospitals, view) for view in views]
    found = shares(plan, pool, known, kinds[known], rounds, lambda share: None)
    assert np.abs(found.told[:, 0] - 0.5).max() < 0.25
    assert found.told[0, 1] < 0.5 < found.told[1, 1]
    assert np.abs(found.told[:, 1] - SHARES).mean() < 0.25


def people(pool: Pool, hospital: int, member: bool) -> PatientTensors:
    rows = (pool.hospital == hospital) & (pool.is_member == member)
    label = pool.records.label[rows]
    there = torch.ones(len(label), 2, 1, dtype=torch.bool)
    empty = torch.zeros(len(label), 2, 1, 1, 1, dtype=torch.uint8)
    return PatientTensors(("ct", "mri"), empty, there, label)


def attacked(
    fixture: Fixture,
    views: list[RoundView],
    monkeypatch: pytest.MonkeyPatch,
    observer: Observer = "server",
    who: NoShadows | None = None,
    covered: str = "",
    encoders_train: bool = False,
) -> AttackResult:
    pool, plan, _, all_views = fixture
    monkeypatch.setattr(properties, "candidates", lambda *_: who or Candidates(plan, pool, ()))
    hospitals = tuple(
        replace(each, train=people(pool, place, True), held_out=people(pool, place, False))
        for place, each in enumerate(plan.hospitals)
    )
    subject = SimpleNamespace(
        hospitals=hospitals,
        training=plan.training,
        encoders_train=encoders_train,
        network=SimpleNamespace(shape=NetworkShape()),
    )
    case: Any = SimpleNamespace(
        subject=subject,
        effort=Effort.DEFAULT,
        released=all_views[-1].shared,
        covered=lambda observer: covered,
    )
    seen = Exposure(observer, (), "plain", tuple(views), all_views[-1].shared)
    return properties.attack(case, seen, lambda share: None)


def test_the_server_tells_case_mix_better_than_a_guess(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
):
    result = attacked(fixture, fixture[-1], monkeypatch)
    told, *rare = result.findings
    assert (told.method, told.metric, told.scene) == (
        "positives",
        "told within 0.05",
        "as configured",
    )
    assert told.estimate is not None
    mean = result.details["positives"]
    assert mean["mean error"] < mean["mean error of a guess"] - 0.1
    # Nobody in the fixture lacks a modality.
    assert [each.method for each in rare] == list(PROPERTIES[1:])
    assert all("known patients have it" in str(each.absent) for each in rare)


def test_where_it_does_not_apply_it_says_why(fixture: Fixture, monkeypatch: pytest.MonkeyPatch):
    _, plan, _, views = fixture
    everybody = sums(plan, views, [tuple(each.name for each in plan.hospitals)])

    def why(result: AttackResult) -> str:
        (reason,) = {str(each.absent) for each in result.findings}
        assert len(result.findings) == len(PROPERTIES)
        assert not any(each.applies for each in result.findings)
        return reason

    assert "of the same hospitals" in why(attacked(fixture, everybody, monkeypatch))
    assert "saw no update" in why(attacked(fixture, [], monkeypatch, "outsider"))
    assert why(attacked(fixture, views, monkeypatch, covered="see server")) == "see server"
    assert "query" in why(attacked(fixture, views, monkeypatch, who=NoShadows("cannot query")))
    assert "encoders" in why(attacked(fixture, views, monkeypatch, encoders_train=True))


def test_hospitals_are_told_apart_by_the_sums_they_are_in():
    everybody = np.ones((3, 4), np.bool_)
    assert not properties.told_apart(everybody).any()
    assert properties.told_apart(np.eye(4, dtype=np.bool_)).all()
    pairs = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]], np.bool_)
    assert properties.told_apart(pairs).all()
    one = np.array([[1, 1, 1], [0, 1, 1]], np.bool_)
    assert properties.told_apart(one).tolist() == [True, False, False]


def scanned(grey: list[list[int]], with_mri: list[bool]) -> PatientTensors:
    """Patients of one slice whose CT has these grey values; an MRI of 40, where there is one."""
    ct = torch.tensor(grey, dtype=torch.uint8)[:, None, None]  # (patients, slices, 1, pixels)
    there = torch.tensor(with_mri)[:, None]
    images = torch.stack([ct, torch.full_like(ct, 40) * there[..., None, None]], dim=1)
    present = torch.stack([torch.ones_like(there), there], dim=1)
    return PatientTensors(("ct", "mri"), images, present, torch.zeros(len(ct)))


def test_brightness_is_of_what_a_window_shows():
    people = scanned([[0, 10, 30, 255], [0, 0, 50, 70]], [True, False])
    bright = properties.brightness(people)
    assert bright[:, 0].tolist() == [20, 60]
    assert bright[0, 1] == 40
    assert np.isnan(bright[1, 1])


def test_a_scanner_is_bright_beside_the_patients_that_are_known():
    known = [scanned([[10], [20]], [True, True]), scanned([[30]], [False])]
    levels = properties.median_brightness(known)
    assert levels.tolist() == [20, 40]
    kinds = properties.properties_of(scanned([[21], [19]], [True, False]), levels)
    told = dict(zip(PROPERTIES, kinds.T.tolist(), strict=True))
    assert told["bright CT"] == [1, 0]
    assert told["bright MRI"] == [0, 0]  # as bright as the median, and none at all
    assert told["without MRI"] == [0, 1]
    nobody = properties.median_brightness([scanned([[30]], [False])])
    assert np.isnan(nobody[1])
