"""FedProx (Li et al. 2020, algorithm 2): FedAvg, and clients that are held near what they received.

The proximal gradient mu (w - w_received) touches no patient: a client adds it after clipping and
noise, and it costs no epsilon.
"""

from securefed.model.strategies.fedavg import FedAvg
from securefed.model.strategies.strategy import Hyperparameters


class FedProx(FedAvg):
    """FedAvg with a proximal term of `proximal` at the clients."""

    @classmethod
    def of(cls, settings: Hyperparameters) -> "FedProx":
        return cls(settings.proximal)
