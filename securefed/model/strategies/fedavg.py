"""FedAvg (McMahan et al. 2017, algorithm 1): the server adds the mean update."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from securefed.errors import RunError
from securefed.model.strategies.strategy import Hyperparameters, MeanEstimate, State, Values


@dataclass(frozen=True)
class FedAvg:
    """Adds the mean update. Has no state."""

    proximal: float = 0.0

    @classmethod
    def of(cls, settings: Hyperparameters) -> "FedAvg":
        return cls()

    @property
    def stateful(self) -> bool:
        return False

    def step(self, shared: Values, mean_update: Values, state: State) -> tuple[Values, State]:
        return shared + mean_update, {}

    def require(self, state: State) -> None:
        if state:
            raise RunError(f"{type(self).__name__} has no state, the check point holds {[*state]}")

    def explain(self, trajectory: Sequence[NDArray[np.float32]]) -> list[MeanEstimate]:
        values = [each.astype(np.float64) for each in trajectory]
        return [MeanEstimate(after - before, 0.0, 0.0) for before, after in pairwise(values)]
