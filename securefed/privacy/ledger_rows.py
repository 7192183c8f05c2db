"""The rows of a ledger: what is read from an open file, and what is added to it.

Whoever adds does so within a transaction (`ledger_file.transaction`), which is on disk at its end.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from securefed.privacy import chain
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import Event
from securefed.privacy.ledger_file import damaged, now
from securefed.privacy.participation import Enrolment, Place


@dataclass(frozen=True)
class Reservation:
    """What `reserve` wrote.

    Attributes:
        attempt: 1 for the first time this round was trained, 2 for its first repetition, ...
        replayed: nothing was written, since the very same release had been reserved before.
    """

    attempt: int
    replayed: bool


@dataclass(frozen=True)
class RunSpending:
    """What one run has reserved in a ledger.

    Attributes:
        reservations: more than `rounds` where rounds were trained again.
        first, last: when, in UTC.
    """

    run: str
    rounds: int
    reservations: int
    steps: int
    first: str
    last: str


@dataclass(frozen=True)
class BudgetChange:
    """A limit on epsilon (None: no limit), who or what set it, and when, in UTC."""

    epsilon: float | None
    reason: str
    set_at: str


_EVENT = (
    "noise_multiplier, sample_rate, steps, COALESCE(hospitals, 1)"
    " FROM reservation LEFT JOIN shared_noise USING (id)"
)


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


def begin(
    database: sqlite3.Connection, client: str, unit: str, delta: float, accountant: Accountant
) -> None:
    """Write what a new ledger is of, for ever; within a transaction."""
    row = (client, unit, delta, accountant, now())
    database.execute("INSERT INTO ledger VALUES (1, ?, ?, ?, ?, ?)", row)
    chain.append(database, "ledger", 1)


def history(database: sqlite3.Connection, run: str | None = None) -> list[Event]:
    """Every reservation, or those of one run, oldest first."""
    query = f"SELECT {_EVENT} WHERE ?1 IS NULL OR run = ?1 ORDER BY id"
    return [Event(*row) for row in database.execute(query, (run,))]


def runs(database: sqlite3.Connection) -> list[RunSpending]:
    """What each run has reserved, in the order they began.

    Round 0 is what is declared before the first, and none itself.
    """
    query = (
        "SELECT run, COUNT(DISTINCT NULLIF(round, 0)), COUNT(*), SUM(steps), MIN(reserved_at),"
        " MAX(reserved_at) FROM reservation GROUP BY run ORDER BY MIN(id)"
    )
    return [RunSpending(*row) for row in database.execute(query)]


def reservations(database: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Run, round, attempt, whether its noise is seeded, and event of each, oldest first."""
    query = f"SELECT run, round, attempt, replay_key IS NOT NULL, {_EVENT} ORDER BY id"
    return list(database.execute(query))


def count_reservations(database: sqlite3.Connection, run: str) -> int:
    """How many a run has."""
    query = "SELECT COUNT(*) FROM reservation WHERE run = ?"
    count: int = database.execute(query, (run,)).fetchone()[0]
    return count


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
    chain.append(database, "reservation", cursor.lastrowid)


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
    cursor = database.execute(
        "INSERT INTO evaluation (run, replay_key, noise_multiplier, counts, hospitals, reserved_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (run, replay_key, event.noise_multiplier, event.steps, event.noise_from, now()),
    )
    chain.append(database, "evaluation", cursor.lastrowid)


def spent(database: sqlite3.Connection) -> dict[Place, list[Event]]:
    """What was released about whoever was at a place; equal steps as one event."""
    found: dict[Place, list[Event]] = {}
    for run, *event in database.execute(
        "SELECT run, noise_multiplier, sample_rate, SUM(steps) FROM reservation GROUP BY 1, 2, 3"
    ):
        found.setdefault((run, "trained"), []).append(Event(*event))
    for run, *event in database.execute(
        "SELECT run, noise_multiplier, 1.0, SUM(counts) FROM evaluation GROUP BY 1, 2"
    ):
        found.setdefault((run, "held out"), []).append(Event(*event))
    return found


def enrolments(database: sqlite3.Connection) -> list[Enrolment]:
    """Who took part in which run, oldest first."""
    rows = database.execute("SELECT run, side, site_key, patients FROM enrolment ORDER BY id")
    return [Enrolment(*row) for row in rows]


def count_enrolments(database: sqlite3.Connection) -> int:
    """How many there are."""
    count: int = database.execute("SELECT COUNT(*) FROM enrolment").fetchone()[0]
    return count


def enrolled(database: sqlite3.Connection, run: str) -> bool:
    """Whether it is known who takes part in a run."""
    query = "SELECT 1 FROM enrolment WHERE run = ?"
    return database.execute(query, (run,)).fetchone() is not None


def has_spent(database: sqlite3.Connection, run: str) -> bool:
    """Whether anything was released in a run."""
    query = "SELECT 1 FROM reservation WHERE run = ?1 UNION SELECT 1 FROM evaluation WHERE run = ?1"
    return database.execute(query, (run,)).fetchone() is not None


def append_enrolment(database: sqlite3.Connection, one: Enrolment) -> None:
    """Write who was on one side of a run; within a transaction."""
    cursor = database.execute(
        "INSERT INTO enrolment (run, side, site_key, patients, enrolled_at) VALUES (?, ?, ?, ?, ?)",
        (one.run, one.side, one.key, one.patients, now()),
    )
    chain.append(database, "enrolment", cursor.lastrowid)


def budget(database: sqlite3.Connection) -> float | None:
    """The budget in force."""
    row = database.execute("SELECT epsilon FROM budget ORDER BY id DESC LIMIT 1").fetchone()
    limit: float | None = row[0]
    return limit


def budgets(database: sqlite3.Connection) -> list[BudgetChange]:
    """Every budget, oldest first."""
    rows = database.execute("SELECT epsilon, reason, set_at FROM budget ORDER BY id")
    return [BudgetChange(*row) for row in rows]


def append_budget(database: sqlite3.Connection, epsilon: float | None, reason: str) -> None:
    """Put a budget in force; within a transaction."""
    cursor = database.execute(
        "INSERT INTO budget (epsilon, reason, set_at) VALUES (?, ?, ?)", (epsilon, reason, now())
    )
    chain.append(database, "budget", cursor.lastrowid)
