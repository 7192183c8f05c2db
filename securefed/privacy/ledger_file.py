"""The SQLite file under a ledger: its tables, how it is opened, and what can be wrong with it.

Append-only tables: the settings (one row, fixed for ever), the budgets (the newest counts), the
reservations, and how many hospitals' noise a reservation relies on, where it is not its own alone.
The header carries an application id and a schema version, so that another file is not taken for a
ledger and a newer ledger is not misread. The names tell which hospital took part when and how
often, and a replay key is a digest that may cover patients' data: the file is the hospital's own
and is not for passing on. STRICT tables need SQLite 3.37 (November 2021).
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from securefed.errors import PrivacyError
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import Event

NAME = "ledger.sqlite"
APPLICATION_ID = 0x5EC0FED1  # as a signed 32-bit number in SQLite's header
SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 60.0  # one reservation computes epsilon while it holds the write lock

_TABLES = """
CREATE TABLE ledger (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    client TEXT NOT NULL,
    unit TEXT NOT NULL,
    delta REAL NOT NULL,
    accountant TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
CREATE TABLE budget (
    id INTEGER PRIMARY KEY,
    epsilon REAL CHECK (epsilon > 0),
    reason TEXT NOT NULL,
    set_at TEXT NOT NULL
) STRICT;
CREATE TABLE reservation (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    round INTEGER NOT NULL CHECK (round >= 0),
    attempt INTEGER NOT NULL CHECK (attempt >= 1),
    replay_key TEXT,
    noise_multiplier REAL NOT NULL CHECK (noise_multiplier >= 0),
    sample_rate REAL NOT NULL CHECK (sample_rate > 0 AND sample_rate <= 1),
    steps INTEGER NOT NULL CHECK (steps >= 0),
    reserved_at TEXT NOT NULL,
    UNIQUE (run, round, attempt)
) STRICT;
"""
# For reservations whose noise comes from several hospitals. A table of its own, so that ledgers of
# before stay valid, and versions that do not know it still compute the right epsilon.
_SHARED_NOISE = """
CREATE TABLE IF NOT EXISTS shared_noise (
    id INTEGER PRIMARY KEY,
    hospitals INTEGER NOT NULL CHECK (hospitals > 1)
) STRICT;
"""
# Releases about held-out patients, who are others than those that train: a history of its own.
_EVALUATION = """
CREATE TABLE IF NOT EXISTS evaluation (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    replay_key TEXT,
    noise_multiplier REAL NOT NULL CHECK (noise_multiplier > 0),
    counts INTEGER NOT NULL CHECK (counts > 0),
    hospitals INTEGER NOT NULL CHECK (hospitals > 0),
    reserved_at TEXT NOT NULL
) STRICT;
"""
_EVENT = (
    "noise_multiplier, sample_rate, steps, COALESCE(hospitals, 1)"
    " FROM reservation LEFT JOIN shared_noise USING (id)"
)
# INSERT OR REPLACE deletes without firing a delete trigger, so a repeated id is refused as well.
_APPEND_ONLY = """
CREATE TRIGGER IF NOT EXISTS {table}_update BEFORE UPDATE ON {table}
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS {table}_delete BEFORE DELETE ON {table}
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS {table}_replace BEFORE INSERT ON {table}
WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""


@contextmanager
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an existing file for reading and writing; what SQLite raises becomes a PrivacyError."""
    try:
        # mode=rw: a file that has vanished is an error, not a new and empty ledger.
        database = sqlite3.connect(
            f"file:{quote(str(path.resolve()))}?mode=rw",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
        )
    except sqlite3.Error as error:
        raise PrivacyError(f"cannot open the ledger {path}: {error}") from error
    try:
        database.execute("PRAGMA synchronous = FULL")
        yield database
    except sqlite3.OperationalError as error:
        raise PrivacyError(
            f"cannot use the ledger {path}: {error}",
            hint="it must be on a local disk that is writable, has space, and is not held by "
            "another program",
        ) from error
    except sqlite3.IntegrityError as error:
        raise PrivacyError(f"the ledger {path} refused a change: {error}") from error
    except sqlite3.DatabaseError as error:
        raise damaged(path, str(error)) from error
    finally:
        database.close()


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Read and write as one; the lock is taken at once, so that two writers cannot both read."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")


def build(database: sqlite3.Connection) -> None:
    """Lay out the tables of a new file."""
    triggers = (("ledger", "one"), ("budget", "id"), ("reservation", "id"))
    database.execute("PRAGMA journal_mode = WAL")
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    database.executescript(_TABLES)
    for table, key in triggers:
        database.executescript(_APPEND_ONLY.format(table=table, key=key))
    add_later_tables(database)


def add_later_tables(database: sqlite3.Connection) -> None:
    """Lay out the tables that ledgers of before do not have, where they are missing."""
    for table, content in (("shared_noise", _SHARED_NOISE), ("evaluation", _EVALUATION)):
        query = "SELECT 1 FROM sqlite_schema WHERE name = ?"
        if database.execute(query, (f"{table}_replace",)).fetchone() is None:  # the last of it
            # Two processes may come to this at once: hence "if not exists" all the same.
            triggers = _APPEND_ONLY.format(table=table, key="id")
            database.executescript(f"BEGIN IMMEDIATE; {content} {triggers} COMMIT;")


def check(database: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that is damaged, no ledger, or of a newer version.

    Raises:
        PrivacyError: each with its own message.
    """
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise PrivacyError(
            f"{path} is no ledger of securefed",
            hint="name a hospital's ledger.sqlite, or put back its newest copy",
        )
    if version != SCHEMA_VERSION:
        raise PrivacyError(
            f"the ledger {path} has format {version}; this version reads {SCHEMA_VERSION}",
            hint="use the version of securefed that wrote it, or a newer one",
        )
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise damaged(path, verdict)


def settings(
    database: sqlite3.Connection, path: Path
) -> tuple[str, Literal["patient", "image"], float, Accountant]:
    """Client, unit, delta and accountant.

    Raises:
        PrivacyError: the row is missing.
    """
    row = database.execute("SELECT client, unit, delta, accountant FROM ledger").fetchone()
    if row is None:
        raise damaged(path, "its settings are missing")
    client, unit, delta, accountant = row
    return client, unit, delta, accountant


def history(database: sqlite3.Connection, run: str | None = None) -> list[Event]:
    """Every reservation, or those of one run, oldest first."""
    query = f"SELECT {_EVENT} WHERE ?1 IS NULL OR run = ?1 ORDER BY id"
    return [Event(*row) for row in database.execute(query, (run,))]


def runs(database: sqlite3.Connection) -> list[tuple[str, int, int, int, str, str]]:
    """Run, rounds, reservations, steps, first and last time; in the order they began.

    Round 0 is what is declared before the first, and none itself.
    """
    query = (
        "SELECT run, COUNT(DISTINCT NULLIF(round, 0)), COUNT(*), SUM(steps), MIN(reserved_at),"
        " MAX(reserved_at) FROM reservation GROUP BY run ORDER BY MIN(id)"
    )
    return list(database.execute(query))


def reservations(database: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Run, round, attempt, whether its noise is seeded, and event of each, oldest first."""
    query = f"SELECT run, round, attempt, replay_key IS NOT NULL, {_EVENT} ORDER BY id"
    return list(database.execute(query))


def attempts(
    database: sqlite3.Connection, run: str, round_number: int
) -> list[tuple[str | None, Event]]:
    """Replay key and event of each reservation of a round, oldest first."""
    rows = database.execute(
        f"SELECT replay_key, {_EVENT} WHERE run = ? AND round = ? ORDER BY attempt",
        (run, round_number),
    )
    return [(key, Event(*fields)) for key, *fields in rows]


def append_reservation(
    database: sqlite3.Connection,
    run: str,
    round_number: int,
    attempt: int,
    replay_key: str | None,
    event: Event,
) -> None:
    """Write a reservation; within a transaction."""
    mechanism = (event.noise_multiplier, event.sample_rate, event.steps)
    row = (run, round_number, attempt, replay_key, *mechanism, now())
    cursor = database.execute(
        "INSERT INTO reservation (run, round, attempt, replay_key, noise_multiplier, sample_rate,"
        " steps, reserved_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    )
    if event.noise_from > 1:
        shared = (cursor.lastrowid, event.noise_from)
        database.execute("INSERT INTO shared_noise VALUES (?, ?)", shared)


def evaluations(database: sqlite3.Connection) -> list[tuple[str, str | None, Event]]:
    """Run, replay key and event of each release about held-out patients, oldest first."""
    rows = database.execute(
        "SELECT run, replay_key, noise_multiplier, 1.0, counts, hospitals FROM evaluation"
        " ORDER BY id"
    )
    return [(run, key, Event(*event)) for run, key, *event in rows]


def append_evaluation(
    database: sqlite3.Connection, run: str, replay_key: str | None, event: Event
) -> None:
    """Write a release about held-out patients; within a transaction."""
    database.execute(
        "INSERT INTO evaluation (run, replay_key, noise_multiplier, counts, hospitals, reserved_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (run, replay_key, event.noise_multiplier, event.steps, event.noise_from, now()),
    )


def budget(database: sqlite3.Connection) -> float | None:
    """The budget in force."""
    row = database.execute("SELECT epsilon FROM budget ORDER BY id DESC LIMIT 1").fetchone()
    limit: float | None = row[0]
    return limit


def budgets(database: sqlite3.Connection) -> list[tuple[float | None, str, str]]:
    """Epsilon, reason and time of every budget, oldest first."""
    return list(database.execute("SELECT epsilon, reason, set_at FROM budget ORDER BY id"))


def append_budget(database: sqlite3.Connection, epsilon: float | None, reason: str) -> None:
    """Put a budget in force."""
    database.execute(
        "INSERT INTO budget (epsilon, reason, set_at) VALUES (?, ?, ?)", (epsilon, reason, now())
    )


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def sync_directory(directory: Path) -> None:
    """Make a new name in the directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def damaged(path: Path, detail: str) -> PrivacyError:
    """The error of a file that is not what was written."""
    return PrivacyError(
        f"the ledger {path} is damaged: {detail}",
        hint="restore it from a backup and add what was run since; without it nobody knows what "
        "these patients have spent, so do not start a new one",
    )
