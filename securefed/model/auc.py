"""The area under the ROC curve: the one function behind every AUC that is shown.

P[a positive scores above a negative], a tie counted one half (Mann & Whitney 1947). It is computed
from how much of each label stands at each score, so that a histogram, redrawn histograms and the
weights of a bootstrap all go the same way. No torch: attacks' statistics use it too.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Amounts = npt.NDArray[np.float64 | np.int64]


def area(negatives: Amounts, positives: Amounts) -> Floats:
    """Areas of one or many pairs of histograms; NaN where a label is missing.

    Args:
        negatives, positives: (..., levels) counts or weights, at ascending scores.

    Returns:
        (...) areas in [0, 1].
    """
    below = np.cumsum(negatives, axis=-1) - negatives / 2  # negatives below, half of those level
    wins = np.asarray((positives * below).sum(axis=-1), np.float64)
    pairs = np.asarray(negatives.sum(axis=-1) * positives.sum(axis=-1), np.float64)
    return np.divide(wins, pairs, out=np.full_like(wins, np.nan), where=pairs > 0)


def area_of_corners(corners: Sequence[tuple[float, float]]) -> float:
    """The area under a curve of (false-, true-positive rate) corners; the same as `area`'s."""
    false, true = np.asarray(corners, np.float64).T
    return float(np.trapezoid(true, false))


def area_of_scores(
    scores: npt.NDArray[np.generic],
    positive: npt.NDArray[np.bool_],
    weight: Floats | None = None,
) -> float:
    """The area of raw scores, (n,) each; NaN where a label is missing.

    Args:
        weight: of each; None for one each.
    """
    levels, place = np.unique(scores, return_inverse=True)
    histograms = [
        np.bincount(place[each], None if weight is None else weight[each], minlength=levels.size)
        for each in (~positive, positive)
    ]
    return float(area(*histograms))
