"""The server: one round after another.

    1. in every so many rounds, have everybody score the shared parameters
    2. send them to the plan's cohort, get the total of its contributions
    3. let the strategy step
    4. check point
    5. at the end, where the plan asks, what training patients' scans look like (server.described)

Where the best parameters are wanted and not the last ones (server.best), a scoring may end training
before its round, and the best are sent out once more at the end.

Scores describe the parameters that their round started from; after the last round the final ones
are scored. What is lost is lost by itself: training goes on without scores, and a round without a
sum leaves the parameters as they are.

Almost: hospitals that were asked to open a sum do not answer the same in another company. Where
this server knows that it holds no sum of them and never will, it steps aside: one parameter moves
by its last digit, which makes another question of it. A server that holds a sum and does so learns
by subtraction what masks should hide (docs/decisions/0023): after a restart, where the sum may have
been opened, this one asks the same hospitals instead.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from securefed.errors import RoundAborted, RunError
from securefed.model.calibration import Calibration
from securefed.model.class_scores import calibration
from securefed.model.likeness import Reference
from securefed.model.noised_scores import NoisedScores
from securefed.model.scores import Counts, Metrics
from securefed.model.sharing import LARGEST_PARAMETER, Vector
from securefed.model.strategies.strategy import State, Strategy
from securefed.server.best import Best
from securefed.server.described import described
from securefed.server.summation import Summation, Summed
from securefed.wire.contribution import Total
from securefed.wire.messages import Request, vector_to_bytes
from securefed.wire.plan import Plan, Step

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundRecord:
    """What the server knows after a round.

    Attributes:
        round: 1, 2, ...; the scoring of the final parameters is the last one plus one.
        cohort, survivors: who was asked, whose contribution is in the total.
        dropped: name -> reason.
        patients: training patients of the survivors.
        metrics, scores: of the parameters the round started from, if they were scored; scores are
            held-out patients as a histogram (model.scores, model.noised_scores).
        unscored: why they were not, where the plan wanted it.
        again: whether the scores are those of an earlier record, whose parameters were the best.
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
    scores: Counts | NoisedScores | None = None
    unscored: str = ""
    again: bool = False

    @property
    def calibration(self) -> Calibration | None:
        """A temperature from the scores; None without them."""
        return None if self.scores is None else calibration(self.scores)


class Server:
    """Coordinates rounds. Sees totals only, unless the summation is plain.

    Attributes:
        plan: who is asked in which round.
        shared: (P,) current shared parameters.
        finished: number of finished training rounds.
        rounds: how many it will train, the plan's or fewer.
        best: which parameters will be final; None for the last ones.
        reference: what training patients' scans look like; None until it is asked, and where the
            plan does not ask or nothing came of it.
    """

    def __init__(
        self,
        plan: Plan,
        summation: Summation,
        strategy: Strategy,
        shared: NDArray[np.float64],
        patience: int | None = None,
        modalities: Sequence[str] = (),
    ) -> None:
        self.plan = plan
        self.rounds = plan.rounds
        self.shared = shared
        self.finished = 0
        self.best = Best(patience) if patience else None
        self.reference: Reference | None = None
        self._modalities = modalities
        self._summation = summation
        self._strategy = strategy
        self._memory: State = {}  # of the strategy
        self._ended_by: RoundRecord | None = None  # the scoring that ended training

    def state(self) -> dict[str, NDArray[np.float64]]:
        """What `restore` needs to go on from here."""
        memory = {f"strategy.{key}": value for key, value in self._memory.items()}
        return {"shared": self.shared, **memory, **(self.best.state() if self.best else {})}

    def restore(self, finished: int, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Go on after `finished` rounds from another server's `state`.

        Raises:
            RunError: it is not the state of this plan and strategy.
        """
        memory = dict(state)
        shared = memory.pop("shared", None)
        if shared is None or shared.shape != self.shared.shape or not np.isfinite(shared).all():
            raise RunError("the server's check point does not hold this run's shared parameters")
        if self.best:
            self.best.restore(memory, finished, len(shared))
        memory = {key.removeprefix("strategy."): value for key, value in memory.items()}
        self._strategy.require(memory)
        if not 0 <= finished <= self.plan.rounds:
            raise RunError(f"a check point after round {finished} of {self.plan.rounds}")
        self.shared, self._memory, self.finished = shared, memory, finished

    def end_after(self, rounds: int) -> None:
        """Train fewer rounds than planned; the plan itself is not the server's to change."""
        self.rounds = min(rounds, self.plan.rounds)

    def train(self) -> Iterator[RoundRecord]:
        """Run the rounds that are left, yielding after each; the caller may stop in between.

        Raises:
            RunError: it cannot go on from here (see `SecureSummation.sum`).
        """
        if self.best and self.best.stops:
            self.rounds = self.finished
        while self.finished < self.rounds:
            record = self._round(self.plan.training(self.finished + 1))
            if record is None:
                self.rounds = self.finished
                break
            self.finished = record.round
            yield record

    def conclude(self) -> Iterator[RoundRecord]:
        """Have what is left scored; nothing is trained. The last record is of the final parameters.

        Where the best ones are to be final, the last round's are scored before, unless they were
        already, and the best take their place. Give each record to the run before the next.
        """
        if self.best is None:
            self._describe()
            yield self._scored(self.plan.final, self.finished + 1)
            return
        number = self.finished + 1
        last, self._ended_by = self._ended_by, None
        step = self.plan.scoring(number)
        if last is None and step:
            last = self._scored(step, number)
            self.best.scored(self.finished, self.shared, last.metrics.auc if last.metrics else None)
        if last:
            number += 1
            yield last
        if self.best.shared is not None:
            self.shared = self.best.shared
        self._describe()
        yield replace(self._scored(self.plan.final, number), again=True)

    def _describe(self) -> None:
        if self.plan.describing:
            self.reference = described(self.plan.describing, self._asked, self._modalities)

    def _asked(self, step: Step, shared: Vector) -> Total:
        return self._summation.sum(_request(step, shared), step.cohort, None).total

    def _scored(self, step: Step, number: int) -> RoundRecord:
        start = time.perf_counter()
        summed, lost = self._sum(step, None)
        return self._record_of(step, number, summed, lost, start)

    @staticmethod
    def _record_of(
        step: Step, number: int, summed: Summed | None, lost: RoundAborted | None, start: float
    ) -> RoundRecord:
        return RoundRecord(
            round=number,
            cohort=step.cohort,
            survivors=summed.survivors if summed else (),
            dropped=summed.dropped if summed else {},
            patients=0,
            metrics=summed.total.metrics if summed else None,
            scores=summed.total.scores if summed else None,
            aborted=_reason(lost),
            wall_s=time.perf_counter() - start,
            server_s=summed.server_s if summed else 0.0,
        )

    def _round(self, step: Step) -> RoundRecord | None:
        """One round; None where what it starts from was scored and is to be the end."""
        start = time.perf_counter()
        scoring, scored, unscored = self.plan.scoring(step.round), None, ""
        if scoring:
            # What is pipelined cannot be taken back: nothing is where this scoring may be the end.
            scored, lost = self._sum(scoring, None if self.best and self.best.may_stop else step)
            unscored = _reason(lost)
            if self.best and scored:
                found = scored.total.metrics
                self.best.scored(self.finished, self.shared, found.auc if found else None)
                if self.best.stops:
                    self._ended_by = self._record_of(scoring, step.round, scored, None, start)
                    return None
        last = step.round == self.rounds
        summed, lost = self._sum(step, None if last else self.plan.after(step))
        if summed:
            lost = self._move(summed)
        if lost:
            summed = None
            if lost.opened:
                self.shared = stepped_aside(self.shared)
            log.warning("round %d: %s", step.round, _reason(lost))
        if unscored:
            log.warning("round %d has no scores: %s", step.round, unscored)
        return RoundRecord(
            round=step.round,
            cohort=step.cohort,
            survivors=summed.survivors if summed else (),
            dropped=summed.dropped if summed else {},
            patients=summed.total.patients if summed else 0,
            metrics=scored.total.metrics if scored else None,
            scores=scored.total.scores if scored else None,
            aborted=_reason(lost),
            wall_s=time.perf_counter() - start,
            server_s=sum(each.server_s for each in (scored, summed) if each),
            unscored=unscored,
        )

    def _sum(self, step: Step, following: Step | None) -> tuple[Summed | None, RoundAborted | None]:
        work = _request(step, self.shared.astype(np.float32))
        try:
            return self._summation.sum(work, step.cohort, following), None
        except RoundAborted as error:
            return None, error

    def _move(self, summed: Summed) -> RoundAborted | None:
        """Take the strategy's step, unless it leads where no hospital follows."""
        mean = summed.total.mean_update
        if mean is None:
            return RoundAborted("nobody trained", opened=True)
        after, memory = self._strategy.step(self.shared, mean, self._memory)
        if not (np.abs(after) <= LARGEST_PARAMETER).all():  # NaN is not below anything
            return RoundAborted(
                "the mean update leads to parameters that no hospital accepts", opened=True
            )
        self.shared, self._memory = after, memory
        return None


def _request(step: Step, shared: Vector) -> Request:
    train, evaluate, describe = step.flags
    return Request(
        round=step.number,
        stage="work",
        train=train,
        evaluate=evaluate,
        shared=vector_to_bytes(shared),
        describe=describe,
    )


def stepped_aside(shared: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same parameters but for the last digit, as they travel, of the largest one."""
    after = shared.copy()
    place = int(np.abs(after).argmax())
    after[place] = np.nextafter(np.float32(after[place]), np.float32(0))
    return after


def _reason(lost: RoundAborted | None) -> str:
    return f"{lost} ({lost.hint})" if lost and lost.hint else str(lost or "")
