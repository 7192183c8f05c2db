"""A noised answer that a hospital gives once in a run: paid for first, on disk before it leaves.

Noise that is drawn again averages out, so the same question has the same answer, over resumptions
and repetitions, and another question has none. A crash between ledger and file costs one answer
more; a file that is lost costs one too, and is not noticed.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from securefed.errors import AskedBefore, RunError
from securefed.model.scores import Counts, Steps
from securefed.privacy.counts import STEPS, CountNoise
from securefed.privacy.ledger import replay_key
from securefed.privacy.noise import CryptographicSource, SeededSource
from securefed.record.noised_scores import NoisedAnswer

Pay = Callable[[str | None], object]  # given a replay key, None for secret noise


class OneAnswer:
    """One hospital's answer in a run.

    Args:
        kind: its file.
        folder: the hospital's own of the run.
        pay: puts the release into the ledger.
        name: of the hospital.
        words: of the answer.
        most: patients that one count can carry.
        seed: of the noise; None for secret noise.
    """

    def __init__(
        self,
        kind: type[NoisedAnswer],
        noise: CountNoise,
        folder: Path,
        pay: Pay,
        *,
        name: str,
        run: str,
        words: int,
        most: int,
        seed: int | None,
    ) -> None:
        self._kind, self._noise, self._folder, self._pay = kind, noise, folder, pay
        self._name, self._run, self._words = name, run, words
        self._most, self._seed = most, seed

    def answer(self, question: str, exact: Callable[[], Counts]) -> Steps:
        """Noised counts in steps, (words,).

        Args:
            question: digest of what is asked.
            exact: gives the counts in steps, (words,).

        Raises:
            AskedBefore: another question was answered in this run.
            RunError: the answer on disk is damaged or of another run.
            BudgetExceeded: the ledger has no room for it; nothing was drawn.
        """
        if (self._folder / self._kind.NAME).exists():
            return self._before(question)
        steps = exact().astype(np.int64, copy=False)
        if steps.max() > self._most * STEPS:
            raise RunError(
                f"more than {self._most} patients in one count; nothing was sent",
                hint="raise secure_aggregation.max_patients, the same for all hospitals",
            )
        self._pay(self._replay_key(question, steps))
        source = (
            CryptographicSource()
            if self._seed is None
            else SeededSource(self._seed, self._kind.ABOUT, self._name, question)
        )
        noised = self._noise.on_steps(steps, source)
        self._kind(run=self._run, question=question, steps=tuple(noised.tolist())).write(
            self._folder
        )
        return noised

    def _before(self, question: str) -> Steps:
        given, place = self._kind.read(self._folder), self._folder / self._kind.NAME
        if given.run != self._run or len(given.steps) != self._words:
            raise RunError(
                f"{place} is of another run",
                hint="put back the one that belongs here, from a backup",
            )
        if given.question != question:
            raise AskedBefore(
                f"{self._kind.ABOUT} were answered for another question in this run, and are once",
                hint="start a new run, which costs another epsilon",
            )
        return np.array(given.steps, np.int64)

    def _replay_key(self, question: str, steps: Steps) -> str | None:
        if self._seed is None:
            return None
        return replay_key(f"{self._kind.ABOUT}\0{self._seed}\0{question}".encode(), steps.tobytes())
