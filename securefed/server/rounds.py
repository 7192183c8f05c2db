"""The server: one round after another.

    1. choose the cohort
    2. send the shared parameters, get the total of the cohort's contributions
    3. let the strategy step
    4. check point

Evaluation counts come with a round's contributions and describe the parameters that round started
from; after the last round one more round evaluates without training.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from securefed.errors import RoundAborted, RunError
from securefed.model.scores import Counts, Metrics, metrics
from securefed.model.strategies.strategy import State, Strategy
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
        plan: who is asked in which round.
        shared: (P,) current shared parameters.
        finished: number of finished training rounds.
    """

    def __init__(
        self, plan: Plan, summation: Summation, strategy: Strategy, shared: NDArray[np.float64]
    ) -> None:
        self.plan = plan
        self.shared = shared
        self.finished = 0
        self._summation = summation
        self._strategy = strategy
        self._memory: State = {}  # of the strategy

    def state(self) -> dict[str, NDArray[np.float64]]:
        """What `restore` needs to go on from here."""
        memory = {f"strategy.{key}": value for key, value in self._memory.items()}
        return {"shared": self.shared, **memory}

    def restore(self, finished: int, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Go on after `finished` rounds from another server's `state`.

        Raises:
            RunError: it is not the state of this plan and strategy.
        """
        memory = dict(state)
        shared = memory.pop("shared", None)
        if shared is None or shared.shape != self.shared.shape or not np.isfinite(shared).all():
            raise RunError("the server's check point does not hold this run's shared parameters")
        memory = {key.removeprefix("strategy."): value for key, value in memory.items()}
        self._strategy.require(memory)
        if not 0 <= finished <= self.plan.rounds:
            raise RunError(f"a check point after round {finished} of {self.plan.rounds}")
        self.shared, self._memory, self.finished = shared, memory, finished

    def end_after(self, rounds: int) -> None:
        """Plan fewer rounds."""
        self.plan = replace(self.plan, rounds=rounds)

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
            self.shared, self._memory = self._strategy.step(
                self.shared, summed.total.mean_update, self._memory
            )
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
