"""`training.sample_rate`: one rate in every hospital, whatever it has, and all that follows."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from securefed.auditing.subject import subject_of
from securefed.data.load import FederatedData
from securefed.evidence import checks
from securefed.run_directory import Run
from securefed.simulation import baselines
from securefed.simulation.execution import execute
from securefed.simulation.patients import load_data
from securefed.training.private import poisson_sample
from securefed.wire.shared_noise import SharedNoiseLayout
from tests.tiny import finish, resume, settings_with, start

RATE = 0.4
KEPT = (3, 10, 10, 7)  # training patients of each hospital
settings = settings_with(
    training={"batch_size": None, "sample_rate": RATE},
    privacy={"accountant": "rdp", "seeded_noise": True},
    federation={"rounds": 3, "strategy": "fedavg", "shared": "fusion+classifier"},
)
DISTRIBUTED = {"placement": "distributed"}


@pytest.fixture(scope="module")
def unlike() -> FederatedData:
    data = load_data(settings())
    few = [
        replace(each, train=each.train[:kept])
        for each, kept in zip(data.hospitals, KEPT, strict=True)
    ]
    return replace(data, hospitals=few)


@pytest.mark.parametrize("privacy", [{}, DISTRIBUTED], ids=["local", "distributed"])
def test_every_ledger_has_the_same_rate_and_nobodys_size_is_agreed_on(
    privacy: dict[str, object], tmp_path: Path, unlike: FederatedData
) -> None:
    run = start(settings(privacy=privacy), tmp_path / "run", unlike)
    finish(run)
    assert run.job.smallest_training_set is None
    events = {each.trainer.event for each in run.hospitals.values()}
    (event,) = events
    assert event is not None
    assert event.sample_rate == RATE
    assert len({tuple(each.history()) for each in run.ledgers.values()}) == 1
    counted = [each.guarantee().counted for each in run.ledgers.values()]
    assert all(7.9 < each <= 8.0 for each in counted)
    assert not any("is all that" in note for note in run.notes)


def test_a_hospital_divides_by_its_share_of_what_it_declares_and_declares_one_expected_patient(
    tmp_path: Path, unlike: FederatedData
) -> None:
    tiny = settings(training={"sample_rate": 0.25})
    run = start(tiny, tmp_path / "run", unlike)
    declared = [each.trainer.declared.patients for each in run.hospitals.values()]
    assert declared == [4, 10, 10, 7]  # one over the rate, where there are fewer
    assert [each.trainer.expected_batch for each in run.hospitals.values()] == [1, 2.5, 2.5, 1.75]


def test_the_server_divides_a_shared_sum_by_everybodys_batch(
    tmp_path: Path, unlike: FederatedData
) -> None:
    """A record moves the model as far from a hospital of three as from one of ten."""
    quiet = settings(privacy={**DISTRIBUTED, "epsilon": 1000.0})
    run = start(quiet, tmp_path / "run", unlike)
    layout = run.job.layout
    assert isinstance(layout, SharedNoiseLayout)
    before = run.server.shared.copy()
    next(run.rounds())
    words = np.zeros(layout.words, np.uint32)
    words[-2:] = sum(KEPT)
    words[0] = 1000
    total = layout.decode(words, 1)
    one_step = layout.code.decode(words[:-2], 1)
    assert total.mean_update is not None
    expected = -quiet.training.learning_rate / (RATE * sum(KEPT)) * one_step
    np.testing.assert_allclose(total.mean_update, expected)
    assert np.abs(run.server.shared - before).max() > 0
    words[-1] = 4 * layout.max_patients + 1  # more than four hospitals can have
    assert layout.decode(words, 1).mean_update is None


def test_a_run_at_a_rate_is_taken_up_and_its_files_and_audit_agree(
    tmp_path: Path, unlike: FederatedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = start(settings(), tmp_path / "run", unlike)
    next(begun.rounds())
    assert len(finish(resume(tmp_path / "run", unlike))) == 2
    whole = tmp_path / "whole"
    execute(settings(), whole, data=unlike)
    checks.require(Run.open(whole))
    monkeypatch.setattr("securefed.auditing.subject.load_data", lambda *_, **__: unlike)
    subject = subject_of(Run.open(whole))
    assert {each.sample_rate for each in subject.hospitals} == {RATE}
    assert [each.expected_batch for each in subject.hospitals] == [RATE * kept for kept in KEPT]


def test_draws_come_at_the_rate(tmp_path: Path, unlike: FederatedData) -> None:
    """2,000 draws of ten patients: five standard deviations, false alarms below 1e-6."""
    trainer = start(settings(), tmp_path / "run", unlike).hospitals["hospital-2"].trainer
    drawn = sum(
        len(poisson_sample(10, trainer._rate, trainer._source(number, 0))) for number in range(2000)
    )
    assert abs(drawn - 20_000 * RATE) < 5 * math.sqrt(20_000 * RATE * (1 - RATE))


def test_pooled_training_draws_as_many_as_a_round_of_all(
    tmp_path: Path, unlike: FederatedData
) -> None:
    assert baselines._of_all(settings().training.sampling, 2, 4) == {"sample_rate": RATE / 2}
    plain = settings(privacy={"dp": False})
    pooled = baselines.pooled(plain, unlike, tmp_path)
    assert sum(float(each.sum()) for each in pooled.counts.values()) == 16
