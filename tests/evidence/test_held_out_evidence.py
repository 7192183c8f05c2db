"""Releases about held-out patients, once and with noise: in the ledger, in scores.json, opened."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from securefed.evidence import checks
from securefed.run_directory import Run
from securefed.simulation import execution
from tests.evidence.conftest import settings

LEDGER = "hospitals/hospital-2/ledger.sqlite"
ANSWER = "hospitals/hospital-2/scores.json"


@pytest.fixture(scope="module")
def noised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose scores carry noise. Nobody writes here."""
    path = tmp_path_factory.mktemp("noised") / "run"
    execution.execute(
        settings(privacy={"evaluation_epsilon": 2.0, "accountant": "rdp"}, canaries={"count": 0}),
        path,
    )
    return path


@pytest.fixture
def spoilt(noised: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(noised, tmp_path / "run"))


def told(run: Path) -> list[str]:
    """Without the check for changed bytes."""
    found = map(str, checks.mismatches(Run.open(run)))
    return [each for each in found if "changed since the run ended" not in each]


def test_a_run_that_nobody_touched_agrees_with_itself(noised: Path) -> None:
    assert told(noised) == []


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("UPDATE evaluation SET noise_multiplier = 9.0", "held-out patients is reserved as"),
        ("UPDATE evaluation SET counts = 2", "held-out patients is reserved as"),
        ("UPDATE evaluation SET hospitals = 9", "held-out patients is reserved as"),
        ("UPDATE evaluation SET replay_key = 'k'", "with seeded noise, not cryptographic"),
        ("UPDATE evaluation SET run = 'another'", "holds no release of scores.json"),
        ("DELETE FROM evaluation", "holds no release of scores.json"),
    ],
)
def test_an_edited_release_in_the_ledger_is_found(spoilt: Path, statement: str, text: str) -> None:
    database = sqlite3.connect(spoilt / LEDGER)
    names = database.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for (name,) in names:
        database.execute(f"DROP TRIGGER {name}")
    database.execute(statement)
    database.commit()
    database.close()
    assert any(each.startswith(LEDGER) and text in each for each in told(spoilt)), told(spoilt)


def a_count(content: dict[str, Any]) -> None:
    content["steps"][3] += 1


def the_run(content: dict[str, Any]) -> None:
    content["run"] = "f" * 32


def the_question(content: dict[str, Any]) -> None:
    content["question"] = "0" * 64


@pytest.mark.parametrize("edit", [a_count, the_run, the_question])
def test_an_edited_answer_is_found(spoilt: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((spoilt / ANSWER).read_text())
    edit(content)
    (spoilt / ANSWER).write_text(json.dumps(content))
    assert any("scores.json" in each for each in told(spoilt)), told(spoilt)


def test_an_answer_that_is_lost_is_called_missing(spoilt: Path) -> None:
    (spoilt / ANSWER).unlink()
    assert any(each.startswith(f"{ANSWER}: missing, and") for each in told(spoilt))
