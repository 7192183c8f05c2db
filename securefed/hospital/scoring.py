"""What a hospital says of its held-out patients where they are protected: one answer in a run.

Held-out patients never train, so training's epsilon is not about them. They get one: the final
parameters are scored once, into few bins, each with discrete Gaussian noise (model.noised_scores,
privacy.counts). That is in the ledger before it is drawn, in a history of its own.

A server that lies may send other parameters than the final ones: it gets one answer about those
instead, within the same epsilon. The answer is on disk before it leaves. The same question has the
same answer, over resumptions and repetitions; another question has none. A crash between ledger and
file costs one answer more; a file that is lost costs one too, and is not noticed.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from securefed.errors import AskedBefore, RunError
from securefed.model.noised_scores import NOISED_COUNTS, coarse
from securefed.model.scores import Counts
from securefed.privacy.counts import CountNoise
from securefed.privacy.ledger import Ledger, replay_key
from securefed.privacy.noise import CryptographicSource, SeededSource
from securefed.record.noised_scores import NoisedAnswer


class NoisedScoring:
    """One hospital's held-out patients in a run.

    Args:
        folder: its own.
        most: patients that one count can carry.
        seed: of the noise; None for secret noise.
    """

    def __init__(
        self,
        noise: CountNoise,
        folder: Path,
        ledger: Ledger,
        *,
        run: str,
        most: int,
        seed: int | None,
    ) -> None:
        self._noise, self._folder, self._ledger = noise, folder, ledger
        self._run, self._most, self._seed = run, most, seed

    def answer(self, question: str, score: Callable[[], Counts]) -> Counts:
        """Noised counts in steps, (NOISED_COUNTS,).

        Args:
            question: digest of what is scored.
            score: gives the exact histogram, (COUNTS,).

        Raises:
            AskedBefore: another question was answered in this run.
            RunError: the answer on disk is damaged or of another run.
        """
        if (self._folder / NoisedAnswer.NAME).exists():
            return self._before(question)
        counts = coarse(score())
        if counts.max() > self._most:
            raise RunError(
                f"more than {self._most} held-out patients in one bin; nothing was sent",
                hint="raise secure_aggregation.max_patients, the same for all hospitals",
            )
        self._ledger.reserve_evaluation(
            self._noise.event, run=self._run, replay_key=self._replay_key(question, counts)
        )
        source = (
            CryptographicSource()
            if self._seed is None
            else SeededSource(self._seed, "scores", self._ledger.client, question)
        )
        steps = self._noise.on(counts, source)
        NoisedAnswer(run=self._run, question=question, steps=tuple(steps.tolist())).write(
            self._folder
        )
        return steps

    def _before(self, question: str) -> Counts:
        given, place = NoisedAnswer.read(self._folder), self._folder / NoisedAnswer.NAME
        if given.run != self._run or len(given.steps) != NOISED_COUNTS:
            raise RunError(
                f"{place} is of another run",
                hint="put back the one that belongs here, from a backup",
            )
        if given.question != question:
            raise AskedBefore(
                "held-out patients were scored under other parameters in this run, and are once",
                hint="start a new run, which costs them another epsilon",
            )
        return np.array(given.steps, np.int64)

    def _replay_key(self, question: str, counts: Counts) -> str | None:
        if self._seed is None:
            return None
        return replay_key(f"scores\0{self._seed}\0{question}".encode(), counts.tobytes())
