"""Strategies by the name that settings give them. A new one is a file here and a line below."""

from typing import Protocol

from securefed.errors import ConfigurationError
from securefed.model.strategies.fedadam import FedAdam
from securefed.model.strategies.fedavg import FedAvg
from securefed.model.strategies.fedprox import FedProx
from securefed.model.strategies.strategy import Hyperparameters, Strategy


class _Kind(Protocol):
    @classmethod
    def of(cls, settings: Hyperparameters) -> Strategy: ...


STRATEGIES: dict[str, type[_Kind]] = {"fedavg": FedAvg, "fedprox": FedProx, "fedadam": FedAdam}


def build_strategy(name: str, settings: Hyperparameters) -> Strategy:
    """The strategy of a settings name; ConfigurationError for a name that is none of them."""
    if name not in STRATEGIES:
        raise ConfigurationError(
            f"unknown strategy {name!r}",
            hint=f"set federation.strategy: one of {', '.join(STRATEGIES)}",
        )
    return STRATEGIES[name].of(settings)
