"""The server: one round after another.

    1. choose the cohort
    2. send the shared parameters, get the total of the cohort's contributions
    3. let the strategy step
    4. check point

Evaluation counts come with a round's contributions and describe the parameters that round started
from; after the last round one more round evaluates without training.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from securefed.errors import RoundAborted
from securefed.model.scores import Counts, Metrics, metrics
from securefed.model.strategies import Strategy
from securefed.server.summation import Summation
from securefed.wire.messages import Request, vector_to_bytes
from securefed.wire.plan import Plan


@dataclass(frozen=True)
class RoundRecord:
    """What the server knows after a round.

    Attributes:
        round: 1, 2, ...; the evaluation after training is the last one plus one.
        cohort, survivors: who was asked, whose contribution is in the total.
        dropped: name -> reason.
        patients: training patients of the survivors.
        metrics, scores: of the parameters the round started from, if it evaluated; scores are
            the survivors' held-out patients as a histogram (model.scores).
        aborted: why nothing was aggregated, or "".
        wall_s, server_s: seconds of the whole round, and of the server's own computation.
    """

    round: int
    cohort: tuple[str, ...]
    survivors: tuple[str, ...]
    dropped: dict[str, str]
    patients: int
    metrics: Metrics | None
    aborted: str
    wall_s: float
    server_s: float
    scores: Counts | None = None


class Server:
    """Coordinates rounds. Sees totals only, unless the summation is plain.

    Attributes:
        shared: (P,) current shared parameters.
        finished: number of finished training rounds.
    """

    def __init__(
        self, plan: Plan, summation: Summation, strategy: Strategy, shared: NDArray[np.float64]
    ) -> None:
        self.plan = plan
        self.strategy = strategy
        self.shared = shared
        self.finished = 0
        self._summation = summation

    def train(self) -> Iterator[RoundRecord]:
        """Run the rounds that are left, yielding after each; the caller may stop in between."""
        while self.finished < self.plan.rounds:
            number = self.finished + 1
            following = self.plan.cohort(number + 1) if number < self.plan.rounds else None
            evaluate = (number - 1) % self.plan.evaluate_every == 0
            record = self._round(number, self.plan.cohort(number), following, True, evaluate)
            self.finished = number
            yield record

    def evaluate(self) -> RoundRecord:
        """Score the final parameters at every client; nothing is trained."""
        return self._round(self.plan.rounds + 1, self.plan.clients, None, False, True)

    def _round(
        self,
        number: int,
        cohort: tuple[str, ...],
        following: Sequence[str] | None,
        train: bool,
        evaluate: bool,
    ) -> RoundRecord:
        start = time.perf_counter()
        work = Request(
            round=number,
            stage="work",
            train=train,
            evaluate=evaluate,
            shared=vector_to_bytes(self.shared.astype(np.float32)),
        )
        try:
            summed = self._summation.sum(work, cohort, following)
        except RoundAborted as error:
            wall = time.perf_counter() - start
            reason = f"{error} ({error.hint})"
            return RoundRecord(number, cohort, (), {}, 0, None, reason, wall, 0.0)
        if train and summed.total.mean_update is not None:
            self.shared = self.strategy.step(self.shared, summed.total.mean_update)
        return RoundRecord(
            round=number,
            cohort=cohort,
            survivors=summed.survivors,
            dropped=summed.dropped,
            patients=summed.total.patients,
            metrics=metrics(summed.total.counts) if evaluate else None,
            scores=summed.total.counts if evaluate else None,
            aborted="",
            wall_s=time.perf_counter() - start,
            server_s=summed.server_s,
        )
