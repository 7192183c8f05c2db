"""Copies of a ledger, made right and held against it.

What was reserved last may lie in `ledger.sqlite-wal`, beside the file: a copy of the file alone
loses it, and with it epsilon that is spent. `export` copies through SQLite, which has both.
A copy grows old with the next reservation: only one that holds everything the ledger holds may take
its place (`difference`).
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from securefed.errors import PrivacyError
from securefed.privacy import ledger_file, statement
from securefed.privacy.statement import Statement


def export(source: Path, target: Path) -> Statement:
    """Copy a ledger, readable by its owner only; the copy appears complete or not at all.

    Raises:
        PrivacyError: no ledger, a damaged one, or `target` exists or cannot be written.
    """
    if not source.is_file():
        raise PrivacyError(
            f"there is no ledger at {source}", hint="name the file: FOLDER/ledger.sqlite"
        )
    draft = ledger_file.draft_of(target)
    try:
        with ledger_file.appearing(draft, target):
            with ledger_file.connection(source) as database:
                ledger_file.check(database, source)
                with closing(sqlite3.connect(draft)) as copy:
                    database.backup(copy)
            held = statement.read(draft)
    except FileExistsError:
        raise PrivacyError(
            f"there is something at {target} already", hint="a copy never replaces another"
        ) from None
    except OSError as error:
        raise PrivacyError(
            f"cannot write {target}: {error.strerror}",
            hint=f"{target.parent} must be a folder that this account can write to",
        ) from None
    return held


def difference(ledger: Statement, copy: Statement) -> str | None:
    """What a copy lacks of a ledger, in words; None where it may take the ledger's place."""
    for term in ("client", "unit", "delta", "accountant"):
        ours, theirs = getattr(ledger, term), getattr(copy, term)
        if ours != theirs:
            return f"it is of {term} {theirs}, not {ours}"
    if ledger.budgets != copy.budgets[: len(ledger.budgets)]:
        return f"its budgets are {copy.budgets}, not {ledger.budgets}"
    if ledger.evaluations != copy.evaluations[: len(ledger.evaluations)]:
        return "it lacks a release about held-out patients"
    if ledger.enrolments != copy.enrolments[: len(ledger.enrolments)]:
        return "it lacks who took part in a run"
    ours, theirs = ledger.reservations, copy.reservations
    if theirs == ours[: len(theirs)] and len(theirs) < len(ours):
        return f"it is older: it holds {len(theirs)} of {len(ours)} reservations"
    if theirs[: len(ours)] != ours:
        return "its reservations are not those of the ledger"
    return None
