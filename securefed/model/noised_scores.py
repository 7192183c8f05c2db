"""Scores of held-out patients as few counts with noise, and the metrics that are left.

Each bin carries its own noise, so there are 8 for each label instead of `scores.BINS`: wide ones
where a trained model is sure, narrow ones around the threshold 0, which is an edge. Noise may make
a count negative. The AUC takes the counts as they are, since cutting negative ones off would move
it; its interval is widened by what the noise does to it. What must be whole patients (the confusion
matrix) is cut off at 0 and rounded.

Not covered: ties. Two scores in one bin count one half, and a model whose scores fill two bins only
has a coarse AUC; the interval does not know of that.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from securefed.model.auc import area
from securefed.model.calibration import Calibration, Cells, calibrate
from securefed.model.scores import (
    BINS,
    LARGEST_LOGIT,
    Confusion,
    Counts,
    Metrics,
    auc_interval,
    metrics,
    of_confusion,
)

EDGES = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)  # logits
COARSE = len(EDGES) + 1
NOISED_COUNTS = 2 * COARSE
# Where a bin's patients are taken to be. Beyond 4 that is about their mean in default runs.
_MIDDLES = np.array([-6.0, -3.0, -1.5, -0.5, 0.5, 1.5, 3.0, 6.0])

_STARTS = [0, *(round((edge + LARGEST_LOGIT) * BINS / (2 * LARGEST_LOGIT)) for edge in EDGES)]


def coarse(counts: Counts) -> Counts:
    """A histogram, (2 * BINS,), in the wide bins, (NOISED_COUNTS,)."""
    wide: Counts = np.add.reduceat(counts.reshape(2, BINS), _STARTS, axis=1).reshape(-1)
    return wide


@dataclass(frozen=True, eq=False)
class NoisedScores:
    """Held-out patients in wide bins, label 0's and then label 1's, each with noise.

    Attributes:
        counts: (NOISED_COUNTS,) patients, neither whole nor positive.
        deviation: standard deviation of the noise of each, patients.
    """

    counts: NDArray[np.float64] = field(repr=False)
    deviation: float

    @property
    def metrics(self) -> Metrics:
        """What the counts give; None where noise leaves no patients of a label. There is no loss:
        it needs finer bins."""
        negatives, positives = self.counts.reshape(2, COARSE)
        n_negative, n_positive = float(negatives.sum()), float(positives.sum())
        auc = interval = None
        if min(n_negative, n_positive) >= 1:
            # `area` takes counts as they come; noise can carry it beyond what areas can be.
            auc = float(np.clip(area(negatives, positives), 0, 1))
            interval = auc_interval(auc, n_negative, n_positive, self._auc_deviation(auc))
        return of_confusion(self.confusion, auc=auc, interval=interval, loss=None)

    @property
    def confusion(self) -> Confusion:
        """Whole patients, none of them negative."""
        quarters = self.counts.reshape(2, 2, COARSE // 2).sum(axis=2)
        (true_negative, false_positive), (false_negative, true_positive) = (
            quarters.round().clip(min=0).astype(int).tolist()
        )
        return Confusion(true_positive, false_negative, false_positive, true_negative)

    @property
    def roc(self) -> NDArray[np.float64] | None:
        """Corners of the curve as in `scores.roc`, of the counts that are not negative."""
        both = self.counts.reshape(2, COARSE).clip(min=0)
        above = both[:, ::-1].cumsum(axis=1)
        if not above[:, -1].all():
            return None
        return np.concatenate([[[0.0, 0.0]], (above / above[:, -1:]).T])

    def _auc_deviation(self, auc: float) -> float:
        """What the noise of the counts does to the area, to first order: a standard deviation."""
        negatives, positives = self.counts.reshape(2, COARSE)
        below = np.cumsum(negatives) - negatives / 2
        above = positives.sum() - np.cumsum(positives) + positives / 2
        of_positives = below / negatives.sum() - auc  # each divided by the patients of its label
        of_negatives = above / positives.sum() - auc
        slopes = [of_positives / positives.sum(), of_negatives / negatives.sum()]
        return self.deviation * math.sqrt(float(np.square(slopes).sum()))


def cells(scores: "Counts | NoisedScores") -> Cells:
    """Exact counts, (2 * BINS,), or noised ones, as a histogram of logits; exact bins of nobody
    are left out."""
    if isinstance(scores, NoisedScores):
        negatives, positives = scores.counts.reshape(2, COARSE)
        return Cells(_MIDDLES, negatives, positives, np.arange(COARSE), scores.deviation)
    negatives, positives = scores.astype(np.float64).reshape(2, BINS)
    middles = np.linspace(-LARGEST_LOGIT, LARGEST_LOGIT, 2 * BINS + 1, dtype=np.float64)[1::2]
    group = np.searchsorted(EDGES, middles)
    some = negatives + positives > 0  # the others add nothing
    return Cells(middles[some], negatives[some], positives[some], group[some], 0.0)


def edges(scores: "Counts | NoisedScores") -> NDArray[np.float64]:
    """(bins,) the least logit of each bin of `cells`; the lowest has none."""
    if isinstance(scores, NoisedScores):
        return np.array([-np.inf, *EDGES])
    least = cells(scores).logit - LARGEST_LOGIT / BINS
    return np.where(least <= -LARGEST_LOGIT, -np.inf, least)


def calibration(scores: "Counts | NoisedScores") -> Calibration | None:
    """A temperature from exact counts, (2 * BINS,), or from noised ones; None of nobody."""
    counted = scores.metrics if isinstance(scores, NoisedScores) else metrics(scores)
    return calibrate(cells(scores), counted.patients)
