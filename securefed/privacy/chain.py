"""The chain over a ledger's rows: each entry holds the hash of the one before.

A row is chained in the transaction that writes it. Its entry's hash covers the entry before and all
that the row says, so that the last one, the head, stands for everything: two ledgers of one length
and one head hold the same. Who changes, removes or adds a row without the rest breaks it.

Not protected against: whoever owns the disk can chain anew, or put back a whole older file, which
is a chain too. That is noticed only where the head was told to somebody else (`contains`): a server
keeps what each hospital signed last (wire.hello), and a hospital's check points how much was
reserved.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from securefed.privacy import ledger_file
from securefed.privacy.ledger_file import damaged

# Kind of row -> its key, and all that the entry covers.
_KINDS = {
    "ledger": ("one", "client, unit, delta, accountant, created_at FROM ledger"),
    "budget": ("id", "epsilon, reason, set_at FROM budget"),
    "reservation": (
        "id",
        "run, round, attempt, replay_key, noise_multiplier, sample_rate, steps, reserved_at,"
        " COALESCE(hospitals, 1) FROM reservation LEFT JOIN shared_noise USING (id)",
    ),
    "evaluation": (
        "id",
        "run, replay_key, noise_multiplier, counts, hospitals, reserved_at FROM evaluation",
    ),
    "enrolment": ("id", "run, side, site_key, patients, enrolled_at FROM enrolment"),
}
_BEGINNING = hashlib.sha256(b"securefed ledger chain 1").digest()


@dataclass(frozen=True)
class Head:
    """How far a ledger has come: entries, and the hash of the last one in hexadecimal."""

    rows: int
    hash: str


def check(database: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that is damaged, no ledger, or of a newer version; bring one of before up.

    Raises:
        PrivacyError: each with its own message.
    """
    if ledger_file.check(database, path) == ledger_file.SCHEMA_VERSION:
        return
    with ledger_file.transaction(database):
        if ledger_file.check(database, path) < ledger_file.SCHEMA_VERSION:
            ledger_file.add_tables(database)
            for kind, row in _unchained(database):
                append(database, kind, row)
            ledger_file.mark_version(database)


def append(database: sqlite3.Connection, kind: str, row: int | None) -> None:
    """Chain a row that was just written; within its transaction."""
    key, columns = _KINDS[kind]
    content = database.execute(f"SELECT {columns} WHERE {key} = ?", (row,)).fetchone()
    before = database.execute("SELECT hash FROM chain ORDER BY id DESC LIMIT 1").fetchone()
    linked = _linked(before[0] if before else _BEGINNING, kind, content)
    database.execute("INSERT INTO chain (kind, row, hash) VALUES (?, ?, ?)", (kind, row, linked))


def head(database: sqlite3.Connection) -> Head:
    """The last entry."""
    rows, linked = database.execute("SELECT id, hash FROM chain ORDER BY id DESC").fetchone()
    return Head(rows, linked.hex())


def contains(database: sqlite3.Connection, told: Head) -> bool:
    """Whether a ledger that had come so far is this one, or an earlier state of it."""
    found = database.execute("SELECT hash FROM chain WHERE id = ?", (told.rows,)).fetchone()
    return found is not None and found[0].hex() == told.hash


def verify(database: sqlite3.Connection, path: Path) -> Head:
    """Walk the whole chain; the head.

    Raises:
        PrivacyError: a row was changed, removed, or written past the chain.
    """
    rows = {kind: _rows(database, kind) for kind in _KINDS}
    linked = _BEGINNING
    number = 0
    entries = database.execute("SELECT id, kind, row, hash FROM chain ORDER BY id")
    for number, (place, kind, row, found) in enumerate(entries, start=1):
        content = rows.get(kind, {}).pop(row, None)
        linked = _linked(linked, kind, content or ())
        if content is None or place != number or found != linked:
            raise damaged(path, f"entry {number} of its chain, a row of {kind}, was changed")
    beside = [kind for kind, left in rows.items() if left]
    if beside or not number:
        raise damaged(path, f"rows of {', '.join(beside) or 'all'} are not in its chain")
    return Head(number, linked.hex())


def _rows(database: sqlite3.Connection, kind: str) -> dict[int, tuple[object, ...]]:
    key, columns = _KINDS[kind]
    return {row: tuple(content) for row, *content in database.execute(f"SELECT {key}, {columns}")}


def _unchained(database: sqlite3.Connection) -> Iterator[tuple[str, int]]:
    for kind in _KINDS:
        yield from ((kind, row) for row in _rows(database, kind))


def _linked(before: bytes, kind: str, content: tuple[object, ...]) -> bytes:
    # JSON writes a float so that it is read back the same, and keeps columns apart.
    plain = [each.hex() if isinstance(each, bytes) else each for each in content]
    return hashlib.sha256(before + json.dumps([kind, *plain]).encode()).digest()
