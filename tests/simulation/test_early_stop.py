"""Training ends where nothing gets better, the best model is kept, and the rest is not paid.

All of it from the totals over held-out patients that the server has anyway.
"""

from pathlib import Path
from typing import NoReturn

import msgspec
import numpy as np
import pytest

from securefed.auditing.audit import audit
from securefed.data.load import FederatedData
from securefed.errors import AskedBefore, ConfigurationError
from securefed.evidence import checks
from securefed.model.sharing import flatten
from securefed.record import model_file
from securefed.record.inventory import Inventory, digest
from securefed.record.summary import Summary
from securefed.reporting.utility import choice, utility
from securefed.reporting.withheld import Withheld
from securefed.run_directory import Run
from securefed.simulation.execution import execute
from securefed.simulation.execution import resume as resume_run
from securefed.simulation.patients import load_data
from securefed.simulation.simulation import Simulation
from securefed.wire.messages import Request, vector_to_bytes
from tests.hospital.lying_server import LyingServer, Refused
from tests.tiny import resume, settings_with, start

ROUNDS = 20
settings = settings_with(
    privacy={"dp": False},
    secure_aggregation={"enabled": True, "max_patients": 16},
    federation={"rounds": ROUNDS, "evaluate_every": 2, "patience": 2},
)
PRIVATE = {"dp": True, "accountant": "rdp", "seeded_noise": True}


@pytest.fixture(scope="module")
def patients() -> FederatedData:
    return load_data(settings())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, patients: FederatedData) -> Run:
    path = tmp_path_factory.mktemp("early") / "run"
    execute(settings(), path, data=patients)
    return Run.open(path)


def released(run: Run) -> np.ndarray:
    return flatten(model_file.read(run.path), run.job.shared_names)


def test_training_ends_after_so_many_scorings_without_a_better_one(whole: Run) -> None:
    curve, trained = whole.metrics.curve, whole.summary.rounds
    assert trained < ROUNDS
    rounds, aucs = zip(*curve, strict=True)
    assert rounds == tuple(range(0, trained + 1, 2))
    best = int(np.argmax(aucs))
    assert whole.summary.chosen_after == rounds[best]
    assert len(aucs) == best + 1 + 2  # and two that were no better
    assert whole.summary.auc == aucs[best]


def test_the_model_is_what_the_best_round_came_to_at_everybody(
    whole: Run, patients: FederatedData, tmp_path: Path
) -> None:
    run = start(settings(federation={"patience": None}), tmp_path / "run", patients)
    after = [run.server.shared.astype(np.float32)]
    for _ in run.rounds():
        after.append(run.server.shared.astype(np.float32))
    chosen = whole.summary.chosen_after
    assert chosen is not None
    np.testing.assert_allclose(released(whole), after[chosen], rtol=1e-5, atol=1e-6)
    assert not np.allclose(released(whole), after[whole.summary.rounds], rtol=1e-3)
    each = [one.accuracy or 0.0 for one in whole.hospital_results]
    assert np.mean(each) == pytest.approx(whole.summary.accuracy)  # four held-out patients in each


def test_the_files_of_such_a_run_agree_and_a_changed_choice_has_a_name(
    whole: Run, tmp_path: Path
) -> None:
    checks.require(whole)
    before = whole.summary
    other = 0 if before.chosen_after else 2
    try:
        changed = msgspec.structs.replace(before, chosen_after=other)
        changed.write(whole.path)
        _accept(whole.path)
        told = {each.file for each in checks.mismatches(Run.open(whole.path))}
        assert Summary.NAME in told
        assert model_file.NAME in told  # it does not follow from the messages of that round
    finally:
        before.write(whole.path)
        _accept(whole.path)
    checks.require(Run.open(whole.path))


def _accept(path: Path) -> None:
    """Take a changed summary into the inventory, as somebody who edits both would."""
    kept = Inventory.read(path)
    files = tuple(
        msgspec.structs.replace(
            each, size=(path / each.path).stat().st_size, sha256=digest(path / each.path)
        )
        if each.path == Summary.NAME
        else each
        for each in kept.files
    )
    Inventory(files=files).write(path)


def test_what_the_choice_means_is_said(whole: Run) -> None:
    told, summary = choice(whole), whole.summary
    assert f"round {summary.chosen_after} of {summary.rounds}" in told
    assert f"the best of {len(whole.metrics.curve)} that were scored" in told
    assert f"{ROUNDS - summary.rounds} rounds were not trained and cost nothing" in told
    assert told in utility(whole, Withheld(()), declared_with_noise=False).cautions
    with pytest.raises(ConfigurationError, match=r"federation\.patience"):
        audit(whole, effort="quick")


def test_rounds_that_are_not_trained_are_not_spent(tmp_path: Path, patients: FederatedData) -> None:
    private = settings(privacy=PRIVATE, federation={"patience": 1})
    execute(private, tmp_path / "run", data=patients)
    run = Run.open(tmp_path / "run")
    checks.require(run)
    trained = run.summary.rounds
    assert 0 < trained < ROUNDS
    for ledger in run.ledgers.values():
        assert sorted(ledger.attempts(run.about.run)) == list(range(1, trained + 1))
        assert ledger.guarantee().counted < private.privacy.epsilon - 0.5
    assert run.summary.epsilon is None  # seeded noise promises none


@pytest.mark.parametrize("stopped_after", [1, 3])
def test_a_run_that_is_taken_up_chooses_the_same(
    whole: Run, stopped_after: int, tmp_path: Path, patients: FederatedData
) -> None:
    rounds = start(settings(), tmp_path / "run", patients).rounds()
    for _ in range(stopped_after):
        next(rounds)
    del rounds
    resume_run(Run.open(tmp_path / "run"), data=patients)
    again = Run.open(tmp_path / "run")
    checks.require(again)
    assert again.summary.chosen_after == whole.summary.chosen_after
    assert again.summary.rounds == whole.summary.rounds
    assert np.array_equal(released(again), released(whole))


def test_a_decision_to_end_outlives_a_crash_before_the_model_is_sent_out(
    whole: Run, tmp_path: Path, patients: FederatedData
) -> None:
    first = start(settings(), tmp_path / "run", patients)
    assert sum(1 for _ in first.rounds()) == whole.summary.rounds
    again = resume(tmp_path / "run", patients)
    _unscored(again, "hospital-2")  # and nothing is trained for that either
    assert sum(1 for _ in again.rounds()) == 0
    with pytest.raises(AskedBefore):  # not over fewer hospitals than before
        again.evaluate()
    resume_run(Run.open(tmp_path / "run"), data=patients)
    assert np.array_equal(released(Run.open(tmp_path / "run")), released(whole))


def _unscored(run: Simulation, name: str) -> None:
    """From now on a hospital fails where it is to be scored."""

    def fails(*_: object) -> NoReturn:
        raise RuntimeError("no")

    run.hospitals[name].client._score = fails  # type: ignore


def test_without_scores_nobody_is_stopped_and_the_last_model_stays(
    tmp_path: Path, patients: FederatedData
) -> None:
    """A hospital that refuses to be scored, or lies about it, keeps scores from being opened."""
    few = settings(federation={"rounds": 4, "evaluate_every": 1, "patience": 1})
    run = start(few, tmp_path / "run", patients)
    honest = run.hospitals["hospital-3"].client._score
    _unscored(run, "hospital-3")
    trained = [record for record, _ in run.rounds()]
    assert len(trained) == 4
    assert all("hospital-3" in record.unscored for record in trained)
    last = run.server.shared.copy()
    run.hospitals["hospital-3"].client._score = honest  # type: ignore[method-assign]
    final = run.evaluate()
    assert final.metrics is not None
    assert np.array_equal(run.server.shared, last)


def test_patience_that_lasts_compares_the_last_round_too(
    tmp_path: Path, patients: FederatedData
) -> None:
    wanted = settings(federation={"rounds": 3, "evaluate_every": 5, "patience": 9})
    execute(wanted, tmp_path / "run", data=patients)
    run = Run.open(tmp_path / "run")
    checks.require(run)
    assert run.summary.rounds == 3
    assert [where for where, _ in run.metrics.curve] == [0, 3]
    assert run.summary.auc == max(auc for _, auc in run.metrics.curve)


def test_after_the_final_model_a_lying_server_trains_nobody(
    tmp_path: Path, patients: FederatedData
) -> None:
    """Nor does it have other parameters scored beside those that it sent out as the best."""
    private = settings(privacy=PRIVATE, secure_aggregation={"enabled": False})
    run = start(private, tmp_path / "run", patients)
    server, final = LyingServer(run), run.job.plan.final
    assert (final.number, run.job.plan.step(final.number)) == (2 * ROUNDS + 2, final)
    assert run.job.plan.step(2 * ROUNDS + 3) is None

    def asks(number: int, *, train: bool, moved: float = 0.0) -> str:
        shared = vector_to_bytes((run.job.shared + moved).astype(np.float32))
        request = Request(number, "work", b"", train=train, evaluate=not train, shared=shared)
        return server.ask("hospital-1", request).refusal

    assert not asks(1, train=True)
    assert not asks(final.number, train=False)
    assert asks(final.number, train=False, moved=0.5) == "RunError"
    assert asks(2, train=True) == "RunError"
    assert asks(ROUNDS + 3, train=False) == "RunError"
    assert run.ledgers["hospital-1"].reservations(run.job.run) == 1


def test_the_best_model_is_scored_over_everybody_or_not_at_all(
    tmp_path: Path, patients: FederatedData
) -> None:
    run = start(settings(), tmp_path / "run", patients)
    server = LyingServer(run)
    with pytest.raises(Refused) as refused:
        server.sum(
            2 * ROUNDS + 2,
            run.job.shared.astype(np.float64),
            train=False,
            evaluate=True,
            lose=["hospital-3"],
        )
    assert refused.value.names == {"NotEverybody"}


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"privacy": {**PRIVATE, "evaluation_epsilon": 2.0}}, "scored once with noise"),
        ({"federation": {"shared": "classifier"}}, "do not go back to the best round"),
        ({"model": {"train_encoders": True}}, r"needs federation\.shared: all"),
    ],
)
def test_what_early_stop_cannot_do_is_refused(sections: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        settings(**sections)
