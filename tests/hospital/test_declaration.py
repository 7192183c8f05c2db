"""What tells the size of a hospital's training set, and what that tells of one patient.

Each test of an attack begins with what the observer would have of exact numbers.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from securefed.data.load import FederatedData
from securefed.errors import BudgetExceeded, RunError
from securefed.hospital import declaration
from securefed.privacy.accounting import Event, epsilon, solve_noise_multiplier
from securefed.privacy.counts import CountNoise
from securefed.privacy.ledger import Ledger
from securefed.record.declared import Declared
from securefed.simulation.patients import load_data
from securefed.simulation.simulation import Simulation
from securefed.training.trainer import TrainingSet
from securefed.wire.description import declaration_of
from tests.hospital.lying_server import LyingServer
from tests.tiny import finish, resume, settings_with, start

VICTIM, ROUNDS = "hospital-3", 3
settings = settings_with(
    privacy={"patients_epsilon": 1.0, "accountant": "rdp"},
    federation={"shared": "classifier", "rounds": ROUNDS},
    exposures={"record": False},
)
NOISE = CountNoise(sigma=2 * 128)

Make = Callable[..., Simulation]


@pytest.fixture(scope="module")
def patients() -> FederatedData:
    return load_data(settings())


@pytest.fixture
def make(tmp_path: Path, patients: FederatedData) -> Make:
    def run(**privacy: object) -> Simulation:
        return start(settings(privacy=privacy), tmp_path / "run", patients)

    return run


# ---- a late hospital ----------------------------------------------------------------------------


def by_difference(run: Simulation) -> int:
    """The late hospital's number, from two sums of two rounds at parameters of their own."""
    server, shared = LyingServer(run), run.job.shared.astype(np.float64)
    whole = server.sum(1, shared, train=True, evaluate=False)
    late = server.sum(2, shared + 0.5, train=True, evaluate=False, lose=[VICTIM])
    return whole.patients - late.patients


def test_exact_a_late_hospital_gives_away_its_number_of_patients(make: Make) -> None:
    assert by_difference(make(patients_epsilon=None)) == 10


def test_noised_it_gives_away_the_number_that_it_declared_and_no_other(make: Make) -> None:
    run = make()
    victim = run.hospitals[VICTIM]
    declared = Declared.read(victim.folder).patients
    assert by_difference(run) == declared
    assert victim.trainer.patients == 10
    # All that it says of one patient is within the epsilon that its ledger was charged first.
    assert victim.ledger is not None
    first, *rounds = victim.ledger.history()
    assert len(rounds) == 1
    assert epsilon([first], 1e-3, "rdp") <= 1.0


def test_without_masks_the_server_has_the_declared_number_and_no_other(
    tmp_path: Path, patients: FederatedData
) -> None:
    clear = settings(secure_aggregation={"enabled": False})
    run = start(clear, tmp_path / "run", patients)
    (record, *_) = finish(run)
    declared = [Declared.read(each.folder).patients for each in run.hospitals.values()]
    assert record.patients == sum(declared)


# ---- the noise of training ----------------------------------------------------------------------


def test_the_noise_of_updates_would_tell_an_exact_number() -> None:
    """Two neighbouring numbers give noise whose spread differs by more than a run resolves."""
    many, fewer = (solve_noise_multiplier(8.0, 1e-5, 100 / n, 80) for n in (301, 298))
    words = 354 * 80  # noise that an observer of single updates sees in a default run
    assert abs(math.log(many / fewer)) > 1.9 * math.sqrt(1 / (2 * words))


def test_rate_noise_batch_and_weight_follow_from_what_is_declared(make: Make) -> None:
    run = make()
    for hospital in run.hospitals.values():
        declared, trainer = Declared.read(hospital.folder), hospital.trainer
        assert trainer.declared == TrainingSet(declared.patients, declared.records)
        assert trainer.expected_batch == 5
        event = trainer.event
        assert event is not None
        assert event.sample_rate == 5 / declared.records
        before = declaration_of(run.settings)
        assert before is not None
        solved = solve_noise_multiplier(8.0, 1e-3, event.sample_rate, ROUNDS, "rdp", [before.event])
        assert event.noise_multiplier == solved


@pytest.mark.parametrize("told", [None, 1.0], ids=["exact", "noised"])
def test_the_divisor_is_the_batch_whatever_a_hospital_has(
    tmp_path: Path, patients: FederatedData, told: float | None
) -> None:
    """Before, with ten patients for a batch of twelve it was ten, and with nine nine."""
    large = settings(privacy={"patients_epsilon": told}, training={"batch_size": 12})
    run = start(large, tmp_path / "run", patients)
    for hospital in run.hospitals.values():
        trainer, event = hospital.trainer, hospital.trainer.event
        assert (trainer.patients, trainer.expected_batch) == (10, 12)
        assert trainer.declared.records >= 12
        assert event is not None
        # Weight over divisor, times the rate: every patient counts one, in whichever hospital.
        assert event.sample_rate * trainer.declared.patients == pytest.approx(12)
    whole = [name for name, each in run.hospitals.items() if each.trainer.declared.records == 12]
    notes = [note for note in run.notes if note.startswith("training.batch_size 12 is all that ")]
    assert all(name in notes[0] for name in whole)
    assert bool(notes) == bool(whole)
    assert told or len(whole) == 4


def test_a_batch_that_nobody_may_declare_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size: 20 is more than secure_aggregation\.max"):
        settings(training={"batch_size": 20}, secure_aggregation={"max_patients": 16})
    clear = settings(privacy={"dp": False}, training={"batch_size": 20})
    assert clear.training.batch_size == 20


def test_one_budget_pays_for_the_number_and_for_all_rounds(make: Make) -> None:
    run = make()
    finish(run)
    for hospital in run.hospitals.values():
        assert hospital.ledger is not None
        assert len(hospital.ledger.history()) == ROUNDS + 1
        assert 7.9 < hospital.ledger.spent() <= 8.0
        assert hospital.ledger.would_exceed([hospital.trainer.event or Event(1, 1, 1)])


def test_hospitals_that_share_noise_agree_on_a_declared_number(
    tmp_path: Path, patients: FederatedData
) -> None:
    shared = settings(
        privacy={"placement": "distributed"}, federation={"shared": "fusion+classifier"}
    )
    run = start(shared, tmp_path / "run", patients)
    declared = [Declared.read(each.folder).records for each in run.hospitals.values()]
    assert run.job.smallest_training_set == min(declared)
    assert next(iter(finish(run))).patients == sum(declared)


# ---- once ---------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(
        tmp_path / "ledger.sqlite",
        client="clinic",
        unit="patient",
        delta=1e-5,
        budget_epsilon=4.0,
        accountant="rdp",
    )


def declare(
    folder: Path, ledger: Ledger, *, run: str = "run-1", noise: CountNoise = NOISE, **other: object
) -> TrainingSet:
    folder.mkdir(exist_ok=True)
    values: dict[str, object] = {
        "least": TrainingSet(1, 1),
        "most": 1000,
        "seed": None,
        "begun": False,
        **other,
    }
    return declaration.training_set(
        TrainingSet(300, 300),
        noise,
        folder,
        ledger,
        run=run,
        **values,  # type: ignore[arg-type]
    )


def test_it_is_drawn_once_and_paid_once_however_often_the_run_is_opened(
    tmp_path: Path, ledger: Ledger
) -> None:
    first = declare(tmp_path, ledger)
    assert [declare(tmp_path, ledger, begun=True) for _ in range(20)] == 20 * [first]
    assert len(ledger.history()) == 1


def test_a_resumed_run_goes_on_with_the_same_number(make: Make, tmp_path: Path) -> None:
    run = make()
    next(iter(run.rounds()))
    declared = {name: each.trainer.declared for name, each in run.hospitals.items()}
    again = resume(tmp_path / "run")
    assert {name: each.trainer.declared for name, each in again.hospitals.items()} == declared
    assert len(finish(again)) == ROUNDS - 1
    (victim,) = {each.ledger for name, each in again.hospitals.items() if name == VICTIM}
    assert victim is not None
    assert len(victim.history()) == ROUNDS + 1


def test_a_crash_between_ledger_and_file_is_one_declaration_more(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Declared, folder: Path) -> None:
        raise OSError("power")

    with monkeypatch.context() as patch:
        patch.setattr(Declared, "write", fails)
        with pytest.raises(OSError, match="power"):
            declare(tmp_path, ledger)
    assert not (tmp_path / Declared.NAME).exists()
    declare(tmp_path, ledger)
    assert ledger.history() == [NOISE.event, NOISE.event]


def test_two_runs_over_the_same_patients_are_two_declarations(
    tmp_path: Path, ledger: Ledger
) -> None:
    for number in (1, 2):
        declare(tmp_path / f"{number}", ledger, run=f"run-{number}")
    assert ledger.spent() == epsilon(2 * [NOISE.event], 1e-5, "rdp")
    with pytest.raises(BudgetExceeded):
        declare(tmp_path / "3", ledger, run="run-3")
    assert not (tmp_path / "3" / Declared.NAME).exists()


def test_seeded_it_is_the_same_bits_and_costs_once(tmp_path: Path, ledger: Ledger) -> None:
    first = declare(tmp_path, ledger, seed=7)
    (tmp_path / Declared.NAME).unlink()
    assert declare(tmp_path, ledger, seed=7) == first
    assert len(ledger.history()) == 1


@pytest.mark.parametrize("change", ["missing", "of another run", "damaged"])
def test_a_run_that_has_begun_does_not_go_on_without_it(
    tmp_path: Path, ledger: Ledger, change: str
) -> None:
    declare(tmp_path, ledger)
    file = tmp_path / Declared.NAME
    if change == "missing":
        file.unlink()
    elif change == "damaged":
        file.write_text(file.read_text().replace('"patients": ', '"patients": -'))
    run = "run-2" if change == "of another run" else "run-1"
    with pytest.raises(RunError, match=change):
        declare(tmp_path, ledger, run=run, begun=True)
    assert len(ledger.history()) == 1
