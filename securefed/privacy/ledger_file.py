"""The SQLite file under a ledger: its tables, how it is opened, and what can be wrong with it.

Append-only tables: the settings (one row, fixed for ever), the budgets (the newest counts), the
reservations, how many hospitals' noise a reservation relies on, where it is not its own alone,
releases about held-out patients, who took part in which run (`ledger_rows` reads and writes), and
the chain that ties them together (`chain`).
The header carries an application id and a schema version, so that another file is not taken for a
ledger and a newer ledger is not misread. The names tell which hospital took part when and how
often, and a replay key is a digest that may cover patients' data: the file is the hospital's own
and is not for passing on. STRICT tables need SQLite 3.37 (November 2021).
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from securefed.errors import PrivacyError
from securefed.files import create_private

NAME = "ledger.sqlite"
APPLICATION_ID = 0x5EC0FED1  # as a signed 32-bit number in SQLite's header
SCHEMA_VERSION = 2  # 1 had no chain
BUSY_TIMEOUT_S = 60.0  # one reservation computes epsilon while it holds the write lock

_TABLES = {
    "ledger": """
CREATE TABLE IF NOT EXISTS ledger (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    client TEXT NOT NULL,
    unit TEXT NOT NULL,
    delta REAL NOT NULL,
    accountant TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT""",
    "budget": """
CREATE TABLE IF NOT EXISTS budget (
    id INTEGER PRIMARY KEY,
    epsilon REAL CHECK (epsilon > 0),
    reason TEXT NOT NULL,
    set_at TEXT NOT NULL
) STRICT""",
    "reservation": """
CREATE TABLE IF NOT EXISTS reservation (
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
) STRICT""",
    # For reservations whose noise comes from several hospitals.
    "shared_noise": """
CREATE TABLE IF NOT EXISTS shared_noise (
    id INTEGER PRIMARY KEY,
    hospitals INTEGER NOT NULL CHECK (hospitals > 1)
) STRICT""",
    # Releases about held-out patients.
    "evaluation": """
CREATE TABLE IF NOT EXISTS evaluation (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    replay_key TEXT,
    noise_multiplier REAL NOT NULL CHECK (noise_multiplier > 0),
    counts INTEGER NOT NULL CHECK (counts > 0),
    hospitals INTEGER NOT NULL CHECK (hospitals > 0),
    reserved_at TEXT NOT NULL
) STRICT""",
    # Who took part in a run, on which side (`participation`). A run that has no rows here counts
    # for every patient.
    "enrolment": """
CREATE TABLE IF NOT EXISTS enrolment (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('trained', 'held out')),
    site_key TEXT NOT NULL,
    patients BLOB NOT NULL CHECK (length(patients) % 16 = 0),
    enrolled_at TEXT NOT NULL,
    UNIQUE (run, side)
) STRICT""",
    # The hash of each row together with that of the row before (`chain`).
    "chain": """
CREATE TABLE IF NOT EXISTS chain (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    row INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    UNIQUE (kind, row)
) STRICT""",
}
# INSERT OR REPLACE deletes without firing a delete trigger, so a repeated id is refused as well.
_APPEND_ONLY = (
    """
CREATE TRIGGER IF NOT EXISTS {table}_update BEFORE UPDATE ON {table}
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    """
CREATE TRIGGER IF NOT EXISTS {table}_delete BEFORE DELETE ON {table}
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    """
CREATE TRIGGER IF NOT EXISTS {table}_replace BEFORE INSERT ON {table}
WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
)


@contextmanager
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an existing file for reading and writing; what SQLite raises becomes a PrivacyError."""
    try:
        # mode=rw: a file that has vanished is an error, not a new and empty ledger.
        database = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=rw",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
        )
    except sqlite3.Error as error:
        raise PrivacyError(
            f"cannot open the ledger {path}: {error}",
            hint="it must be a file that this account can read and write, on a local disk",
        ) from error
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
        raise PrivacyError(
            f"the ledger {path} refused a change: {error}",
            hint="what was reserved stays; only new lines can be added",
        ) from error
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
    database.execute("PRAGMA journal_mode = WAL")
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    with transaction(database):
        add_tables(database)
        mark_version(database)


def add_tables(database: sqlite3.Connection) -> None:
    """Lay out what is missing, with its triggers; within a transaction."""
    for table, content in _TABLES.items():
        key = "one" if table == "ledger" else "id"
        # `executescript` would end the transaction.
        database.execute(content)
        for trigger in _APPEND_ONLY:
            database.execute(trigger.format(table=table, key=key))


def mark_version(database: sqlite3.Connection) -> None:
    """Say that the file is of this version; within the transaction that makes it so."""
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def check(database: sqlite3.Connection, path: Path) -> int:
    """Refuse a file that is damaged, no ledger, or of a newer version; the version (`chain.check`).

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
    if not 1 <= version <= SCHEMA_VERSION:
        raise PrivacyError(
            f"the ledger {path} has format {version}; this version reads {SCHEMA_VERSION}",
            hint="use the version of securefed that wrote it, or a newer one",
        )
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise damaged(path, verdict)
    return int(version)


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def draft_of(target: Path) -> Path:
    """Where a ledger is written before it appears at `target`."""
    return target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}")


@contextmanager
def appearing(draft: Path, target: Path) -> Iterator[None]:
    """A new file, its owner's only, that appears at `target` complete or not at all.

    Raises:
        FileExistsError: there is something; it is never replaced.
        OSError: it cannot be written.
    """
    try:
        create_private(draft, b"")
        yield
        _to_disk(draft)
        os.link(draft, target)  # unlike a rename, fails if somebody else was first
        sync_directory(target.parent)
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()


def _to_disk(path: Path) -> None:
    with path.open("rb") as written:
        os.fsync(written.fileno())


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
