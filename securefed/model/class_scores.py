"""Held-out scores of any task as counts, and what a sum of them says; several classes are here.

With two labels the counts are one histogram (model.scores). Of k classes they are

    each class       a histogram of its own, of the same form: the class against the rest, by the
                     log-odds of its probability
    k x k behind     the class that is true by the one that is called, the likeliest

so that a sum's length says what it is of. A patient counts one in each of k histograms and once in
the matrix, shared out over its examples as ever: it moves k + 1 groups of counts, each by no more
than one in Euclidean norm, and pays for so many (`changed`).

From the sums follow the AUC of each class against the rest with its interval, their mean, the
accuracy, the mean cross-entropy, and each class's sensitivity and specificity. The interval of the
mean is the mean of the intervals' ends: the standard deviation of a mean is never more than the
mean of the standard deviations, however the classes depend on each other. It is too wide rather
than too narrow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from securefed.model import noised_scores, scores
from securefed.model.calibration import Calibration
from securefed.model.noised_scores import NOISED_COUNTS, NoisedScores
from securefed.model.patients import PatientTensors
from securefed.model.scores import (
    BINS,
    COUNTS,
    Counts,
    Metrics,
    OneClass,
    count_scores,
    nats_of,
    ratio,
)
from securefed.privacy.counts import STEPS

Interval = tuple[float, float]
Cells = NDArray[np.float64 | np.int64]


def exact_words(classes: int) -> int:
    """Counts of an exact answer; of 0 classes, which are two labels, of one histogram."""
    return classes * COUNTS + classes**2 if classes else COUNTS


def noised_words(classes: int) -> int:
    """The same where each count carries noise, in wide bins."""
    return classes * NOISED_COUNTS + classes**2 if classes else NOISED_COUNTS


def changed(classes: int) -> int:
    """Groups of counts that a patient moves, each by no more than one in Euclidean norm."""
    return classes + 1 if classes else 1


def classes_of(words: int, histogram: int) -> int:
    """How many classes so many counts are of: the inverse of `exact_words` and `noised_words`.

    Args:
        histogram: counts of one.

    Raises:
        ValueError: of no number of classes.
    """
    if words == histogram:
        return 0
    classes = round((math.sqrt(histogram**2 + 4 * words) - histogram) / 2)
    if classes < 1 or classes * histogram + classes**2 != words:
        raise ValueError(f"{words} counts are those of no number of classes")
    return classes


def count_group(logits: Tensor, group: PatientTensors) -> Counts:
    """Exact counts of a group's logits, (examples,) or (examples, classes); a patient adds one.

    Raises:
        RunError: a logit is not a number.
    """
    shares = group.shares(STEPS)
    if logits.dim() == 1:
        return count_scores(logits, group.label, shares)
    classes = logits.shape[1]
    against = against_rest(logits)
    histograms = [
        count_scores(against[:, number], group.label == number, shares) for number in range(classes)
    ]
    cell = group.label.long().cpu() * classes + against.argmax(dim=1)
    called = torch.bincount(cell, shares.double().cpu(), minlength=classes**2).numpy() / STEPS
    return np.concatenate([*histograms, called])


def against_rest(logits: Tensor) -> Tensor:
    """(n, classes) logits -> log-odds of each class against all others together, in double.

    Their order within a patient is that of the logits, so that the largest is the class called.
    """
    logits = logits.double().cpu()
    own = torch.eye(logits.shape[1], dtype=torch.bool)
    others = logits[:, None, :].masked_fill(own, -torch.inf).logsumexp(dim=-1)
    return logits - others


def calibration(counted: Counts | NoisedScores) -> Calibration | None:
    """A temperature from the counts; None of nobody, and of several classes.

    One temperature of a softmax does not follow from histograms of each class by itself.
    """
    (first, *_), matrix = parts(counted)
    return noised_scores.calibration(first) if matrix is None else None


def coarse(counts: Counts) -> Counts:
    """Exact counts in the wide bins that noise is added to; a matrix has no bins."""
    classes = classes_of(len(counts), COUNTS)
    if not classes:
        return noised_scores.coarse(counts)
    histograms, matrix = _apart(counts, classes)
    return np.concatenate([*map(noised_scores.coarse, histograms), matrix.reshape(-1)])


def metrics(counted: Counts | NoisedScores) -> Metrics:
    """Metrics of a (possibly summed) answer, exact or noised."""
    histograms, matrix = parts(counted)
    if matrix is None:
        return _one(histograms[0])
    told = rates(matrix)
    classes = tuple(
        OneClass(one.auc, one.auc_ci95, rate.sensitivity, rate.specificity)
        for one, rate in zip(map(_one, histograms), told, strict=True)
    )
    total = float(matrix.sum())
    exact = isinstance(counted, np.ndarray)
    return Metrics(
        patients=round(total),
        auc=mean_of_all([one.auc for one in classes]),
        auc_ci95=ends_of_all([one.auc_ci95 for one in classes]),
        accuracy=ratio(float(matrix.trace()), total),
        sensitivity=mean_of_all([one.sensitivity for one in told]),
        specificity=mean_of_all([one.specificity for one in told]),
        f1=mean_of_all([one.f1 for one in told]),
        loss=_loss(histograms) if exact and total else None,
        classes=classes,
    )


@dataclass(frozen=True)
class Rates:
    """What a matrix of true by called says of one class; None of nobody."""

    sensitivity: float | None
    specificity: float | None
    f1: float | None


def rates(matrix: Cells) -> list[Rates]:
    """Of each class of a matrix, (true, called)."""
    total, right = float(matrix.sum()), np.diag(matrix).tolist()
    rows = zip(right, matrix.sum(axis=1).tolist(), matrix.sum(axis=0).tolist(), strict=True)
    return [
        Rates(
            sensitivity=ratio(hit, true),
            specificity=ratio(total - true - called + hit, total - true),
            f1=ratio(2 * hit, true + called),
        )
        for hit, true, called in rows
    ]


def parts(
    counted: Counts | NoisedScores,
) -> tuple[list[Counts] | list[NoisedScores], Cells | None]:
    """Each class's histogram and the matrix, (true, called); of two labels one and None.

    Cells with noise are whole patients, none of them negative.
    """
    if isinstance(counted, NoisedScores):
        classes = classes_of(len(counted.counts), NOISED_COUNTS)
        if not classes:
            return [counted], None
        histograms, matrix = _apart(counted.counts, classes)
        exact = [np.asarray(each, np.float64) for each in histograms]
        noised = [NoisedScores(each, counted.deviation) for each in exact]
        return noised, matrix.round().clip(min=0).astype(np.int64)
    classes = classes_of(len(counted), COUNTS)
    return _apart(counted, classes) if classes else ([counted], None)


def counts_of(counts: Counts) -> tuple[list[Counts], Cells]:
    """Each class's histogram and the matrix of exact counts of several classes."""
    return _apart(counts, classes_of(len(counts), COUNTS))


def _apart(counts: Counts, classes: int) -> tuple[list[Counts], Cells]:
    behind = len(counts) - classes**2
    return list(counts[:behind].reshape(classes, -1)), counts[behind:].reshape(classes, classes)


def _one(histogram: Counts | NoisedScores) -> Metrics:
    if isinstance(histogram, NoisedScores):
        return histogram.metrics
    return scores.metrics(histogram)


def _loss(histograms: Sequence[Counts | NoisedScores]) -> float:
    """Of each patient the class that is true: its probability is the sigmoid of its log-odds."""
    true = np.sum([np.asarray(each)[BINS:] for each in histograms], axis=0)
    return float((true * nats_of(-1)).sum() / true.sum())


def mean_of_all(values: Sequence[float | None]) -> float | None:
    """Over all classes: a mean over those where a figure happens to exist would flatter."""
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def ends_of_all(intervals: Sequence[Interval | None]) -> Interval | None:
    """The mean of the intervals' ends: an interval of the mean, whatever depends on what."""
    known = [interval for interval in intervals if interval is not None]
    if len(known) < len(intervals):
        return None
    low, high = (fmean(ends) for ends in zip(*known, strict=True))
    return low, high
