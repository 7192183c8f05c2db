"""What a hospital says of its training patients' scans: two sums, each once, noised and paid for.

Both are in the ledger before their noise is drawn, in the history of those that train, and on disk
before they leave (hospital.one_answer): resumed or asked again, a hospital says the same. All of
the noise is its own. A server that lies may send other means than follow from the first sums; it
gets the distances from those instead, once, within the same epsilon.

Without differential privacy the sums are exact, and nobody is promised anything.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from securefed.errors import Unplanned
from securefed.hospital.one_answer import OneAnswer
from securefed.model import scan_sums
from securefed.model.scan_sums import Scans
from securefed.model.scores import Steps
from securefed.model.sharing import Vector
from securefed.privacy.counts import CountNoise
from securefed.privacy.ledger import Ledger
from securefed.record.noised_scores import SCAN_SUMS

ROUND = 0  # in the ledger: of no round
LIES = "the server does not keep to the agreement: ask its people"


class Describing:
    """A hospital's part in both sums.

    Args:
        scans: of its training patients.
        modalities: how many there are.
        answers: by the number of the sum; none where sums are exact.
    """

    def __init__(self, scans: Scans, modalities: int, answers: dict[int, OneAnswer]) -> None:
        self._scans, self._modalities, self._answers = scans, modalities, answers

    @classmethod
    def noised(
        cls,
        scans: Scans,
        modalities: int,
        noises: Mapping[int, CountNoise],
        folder: Path,
        ledger: Ledger,
        *,
        run: str,
        most: int,
        seed: int | None,
    ) -> "Describing":
        """With noise, from the ledger.

        Args:
            noises: of each sum, by its number.
            folder: the hospital's own of the run.
            most: patients that it may have.
            seed: of the noise; None for secret noise.
        """
        answers = {
            number: OneAnswer(
                SCAN_SUMS[number],
                of_sum,
                folder,
                _payment(ledger, of_sum, run),
                name=ledger.client,
                run=run,
                words=modalities * scan_sums.WORDS,
                most=most,
                seed=seed,
            )
            for number, of_sum in noises.items()
        }
        return cls(scans, modalities, answers)

    def answer(self, number: int, shared: Vector, question: str) -> Steps:
        """A sum, (modalities * WORDS,) ring steps.

        Args:
            number: 1 or 2.
            shared: what came with the question: nothing with the first, means with the second.
            question: digest of what is asked.

        Raises:
            Unplanned: something else came with it.
            as OneAnswer.answer.
        """
        exact = self._first if number == 1 else self._second
        if len(shared) != (0 if number == 1 else self._modalities * scan_sums.NUMBERS):
            raise Unplanned(f"{len(shared)} numbers with sum {number} over scans", hint=LIES)
        if not self._answers:
            return exact(shared)
        return self._answers[number].answer(question, lambda: exact(shared))

    def _first(self, shared: Vector) -> Steps:
        return self._scans.first()

    def _second(self, shared: Vector) -> Steps:
        means = shared.astype(np.float64).reshape(self._modalities, scan_sums.NUMBERS)
        return self._scans.second(means)


def _payment(ledger: Ledger, noise: CountNoise, run: str) -> Callable[[str | None], object]:
    return lambda key: ledger.reserve(ROUND, noise.event, run=run, replay_key=key)
