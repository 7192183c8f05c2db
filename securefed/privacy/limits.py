"""What a ledger's limits hold: of all runs for each patient, and of one run for who trains in it.

Both are asked within the transaction that spends, so that nobody spends in between. What was found
to be within a limit is remembered, and a part of it is not composed again: epsilon grows with
steps, and a run that was affordable as a whole is so in each round, unless somebody else has spent
meanwhile.
"""

import shlex
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from securefed.errors import BudgetExceeded
from securefed.privacy import ledger_rows
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import Event, Guarantee, at_most, epsilon, steps_by_mechanism
from securefed.privacy.participation import Place, Roll, Spent, largest

_Steps = Mapping[Place, Mapping[tuple[float, float], int]]


@dataclass(frozen=True)
class RunLimit:
    """What one run may add, as the run promises it: at its own delta, by its own accountant."""

    epsilon: float
    delta: float
    accountant: Accountant


@dataclass(frozen=True)
class _Found:
    """A state of the ledger that was within a limit."""

    limit: float
    steps: _Steps
    enrolments: int

    def holds(self, limit: float, steps: _Steps, enrolments: int) -> bool:
        """Whether a state is part of it."""
        return (
            self.limit <= limit
            and self.enrolments == enrolments
            and all(
                count <= self.steps.get(place, {}).get(mechanism, 0)
                for place, each in steps.items()
                for mechanism, count in each.items()
            )
        )


class Limits:
    """The limits of one ledger, its terms given.

    Attributes:
        of_run: beside the ledger's own; None for no other.
    """

    def __init__(
        self, path: Path, client: str, unit: str, delta: float, accountant: Accountant
    ) -> None:
        self.of_run: RunLimit | None = None
        self._path, self._client, self._unit = path, client, unit
        self._delta, self._accountant = delta, accountant
        self._found: dict[Place | str, _Found] = {}
        self._roll = Roll(())

    def require(
        self, database: sqlite3.Connection, added: Sequence[Event], what: str, place: Place
    ) -> None:
        """Refuse what would take somebody at a place beyond a limit.

        Raises:
            BudgetExceeded: with the epsilon that it would reach.
        """
        limit = ledger_rows.budget(database)
        if limit is not None:
            self._require_for_each(database, added, what, place, limit)
        run, side = place
        if run and side == "trained" and self.of_run:
            before = ledger_rows.history(database, run)
            self._require_of_run(before, added, what, run, self.of_run)

    def forget(self) -> None:
        """Drop what was found: what it was found in was not written."""
        self._found, self._roll = {}, Roll(())

    def _require_for_each(
        self,
        database: sqlite3.Connection,
        added: Sequence[Event],
        what: str,
        place: Place,
        limit: float,
    ) -> None:
        spent = ledger_rows.spent(database)
        after = {**spent, place: [*spent.get(place, ()), *added]}
        steps = {at: steps_by_mechanism(events) for at, events in after.items()}
        enrolments = ledger_rows.count_enrolments(database)
        found = self._found.get(place)
        if found and found.holds(limit, steps, enrolments):
            return
        if self._roll.size != enrolments:
            self._roll = Roll(ledger_rows.enrolments(database))
        reached = self._largest(after, place, floor=limit)
        if reached > limit:
            before = self._largest(spent, place)
            told = Guarantee(before, self._delta, self._unit, self._accountant)
            raise BudgetExceeded(
                f"{what} would take {self._client} to epsilon {at_most(reached)}, above its budget "
                f"of {limit:g}; spent so far: {told}",
                hint="use more noise, fewer rounds or a smaller batch; who answers for the "
                "patients can raise the budget: securefed ledger budget "
                f"{shlex.quote(str(self._path))} --epsilon E --reason TEXT",
            )
        self._found[place] = _Found(limit, steps, enrolments)

    def _largest(self, spent: Spent, place: Place, floor: float = 0.0) -> float:
        histories = (history for _, history in self._roll.histories(spent, place))
        return largest(histories, self._delta, self._accountant, floor)

    def _require_of_run(
        self, before: Sequence[Event], added: Sequence[Event], what: str, run: str, limit: RunLimit
    ) -> None:
        after = [*before, *added]
        steps: _Steps = {(run, "trained"): steps_by_mechanism(after)}
        found = self._found.get(run)
        if found and found.holds(limit.epsilon, steps, 0):
            return
        reached = epsilon(after, limit.delta, limit.accountant)
        if reached > limit.epsilon:
            raise BudgetExceeded(
                f"{what} would take run {run[:12]} at {self._client} to epsilon "
                f"{at_most(reached)}, above the {limit.epsilon:g} of a run",
                hint="rounds lost in a crash count as spent; the run goes on without it",
            )
        self._found[run] = _Found(limit.epsilon, steps, 0)
