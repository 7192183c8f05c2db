"""What a hospital says of its held-out patients where they are protected: one answer in a run.

Held-out patients never train, so training's epsilon is not about them. They get one: the final
parameters are scored once, into few bins, each with discrete Gaussian noise (model.noised_scores,
privacy.counts). That is in the ledger before it is drawn, in a history of its own.

A server that lies may send other parameters than the final ones: it gets one answer about those
instead, within the same epsilon (hospital.one_answer).
"""

from collections.abc import Callable
from pathlib import Path

from securefed.hospital.one_answer import OneAnswer
from securefed.model.class_scores import coarse
from securefed.model.scores import Counts, Steps
from securefed.privacy.counts import STEPS, CountNoise
from securefed.privacy.ledger import Ledger
from securefed.record.noised_scores import NoisedAnswer


class NoisedScoring:
    """One hospital's held-out patients in a run.

    Args:
        folder: its own.
        words: of the answer: 16, or with several classes more (model.class_scores).
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
        words: int,
        most: int,
        seed: int | None,
    ) -> None:
        def pay(replay_key: str | None) -> None:
            ledger.reserve_evaluation(noise.event, run=run, replay_key=replay_key)

        self._once = OneAnswer(
            NoisedAnswer,
            noise,
            folder,
            pay,
            name=ledger.client,
            run=run,
            words=words,
            most=most,
            seed=seed,
        )

    def answer(self, question: str, score: Callable[[], Counts]) -> Steps:
        """Noised counts in steps, (words,).

        Args:
            question: digest of what is scored.
            score: gives the exact counts.

        Raises:
            as OneAnswer.answer.
        """
        return self._once.answer(question, lambda: STEPS * coarse(score()))
