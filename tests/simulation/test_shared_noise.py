"""Rounds whose noise is shared out: one DP-SGD step over the union of hospitals."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import chi2

from protocols.errors import ValueOutOfRange
from securefed.config import Settings
from securefed.data.load import FederatedData
from securefed.errors import ConfigurationError, PrivacyError, RunError
from securefed.hospital.opening import open_hospital
from securefed.model.scores import COUNTS
from securefed.privacy.accounting import epsilon
from securefed.privacy.distributed import calibrate
from securefed.privacy.ledger import Ledger
from securefed.privacy.noise import SeededSource
from securefed.privacy.ring_code import RingCode
from securefed.privacy.sampling import Batch
from securefed.record import recording as adversary
from securefed.secure_sum import secure_rules
from securefed.server.opening import open_server
from securefed.simulation.in_process import InProcessTransport
from securefed.simulation.simulation import Simulation
from securefed.training.patients import stack
from securefed.training.private import poisson_sample
from securefed.training.trainer import LocalTrainer
from securefed.wire.contribution import Contribution
from securefed.wire.description import JobDescription
from securefed.wire.plain import plain_update
from securefed.wire.shared_noise import SharedNoiseLayout
from tests.tiny import resume, settings_with, start

settings = settings_with(
    training={"learning_rate": 0.5},
    privacy={"placement": "distributed", "seeded_noise": True},
    federation={
        "rounds": 3,
        "evaluate_every": 2,
        "strategy": "fedavg",
        "shared": "fusion+classifier",
    },
)


def ledgers(simulation: Simulation) -> list[Ledger]:
    each = [hospital.ledger for hospital in simulation.hospitals.values()]
    return [ledger for ledger in each if ledger]


def described(wanted: Settings, data: FederatedData) -> JobDescription:
    names = tuple(each.name for each in data.hospitals)
    return JobDescription(wanted, "run", names, min(len(each.train) for each in data.hospitals))


def code_of(simulation: Simulation) -> RingCode:
    layout = simulation.hospitals["hospital-1"].trainer.layout
    assert isinstance(layout, SharedNoiseLayout)
    return layout.code


def clipped_sum(trainer: LocalTrainer, code: RingCode, seed: int, round_number: int) -> np.ndarray:
    """What the trainer's patients contribute, clipped one by one in plain loops."""
    source = SeededSource(seed, "training", trainer.name, round_number, 0)
    rows = poisson_sample(len(trainer._records), trainer._rate, source)
    total = np.zeros(code.parameters)
    for row in rows:
        patient = trainer._records[torch.tensor([int(row)])]
        sample, _ = trainer.draw(round_number, 0)
        (vector,) = np.concatenate([*replace(sample, patients=patient).gradient_rows()])
        total += vector * min(1.0, code.clip_norm / float(np.linalg.norm(vector)))
    return total


def test_server_takes_one_step_over_the_union_with_the_stated_noise(
    tmp_path: Path, patients: FederatedData
) -> None:
    """The residual is N(0, 4 shares): two-sided chi-square over 354 values, false alarms 1e-6."""
    # Little noise and a clipping norm that binds, so that a wrong gradient would show.
    wanted = settings(privacy={"epsilon": 1000.0, "clip_norm": 0.02}, federation={"rounds": 1})
    simulation = start(wanted, tmp_path / "run", patients)
    code = code_of(simulation)
    before = simulation.server.shared.copy()
    trainers = [client.trainer for client in simulation.hospitals.values()]
    for trainer in trainers:
        trainer.receive(before.astype(np.float32))
    gradients = sum(clipped_sum(trainer, code, wanted.seed, 1) for trainer in trainers)
    next(simulation.rounds())
    step = -wanted.training.learning_rate / 20  # four hospitals, five patients expected at each
    residual = (simulation.server.shared - before) / step - gradients
    share = code.noise.share_sigma * code.clip_norm / code.noise.clip_steps
    assert np.linalg.norm(gradients) > 1.5 * np.linalg.norm(residual)
    low, high = chi2.ppf([5e-7, 1 - 5e-7], residual.size)
    assert low < (residual**2).sum() / (4 * share**2) < high
    # The noise of the fewest survivors less the curious one is what the accountant was told.
    counted = share * math.sqrt(code.noise.counted) / code.clip_norm
    event = simulation.hospitals["hospital-1"].trainer.event
    assert event is not None
    assert event.noise_multiplier <= counted < event.noise_multiplier * 1.01


@pytest.mark.parametrize(("clients", "colluding"), [(3, 0), (4, 1), (5, 2), (9, 1)])
def test_calibration_counts_the_fewest_survivors_the_protocol_allows_less_the_colluding(
    clients: int, colluding: int, patients: FederatedData
) -> None:
    wanted = settings(privacy={"colluding": colluding}, federation={"clients": clients})
    job = described(wanted, patients)
    assert job.shared_noise is not None
    rules = secure_rules(wanted, 1)
    assert rules.minimum_cohort == clients
    assert job.shared_noise.counted == rules.threshold(clients) - colluding


def test_round_rules_of_the_run_are_those_that_were_calibrated_for(
    tmp_path: Path, patients: FederatedData
) -> None:
    simulation = start(settings(), tmp_path / "run", patients)
    summation: Any = simulation.server._summation
    rules = summation._rules.for_round(summation._roster, 1, list(simulation.hospitals))
    assert rules.minimum_survivors == code_of(simulation).noise.counted + 1
    assert rules.vector_length == 512 + 2
    assert summation._rules.vector_lengths == (512 + 2, COUNTS)


def test_ledger_records_the_rounds_and_on_whose_noise_they_relied(
    tmp_path: Path, patients: FederatedData
) -> None:
    wanted = settings()
    simulation = start(wanted, tmp_path / "run", patients)
    for _ in simulation.rounds():
        pass
    for ledger in ledgers(simulation):
        history = ledger.history()
        assert [(event.steps, event.noise_from) for event in history] == [(1, 2)] * 3
        assert 0.95 * wanted.privacy.epsilon < epsilon(history, 1e-3) <= wanted.privacy.epsilon
    assert any("2 of a round's hospitals" in note for note in simulation.notes)


def test_shared_noise_is_smaller_than_that_of_every_hospital_alone(
    tmp_path: Path, patients: FederatedData
) -> None:
    local = start(settings(privacy={"placement": "local"}), tmp_path / "local", patients)
    shared = start(settings(), tmp_path / "shared", patients)
    event = local.hospitals["hospital-1"].trainer.event
    assert event is not None
    noise = code_of(shared).noise
    ratio = noise.share_sigma / noise.clip_steps / event.noise_multiplier
    assert ratio == pytest.approx(1 / math.sqrt(2), rel=0.01)


def fail_in_round(trainer: LocalTrainer, bad: int, monkeypatch: pytest.MonkeyPatch) -> None:
    train = trainer.contribute

    def maybe(round_number: int) -> Any:
        if round_number == bad:
            raise RunError("the network is down")
        return train(round_number)

    monkeypatch.setattr(trainer, "contribute", maybe)


def test_one_hospital_may_drop_and_the_rest_divide_by_their_own_batch(
    tmp_path: Path, patients: FederatedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation = start(settings(), tmp_path / "run", patients)
    fail_in_round(simulation.hospitals["hospital-2"].trainer, 2, monkeypatch)
    records = [record for record, _ in simulation.rounds()]
    assert [len(record.survivors) for record in records] == [4, 3, 4]
    assert records[1].patients == 30


def test_fewer_survivors_than_were_calibrated_for_are_never_unmasked(
    tmp_path: Path, patients: FederatedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation = start(settings(), tmp_path / "run", patients)
    for name in ("hospital-1", "hospital-2"):
        fail_in_round(simulation.hospitals[name].trainer, 2, monkeypatch)
    rounds = simulation.rounds()
    next(rounds)
    before = simulation.server.shared.copy()
    record, _ = next(rounds)
    assert record.aborted
    assert np.array_equal(simulation.server.shared, before)
    seen = adversary.sightings(tmp_path / "run" / "exposures")
    assert "unmask" not in {each.stage for each in seen if each.round == 2}
    # The round counts for those who sent their part, all the same.
    ledger = simulation.hospitals["hospital-3"].ledger
    assert ledger is not None
    assert len(ledger.history()) == 2


def test_resume_continues_bit_for_bit_where_the_noise_is_seeded(
    tmp_path: Path, patients: FederatedData
) -> None:
    whole = start(settings(), tmp_path / "whole", patients)
    for _ in whole.rounds():
        pass
    first = start(settings(), tmp_path / "parts", patients)
    next(first.rounds())
    second = resume(tmp_path / "parts", patients)
    for _ in second.rounds():
        pass
    assert np.array_equal(whole.server.shared, second.server.shared)
    assert whole.group.guarantees() == second.group.guarantees()


def test_evaluation_counts_are_exact_beside_the_noise(
    tmp_path: Path, patients: FederatedData
) -> None:
    simulation = start(settings(federation={"rounds": 1}), tmp_path / "run", patients)
    final = simulation.evaluate()
    assert final.metrics is not None
    assert final.metrics.patients == sum(len(each.test) for each in patients.hospitals)
    assert all(ledger.history() == [] for ledger in ledgers(simulation))


def test_noise_is_solved_at_the_largest_sampling_rate(patients: FederatedData) -> None:
    sizes = []
    for count in (10, 6):
        last = patients.hospitals[3]
        fewer = [*patients.hospitals[:3], replace(last, train=last.train[:count])]
        smaller = replace(patients, hospitals=fewer)
        noise = described(settings(), smaller).shared_noise
        assert noise is not None
        sizes.append(noise.noise_multiplier)
    assert sizes[1] > sizes[0] * 1.1


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("privacy", "dp", False),
        ("privacy", "unit", "image"),
        ("secure_aggregation", "enabled", False),
        ("training", "local_steps", 2),
        ("training", "optimizer", "adam"),
        ("federation", "shared", "classifier"),
        ("federation", "strategy", "fedprox"),
    ],
)
def test_settings_that_would_void_the_guarantee_are_refused(
    section: str, key: str, value: object
) -> None:
    changed = {section: {key: value}}
    with pytest.raises(ValueError, match=f"distributed needs {section}.{key}"):
        settings(**changed)
    settings(**changed | {"privacy": {**changed.get("privacy", {}), "placement": "local"}})


def test_trained_encoders_have_to_be_shared() -> None:
    with pytest.raises(ValueError, match=r"distributed needs federation\.shared: all"):
        settings(model={"train_encoders": True})
    settings(model={"train_encoders": True}, federation={"shared": "all"})


def test_more_colluding_hospitals_than_the_sum_withstands_are_refused(
    patients: FederatedData,
) -> None:
    with pytest.raises(ConfigurationError, match=r"privacy\.colluding: 2 hospitals"):
        _ = described(settings(privacy={"colluding": 2}), patients).shared_noise


def test_noise_that_does_not_fit_the_ring_is_refused_before_the_run(
    tmp_path: Path, patients: FederatedData
) -> None:
    wanted = settings(privacy={"epsilon": 0.011}, federation={"rounds": 100_000})
    with pytest.raises((PrivacyError, ConfigurationError)):
        start(wanted, tmp_path / "run", patients)


def test_a_hospital_smaller_than_the_public_bound_refuses_the_job(
    tmp_path: Path, patients: FederatedData
) -> None:
    """The noise is solved for the smallest hospital: a bound that does not hold breaks epsilon."""
    names = tuple(each.name for each in patients.hospitals)
    job = JobDescription(settings(), "run", names, smallest_training_set=11)
    with pytest.raises(ConfigurationError, match="no hospital declares fewer than 11"):
        open_hospital(job, tmp_path, patients.hospitals[0], None, torch.device("cpu"))


def test_shared_noise_never_leaves_without_masks(tmp_path: Path, patients: FederatedData) -> None:
    job = described(settings(), patients)  # no roster, no rules
    with pytest.raises(ConfigurationError, match="needs secure aggregation"):
        open_hospital(job, tmp_path, patients.hospitals[0], None, torch.device("cpu"))
    with pytest.raises(ConfigurationError, match="needs secure aggregation"):
        open_server(job, InProcessTransport({}), tmp_path)
    words = encoded(NOTHING, 0, 0)
    with pytest.raises(RunError, match="needs secure aggregation"):
        plain_update(Contribution(words, 1, 1), len(words))


@pytest.mark.parametrize("changes", [{"shared": "classifier"}, {"local_steps": 2}])
def test_a_trainer_refuses_shared_noise_for_more_than_one_shared_step(
    changes: dict[str, Any], tmp_path: Path, patients: FederatedData
) -> None:
    simulation = start(settings(), tmp_path / "run", patients)
    trainer = simulation.hospitals["hospital-1"].trainer
    images = stack(patients.hospitals[0].train, 4)
    plan = replace(trainer._plan, **changes)
    ledger = simulation.hospitals["hospital-1"].ledger
    with pytest.raises(ConfigurationError, match="one step on shared parameters"):
        LocalTrainer("hospital-1", trainer.network, images, images, plan, ledger, "run-2")


LAYOUT = SharedNoiseLayout(
    code=RingCode(
        3, 1.0, calibrate(1.0, dimension=4, rounds=9, counted=2, hospitals=3, expected_batch=9)
    ),
    clients=3,
    max_patients=50,
    sampling=Batch(8),
    learning_rate=0.5,
)
NOTHING = np.zeros(4, np.uint32)


def encoded(values: NDArray[np.uint32], patients: int, batch: int) -> NDArray[np.uint32]:
    return LAYOUT.encode(Contribution(values, patients, batch))


def test_layout_carries_every_total_and_divides_by_the_expected_batch() -> None:
    source = SeededSource(1, "layout")
    rows = np.array([[0.6, 0.0, -0.8], [0.1, 0.2, 0.3]])
    words = [
        LAYOUT.code.quantise(rows[i : i + 1], 4, source)[0].astype(np.uint32) for i in range(2)
    ]
    total = encoded(words[0], 50, 8) + encoded(words[1], 7, 5)
    assert total.shape == (LAYOUT.words,)
    decoded = LAYOUT.decode(total, 4)
    assert decoded.patients == 57
    assert decoded.mean_update is not None
    assert np.allclose(decoded.mean_update, -0.5 / 13 * rows.sum(axis=0), atol=1e-4)
    counts = np.arange(COUNTS, dtype=np.int64) % 7
    scored = LAYOUT.scores.encode(counts)
    scores = LAYOUT.scores.decode(scored + scored).scores
    assert isinstance(scores, np.ndarray)
    assert np.array_equal(scores, 2 * counts)


def test_a_round_in_which_nobody_trained_has_no_update() -> None:
    assert LAYOUT.decode(encoded(NOTHING, 0, 0), 1).mean_update is None


def test_layout_refuses_what_does_not_belong() -> None:
    with pytest.raises(RunError, match="nothing was sent"):
        encoded(NOTHING[1:], 1, 1)
    with pytest.raises(ValueOutOfRange):
        encoded(NOTHING, 51, 1)
    with pytest.raises(ValueOutOfRange):
        encoded(NOTHING, 1, 9)
