"""The trail of shared parameters: each round's must follow from the round before.

The strategy is public and so is its start, so an auditor who has a round's mean update can tell
which parameters the next round must send. Where the recorded ones differ, either the mean was
derived wrongly or the record was changed, and in both cases nothing may be built on it.

Not checked: a round whose predecessor's mean is unknown. The trail of a strategy without state is
taken up again there; what another remembers cannot be known, and its trail ends.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from securefed.errors import RunError
from securefed.model.sharing import Vector
from securefed.model.strategies.strategy import State, Strategy
from securefed.server.rounds import stepped_aside

TOLERANCE = 4 * float(np.finfo(np.float32).eps)  # of a value: it travels as float32

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Before:
    """The server before a round: parameters, how far off they may be, the strategy's state."""

    shared: Values
    error: Values
    state: State


def _close(one: Values, other: Vector) -> bool:
    return np.allclose(one, other.astype(np.float64), rtol=1e-5, atol=1e-6)


class Trail:
    """What the server knew before each round.

    Args:
        strategy: of the run.
    """

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self._before: dict[int, _Before] = {}
        #: Rounds whose parameters could not be compared with anything.
        self.unchecked: list[int] = []

    def at(self, number: int, shared: Vector) -> None:
        """Round `number` starts from `shared` (P,), as recorded.

        Raises:
            RunError: it does not follow from the rounds before.
        """
        known = self._before.get(number)
        values = shared.astype(np.float64)
        if known is None:
            if number > 1:
                self.unchecked.append(number)
            if number == 1 or not self._strategy.stateful:
                # The first parameters are float32 by themselves; later ones were rounded to it.
                error = np.zeros_like(values) if number == 1 else TOLERANCE * np.abs(values)
                self._before[number] = _Before(values, error, {})
            return
        allowed = TOLERANCE * np.maximum(np.abs(known.shared), np.abs(values)) + known.error
        wrong = ~(np.abs(known.shared - values) <= allowed)
        if wrong.any():
            raise RunError(
                f"round {number} starts from shared parameters that do not follow from the "
                f"recorded rounds before ({int(wrong.sum())} of {wrong.size} values)",
                hint="the recording in exposures/ is damaged; make the run again",
            )

    def among(self, numbers: Iterable[int], shared: Vector) -> None:
        """One of these rounds starts from `shared` (P,).

        Raises:
            RunError: each of them is known to start from something else.
        """
        candidates = list(numbers)
        known = [self.shared(number) for number in candidates]
        if not candidates or any(one is None or _close(one, shared) for one in known):
            return
        raise RunError(
            "the final parameters are none of those that were scored",
            hint="the recording in exposures/ is damaged; make the run again",
        )

    def shared(self, number: int) -> Values | None:
        """What round `number` starts from, (P,); None where that is not known."""
        known = self._before.get(number)
        return known.shared if known else None

    def step(self, number: int, mean: Values | None) -> None:
        """Round `number` ended; without a mean update the parameters stayed."""
        known = self._before.get(number)
        if mean is None:
            self.abort(number, aside=False)
        elif known:
            after, state = self._strategy.step(known.shared, mean, known.state)
            self._before[number + 1] = _Before(after, known.error, state)

    def abort(self, number: int, *, aside: bool) -> None:
        """Nothing was aggregated in round `number`; the server may have stepped aside."""
        known = self._before.get(number)
        if known:
            shared = stepped_aside(known.shared) if aside else known.shared
            self._before[number + 1] = replace(known, shared=shared)

    def lose(self, number: int) -> None:
        """Round `number` ended, and nobody can tell how."""
        self._before.pop(number + 1, None)
