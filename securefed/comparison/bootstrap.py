"""Intervals of every figure of a histogram of scores, by drawing the held-out patients again.

A percentile bootstrap (Efron & Tibshirani 1993, chapter 13) over patients: each hospital's patients
are drawn again with replacement, tumour patients and others apart, so that prevalence is held
fixed. A histogram is enough for that, because patients of one label and one bin are alike. Where a
patient is shared out over its examples, as many are drawn as a label's shares add up to, each with
one answer: as in `model.scores`, that says less than there is, and never takes examples for people.

The AUC has a second interval, Newcombe's (`model.scores`). They answer the same question, how far
chance in who was held out can have moved the figure, and differ where patients are few or the
ranking is nearly perfect: there the bootstrap cannot draw a patient it has not seen, and is too
narrow (to nothing, at an AUC of 1; docs/compare.md has the coverage of both). Believe Newcombe's
for an AUC. The bootstrap serves figures for which there is no formula: precision, F1 and means over
several models. Neither knows what another training would have given.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from securefed.comparison.class_bootstrap import class_figures, drawn, once, redrawn
from securefed.model.auc import area
from securefed.model.class_scores import classes_of
from securefed.model.scores import BINS, COUNTS, Counts
from securefed.record.comparison import Figures

REPLICATES = 1000
FIGURES = Figures.__struct_fields__

Floats = NDArray[np.float64]


def figures(groups: Sequence[Counts]) -> dict[str, float | None]:
    """The figures of several hospitals' counts; None where undefined.

    All are of the summed histogram, except `mean_auc`: the mean over hospitals of each one's own
    AUC (hospitals with one label only left out). That is the figure for models that differ from
    hospital to hospital, whose scores have no common scale. At probability 0.5: `accuracy`;
    `precision`, the share of alarms that are right; `recall`, the share of tumours found
    (sensitivity); `specificity`; `f1`. Of several classes all but the accuracy are means over them,
    of each against the rest, and of the class that is called.
    """
    if classes_of(len(groups[0]), COUNTS):
        whole = class_figures([*map(once, groups)], np.random.default_rng())
        return {name: _number(float(values[0])) for name, values in whole.items()}
    single = _figures([np.asarray(counts).reshape(1, 2, BINS) for counts in groups])
    return {name: _number(float(values[0])) for name, values in single.items()}


def replicates(
    groups: Sequence[Counts], rng: np.random.Generator, count: int = REPLICATES
) -> dict[str, Floats]:
    """The same figures of `count` redrawn sets of patients, (count,) each; NaN where undefined."""
    if classes_of(len(groups[0]), COUNTS):
        return class_figures([drawn(counts, rng, count) for counts in groups], rng)
    return _figures([_redrawn(counts, rng, count) for counts in groups])


def intervals(redraws: Mapping[str, Floats]) -> dict[str, tuple[float, float] | None]:
    """95% percentile intervals; None where the figure is undefined in half the draws or more."""
    limits: dict[str, tuple[float, float] | None] = {}
    for name, values in redraws.items():
        defined = values[~np.isnan(values)]
        if 2 * defined.size <= values.size:
            limits[name] = None
            continue
        low, high = np.quantile(defined, (0.025, 0.975))
        limits[name] = (float(low), float(high))
    return limits


def _redrawn(counts: Counts, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """(count, 2, BINS): as many patients of each label as there were."""
    return np.stack([redrawn(bins, rng, count) for bins in counts.reshape(2, BINS)], axis=1)


def _figures(groups: Sequence[Counts]) -> dict[str, Floats]:
    # Each group is (draws, 2, BINS).
    total = np.sum(groups, axis=0)
    half = BINS // 2
    true_negative, missed = total[:, :, :half].sum(-1).T
    false_alarm, true_positive = total[:, :, half:].sum(-1).T
    own = np.stack([area(group[:, 0], group[:, 1]) for group in groups])  # (groups, draws)
    has_auc = ~np.isnan(own)
    everybody = true_positive + true_negative + false_alarm + missed
    return {
        "auc": area(total[:, 0], total[:, 1]),
        "mean_auc": _ratio(np.where(has_auc, own, 0.0).sum(0), has_auc.sum(0)),
        "accuracy": _ratio(true_positive + true_negative, everybody),
        "precision": _ratio(true_positive, true_positive + false_alarm),
        "recall": _ratio(true_positive, true_positive + missed),
        "specificity": _ratio(true_negative, true_negative + false_alarm),
        "f1": _ratio(2 * true_positive, 2 * true_positive + false_alarm + missed),
    }


def _ratio(part: NDArray[np.generic], whole: NDArray[np.generic]) -> Floats:
    top, bottom = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
