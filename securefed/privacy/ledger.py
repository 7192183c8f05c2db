"""The ledger: one hospital's record, on its own disk, of all privacy its patients have spent.

A round's steps are reserved *before* any data is touched, in a transaction that is on disk when
`reserve` returns (SQLite, write-ahead log, synchronous=FULL). Nothing takes a reservation back: a
run killed in the middle of a round may already have sent something, so its round counts. Runs over
the same patients share one ledger and compose as one history (see `accounting.epsilon`); a round
that would pass the budget is refused with nothing written.

Repeating a round after a crash depends on the noise. Fresh cryptographic noise makes the repetition
a second release of the same patients, and it is counted as another attempt. Seeded noise with the
same starting state makes the same bits again, which releases nothing new: the caller says so with
a `replay_key`, a digest of everything the release depends on, and equal keys count once.

Not protected against: whoever owns the disk. Triggers refuse to change or delete a row, which
stops mistakes, not an administrator with an SQLite shell or an old backup; a budget protects
patients from a hospital's accidents, not from the hospital. SQLite's log needs a local file system.
"""

import hashlib
import math
import os
import shlex
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from securefed.errors import BudgetExceeded, ConfigurationError, PrivacyError
from securefed.files import create_private
from securefed.privacy import ledger_file, statement
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import (
    Event,
    Guarantee,
    at_most,
    epsilon,
    steps_by_mechanism,
)
from securefed.privacy.statement import Statement

PrivacyUnit = Literal["patient", "image"]


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


class Ledger:
    """One client's ledger file. Every call opens the file anew: threads and processes may share it.

    Attributes:
        path, client, unit, delta, accountant: fixed when the ledger was created.
        run_budget: limit on what one run may add, composed by itself, beside the ledger's own
            limit on all of them; None for no other limit.
    """

    def __init__(
        self, path: Path, client: str, unit: PrivacyUnit, delta: float, accountant: Accountant
    ) -> None:
        """Use `Ledger.create` or `Ledger.open`."""
        self.path, self.client, self.unit = path, client, unit
        self.delta, self.accountant = delta, accountant
        self.run_budget: float | None = None
        # Histories that were found within a limit, of all runs (None) and of one.
        self._affordable: dict[str | None, tuple[float, list[Event]]] = {}

    def __repr__(self) -> str:
        return f"Ledger(client={self.client!r}, unit={self.unit!r}, delta={self.delta:g})"

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        client: str,
        unit: PrivacyUnit,
        delta: float,
        budget_epsilon: float | None,
        accountant: Accountant = "prv",
    ) -> "Ledger":
        """Create the file, readable by its owner only; it appears complete or not at all.

        Args:
            budget_epsilon: limit on epsilon of the whole history; None records without refusing.

        Raises:
            PrivacyError: the file exists (it is never replaced) or cannot be written.
            ConfigurationError: a setting out of its range.
        """
        _check_settings(client, unit, budget_epsilon)
        epsilon([], delta, accountant)  # refuses a delta or an accountant out of range
        draft = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
        try:
            create_private(draft, b"")
            with ledger_file.connection(draft) as database:
                ledger_file.build(database)
                fixed = (client, unit, delta, accountant, ledger_file.now())
                database.execute("INSERT INTO ledger VALUES (1, ?, ?, ?, ?, ?)", fixed)
                ledger_file.append_budget(
                    database, budget_epsilon, "set when the ledger was created"
                )
            os.link(draft, path)  # unlike a rename, fails if somebody else was first
            ledger_file.sync_directory(path.parent)
        except FileExistsError as error:
            raise PrivacyError(
                f"there is a ledger at {path} already",
                hint="open it: a new ledger would forget what its patients have spent",
            ) from error
        except OSError as error:
            raise PrivacyError(f"cannot create the ledger {path}: {error.strerror}") from error
        except PrivacyError as error:  # of the draft, whose name means nothing to anybody
            told = str(error).replace(str(draft), str(path))
            raise PrivacyError(told, hint=error.hint) from error.__cause__
        finally:
            with suppress(FileNotFoundError):
                draft.unlink()
        return cls(path, client, unit, delta, accountant)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        client: str | None = None,
        unit: PrivacyUnit | None = None,
        delta: float | None = None,
        accountant: Accountant | None = None,
        first_budget: float | None = None,
        run_budget: float | None = None,
    ) -> "Ledger":
        """Open an existing ledger, and make sure it is the one that is meant.

        Args:
            client, unit, delta, accountant: what it must be of; None for whatever it is of.
            first_budget: the limit it must have been made with; it may have been amended since.
            run_budget: see the attribute; it lasts as long as this object.

        Raises:
            PrivacyError: no such file, damaged, no ledger, written by a newer version, or of
                something else than asked for.
        """
        if not path.is_file():
            raise PrivacyError(
                f"there is no ledger at {path}",
                hint="name a ledger, a hospital's folder or a run directory",
            )
        with ledger_file.connection(path) as database:
            ledger_file.check(database, path)
            ledger_file.add_later_tables(database)
            ledger = cls(path, *ledger_file.settings(database, path))
            (begun_with, _, _), *_ = ledger_file.budgets(database)
        asked = {"client": client, "unit": unit, "delta": delta, "accountant": accountant}
        for name, wanted in asked.items():
            found = getattr(ledger, name)
            if wanted is not None and wanted != found:
                raise PrivacyError(
                    f"the ledger {path} is of {name} {found!r}, not {wanted!r}",
                    hint="each hospital has a ledger of its own for each unit and delta; put back "
                    "the one that belongs here",
                )
        ledger.run_budget = run_budget
        if first_budget is not None and begun_with != first_budget:
            raise PrivacyError(
                f"the ledger {path} was made with a budget of {begun_with}, not {first_budget}",
                hint="put back the ledger that belongs here",
            )
        return ledger

    def reserve(
        self, round_number: int, event: Event, *, run: str, replay_key: str | None = None
    ) -> Reservation:
        """Spend a round's steps; call it before the round touches data. On disk at return.

        Args:
            round_number: round within the run, >= 0.
            event: the round's steps.
            run: identifies the run, so that rounds of several runs are told apart.
            replay_key: None for cryptographic noise: each call counts. With seeded noise, see
                `replay_key`: a call with the run, round and key of an earlier one counts as it.

        Raises:
            BudgetExceeded: nothing was written.
            PrivacyError: the key was used for other steps, or the file cannot be used.
            ConfigurationError: a negative round.
        """
        if round_number < 0:
            raise ConfigurationError(f"the round must not be negative, got {round_number}")
        with ledger_file.connection(self.path) as database, ledger_file.transaction(database):
            attempts = ledger_file.attempts(database, run, round_number)
            for attempt, (key, reserved) in enumerate(attempts, start=1):
                if replay_key is not None and key == replay_key:
                    self._require_same(round_number, event, reserved)
                    return Reservation(attempt, replayed=True)
            self._require_affordable(database, [event], f"round {round_number}", run)
            attempt = len(attempts) + 1
            ledger_file.append_reservation(database, run, round_number, attempt, replay_key, event)
        return Reservation(attempt, replayed=False)

    def reserve_evaluation(self, event: Event, *, run: str, replay_key: str | None = None) -> None:
        """Spend a release about held-out patients; call it before one is made. On disk at return.

        Their history is one of its own, and has no limit: who asks holds a run to one release.

        Args:
            event: a Gaussian without sampling.
            replay_key: as for `reserve`.

        Raises:
            ConfigurationError: an event with sampling.
        """
        if event.sample_rate != 1:
            raise ConfigurationError(f"held-out patients are not sampled, got {event}")
        with ledger_file.connection(self.path) as database, ledger_file.transaction(database):
            before = ledger_file.evaluations(database)
            if replay_key is None or (run, replay_key, event) not in before:
                ledger_file.append_evaluation(database, run, replay_key, event)

    def require(self, events: Sequence[Event], run: str | None = None) -> None:
        """Refuse a plan that the budget does not hold: the whole run, before any work.

        Args:
            run: also held against the budget of a run; None for the budget of all alone.

        Raises:
            BudgetExceeded: with the epsilon it would reach.
        """
        with ledger_file.connection(self.path) as database:
            self._require_affordable(database, events, "this run", run)

    def would_exceed(self, events: Sequence[Event]) -> bool:
        """Whether `require(events)` would refuse."""
        try:
            self.require(events)
        except BudgetExceeded:
            return True
        return False

    def history(self) -> list[Event]:
        """Every reserved event of every run, oldest first."""
        with ledger_file.connection(self.path) as database:
            return ledger_file.history(database)

    def spent(self, accountant: Accountant | None = None) -> float:
        """Epsilon of the whole history; by the ledger's own accountant unless told."""
        return epsilon(self.history(), self.delta, accountant or self.accountant)

    def statement(self) -> Statement:
        """All that is in it now."""
        with ledger_file.connection(self.path) as database:
            return statement.of(database, self.path)

    def guarantee(self, accountant: Accountant | None = None) -> Guarantee:
        """`spent`, together with what it means."""
        return self.statement().guarantee(accountant)

    @property
    def budget(self) -> float | None:
        """The limit in force, or None."""
        with ledger_file.connection(self.path) as database:
            return ledger_file.budget(database)

    def budgets(self) -> list[BudgetChange]:
        """Every limit since the ledger was created, oldest first; the last one is in force."""
        with ledger_file.connection(self.path) as database:
            return [BudgetChange(*row) for row in ledger_file.budgets(database)]

    def runs(self) -> list[RunSpending]:
        """What each run has reserved, in the order the runs began."""
        with ledger_file.connection(self.path) as database:
            return [RunSpending(*row) for row in ledger_file.runs(database)]

    def amend_budget(self, budget_epsilon: float, reason: str) -> None:
        """Set another limit from now on; the old one and the reason stay on record.

        Guarantee: what was reserved before is within the new limit, whoever reserves meanwhile.

        Raises:
            ConfigurationError: a budget that is not positive, or no reason.
            BudgetExceeded: more is spent already; nothing was written.
        """
        _check_settings(self.client, self.unit, budget_epsilon)
        if not reason.strip():
            raise ConfigurationError("a change of the privacy budget needs a reason")
        with ledger_file.connection(self.path) as database, ledger_file.transaction(database):
            reached = epsilon(ledger_file.history(database), self.delta, self.accountant)
            if reached > budget_epsilon:
                spent = Guarantee(reached, self.delta, self.unit, self.accountant)
                raise BudgetExceeded(
                    f"{self.client} cannot have a budget of {budget_epsilon:g}; spent: {spent}",
                    hint=f"to refuse every further round, set it to {at_most(reached)}",
                )
            ledger_file.append_budget(database, budget_epsilon, reason)

    def _require_same(self, round_number: int, asked: Event, reserved: Event) -> None:
        if asked != reserved:
            raise PrivacyError(
                f"round {round_number} was reserved as {reserved} under the same replay key, "
                f"and is asked for as {asked}",
                hint="the replay key must cover noise_multiplier, sample_rate and steps",
            )

    def _require_affordable(
        self, database: sqlite3.Connection, added: Sequence[Event], what: str, run: str | None
    ) -> None:
        limit = ledger_file.budget(database)
        if limit is not None and (over := self._over(database, added, limit, None)):
            before, reached = over
            spent = Guarantee(before, self.delta, self.unit, self.accountant)
            raise BudgetExceeded(
                f"{what} would take {self.client} to epsilon {at_most(reached)}, above its budget "
                f"of {limit:g}; spent so far: {spent}",
                hint="use more noise, fewer rounds or a smaller batch; who answers for the "
                "patients can amend the budget: securefed ledger amend "
                f"{shlex.quote(str(self.path))} --epsilon E --reason TEXT",
            )
        if run is None or self.run_budget is None:
            return
        if over := self._over(database, added, self.run_budget, run):
            raise BudgetExceeded(
                f"{what} would take run {run[:12]} at {self.client} to epsilon "
                f"{at_most(over[1])}, above the {self.run_budget:g} of a run",
                hint="rounds lost in a crash count as spent; the run goes on without it",
            )

    def _over(
        self, database: sqlite3.Connection, added: Sequence[Event], limit: float, run: str | None
    ) -> tuple[float, float] | None:
        """Epsilon before and after, of all runs or of one; None where that is within the limit."""
        before = ledger_file.history(database, run)
        after = [*before, *added]
        found = self._affordable.get(run)
        if found and found[0] <= limit and _within(after, found[1]):
            return None
        reached = epsilon(after, self.delta, self.accountant)
        if reached <= limit:
            self._affordable[run] = (limit, after)
            return None
        return epsilon(before, self.delta, self.accountant), reached


def replay_key(*state: bytes) -> str:
    """Digest of what a seeded release depends on: seed, weights, data, settings; in fixed order.

    Anything left out that changes the output makes two different releases count as one.
    """
    digest = hashlib.sha256()
    for part in state:
        digest.update(len(part).to_bytes(8) + part)  # lengths keep the parts apart
    return digest.hexdigest()


def _within(history: Sequence[Event], affordable: Sequence[Event]) -> bool:
    """Whether the history is part of one that was found affordable: epsilon grows with steps."""
    steps = steps_by_mechanism(affordable)
    return all(n <= steps.get(key, 0) for key, n in steps_by_mechanism(history).items())


def _check_settings(client: str, unit: str, budget_epsilon: float | None) -> None:
    if not client:
        raise ConfigurationError("a ledger needs the name of its client")
    if unit not in get_args(PrivacyUnit):
        raise ConfigurationError(f"the privacy unit must be patient or image, got {unit!r}")
    if budget_epsilon is not None and not (math.isfinite(budget_epsilon) and budget_epsilon > 0):
        raise ConfigurationError(
            f"the privacy budget must be positive and finite, got {budget_epsilon}"
        )
