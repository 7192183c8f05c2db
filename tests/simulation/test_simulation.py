"""A whole federation, hospitals and server, with real messages between them."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from securefed.config import Settings
from securefed.data.load import FederatedData
from securefed.errors import RunError
from securefed.model.network import FusionNetwork
from securefed.model.sharing import Vector
from securefed.privacy.ledger import Ledger
from securefed.record import metrics
from securefed.record import recording as adversary
from securefed.simulation.simulation import Simulation
from securefed.training.mechanism import Values
from securefed.training.trainer import LocalTrainer
from securefed.wire import messages
from securefed.wire.contribution import Contribution, ContributionLayout
from tests.tiny import finish, resume, settings_with, start

settings = settings_with(
    privacy={"dp": False, "seeded_noise": True},
    federation={"shared": "classifier", "rounds": 4, "evaluate_every": 2},
)


def ledgers(simulation: Simulation) -> list[Ledger]:
    each = [hospital.ledger for hospital in simulation.hospitals.values()]
    return [ledger for ledger in each if ledger]


def parameters(network: FusionNetwork) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def secure(enabled: bool, rounding_error: float = 1e-5, **federation: object) -> Settings:
    masks = {"enabled": enabled, "max_patients": 16, "rounding_error": rounding_error}
    return settings(secure_aggregation=masks, federation=federation)


@pytest.mark.parametrize(
    ("strategy", "rounding_error"),
    [("fedavg", 1e-9), ("fedprox", 1e-9), ("fedadam", 1e-9), ("fedavg", 1e-5)],
)
def test_secure_aggregation_gives_the_model_of_plain_averaging(
    strategy: str, rounding_error: float, tmp_path: Path, patients: FederatedData
) -> None:
    """Within the stated bound, in all 32 bits and in packed words."""
    plain = start(secure(False, strategy=strategy), tmp_path / "plain", patients)
    masked = start(secure(True, rounding_error, strategy=strategy), tmp_path / "secure", patients)
    assert (masked.job.layout.modulus_bits < 32) == (rounding_error > 1e-9)
    finish(plain)
    records = finish(masked)
    assert all(len(record.survivors) == 4 for record in records)
    layout = masked.hospitals["hospital-1"].trainer.layout
    assert isinstance(layout, ContributionLayout)
    bound = 4 * layout.error_bound(clients=4, patients=40)
    if strategy == "fedadam":
        bound *= 1000  # Adam divides a coordinate's first small updates by their own size
    assert bound < 1e-4
    assert np.abs(plain.server.shared - masked.server.shared).max() <= bound + 1e-7
    moved = np.abs(plain.server.shared - masked_start(masked)).max()
    assert moved > 1e-3, "the model must have moved for the comparison to mean anything"


@pytest.mark.parametrize(
    ("clients", "sentence"),
    [
        (3, "what you send stays hidden while at most 1 of 3 hospitals works with the server"),
        (4, "what you send stays hidden while at most 1 of 4 hospitals works with the server"),
        (10, "what you send stays hidden while at most 3 of 10 hospitals work with the server"),
    ],
)
def test_the_user_is_told_before_the_first_round_what_masks_hide(
    clients: int, sentence: str, tmp_path: Path
) -> None:
    notes = start(secure(True, clients=clients), tmp_path / "run", None).notes
    (told,) = [note for note in notes if note.startswith(sentence)]
    assert "they learn sums over" in told or "it learns sums over" in told
    assert any("subtract" in note for note in notes), "without DP"
    plain = start(secure(False, clients=clients), tmp_path / "plain", None).notes
    assert not any("hidden" in note or "subtract" in note for note in plain)


def masked_start(simulation: Simulation) -> np.ndarray:
    return simulation.job.shared


def test_evaluation_counts_of_a_masked_run_are_those_in_the_clear(
    tmp_path: Path, patients: FederatedData
) -> None:
    results = []
    for enabled in (False, True):
        simulation = start(secure(enabled, rounds=1), tmp_path / str(enabled), patients)
        (record,) = finish(simulation)
        results.append((record.patients, record.metrics))
    assert results[0] == results[1]
    assert results[0][0] == 40


@pytest.mark.parametrize("private", [False, True])
def test_resume_continues_bit_for_bit(
    private: bool, tmp_path: Path, patients: FederatedData
) -> None:
    wanted = settings(privacy={"dp": private})
    whole = start(wanted, tmp_path / "whole", patients)
    finish(whole)

    first = start(wanted, tmp_path / "parts", patients)
    for record, _ in first.rounds():
        if record.round == 2:
            break
    second = resume(tmp_path / "parts", patients)
    assert second.server.finished == 2
    finish(second)

    assert np.array_equal(whole.server.shared, second.server.shared)
    for name in whole.hospitals:
        ours = parameters(whole.hospitals[name].trainer.network)
        theirs = parameters(second.hospitals[name].trainer.network)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert whole.group.guarantees() == second.group.guarantees()


def test_resume_refuses_other_patients(tmp_path: Path, patients: FederatedData) -> None:
    finish(start(secure(False, rounds=1), tmp_path / "run", patients))
    changed = replace(patients, fingerprint="0" * 64)
    with pytest.raises(RunError, match="patients differ"):
        resume(tmp_path / "run", changed)


def test_rounds_lost_in_a_crash_stay_spent_and_shorten_the_run(
    tmp_path: Path, patients: FederatedData
) -> None:
    wanted = settings(privacy={"dp": True, "seeded_noise": False})
    first = start(wanted, tmp_path / "run", patients)
    rounds = first.rounds()
    next(rounds)
    # The crash: round 2 was reserved and trained, and its check point never came.
    for client in first.hospitals.values():
        client.trainer.contribute(2)
    second = resume(tmp_path / "run", patients)
    assert second.server.rounds == 3
    assert any("crash" in note for note in second.notes)
    finish(second)
    assert all(
        each.counted <= wanted.privacy.epsilon for each in second.group.guarantees().values()
    )
    assert all(len(ledger.history()) >= 1 for ledger in ledgers(second))


def fail_in_round(trainer: LocalTrainer, bad: int, monkeypatch: pytest.MonkeyPatch) -> None:
    train = trainer.contribute

    def maybe(round_number: int) -> Values:
        if round_number == bad:
            raise RunError("the scanner is on fire")
        return train(round_number)

    monkeypatch.setattr(trainer, "contribute", maybe)


@pytest.mark.parametrize("enabled", [False, True])
def test_a_failing_hospital_is_dropped_and_comes_back(
    enabled: bool, tmp_path: Path, patients: FederatedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation = start(secure(enabled), tmp_path / "run", patients)
    fail_in_round(simulation.hospitals["hospital-2"].trainer, 2, monkeypatch)
    records = finish(simulation)
    assert [len(record.survivors) for record in records] == [4, 3, 4, 4]
    assert "hospital-2" in records[1].dropped
    assert records[1].patients == 30
    # The reason that reaches the server is a kind of error, never the hospital's own words.
    assert "fire" not in str(records[1].dropped)


@pytest.mark.parametrize("enabled", [False, True])
def test_a_round_below_the_threshold_aborts_and_changes_nothing(
    enabled: bool, tmp_path: Path, patients: FederatedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = secure(enabled, minimum_clients=3)
    simulation = start(wanted, tmp_path / "run", patients)
    for name in ("hospital-1", "hospital-2"):
        fail_in_round(simulation.hospitals[name].trainer, 2, monkeypatch)
    before = None
    for record, line in simulation.rounds():
        if record.round == 1:
            before = simulation.server.shared.copy()
        if record.round == 2:
            assert record.aborted
            assert line.aborted
            assert record.survivors == ()
            assert before is not None
            assert np.array_equal(simulation.server.shared, before)
        if record.round == 3:
            assert not record.aborted
    stages = {
        seen.stage
        for seen in adversary.sightings(tmp_path / "run" / "exposures")
        if seen.round == 2
    }
    assert "unmask" not in stages, "nothing may be opened in an aborted round"


def test_a_slow_hospital_misses_the_deadline_and_the_round_goes_on(
    tmp_path: Path, patients: FederatedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation = start(secure(True, timeout_s=3.0, rounds=2), tmp_path / "run", patients)
    trainer = simulation.hospitals["hospital-3"].trainer
    released = threading.Event()
    train = trainer.contribute

    def slow(round_number: int) -> Values:
        if round_number == 1:
            released.wait(20)
        return train(round_number)

    monkeypatch.setattr(trainer, "contribute", slow)
    rounds = simulation.rounds()
    first, _ = next(rounds)
    released.set()
    assert "hospital-3" in first.dropped
    assert len(first.survivors) == 3
    time.sleep(0.3)  # it finishes its late work, whose reply nobody takes
    second, _ = next(rounds)
    assert len(second.survivors) == 4


def test_a_sampled_cohort_changes_from_round_to_round(
    tmp_path: Path, patients: FederatedData
) -> None:
    simulation = start(secure(True, clients_per_round=3, rounds=6), tmp_path / "run", patients)
    records = finish(simulation)
    assert all(len(record.survivors) == 3 for record in records)
    assert len({record.cohort for record in records}) > 1


def captured_updates(simulation: Simulation, monkeypatch: pytest.MonkeyPatch) -> list[Vector]:
    updates: list[Vector] = []
    for client in simulation.hospitals.values():
        train = client.trainer.contribute

        def keep(round_number: int, train: Any = train) -> Vector:
            update: Vector = train(round_number)
            updates.append(update)
            return update

        monkeypatch.setattr(client.trainer, "contribute", keep)
    return updates


def test_the_recorded_messages_show_updates_only_without_secure_aggregation(
    tmp_path: Path, patients: FederatedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    for enabled in (False, True):
        folder = tmp_path / str(enabled)
        simulation = start(secure(enabled, rounds=1), folder, patients)
        updates = captured_updates(simulation, monkeypatch)
        finish(simulation)
        wire = (folder / "exposures" / "messages.bin").read_bytes()
        assert len(updates) == 4
        for update in updates:
            assert (messages.vector_to_bytes(update) in wire) is not enabled
            layout = simulation.hospitals["hospital-1"].trainer.layout
            encoded = layout.encode(Contribution(update, 10, 5))
            assert encoded[: len(update)].tobytes() not in wire


def test_every_byte_on_the_wire_is_counted_and_recorded(
    tmp_path: Path, patients: FederatedData
) -> None:
    simulation = start(secure(True, rounds=2), tmp_path / "run", patients)
    finish(simulation)
    lines = metrics.read(simulation.directory.path).rounds
    counted = sum(line.bytes_up + line.bytes_down for line in lines)
    seen = list(adversary.sightings(tmp_path / "run" / "exposures"))
    assert counted == sum(each.size for each in seen)
    for each in seen[:10]:
        assert len(adversary.content(tmp_path / "run" / "exposures", each)) == each.size


def test_after_the_first_round_keys_and_shares_ride_on_other_messages(
    tmp_path: Path, patients: FederatedData
) -> None:
    simulation = start(secure(True, rounds=3), tmp_path / "run", patients)
    finish(simulation)
    simulation.evaluate()
    stages: dict[int, set[str]] = {}
    for seen in adversary.sightings(tmp_path / "run" / "exposures"):
        stages.setdefault(seen.round, set()).add(seen.stage)
    # The scoring of what round 1 starts from is step 4, of 3 rounds; the final one is step 7.
    assert stages[4] == stages[7] == {"advertise", "share", "work", "confirm", "unmask"}
    assert stages[1] == stages[2] == stages[3] == stages[6] == {"work", "confirm", "unmask"}


@pytest.mark.parametrize("baselines", [False, True])
def test_patients_are_with_their_hospitals_and_nowhere_else_unless_baselines_need_them(
    baselines: bool, tmp_path: Path, patients: FederatedData
) -> None:
    simulation = start(settings(evaluation={"baselines": baselines}), tmp_path / "run", patients)
    held = simulation.data.hospitals
    assert [each.name for each in held] == list(simulation.hospitals)
    assert all(bool(each.train) == bool(each.test) == baselines for each in held)
    assert simulation.data.fingerprint == patients.fingerprint
    assert all(each.trainer.declared.patients for each in simulation.hospitals.values())
