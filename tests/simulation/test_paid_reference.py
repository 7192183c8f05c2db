"""A reference of a run's own patients, of sums that masks hide, noise covers and a ledger pays for.

Phantoms are treated as real patients are. What the sums are is in tests/model/test_scan_sums.py.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from securefed.data.load import FederatedData
from securefed.errors import RoundAborted, RunError
from securefed.hospital.describing import Describing
from securefed.model.scan_sums import NUMBERS, WORDS, Scans
from securefed.model.scores import Steps
from securefed.privacy.accounting import epsilon
from securefed.privacy.counts import LARGEST_PART, STEPS
from securefed.record import model_file
from securefed.record.noised_scores import SCAN_SUMS, NoisedAnswer
from securefed.simulation import execution
from securefed.simulation.patients import load_data
from securefed.simulation.reference import public_reference
from securefed.simulation.simulation import Simulation
from securefed.wire import messages
from securefed.wire.description import scan_noise_of, scan_noises_of
from securefed.wire.messages import Request
from tests.tiny import finish, resume, settings_with, start

ROUNDS, BUDGET = 2, 1000.0
# So few patients take an epsilon that promises nothing; what is composed is the same.
settings = settings_with(
    data={"phantom": {"patients": 40, "test_patients": 4}},
    privacy={
        "reference_epsilon": 900.0,
        "epsilon": BUDGET,
        "accountant": "rdp",
        "seeded_noise": True,
    },
    federation={"rounds": ROUNDS, "shared": "classifier", "clients": 3},
    exposures={"record": False},
)
MODALITIES = settings().model.modalities


@pytest.fixture(scope="module")
def data() -> FederatedData:
    return load_data(settings())


def answers(path: Path, number: int) -> list[NoisedAnswer]:
    return [SCAN_SUMS[number].read(each) for each in sorted((path / "hospitals").iterdir())]


def reference(path: Path) -> dict[str, np.ndarray]:
    found = model_file.read_reference(path / model_file.NAME, MODALITIES)
    return found.arrays() if found else {}


@pytest.mark.parametrize("secure", [True, False])
def test_noised_answers_make_the_models_reference(
    tmp_path: Path, data: FederatedData, secure: bool
) -> None:
    path = tmp_path / "run"
    execution.execute(settings(secure_aggregation={"enabled": secure}), path, data=data)
    summed = np.sum([each.steps for each in answers(path, 1)], axis=0).reshape(-1, WORDS)
    counts = summed[:, NUMBERS] / STEPS
    assert np.all(np.abs(counts - 115) < 15)
    found, public = reference(path), public_reference(settings())
    assert public is not None  # phantoms have a public one too: this is another
    assert not np.allclose(found["ct.place"][1:], public.arrays()["ct.place"][1:])


def test_without_dp_sums_are_exact_and_the_same_behind_masks(
    tmp_path: Path, data: FederatedData
) -> None:
    found = []
    for secure in (True, False):
        path = tmp_path / f"run-{secure}"
        chosen = settings(privacy={"dp": False}, secure_aggregation={"enabled": secure})
        execution.execute(chosen, path, data=data)
        found.append(reference(path))
        assert not list(path.rglob("scans_*.json"))
    assert found[0]
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_nobody_is_asked_where_the_settings_do_not_ask(tmp_path: Path, data: FederatedData) -> None:
    run = start(settings(privacy={"reference_epsilon": None}), tmp_path / "run", data)
    assert run.job.plan.describing == ()
    assert run.job.layout.scans is None
    finish(run)
    run.evaluate()
    assert run.server.reference is None


def test_both_sums_are_in_the_ledger_and_fit_into_the_runs_budget(
    tmp_path: Path, data: FederatedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(
        privacy={"epsilon": 8.0, "patients_epsilon": 0.5, "seeded_noise": False, "delta": 1e-3}
    )
    monkeypatch.setattr("securefed.model.scan_sums.ENOUGH", 0)
    run = start(chosen, tmp_path / "run", data)
    noises = scan_noises_of(run.settings)
    whole = scan_noise_of(run.settings)
    assert whole is not None
    privacy = run.settings.privacy
    cost = epsilon([whole.event], privacy.delta, "rdp")
    assert LARGEST_PART * 8.0 * 0.95 < cost <= LARGEST_PART * 8.0
    finish(run)
    before = {name: run.ledgers[name].statement() for name in run.ledgers}
    run.evaluate()
    for name, ledger in run.ledgers.items():
        spent = ledger.statement()
        added = spent.reservations[len(before[name].reservations) :]
        assert [each.event for each in added] == [noises[1].event, noises[2].event]
        assert {each.event.noise_from for each in added} == {1}
        total = spent.guarantee().counted
        assert before[name].guarantee().counted < total <= 8.0


def test_the_ledger_pays_before_noise_is_drawn(
    tmp_path: Path, data: FederatedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(settings(), tmp_path / "run", data)
    finish(run)
    events = {noise.event for noise in scan_noises_of(run.settings).values()}

    def crash(*_: object, **__: object) -> Steps:
        raise RunError("crash")

    monkeypatch.setattr("securefed.privacy.counts.CountNoise.on_steps", crash)
    run.evaluate()
    for ledger in run.ledgers.values():
        assert events & {each.event for each in ledger.statement().reservations}
    assert not list((tmp_path / "run").rglob("scans_*.json"))


def test_a_run_taken_up_again_answers_the_same(tmp_path: Path, data: FederatedData) -> None:
    path = tmp_path / "run"
    first = start(settings(), path, data)
    finish(first)
    first.evaluate()
    assert first.server.reference is not None
    kept = first.server.reference.arrays()
    reservations = {n: len(each.statement().reservations) for n, each in first.ledgers.items()}
    again = resume(path, data)
    again.restore()
    finish(again)
    again.evaluate()
    assert again.server.reference is not None
    assert all(np.array_equal(kept[n], each) for n, each in again.server.reference.arrays().items())
    assert {n: len(each.statement().reservations) for n, each in again.ledgers.items()} == (
        reservations
    )


@pytest.mark.parametrize("secure", [True, False])
def test_without_one_hospital_masked_sums_do_not_open_and_the_run_ends_all_the_same(
    tmp_path: Path, data: FederatedData, monkeypatch: pytest.MonkeyPatch, secure: bool
) -> None:
    chosen = settings(secure_aggregation={"enabled": secure}, federation={"minimum_clients": 2})
    run = start(chosen, tmp_path / "run", data)
    finish(run)
    lost = run.hospitals["hospital-2"].client

    def gone(data: bytes) -> bytes:
        request = messages.decode_request(data)
        return b"" if request.describe else type(lost).handle(lost, data)

    monkeypatch.setattr(lost, "handle", gone)
    final = run.evaluate()
    assert (run.server.reference is None) == secure  # in the clear it is of those who answered
    assert not final.aborted


def test_a_ledger_without_room_gives_none_and_nothing_is_drawn(
    tmp_path: Path, data: FederatedData
) -> None:
    run = start(settings(), tmp_path / "run", data)
    finish(run)
    ledger = run.ledgers["hospital-1"]
    dear = next(iter(scan_noises_of(run.settings).values())).event
    while not ledger.would_exceed([dear], run.job.run):
        ledger.reserve(ROUNDS, dear, run=run.job.run)
    run.evaluate()
    assert run.server.reference is None
    assert not (run.hospitals["hospital-1"].folder / SCAN_SUMS[1].NAME).exists()
    assert ledger.statement().guarantee().counted <= BUDGET


# ---- a server that lies ------------------------------------------------------------------------


def asked(run: Simulation, number: int, shared: list[float], **flags: bool) -> str:
    """The refusal of a plain hospital that is asked a step; "" if it answers."""
    step = run.job.plan.describing[number - 1]
    data = messages.vector_to_bytes(np.array(shared, np.float32))
    train, evaluate = flags.get("train", False), flags.get("evaluate", False)
    describe = flags.get("describe", True)
    request = Request(step.number, "work", b"", train, evaluate, data, describe)
    reply = run.hospitals["hospital-1"].client.handle(messages.encode(request))
    return str(messages.decode_reply(reply).refusal)


def test_a_second_question_about_distances_has_no_answer(
    tmp_path: Path, data: FederatedData
) -> None:
    chosen = settings(secure_aggregation={"enabled": False})
    run = start(chosen, tmp_path / "run", data)
    means = [0.25] * (len(MODALITIES) * NUMBERS)
    assert asked(run, 2, means) == ""
    assert asked(run, 1, []) == "RunError"  # its time is over
    again = resume(tmp_path / "run", data)
    assert asked(again, 2, [0.26, *means[1:]]) == "AskedBefore"
    assert asked(resume(tmp_path / "run", data), 2, means) == ""


@pytest.mark.parametrize(
    ("number", "shared", "flags", "refusal"),
    [
        (1, [1.0], {}, "Unplanned"),
        (2, [], {}, "Unplanned"),
        (2, [1.0], {}, "Unplanned"),
        (1, [], {"describe": False, "evaluate": True}, "Unplanned"),
        (1, [], {"train": True}, "Unplanned"),
    ],
)
def test_what_is_not_of_the_plan_is_refused(
    tmp_path: Path,
    data: FederatedData,
    number: int,
    shared: list[float],
    flags: dict[str, bool],
    refusal: str,
) -> None:
    run = start(settings(secure_aggregation={"enabled": False}), tmp_path / "run", data)
    assert asked(run, number, shared, **flags) == refusal
    assert not list((tmp_path / "run").rglob("scans_*.json"))


def test_a_sum_that_no_hospitals_add_up_to_is_lost(
    tmp_path: Path, data: FederatedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(settings(), tmp_path / "run", data)
    finish(run)
    wild = np.full(len(MODALITIES) * WORDS, 2**30, np.int64)
    monkeypatch.setattr(Describing, "answer", lambda *_: wild)
    step = run.job.plan.describing[0]
    with pytest.raises(RoundAborted, match="a histogram that is none"):
        run.server._asked(step, np.zeros(0, np.float32))
    assert not run.evaluate().aborted
    assert run.server.reference is None


def test_of_images_it_is_not_told() -> None:
    with pytest.raises(ValidationError, match=r"privacy\.reference_epsilon"):
        settings(privacy={"unit": "image"})


def test_patients_of_slices_count_as_one(tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"task": {"example": "slice"}}
    run = start(settings(**chosen), tmp_path / "run")
    trainer = run.hospitals["hospital-1"].trainer
    describing = run.hospitals["hospital-1"].client._describing
    assert describing is not None
    scans: Scans = describing._scans
    assert len(scans.patient) > trainer.declared.patients == 40
    first = scans.first().reshape(-1, WORDS) / STEPS
    assert np.all(first[:, NUMBERS] <= 40)
