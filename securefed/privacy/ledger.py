"""The ledger: one hospital's record, on its own disk, of all privacy its patients have spent.

A round's steps are reserved *before* any data is touched, in a transaction that is on disk when
`reserve` returns (SQLite, write-ahead log, synchronous=FULL). Nothing takes a reservation back: a
run killed in the middle of a round may already have sent something, so its round counts. Runs over
the same patients share one ledger. Where a run's patients were enrolled, it counts for these alone,
and each patient's runs compose as one history (`participation`); a run or a round that would pass
the budget for any of its patients is refused with nothing written (`limits`).

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
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from securefed.errors import BudgetExceeded, ConfigurationError, OldLedger, PrivacyError
from securefed.privacy import chain, ledger_file, ledger_rows, statement
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import Event, Guarantee, at_most, epsilon
from securefed.privacy.chain import Head
from securefed.privacy.ledger_rows import BudgetChange, Reservation, RunSpending
from securefed.privacy.limits import Limits, RunLimit
from securefed.privacy.participation import Participants, Place
from securefed.privacy.statement import Statement

PrivacyUnit = Literal["patient", "image"]


class Ledger:
    """One client's ledger file. Every call opens the file anew: threads and processes may share it.

    Attributes:
        path, client, unit, delta, accountant: fixed when the ledger was created. Epsilon is told
            at this delta and by this accountant, whatever a run has promised: events compose.
    """

    def __init__(
        self, path: Path, client: str, unit: PrivacyUnit, delta: float, accountant: Accountant
    ) -> None:
        """Use `Ledger.create` or `Ledger.open`."""
        self.path, self.client, self.unit = path, client, unit
        self.delta, self.accountant = delta, accountant
        self._limits = Limits(path, client, unit, delta, accountant)
        self._first: tuple[Ledger, str] | None = None

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
        draft = ledger_file.draft_of(path)
        try:
            with ledger_file.appearing(draft, path), ledger_file.connection(draft) as database:
                ledger_file.build(database)
                with ledger_file.transaction(database):
                    ledger_rows.begin(database, client, unit, delta, accountant)
                    first = "set when the ledger was created"
                    ledger_rows.append_budget(database, budget_epsilon, first)
        except FileExistsError as error:
            raise PrivacyError(
                f"there is a ledger at {path} already",
                hint="open it: a new ledger would forget what its patients have spent",
            ) from error
        except OSError as error:
            raise PrivacyError(
                f"cannot create the ledger {path}: {error.strerror}",
                hint=f"{path.parent} must be a folder that this account can write to",
            ) from error
        except PrivacyError as error:  # of the draft, whose name means nothing to anybody
            told = str(error).replace(str(draft), str(path))
            raise PrivacyError(told, hint=error.hint) from error.__cause__
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
        run_limit: RunLimit | None = None,
    ) -> "Ledger":
        """Open an existing ledger, and make sure it is the one that is meant.

        Args:
            client, unit, delta, accountant: what it must be of; None for whatever it is of.
            first_budget: the limit it must have been made with; it may have been amended since.
            run_limit: on what one run may add for who trains in it, beside the ledger's own limit
                on all runs; it lasts as long as this object.

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
            chain.check(database, path)
            chain.verify(database, path)
            ledger = cls(path, *ledger_rows.settings(database, path))
            begun_with = ledger_rows.budgets(database)[0].epsilon
        asked = {"client": client, "unit": unit, "delta": delta, "accountant": accountant}
        for name, wanted in asked.items():
            found = getattr(ledger, name)
            if wanted is not None and wanted != found:
                raise PrivacyError(
                    f"the ledger {path} is of {name} {found!r}, not {wanted!r}",
                    hint="each hospital has a ledger of its own for each unit and delta; put back "
                    "the one that belongs here",
                )
        ledger._limits.of_run = run_limit
        if first_budget is not None and begun_with != first_budget:
            raise PrivacyError(
                f"the ledger {path} was made with a budget of {begun_with}, not {first_budget}",
                hint="put back the ledger that belongs here",
            )
        return ledger

    def reserve_first_in(self, ledger: "Ledger", run: str) -> None:
        """From now on spend in another ledger, under this name of the run, before in this one.

        This one is then a run's own part of what the other holds of all runs: whatever is here is
        there too, and a crash in between leaves more there. Both limits hold.
        """
        self._first = ledger, run

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
            raise ConfigurationError(
                f"the round must not be negative, got {round_number}", hint="rounds begin with 0"
            )
        with ledger_file.connection(self.path) as database, ledger_file.transaction(database):
            attempts = ledger_rows.attempts(database, run, round_number)
            for attempt, (key, reserved) in enumerate(attempts, start=1):
                if replay_key is not None and key == replay_key:
                    self._require_same(round_number, event, reserved)
                    return Reservation(attempt, replayed=True)
            place: Place = (run, "trained")
            self._limits.require(database, [event], f"round {round_number}", place)
            if self._first:
                ledger, name = self._first
                ledger.reserve(round_number, event, run=name, replay_key=replay_key)
            attempt = len(attempts) + 1
            ledger_rows.append_reservation(database, run, round_number, attempt, replay_key, event)
        return Reservation(attempt, replayed=False)

    def reserve_evaluation(self, event: Event, *, run: str, replay_key: str | None = None) -> None:
        """Spend a release about held-out patients; call it before one is made. On disk at return.

        It is part of the history of those who were enrolled as held out, and within the limit on
        all that is released about them. Without an enrolment who asks holds a run to one release.

        Args:
            event: a Gaussian without sampling.
            replay_key: as for `reserve`.

        Raises:
            BudgetExceeded: nothing was written.
            ConfigurationError: an event with sampling.
        """
        if event.sample_rate != 1:
            raise ConfigurationError(
                f"held-out patients are not sampled, got {event}", hint="a sample rate of 1"
            )
        with ledger_file.connection(self.path) as database, ledger_file.transaction(database):
            before = ledger_rows.evaluations(database)
            if replay_key is None or (run, replay_key, event) not in before:
                if ledger_rows.enrolled(database, run):
                    self._limits.require(database, [event], "scoring", (run, "held out"))
                if self._first:
                    ledger, name = self._first
                    ledger.reserve_evaluation(event, run=name, replay_key=replay_key)
                ledger_rows.append_evaluation(database, run, replay_key, event)

    def enrol(
        self,
        run: str,
        participants: Participants,
        planned: Sequence[Event] = (),
        scored: Sequence[Event] = (),
    ) -> None:
        """Write down who takes part in a run, before anything is spent on them. On disk at return.

        A run that has spent without (under an older version) stays so, and counts for everybody.

        Args:
            planned, scored: what the run will release about those that train, and about those that
                are held out: it is refused here if the budget does not hold it for any of them.

        Raises:
            BudgetExceeded: nothing was written.
            PrivacyError: the run was enrolled before, with others.
        """
        sides = participants.enrolments(run)
        with ledger_file.connection(self.path) as database, ledger_file.transaction(database):
            before = [each for each in ledger_rows.enrolments(database) if each.run == run]
            if before and before != list(sides):
                raise PrivacyError(
                    f"run {run[:12]} was begun with other patients than those that are here now",
                    hint="bring the patients and their site key back, or start a new run",
                )
            if ledger_rows.has_spent(database, run):
                return
            for one in sides if not before else ():
                ledger_rows.append_enrolment(database, one)
            try:
                for one, events in zip(sides, (planned, scored), strict=True):
                    if events:
                        self._limits.require(database, events, "this run", (run, one.side))
            except BudgetExceeded:
                self._limits.forget()
                raise

    def require(self, events: Sequence[Event], run: str = "") -> None:
        """Refuse training that the budget does not hold: a whole plan, before any work.

        Args:
            run: whose patients it is about, and whose own limit holds too; "" for one of which
                nobody knows yet who takes part.

        Raises:
            BudgetExceeded: with the epsilon it would reach.
        """
        with ledger_file.connection(self.path) as database:
            self._limits.require(database, events, "this run", (run, "trained"))
        if self._first:
            ledger, name = self._first
            ledger.require(events, name)

    def would_exceed(self, events: Sequence[Event], run: str = "") -> bool:
        """Whether `require` would refuse."""
        try:
            self.require(events, run)
        except BudgetExceeded:
            return True
        return False

    def history(self) -> list[Event]:
        """Every reserved event of every run, oldest first."""
        with ledger_file.connection(self.path) as database:
            return ledger_rows.history(database)

    def reservations(self, run: str) -> int:
        """How many a run has in it."""
        with ledger_file.connection(self.path) as database:
            return ledger_rows.count_reservations(database, run)

    def spent(self, accountant: Accountant | None = None) -> float:
        """Epsilon of who trained in every run; by the ledger's own accountant unless told."""
        return epsilon(self.history(), self.delta, accountant or self.accountant)

    def statement(self) -> Statement:
        """All that is in it now."""
        with ledger_file.connection(self.path) as database:
            return statement.of(database, self.path)

    def guarantee(self, accountant: Accountant | None = None) -> Guarantee:
        """`spent`, together with what it means."""
        return self.statement().guarantee(accountant)

    def largest(self, accountant: Accountant | None = None) -> Guarantee:
        """What all runs come to for the patient of whom they released most."""
        return self.statement().largest(accountant)

    def head(self) -> Head:
        """How far it has come."""
        with ledger_file.connection(self.path) as database:
            return chain.head(database)

    def require_after(self, told: Head) -> None:
        """Refuse to be older than, or another than, a ledger that had come so far.

        Raises:
            OldLedger: a copy from before, or another ledger, is in its place.
        """
        with ledger_file.connection(self.path) as database:
            if chain.contains(database, told):
                return
            rows = chain.head(database).rows
        raise OldLedger(
            f"the ledger {self.path} is not the one that had {told.rows} rows: it has {rows}"
            + ("" if rows < told.rows else ", and others"),
            hint="it is an old copy, or of somewhere else: put back the newest one",
        )

    @property
    def budget(self) -> float | None:
        """The limit in force, or None."""
        with ledger_file.connection(self.path) as database:
            return ledger_rows.budget(database)

    def budgets(self) -> list[BudgetChange]:
        """Every limit since the ledger was created, oldest first; the last one is in force."""
        with ledger_file.connection(self.path) as database:
            return ledger_rows.budgets(database)

    def runs(self) -> list[RunSpending]:
        """What each run has reserved, in the order the runs began."""
        with ledger_file.connection(self.path) as database:
            return ledger_rows.runs(database)

    def amend_budget(self, budget_epsilon: float, reason: str) -> None:
        """Set another limit from now on; the old one and the reason stay on record.

        Guarantee: what was reserved before is within the new limit, whoever reserves meanwhile.

        Raises:
            ConfigurationError: a budget that is not positive, or no reason.
            BudgetExceeded: more is spent already; nothing was written.
        """
        _check_settings(self.client, self.unit, budget_epsilon)
        if not reason.strip():
            raise ConfigurationError(
                "a change of the privacy budget needs a reason",
                hint="write who allows it, and why: --reason TEXT",
            )
        with ledger_file.connection(self.path) as database, ledger_file.transaction(database):
            spent = statement.of(database, self.path).largest()
            if spent.counted > budget_epsilon:
                raise BudgetExceeded(
                    f"{self.client} cannot have a budget of {budget_epsilon:g}; spent: {spent}",
                    hint=f"to refuse every further round, set it to {at_most(spent.counted)}",
                )
            ledger_rows.append_budget(database, budget_epsilon, reason)

    def _require_same(self, round_number: int, asked: Event, reserved: Event) -> None:
        if asked != reserved:
            raise PrivacyError(
                f"round {round_number} was reserved as {reserved} under the same replay key, "
                f"and is asked for as {asked}",
                hint="the replay key must cover noise_multiplier, sample_rate and steps",
            )


def replay_key(*state: bytes) -> str:
    """Digest of what a seeded release depends on: seed, weights, data, settings; in fixed order.

    Anything left out that changes the output makes two different releases count as one.
    """
    digest = hashlib.sha256()
    for part in state:
        digest.update(len(part).to_bytes(8) + part)  # lengths keep the parts apart
    return digest.hexdigest()


def _check_settings(client: str, unit: str, budget_epsilon: float | None) -> None:
    if not client:
        raise ConfigurationError(
            "a ledger needs the name of its client", hint="that of the hospital"
        )
    if unit not in get_args(PrivacyUnit):
        raise ConfigurationError(
            f"the privacy unit must be patient or image, got {unit!r}", hint="choose one of them"
        )
    if budget_epsilon is not None and not (math.isfinite(budget_epsilon) and budget_epsilon > 0):
        raise ConfigurationError(
            f"the privacy budget must be positive and finite, got {budget_epsilon}",
            hint="an epsilon, such as 8; to refuse every further round, set what is spent",
        )
