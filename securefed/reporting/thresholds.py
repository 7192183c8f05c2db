"""What the counts of held-out patients that a run opened say of thresholds.

Nothing more is asked of anybody for it: what has been opened, noise and all, can be worked on. The
computation is that of an evaluation (securefed/prediction/figures.py).
"""

import math

import numpy as np

from securefed.model.scores import BINS, LARGEST_LOGIT
from securefed.prediction.figures import (
    THRESHOLDS,
    decision_curve,
    operating_points,
    reliability,
)
from securefed.prediction.levels import Levels, probability
from securefed.record.evaluation import AtThresholds
from securefed.record.summary import HeldOut


def thresholds(held_out: HeldOut) -> AtThresholds | None:
    """Of the counts as they are; None where they are not of both labels, or of several classes."""
    levels = Levels.of_counts(held_out.bins, held_out.noise or 0.0)
    if min(levels.patients) < 1:
        return None
    return AtThresholds(
        operating_points=tuple(operating_points(levels))[1:],  # that at one half stands above
        reliability=tuple(reliability(levels)),
        decision_curve=tuple(decision_curve(levels, _edges(levels, held_out))),
    )


def _edges(levels: Levels, held_out: HeldOut) -> list[float]:
    """Thresholds on edges of bins, since who in a bin lies above one within it is not known."""
    if held_out.noise is not None:
        return [float(least) for least in levels.least[1:]]
    steps = BINS / (2 * LARGEST_LOGIT)  # of bins, for each logit
    logits = [math.log(each / (1 - each)) for each in THRESHOLDS]
    return list(map(float, probability(np.array([round(k * steps) / steps for k in logits]))))
