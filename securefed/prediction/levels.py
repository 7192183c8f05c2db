"""Patients by the probability that a model gives them: what all figures of thresholds are made of.

The same counts come from predictions of labelled patients, each of whose probabilities is a level,
and from the histogram that a federation opens of its held-out patients, each of whose bins is one.
So the figures of both are one computation (prediction/figures.py). No torch: pages use it too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from securefed.model.auc import area
from securefed.record.summary import ScoreBin

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Levels:
    """Patients of each label at ascending probabilities.

    Attributes:
        least: (levels,) probability that every patient of a level reaches.
        mean: (levels,) of their probabilities, or about that.
        negatives, positives: (levels,) patients, or parts of them; with noise neither whole nor
            above zero.
        calibrated: (levels,) what the model's temperature makes of the mean; None without one.
        deviation: standard deviation of the noise in each count, patients; 0 where they are exact.
    """

    least: Floats
    mean: Floats
    negatives: Floats
    positives: Floats
    deviation: float = 0.0
    calibrated: Floats | None = None

    @classmethod
    def of_scores(
        cls,
        probability: Floats,
        positive: NDArray[np.bool_],
        weight: Floats,
        calibrated: Floats | None = None,
    ) -> "Levels":
        """(examples,) each; `weight` is the part of a patient that an example is."""
        values, first, place = np.unique(probability, return_index=True, return_inverse=True)
        negatives, positives = (
            np.bincount(place[each], weight[each], minlength=len(values)).astype(np.float64)
            for each in (~positive, positive)
        )
        of_each = None if calibrated is None else calibrated[first]
        return cls(values, values, negatives, positives, calibrated=of_each)

    @classmethod
    def of_counts(cls, counts: Sequence[ScoreBin], deviation: float) -> "Levels":
        """Bins of a histogram, ascending; `deviation` as above."""
        least = [-math.inf if each.least is None else each.least for each in counts]
        return cls(
            least=probability(np.array(least)),
            mean=probability(np.array([each.middle for each in counts])),
            negatives=np.array([each.negatives for each in counts]),
            positives=np.array([each.positives for each in counts]),
            deviation=deviation,
        )

    @property
    def patients(self) -> tuple[float, float]:
        """Of label 0 and of label 1; none is below zero."""
        return max(0.0, float(self.negatives.sum())), max(0.0, float(self.positives.sum()))

    @property
    def auc(self) -> float:
        """Area under the ROC curve; NaN without both labels."""
        return float(area(self.negatives, self.positives))

    @cached_property
    def called(self) -> Floats:
        """(2, levels + 1) patients of each label called positive from a level on; last: nobody."""
        both = np.stack([self.negatives, self.positives])
        above = np.cumsum(both[:, ::-1], axis=1)[:, ::-1]
        # Noise can carry a count below nobody, or above everybody.
        whole = np.array(self.patients)[:, None]
        return np.pad(above.clip(0, whole), ((0, 0), (0, 1)))

    def threshold(self, place: int) -> float:
        """The probability from which a level's patients are called positive; 1 for nobody."""
        return float(self.least[place]) if place < len(self.least) else 1.0

    def place(self, threshold: float) -> int:
        """The first level that reaches a threshold."""
        return int(np.searchsorted(self.least, threshold))

    def noise(self, place: int) -> tuple[float, float]:
        """Deviations of what is called positive, of a label, from a level on, and of the rest."""
        above = len(self.least) - place
        return self.deviation * above**0.5, self.deviation * place**0.5

    def corners(self) -> list[tuple[float, float]]:
        """The ROC curve: false- and true-positive rates from (0, 0) to (1, 1)."""
        negatives, positives = self.patients
        return [
            (float(false / negatives), float(true / positives))
            for false, true in self.called.T[::-1]
        ]

    def cut(self, most: int, fewest: int) -> list[slice]:
        """Runs of levels with as many patients each as possible.

        Args:
            most: runs, at most.
            fewest: patients of a run, where there are as many.
        """
        patients = self.negatives + self.positives
        total = float(patients.sum())
        count = max(1, min(most, int(total / fewest)))
        middle = np.cumsum(patients) - patients / 2
        _, starts = np.unique(np.floor(middle / total * count), return_index=True)
        runs: list[slice] = []
        for run in _between(starts.tolist(), len(patients)):
            short = runs and patients[runs[-1]].sum() < fewest
            if short or (runs and patients[run].sum() < fewest and run.stop == len(patients)):
                run = slice(runs.pop().start, run.stop)
            runs.append(run)
        return runs


def probability(logit: Floats) -> Floats:
    """(...) of logits."""
    return np.asarray(0.5 + 0.5 * np.tanh(logit / 2))


def _between(starts: Sequence[int], end: int) -> list[slice]:
    return [slice(*each) for each in zip(starts, [*starts[1:], end], strict=True)]
