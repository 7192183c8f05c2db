"""Copies of a ledger: with its log, never over another file, and known to be old when they are."""

import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from securefed.errors import PrivacyError
from securefed.privacy import statement
from securefed.privacy.accounting import Event
from securefed.privacy.ledger import Ledger
from securefed.privacy.ledger_copy import difference, export

STEP = Event(2.0, 0.25, 1)


def create(path: Path, *, rounds: int = 1) -> Ledger:
    ledger = Ledger.create(
        path,
        client="hospital-1",
        unit="patient",
        delta=1e-5,
        budget_epsilon=8.0,
        accountant="rdp",
    )
    for number in range(1, rounds + 1):
        ledger.reserve(number, STEP, run="a")
    return ledger


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in use: somebody reads it, so that the last reservation is in the log alone."""
    ledger = create(tmp_path / "ledger.sqlite")
    with closing(sqlite3.connect(ledger.path)) as reader:
        reader.execute("SELECT * FROM reservation").fetchall()
        ledger.reserve(2, STEP, run="a")
        yield ledger


def test_a_copy_of_the_file_alone_loses_what_is_in_the_log(busy: Ledger, tmp_path: Path) -> None:
    """Why there is an export."""
    (tmp_path / "backup").mkdir()
    shutil.copyfile(busy.path, tmp_path / "backup" / "ledger.sqlite")
    assert len(statement.read(tmp_path / "backup" / "ledger.sqlite").reservations) < 2


def test_an_export_holds_what_is_in_the_log(busy: Ledger, tmp_path: Path) -> None:
    held = export(busy.path, tmp_path / "copy.sqlite")
    assert held == busy.statement() == Ledger.open(tmp_path / "copy.sqlite").statement()
    assert len(held.reservations) == 2
    assert difference(busy.statement(), held) is None


def test_reading_a_ledger_reads_its_log_and_leaves_both(busy: Ledger) -> None:
    files = {path: path.read_bytes() for path in busy.path.parent.iterdir()}
    assert any(path.name.endswith("-wal") for path in files)
    assert len(statement.read(busy.path).reservations) == 2
    after = {path: path.read_bytes() for path in busy.path.parent.iterdir()}
    assert {path: after[path] for path in files} == files


def test_a_copy_is_its_owners_and_a_ledger_that_goes_on(tmp_path: Path) -> None:
    ledger = create(tmp_path / "ledger.sqlite")
    copy = tmp_path / "copy.sqlite"
    export(ledger.path, copy)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    Ledger.open(copy).reserve(2, STEP, run="a")
    assert Ledger.open(copy).budget == 8.0
    with (
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
        closing(sqlite3.connect(copy)) as database,
    ):
        database.execute("DELETE FROM reservation")


def test_a_copy_never_replaces_anything_and_leaves_nothing_half(tmp_path: Path) -> None:
    ledger = create(tmp_path / "ledger.sqlite")
    (tmp_path / "other").write_text("mine")
    with pytest.raises(PrivacyError, match="there is something at"):
        export(ledger.path, tmp_path / "other")
    with pytest.raises(PrivacyError, match="cannot write"):
        export(ledger.path, tmp_path / "no such folder" / "copy")
    with pytest.raises(PrivacyError, match="there is no ledger at"):
        export(tmp_path / "gone", tmp_path / "copy")
    assert (tmp_path / "other").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"ledger.sqlite", "other"}


def test_what_a_copy_lacks_is_told(tmp_path: Path) -> None:
    ledger = create(tmp_path / "ledger.sqlite", rounds=2)
    old = export(ledger.path, tmp_path / "old.sqlite")
    ledger.reserve(3, STEP, run="a")
    assert difference(ledger.statement(), old) == "it is older: it holds 2 of 3 reservations"
    assert difference(old, ledger.statement()) is None  # a newer one may take its place
    ledger.amend_budget(9.0, "minute 7")
    budgets = difference(ledger.statement(), export(tmp_path / "old.sqlite", tmp_path / "again"))
    assert budgets == "its budgets are (8.0,), not (8.0, 9.0)"
    other = create(tmp_path / "other.sqlite")
    other.reserve(2, Event(9.0, 0.25, 1), run="a")
    assert difference(old, other.statement()) == "its reservations are not those of the ledger"
