"""The public plan of a job: who is asked in which round, and when held-out patients are scored."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Plan:
    """The server's public plan: clients, rounds, sampling and evaluation."""

    clients: tuple[str, ...]
    rounds: int
    clients_per_round: int | None
    evaluate_every: int
    seed: int

    def cohort(self, round_number: int) -> tuple[str, ...]:
        """Who takes part; drawn afresh each round if only some do."""
        if self.clients_per_round is None:
            return self.clients
        rng = np.random.default_rng([self.seed, round_number])
        chosen = rng.choice(len(self.clients), self.clients_per_round, replace=False)
        return tuple(self.clients[index] for index in sorted(chosen))
