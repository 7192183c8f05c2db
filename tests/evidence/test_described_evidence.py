"""Sums over scans: in the ledger, in the hospitals' folders, opened, and in the model's file."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from securefed.evidence import checks
from securefed.record import model_file
from securefed.run_directory import Run
from securefed.simulation import execution
from tests.tiny import settings_with

LEDGER = "hospitals/hospital-2/ledger.sqlite"
FIRST = "hospitals/hospital-2/scans_first.json"
SECOND = "hospitals/hospital-2/scans_second.json"

settings = settings_with(
    data={"phantom": {"patients": 40, "test_patients": 4}},
    privacy={"epsilon": 1000.0, "reference_epsilon": 250.0, "accountant": "rdp"},
    federation={"clients": 3, "rounds": 2, "shared": "classifier"},
)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose hospitals said what their scans look like. Nobody writes here."""
    path = tmp_path_factory.mktemp("described") / "run"
    execution.execute(settings(), path)
    return path


@pytest.fixture
def spoilt(described: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(described, tmp_path / "run"))


def told(run: Path) -> list[str]:
    """Without the check for changed bytes."""
    found = map(str, checks.mismatches(Run.open(run)))
    return [each for each in found if "changed since the run ended" not in each]


def test_a_run_that_nobody_touched_agrees_with_itself(described: Path) -> None:
    assert (described / FIRST).stat().st_mode & 0o077 == 0
    assert told(described) == []


def answer(file: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        content = json.loads((run / file).read_text())
        content["steps"][3] += 1
        (run / file).write_text(json.dumps(content))

    return change


def foreign(run: Path) -> None:
    content = json.loads((run / FIRST).read_text())
    (run / FIRST).write_text(json.dumps({**content, "run": "another"}))


def reference(run: Path) -> None:
    path = run / model_file.NAME
    with safe_open(path, "numpy") as file:
        about = file.metadata()
    arrays = load_file(path)
    arrays["reference.ct.place"] = 2 * arrays["reference.ct.place"]
    save_file(arrays, path, about)


def unpaid(run: Path) -> None:
    database = sqlite3.connect(run / LEDGER)
    names = database.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for (name,) in names:
        database.execute(f"DROP TRIGGER {name}")
    database.execute("DELETE FROM reservation WHERE round = 0")
    database.commit()
    database.close()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (answer(FIRST), "scans_first.json: what the hospitals answered does not add up"),
        (answer(SECOND), "scans_second.json: what the hospitals answered does not add up"),
        (lambda run: (run / SECOND).unlink(), "missing, and it is in the opened total"),
        (foreign, "scans_first.json: is of another run"),
        (reference, "its reference of scans does not follow from the messages"),
        (unpaid, "holds 0 of 2 reservations of round 0"),
    ],
)
def test_what_was_changed_is_named(spoilt: Path, change: Callable[[Path], None], text: str) -> None:
    change(spoilt)
    found = told(spoilt)
    assert any(text in each for each in found), found
