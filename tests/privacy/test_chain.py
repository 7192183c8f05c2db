"""The chain over a ledger's rows: whatever is changed, removed or added beside it breaks it."""

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from securefed.cli.app import cli
from securefed.errors import OldLedger, PrivacyError
from securefed.privacy import chain, ledger_file
from securefed.privacy.accounting import Event
from securefed.privacy.chain import Head
from securefed.privacy.ledger import Ledger
from securefed.privacy.ledger_copy import export
from securefed.privacy.participation import Participants

STEP = Event(2.0, 0.25, 1)


def create(path: Path) -> Ledger:
    """A ledger with a row of every kind."""
    ledger = Ledger.create(path, client="a", unit="patient", delta=1e-5, budget_epsilon=9.0)
    ledger.enrol("run", Participants("k", frozenset([bytes(16)]), frozenset([b"x" * 16])))
    ledger.reserve(1, STEP, run="run")
    ledger.reserve(2, Event(2.0, 0.25, 1, noise_from=3), run="run", replay_key="seeded")
    ledger.reserve_evaluation(Event(4.0, 1.0, 1), run="run")
    ledger.amend_budget(20.0, "the board")
    return ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return create(tmp_path / "ledger.sqlite")


def tamper(path: Path, *statements: str) -> None:
    """What somebody with an SQLite shell does, who knows of the triggers."""
    with closing(sqlite3.connect(path)) as database:
        triggers = "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        for (name,) in database.execute(triggers).fetchall():
            database.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            database.execute(statement)
        database.commit()


def test_the_chain_is_made_as_the_docstring_says(ledger: Ledger) -> None:
    """By an own computation of the first two entries."""
    with ledger_file.connection(ledger.path) as database:
        rows = database.execute("SELECT kind, row, hash FROM chain ORDER BY id").fetchall()
        of_ledger = database.execute("SELECT * FROM ledger").fetchone()[1:]
        of_budget = database.execute("SELECT epsilon, reason, set_at FROM budget").fetchone()
    kinds = [kind for kind, _, _ in rows]
    assert kinds == [
        "ledger",
        "budget",
        "enrolment",
        "enrolment",
        "reservation",
        "reservation",
        "evaluation",
        "budget",
    ]
    linked = hashlib.sha256(b"securefed ledger chain 1").digest()
    for (kind, _, found), content in zip(rows, (of_ledger, of_budget), strict=False):
        linked = hashlib.sha256(linked + json.dumps([kind, *content]).encode()).digest()
        assert found == linked
    assert ledger.head() == Head(8, rows[-1][2].hex())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE reservation SET steps = 0 WHERE id = 1",
        "UPDATE reservation SET noise_multiplier = 2.0000000000000004 WHERE id = 1",
        "DELETE FROM reservation WHERE id = 2",
        "DELETE FROM evaluation",
        "UPDATE budget SET epsilon = 99 WHERE id = 2",
        "UPDATE budget SET reason = 'nobody' WHERE id = 2",
        "UPDATE enrolment SET patients = zeroblob(32) WHERE side = 'trained'",
        "DELETE FROM enrolment WHERE side = 'held out'",
        "UPDATE ledger SET delta = 0.5",
        "DELETE FROM shared_noise",
        "UPDATE shared_noise SET hospitals = 4",
        "INSERT INTO budget (epsilon, reason, set_at) VALUES (99, 'mine', 'now')",
        "UPDATE chain SET hash = zeroblob(32) WHERE id = 4",
        "DELETE FROM chain WHERE id = 1",
        "DELETE FROM chain WHERE id = 8",
        "DELETE FROM chain",
    ],
)
def test_any_change_is_noticed_when_the_ledger_is_opened(ledger: Ledger, statement: str) -> None:
    tamper(ledger.path, statement)
    with pytest.raises(PrivacyError, match=r"is damaged: (entry|rows)"):
        Ledger.open(ledger.path)
    done = CliRunner().invoke(cli, ["ledger", "verify", str(ledger.path)])
    assert isinstance(done.exception, PrivacyError)
    assert "chain" in str(done.exception)


def test_verify_says_how_far_it_has_come(ledger: Ledger) -> None:
    done = CliRunner().invoke(cli, ["ledger", "verify", str(ledger.path), "--json"])
    (one,) = json.loads(done.stdout)["ledgers"]
    assert (one["rows"], one["head"]) == (8, ledger.head().hash)


def test_a_ledger_knows_its_earlier_states_and_no_others(ledger: Ledger, tmp_path: Path) -> None:
    before = ledger.head()
    export(ledger.path, tmp_path / "copy.sqlite")
    ledger.require_after(before)
    ledger.reserve(3, STEP, run="run")
    ledger.require_after(before)
    old = Ledger.open(tmp_path / "copy.sqlite")
    with pytest.raises(OldLedger, match="had 9 rows: it has 8"):
        old.require_after(ledger.head())
    old.reserve(3, Event(9.0, 0.25, 1), run="run")  # as long, and another
    with pytest.raises(OldLedger, match="had 9 rows: it has 9, and others"):
        old.require_after(ledger.head())
    old.require_after(before)


def test_a_ledger_of_before_is_chained_when_it_is_opened(ledger: Ledger) -> None:
    held = ledger.statement()
    tamper(ledger.path, "DROP TABLE chain", "PRAGMA user_version = 1")
    again = Ledger.open(ledger.path)
    assert again.statement() == held
    assert again.head().rows == 8
    again.reserve(3, STEP, run="run")
    with ledger_file.connection(ledger.path) as database:
        assert chain.verify(database, ledger.path).rows == 9
        assert database.execute("PRAGMA user_version").fetchone() == (2,)
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            database.execute("DELETE FROM chain")


def test_whoever_chains_anew_is_noticed_by_who_saw_the_head(ledger: Ledger) -> None:
    told = ledger.head()
    tamper(
        ledger.path,
        "DELETE FROM reservation WHERE id = 1",
        "DROP TABLE chain",
        "PRAGMA user_version = 1",
    )
    again = Ledger.open(ledger.path)  # whole, as far as the file itself tells
    with pytest.raises(OldLedger):
        again.require_after(told)
