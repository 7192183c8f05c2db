"""What a strategy is: the server's step, and everything else that follows from it.

One class in one file says all there is to know of a strategy: the step that the server takes, the
state it keeps, what a client adds to its gradients, and how the step is explained from successive
models by somebody who was only sent those. Check points, replays, shadow models and audits ask the
strategy and never its name, so that one they do not know cannot fall through to plain averaging.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
State = dict[str, Values]  # name -> (..., P); empty before the first step


class Hyperparameters(Protocol):
    """What the settings have for strategies (federation.*)."""

    @property
    def proximal(self) -> float: ...
    @property
    def server_learning_rate(self) -> float: ...


@dataclass(frozen=True, eq=False)
class MeanEstimate:
    """One round's mean update as told from successive models.

    Attributes:
        mean: (P,).
        relative_error: what rounding of the parameters makes of it through the strategy's state,
            over the norm of the mean; 0 where there is no state for it to add up in.
        ambiguous: share of coordinates for which another update would explain a step so far.
    """

    mean: Values = field(repr=False)
    relative_error: float
    ambiguous: float


class Strategy(Protocol):
    """What the server does with the mean update of a round; public, and the same for everybody."""

    @property
    def proximal(self) -> float:
        """mu of the term mu/2 |w - w_received|^2 in every client's objective; 0 for none."""
        ...

    @property
    def stateful(self) -> bool:
        """Whether a step depends on the rounds before it."""
        ...

    def step(self, shared: Values, mean_update: Values, state: State) -> tuple[Values, State]:
        """The next shared parameters and state; what was given is left as it is.

        Leading axes are independent federations: (..., P), (..., P) -> (..., P).
        """
        ...

    def require(self, state: State) -> None:
        """RunError unless `state` is one that this strategy left, or empty."""
        ...

    def explain(self, trajectory: Sequence[NDArray[np.float32]]) -> list[MeanEstimate]:
        """Mean updates that lead from each shared parameters (P,) to the next, one fewer.

        Args:
            trajectory: of a stateful strategy from the first round on, without gaps; rounds that
                moved nothing (aborted) are not in it.
        """
        ...
