"""The public plan of a job: what is asked of whom, and when. Hospitals hold the server to it.

Everything that may be asked is a step with a number of its own, which travels in each request:

    1 .. R        training rounds of a cohort
    R + r         scoring of the parameters that round r starts from, by everybody; r = R + 1 are
                  the final ones, and the only ones that are scored where scores carry noise

A step trains or scores, never both: the two are sums of their own, of vectors as long as they need
(`contribution.vector_length`), so that a hospital that is missing from one does not cost the other.
Scores are always everybody's, since two totals over different hospitals could be subtracted.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Step:
    """One thing that may be asked.

    Attributes:
        number: on the wire.
        round: the training round; of a scoring step the one that starts from what is scored.
        train: whether it trains; else it scores held-out patients.
        cohort: who is asked.
    """

    number: int
    round: int
    train: bool
    cohort: tuple[str, ...]

    @property
    def moment(self) -> tuple[int, bool]:
        """Steps in the order of their moments are in the order of time."""
        return self.round, self.train


@dataclass(frozen=True)
class Plan:
    """The server's public plan: clients, rounds, sampling and evaluation.

    Attributes:
        evaluate_every: rounds between scorings; None scores the final parameters only.
    """

    clients: tuple[str, ...]
    rounds: int
    clients_per_round: int | None
    evaluate_every: int | None
    seed: int

    def cohort(self, round_number: int) -> tuple[str, ...]:
        """Who takes part; drawn afresh each round if only some do."""
        if self.clients_per_round is None:
            return self.clients
        rng = np.random.default_rng([self.seed, round_number])
        chosen = rng.choice(len(self.clients), self.clients_per_round, replace=False)
        return tuple(self.clients[index] for index in sorted(chosen))

    def training(self, round_number: int) -> Step:
        """The step that trains in a round, 1 to `rounds`."""
        return Step(round_number, round_number, True, self.cohort(round_number))

    def scoring(self, round_number: int) -> Step | None:
        """The step that scores what a round starts from; None where the plan has none."""
        last = self.rounds + 1
        every = self.evaluate_every
        planned = round_number == last or (every and (round_number - 1) % every == 0)
        if not (planned and 1 <= round_number <= last):
            return None
        return Step(self.rounds + round_number, round_number, False, self.clients)

    @property
    def final(self) -> Step:
        """The step that scores the final parameters."""
        return Step(2 * self.rounds + 1, self.rounds + 1, False, self.clients)

    def step(self, number: int) -> Step | None:
        """The step with a number; None if the plan has none."""
        if 1 <= number <= self.rounds:
            return self.training(number)
        return self.scoring(number - self.rounds)

    def after(self, step: Step) -> Step | None:
        """The next step in time; None if that is the final scoring, which waits for the results."""
        if not step.train:
            return self.training(step.round) if step.round <= self.rounds else None
        if step.round == self.rounds:
            return None
        return self.scoring(step.round + 1) or self.training(step.round + 1)
