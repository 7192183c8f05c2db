"""Which groups of an evaluation are shown: none of a few patients, and none that gives one away.

A group with fewer than FEWEST patients of a label is withheld. That alone protects nobody: where
one site of three is withheld, what is told of all patients less what is told of the other two is
what was withheld. So of every column either no group is withheld, or so many that those withheld
are enough patients together. The same holds between columns: where what is shown of one group lies
within what is shown of another and only a few patients are between them, the smaller is withheld.

Not protected against: sums and differences of more than two groups of different columns, and
evaluations that are made again with somebody more or less. Who needs more than that needs noise.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Cell = tuple[str, str]  # a column and its value


def withheld(
    cells: Mapping[Cell, Bools], positive: Bools, patient: NDArray[np.int64], fewest: int
) -> frozenset[Cell]:
    """The groups that are not shown.

    Args:
        cells: (examples,) who is in each group; each column divides all of them.
        positive: (examples,).
        patient: (examples,) whose each is.
        fewest: patients of each label in what may be known.
    """

    def few(chosen: Bools) -> bool:
        return any(
            len(np.unique(patient[chosen & label])) < fewest for label in (positive, ~positive)
        )

    hidden = {cell for cell, chosen in cells.items() if few(chosen)}
    while more := _next(cells, hidden, few):
        hidden.add(more)
    return frozenset(hidden)


def _next(
    cells: Mapping[Cell, Bools], hidden: set[Cell], few: Callable[[Bools], bool]
) -> Cell | None:
    """A group that must not be shown beside the others that are; the smallest that does it."""
    shown = {cell: chosen for cell, chosen in cells.items() if cell not in hidden}
    for column in sorted({column for column, _ in hidden}):
        rest = _together(cells, [cell for cell in hidden if cell[0] == column])
        beside = [cell for cell in shown if cell[0] == column]
        if few(rest) and beside:
            return min(beside, key=lambda cell: (int(cells[cell].sum()), cell))
    # What is told of a column's groups together is told of those that it withholds, too.
    told = [*shown.values(), *_rests(cells, hidden)]
    begun = {column for column, _ in hidden}  # rather more of these than of another column
    order = sorted(shown, key=lambda cell: (cell[0] not in begun, int(cells[cell].sum()), cell))
    for cell in order:
        chosen = cells[cell]
        for other in told:
            within, around = (chosen, other) if chosen.sum() < other.sum() else (other, chosen)
            between = around & ~within
            if not (within & ~around).any() and between.any() and few(between):
                return cell
    return None


def _rests(cells: Mapping[Cell, Bools], hidden: set[Cell]) -> Iterator[Bools]:
    for column in sorted({column for column, _ in hidden}):
        yield _together(cells, [cell for cell in hidden if cell[0] == column])


def _together(cells: Mapping[Cell, Bools], of: Sequence[Cell]) -> Bools:
    chosen: Bools = np.any([cells[cell] for cell in of], axis=0)
    return chosen
