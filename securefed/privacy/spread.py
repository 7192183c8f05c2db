"""How spending is spread over patients: how many have spent how much, small numbers withheld.

For the hospital's own eyes; a number of patients is withheld below SMALLEST_CELL all the same, by
adding it to the next cell, so that nothing follows by subtraction.
"""

import math
from collections import Counter
from dataclasses import dataclass

from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import epsilon
from securefed.privacy.participation import MOST_COMPOSED
from securefed.privacy.statement import Statement

BOUNDS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, math.inf)
SMALLEST_CELL = 5


@dataclass(frozen=True)
class Cell:
    """So many patients have spent more than `above` and at most `up_to`."""

    above: float
    up_to: float
    patients: int


def of(statement: Statement) -> list[Cell]:
    """Enrolled patients by epsilon over all runs, ascending; none where they are too few.

    Of many histories RDP bounds are used, which are larger than PRV's; none is above the largest.
    """
    histories = [(count, history) for count, history in statement.per_patient() if count]
    chosen: Accountant = statement.accountant if len(histories) <= MOST_COMPOSED else "rdp"
    most = statement.largest().counted
    found: Counter[float] = Counter()
    for count, history in histories:
        spent = min(epsilon(history, statement.delta, chosen), most)
        found[next(bound for bound in BOUNDS if spent <= bound)] += count
    return _withheld(found)


def _withheld(found: Counter[float]) -> list[Cell]:
    cells: list[Cell] = []
    above, waiting = 0.0, 0
    for bound in sorted(found):
        waiting += found[bound]
        if waiting >= SMALLEST_CELL:
            cells.append(Cell(above, bound, waiting))
            above, waiting = bound, 0
    if waiting and cells:
        last = cells.pop()
        cells.append(Cell(last.above, max(found), last.patients + waiting))
    return cells
