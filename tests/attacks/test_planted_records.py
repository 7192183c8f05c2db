"""Planted records: more leaks of who is copied, and never more than epsilon allows."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from attacks.epsilon.trade_off import SubsampledGaussian
from attacks.membership import planted
from attacks.membership.federation_replay import Pool, ReplayPlan
from attacks.membership.fixture import fixture
from attacks.membership.planted import METHODS, Scene, amplification, joined, lira
from attacks.membership.shadow_models import Candidates, NoShadows
from attacks.result import AttackResult, Effort
from attacks.statistics.roc import auc
from securefed.exposure import Exposure, Observer

ROUNDS = 10


@pytest.fixture(scope="module")
def overfit() -> tuple[Pool, ReplayPlan]:
    return fixture(0, by_lot=True)


def scene_of(pool: Pool, plan: ReplayPlan) -> Scene:
    return Scene.of(plan, pool, (0, 1), ROUNDS, 40, np.random.default_rng(0))


def test_copies_are_the_targets_with_the_other_label(overfit: tuple[Pool, ReplayPlan]):
    pool, plan = overfit
    scene = scene_of(pool, plan)
    victims = scene.honest.hospital == 0
    assert torch.equal(scene.honest.records.label[victims], scene.planted.records.label[victims])
    assert torch.equal(scene.planted.is_member[victims], pool.is_member[pool.hospital == 0])
    copies = torch.nonzero(scene.planted.hospital == 1).squeeze(1)
    assert len(copies) == int((pool.is_member & (pool.hospital == 1)).sum())
    of = torch.from_numpy(np.resize(scene.targets, len(copies)))
    records = scene.planted.records
    assert torch.equal(records.tokens[copies], records.tokens[of])
    assert torch.equal(records.label[copies], 1 - records.label[of])
    assert bool(scene.planted.is_member[copies].all())


def test_patients_of_several_slices_and_records_are_copied_whole(
    overfit: tuple[Pool, ReplayPlan],
):
    pool, _ = overfit
    # Every two of its patients become one of two records; every two of its slices a record.
    whole = replace(pool.records, first=torch.arange(0, 201, 2), label=torch.arange(100) % 2)
    owner = torch.arange(100) // 2
    hospital, member = (each[::4] for each in (pool.hospital, pool.is_member))
    several = Pool(whole, owner, hospital, member)
    chosen = joined(several, np.array([3, 1]), np.array([30]), wrong=1)
    assert chosen.patient.tolist() == [0, 0, 1, 1, 2, 2]
    slices = torch.tensor([12, 13, 14, 15, 4, 5, 6, 7, 120, 121, 122, 123])
    assert torch.equal(chosen.records.tokens, pool.records.tokens[slices])
    assert chosen.records.first.tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert chosen.records.label.tolist() == [0, 1, 0, 1, 1, 0]


def test_planting_amplifies_in_the_clear_and_stays_within_epsilon_under_noise(
    overfit: tuple[Pool, ReplayPlan],
):
    pool, plan = overfit
    clear = scene_of(pool, plan)
    found = [
        auc(lira(clear, each, 0, lambda share: None)) for each in (clear.planted, clear.honest)
    ]
    assert found[0] > max(found[1] + 0.02, 0.97)
    noise, rate = 10.0, 1.0
    private = replace(
        plan,
        hospitals=tuple(replace(each, noise_multiplier=noise) for each in plan.hospitals),
        training=replace(plan.training, clip_norm=1.0),
    )
    scene = scene_of(pool, private)
    under_noise = auc(lira(scene, scene.planted, 0, lambda share: None))
    curve = SubsampledGaussian(rate, ROUNDS).curve(noise)
    most = 1 - float(np.mean([curve(right) for right in np.linspace(0, 1, 2001)]))
    assert 0.5 < most < 0.65
    # 160 trials, some 80 of them members: the AUC has a deviation of .046 by chance.
    assert under_noise < most + 3 * 0.046


def attacked(
    overfit: tuple[Pool, ReplayPlan],
    monkeypatch: pytest.MonkeyPatch,
    who: Any,
    observer: Observer = "peer",
) -> AttackResult:
    monkeypatch.setattr(planted, "candidates", lambda *_: who)
    monkeypatch.setitem(planted.ROUNDS, Effort.QUICK, ROUNDS)
    plan = overfit[1]
    subject = SimpleNamespace(hospitals=plan.hospitals, seed=0)
    case: Any = SimpleNamespace(
        subject=subject, effort=Effort.QUICK, released=np.zeros(1, np.float32)
    )
    seen = Exposure(observer, ("fixture-1",), "plain", (), case.released)
    return amplification(case, seen, lambda share: None)


def test_the_peer_reports_it_with_and_without_planting(
    overfit: tuple[Pool, ReplayPlan], monkeypatch: pytest.MonkeyPatch
):
    pool, plan = overfit
    result = attacked(overfit, monkeypatch, Candidates(plan, pool, ()))
    assert [each.method for each in result.findings] == list(METHODS)
    values = [each.estimate.value for each in result.findings if each.estimate]
    assert len(values) == 2
    assert values[0] > values[1]
    assert {(each.scene, each.observer) for each in result.findings} == {("worst case", "peer")}
    assert result.details["planted"]["copies"] == 50


def test_where_nobody_can_plant_there_is_no_figure(
    overfit: tuple[Pool, ReplayPlan], monkeypatch: pytest.MonkeyPatch
):
    assert not attacked(overfit, monkeypatch, NoShadows("why"), "server").findings
    absent = attacked(overfit, monkeypatch, NoShadows("nobody can query it")).findings
    assert [(each.absent, each.applies) for each in absent] == [("nobody can query it", False)] * 2
    pool, plan = overfit
    everybody = replace(pool, is_member=torch.ones_like(pool.is_member))
    none_out = attacked(overfit, monkeypatch, Candidates(plan, everybody, ())).findings
    assert all("shadow" in str(each.absent) for each in none_out)
