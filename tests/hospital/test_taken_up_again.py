"""A hospital that takes a run up again: its ledger is that run's own, and its agreement the same.

Each test begins from a run stopped after two of its rounds. What is put into a hospital's folder
here was taken without a word before, and epsilon in the results was then too small.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from protocols.identity import IdentityKey
from securefed.data.load import FederatedData
from securefed.errors import PrivacyError, RunError, SecureFedError
from securefed.hospital import check_point
from securefed.hospital.opening import Hospital, open_hospital
from securefed.privacy.accounting import Event
from securefed.privacy.ledger import Ledger
from securefed.record.agreement import Agreement
from securefed.run_directory import Run
from securefed.simulation.patients import load_data
from securefed.wire.description import JobDescription
from tests.tiny import finish, resume, settings_with, start

settings = settings_with(
    privacy={"dp": True, "accountant": "rdp"},  # which is fast
    federation={"shared": "classifier", "rounds": 4},
    secure_aggregation={"enabled": True, "max_patients": 16},
)


@pytest.fixture(scope="module")
def patients() -> FederatedData:
    return load_data(settings())


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, patients: FederatedData) -> Path:
    """A run after two of four rounds, with a copy of each ledger as it was after the first."""
    path = tmp_path_factory.mktemp("stopped") / "run"
    simulation = start(settings(), path, patients)
    for record, _ in simulation.rounds():
        if record.round == 1:
            for folder in (path / "hospitals").iterdir():
                shutil.copyfile(folder / "ledger.sqlite", folder / "backup")
        if record.round == 2:
            break
    return path


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    """A copy that a test may do to what it likes."""
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def take_up(run: Path, patients: FederatedData) -> Hospital:
    """The second hospital alone, opened again for the job that run.json describes."""
    begun, own = Run.open(run), IdentityKey.generate()
    job = JobDescription(begun.settings, begun.about.run, begun.hospitals)
    others = {name: IdentityKey.generate().public for name in begun.hospitals}
    job = job.with_keys({**others, "hospital-2": own.public})
    (data,) = (each for each in patients.hospitals if each.name == "hospital-2")
    hospital = open_hospital(job, begun.hospital("hospital-2"), data, own, torch.device("cpu"))
    check_point.restore(hospital, 2)
    return hospital


@pytest.fixture
def ledger(run: Path) -> Path:
    return run / "hospitals" / "hospital-2" / "ledger.sqlite"


def test_a_run_that_nobody_touched_goes_on_from_its_ledgers(
    run: Path, ledger: Path, patients: FederatedData
) -> None:
    finish(resume(run, patients))
    (spending,) = Ledger.open(ledger).runs()
    assert spending.rounds == spending.reservations == 4


def test_a_lost_ledger_is_not_made_anew(run: Path, ledger: Path, patients: FederatedData) -> None:
    ledger.unlink()
    with pytest.raises(PrivacyError, match=r"hospital-2 has no ledger .*ledger\.sqlite.* begun"):
        take_up(run, patients)
    assert not ledger.exists()


@pytest.mark.parametrize(
    "left", ["checkpoint-2.safetensors", "openings.jsonl", "contributions", "agreement.json"]
)
def test_whatever_is_left_of_a_hospitals_folder_shows_that_the_run_has_begun(
    left: str, ledger: Path, run: Path, patients: FederatedData
) -> None:
    for each in ledger.parent.iterdir():
        if each.name != left:
            shutil.rmtree(each) if each.is_dir() else each.unlink()
    with pytest.raises(SecureFedError, match="hospital-2"):
        take_up(run, patients)
    assert not ledger.exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"client": "hospital-3"}, "is of client 'hospital-3', not 'hospital-2'"),
        ({"unit": "image"}, "is of unit 'image', not 'patient'"),
        ({"delta": 1e-2}, "is of delta 0.01, not 0.001"),
        ({"accountant": "prv"}, "is of accountant 'prv', not 'rdp'"),
        ({"budget_epsilon": 80.0}, "was made with a budget of 80.0, not 8.0"),
        ({"budget_epsilon": None}, "was made with a budget of None, not 8.0"),
    ],
)
def test_a_ledger_of_other_terms_is_refused(
    run: Path, ledger: Path, patients: FederatedData, changes: dict[str, Any], told: str
) -> None:
    own = {"client": "hospital-2", "unit": "patient", "delta": 1e-3, "budget_epsilon": 8.0}
    ledger.unlink()
    Ledger.create(ledger, **{**own, "accountant": "rdp", **changes})
    with pytest.raises(PrivacyError, match=told):
        take_up(run, patients)


def test_the_ledger_of_another_hospital_is_refused(
    run: Path, ledger: Path, patients: FederatedData
) -> None:
    shutil.copyfile(run / "hospitals" / "hospital-1" / "ledger.sqlite", ledger)
    with pytest.raises(PrivacyError, match="is of client 'hospital-1', not 'hospital-2'"):
        take_up(run, patients)


def test_an_old_backup_of_the_ledger_is_refused(
    run: Path, ledger: Path, patients: FederatedData
) -> None:
    shutil.copyfile(ledger.parent / "backup", ledger)
    with pytest.raises(PrivacyError, match=r"ledger\.sqlite holds 1 reservation.* 2 when"):
        take_up(run, patients)


def test_a_ledger_of_the_same_terms_and_another_run_is_refused(
    run: Path, ledger: Path, patients: FederatedData
) -> None:
    ledger.unlink()
    other = Ledger.create(
        ledger,
        client="hospital-2",
        unit="patient",
        delta=1e-3,
        budget_epsilon=8.0,
        accountant="rdp",
    )
    for number in (1, 2):
        other.reserve(number, Event(9.0, 0.5, 1), run="another")
    with pytest.raises(PrivacyError, match=r"ledger\.sqlite holds 0 reservations"):
        take_up(run, patients)


def test_an_amended_budget_is_not_another_ledger(
    run: Path, ledger: Path, patients: FederatedData
) -> None:
    Ledger.open(ledger).amend_budget(20.0, "the board, minute 7")
    assert take_up(run, patients).reservations == 2


# ---- what was agreed ---------------------------------------------------------------------------


def set_to(section: str | None, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """What writes a value into the settings of run.json."""

    def edit(about: dict[str, Any]) -> None:
        place = about["settings"][section] if section else about["settings"]
        assert place[key] != value
        place[key] = value

    return edit


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("privacy", "seeded_noise", True),
        ("privacy", "dp", False),
        ("privacy", "epsilon", 80.0),
        ("privacy", "delta", 1e-2),
        ("privacy", "clip_norm", 9.0),
        ("privacy", "unit", "image"),
        ("privacy", "accountant", "prv"),
        ("training", "batch_size", 9),
        ("training", "local_steps", 3),
        ("federation", "rounds", 400),
        ("secure_aggregation", "enabled", False),
        ("canaries", "count", 5),
        (None, "seed", 7),
    ],
)
def test_settings_edited_in_run_json_are_refused(
    run: Path, patients: FederatedData, section: str | None, key: str, value: Any
) -> None:
    about = json.loads((run / "run.json").read_text())
    set_to(section, key, value)(about)
    settings = about["settings"]
    masked = "+secure" if settings["secure_aggregation"]["enabled"] else ""
    about["configuration"] = ("dp" if settings["privacy"]["dp"] else "") + masked
    if not settings["privacy"]["dp"]:
        about["configuration"] = masked.removeprefix("+")
    (run / "run.json").write_text(json.dumps(about))
    place = f"{section}.{key}" if section else key
    told = rf"did not agree to this job: {place} is .*agreement\.json"
    with pytest.raises(RunError, match=told):
        take_up(run, patients)


def test_an_agreement_edited_to_match_does_not_turn_privacy_off(
    run: Path, patients: FederatedData
) -> None:
    """Whoever edits every copy of the settings still meets the ledgers."""
    for path in (run / "run.json", *run.glob("hospitals/*/agreement.json")):
        content = json.loads(path.read_text())
        content["settings"]["privacy"]["dp"] = False
        if "configuration" in content:
            content["configuration"] = "secure"
        path.write_text(json.dumps(content))
    with pytest.raises(PrivacyError, match=r"hospital-2 has a ledger .*privacy\.dp: false"):
        take_up(run, patients)


def test_a_hospital_keeps_what_it_agreed_to(run: Path) -> None:
    agreed = Agreement.read(run / "hospitals" / "hospital-2")
    (spent, *_) = Ledger.open(run / "hospitals" / "hospital-2" / "ledger.sqlite").history()
    assert agreed.hospital == "hospital-2"
    assert agreed.records == 10
    assert agreed.event == spent
