"""A ledger's statement: all that is in it at one moment, as a value.

Evidence is read, never opened for writing: `read` takes a statement from a copy of the file, with
its log, because opening an SQLite database can change it.
"""

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from securefed.errors import ConfigurationError, PrivacyError
from securefed.privacy import chain, ledger_file, ledger_rows
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import Event, Guarantee, Noise, epsilon, steps_by_mechanism
from securefed.privacy.chain import Head
from securefed.privacy.participation import Enrolment, Place, Roll, largest


@dataclass(frozen=True)
class Entry:
    """A round's steps, reserved for a run.

    Attributes:
        attempt: 1, or more where the round was trained again.
        seeded: whether the noise came from a seed.
    """

    run: str
    round: int
    attempt: int
    seeded: bool
    event: Event


@dataclass(frozen=True)
class Evaluation:
    """A release about held-out patients, reserved for a run; `seeded` as in `Entry`."""

    run: str
    seeded: bool
    event: Event


@dataclass(frozen=True)
class Statement:
    """What a ledger holds.

    Attributes:
        budgets: limits on epsilon, oldest first; the last one is in force, None is no limit.
        reservations: oldest first.
        evaluations: releases about held-out patients, oldest first.
        enrolments: who took part in which run.
    """

    client: str
    unit: str
    delta: float
    accountant: Accountant
    budgets: tuple[float | None, ...]
    reservations: tuple[Entry, ...]
    evaluations: tuple[Evaluation, ...] = ()
    enrolments: tuple[Enrolment, ...] = ()

    def of_run(self, run: str) -> "Statement":
        """What it holds of one run alone."""
        return replace(
            self,
            reservations=tuple(each for each in self.reservations if each.run == run),
            evaluations=tuple(each for each in self.evaluations if each.run == run),
            enrolments=tuple(each for each in self.enrolments if each.run == run),
        )

    @property
    def history(self) -> list[Event]:
        """The events alone."""
        return [each.event for each in self.reservations]

    @property
    def noise(self) -> Noise:
        """Where the noise of its releases came from: one from a seed spoils all."""
        return "seeded" if any(each.seeded for each in self.reservations) else "cryptographic"

    def attempts(self, run: str) -> Counter[int]:
        """Round -> how often a run reserved it."""
        return Counter(each.round for each in self.reservations if each.run == run)

    def evaluation(self, accountant: Accountant | None = None) -> Guarantee | None:
        """What held-out patients have spent, in a history of their own; None where nothing was."""
        if not self.evaluations:
            return None
        chosen, events = accountant or self.accountant, [each.event for each in self.evaluations]
        return Guarantee(
            counted=epsilon(events, self.delta, chosen),
            delta=self.delta,
            unit="held-out patient",
            accountant=chosen,
            noise="seeded" if any(each.seeded for each in self.evaluations) else "cryptographic",
            noise_from=max(event.noise_from for event in events),
            sampling="no",
        )

    def per_patient(self) -> list[tuple[int, list[Event]]]:
        """What was released about each patient, over all runs (`Roll.histories`)."""
        spent: dict[Place, list[Event]] = {}
        for entry in self.reservations:
            spent.setdefault((entry.run, "trained"), []).append(entry.event)
        for each in self.evaluations:
            spent.setdefault((each.run, "held out"), []).append(each.event)
        each_once = {
            place: [Event(*mechanism, steps) for mechanism, steps in each.items()]
            for place, each in ((at, steps_by_mechanism(events)) for at, events in spent.items())
        }
        return Roll(self.enrolments).histories(each_once)

    def largest(self, accountant: Accountant | None = None) -> Guarantee:
        """What all runs come to for the patient of whom they released most, on either side."""
        chosen = accountant or self.accountant
        histories = [history for _, history in self.per_patient()]
        events: list[Entry | Evaluation] = [*self.reservations, *self.evaluations]
        return Guarantee(
            counted=largest(histories, self.delta, chosen),
            delta=self.delta,
            unit=self.unit,
            accountant=chosen,
            noise="seeded" if any(each.seeded for each in events) else "cryptographic",
            noise_from=max((each.event.noise_from for each in events), default=1),
        )

    def guarantee(self, accountant: Accountant | None = None) -> Guarantee:
        """What training comes to for whoever was in all of it; of one run, for who trained in it.

        By the ledger's own accountant unless told.
        """
        chosen = accountant or self.accountant
        return Guarantee(
            counted=epsilon(self.history, self.delta, chosen),
            delta=self.delta,
            unit=self.unit,
            accountant=chosen,
            noise=self.noise,
            noise_from=max((event.noise_from for event in self.history), default=1),
        )


MOST_COMPARED = 10  # hospitals of which every two are composed: 45 pairs


def of_one_person(ledgers: Sequence[Statement], hospitals: int) -> Guarantee | None:
    """What holds for a person who is a patient of so many of these hospitals.

    Each hospital's releases are private by noise of its own, so the person's history is that of
    all of them, composed as one.

    Returns:
        The weakest of any so many of them; where that would be too many to try, that of all, which
        holds for fewer as well. None where noise is shared out: their records then meet in one
        sum, which is no composition.

    Raises:
        ValueError: more hospitals than ledgers, or ledgers of different terms.
    """
    if len({(one.delta, one.unit, one.accountant) for one in ledgers}) != 1:
        raise ValueError("only ledgers of one delta, unit and accountant compose")
    if any(event.noise_from > 1 for one in ledgers for event in one.history):
        return None
    chosen = [tuple(ledgers)]
    if len(ledgers) <= MOST_COMPARED:
        chosen = list(combinations(ledgers, hospitals))
    together = [
        replace(each[0], reservations=tuple(entry for one in each for entry in one.reservations))
        for each in chosen
    ]
    return max((one.guarantee() for one in together), key=lambda each: each.counted)


def read(path: Path) -> Statement:
    """The statement of a ledger file, which stays as it is.

    Raises:
        PrivacyError: there is no ledger, or it is damaged.
    """
    with _copied(path) as (database, copy):
        return of(database, copy)


def read_whole(path: Path) -> tuple[Statement, Head]:
    """The same of a ledger whose chain holds, with its head.

    Raises:
        PrivacyError: as `read`, or its chain is broken.
    """
    with _copied(path) as (database, copy):
        return of(database, copy), chain.verify(database, copy)


@contextmanager
def _copied(path: Path) -> Iterator[tuple[sqlite3.Connection, Path]]:
    """A copy of a ledger file, opened."""
    with tempfile.TemporaryDirectory(prefix="securefed-ledger-") as scratch:
        copy = Path(scratch) / path.name
        try:
            for file in path.parent.glob(f"{path.name}*"):  # its log is part of it
                shutil.copyfile(file, copy.with_name(file.name))
        except OSError as error:
            raise PrivacyError(f"cannot read the ledger {path}: {error.strerror}") from None
        if not copy.is_file():
            raise PrivacyError(f"there is no ledger at {path}")
        try:
            with ledger_file.connection(copy) as database:
                chain.check(database, copy)
                yield database, copy
        except PrivacyError as error:
            told = str(error).replace(str(copy), str(path))
            raise PrivacyError(told, hint=error.hint) from None


def of(database: sqlite3.Connection, path: Path) -> Statement:
    """The statement of an open ledger; PrivacyError if it is damaged."""
    client, unit, delta, accountant = ledger_rows.settings(database, path)
    budgets = tuple(each.epsilon for each in ledger_rows.budgets(database))
    if not budgets:
        raise ledger_file.damaged(path, "it has no budget")
    try:
        entries = tuple(
            Entry(run, number, attempt, bool(seeded), Event(*event))
            for run, number, attempt, seeded, *event in ledger_rows.reservations(database)
        )
        evaluations = tuple(
            Evaluation(run, key is not None, event)
            for run, key, event in ledger_rows.evaluations(database)
        )
    except ConfigurationError as error:
        raise ledger_file.damaged(path, str(error)) from None
    enrolments = tuple(ledger_rows.enrolments(database))
    return Statement(client, unit, delta, accountant, budgets, entries, evaluations, enrolments)
