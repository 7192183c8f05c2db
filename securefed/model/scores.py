"""Scores of held-out patients as counts, and the metrics that counts give.

A hospital turns its held-out patients into a histogram: label by logit bin. Histograms of several
hospitals add up, so they can travel inside the masked sum and the server learns totals only.

A patient counts one. Where labels are of studies or slices it is shared out over its examples, in
steps of 1 / STEPS, so that sums are exact and nobody moves the histogram by more than one. So all
figures are of examples, each patient with the same say; intervals are of so many patients as there
are, as if each answered once. That is clustered, and wider than need be: a patient's examples of a
label are taken for one, and that scores which are high for all of a patient's examples help one
label and hurt the other is left out (Obuchowski 1997, Biometrics 53:567, has all three terms; the
middle one needs more of each patient than a histogram of totals can hold).

AUC, its interval and the confusion matrix all follow from the summed histogram. Two scores in
one bin count as a tie, which moves the AUC by less than the histogram's bin width can hide; the
threshold 0 (probability one half) is a bin edge, so the confusion matrix is exact.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import Tensor

from securefed.errors import RunError
from securefed.model.auc import area
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors
from securefed.privacy.counts import STEPS

BINS = 512
LARGEST_LOGIT = 8.0  # beyond it a probability is within 0.0004 of 0 or 1
COUNTS = 2 * BINS
Z_95 = 1.959963984540054
EDGE = 1e-12  # at areas of 0 and 1 the equation has a second root, the area itself

# Patients, whole ones where each has one example.
Counts = NDArray[np.float64 | np.int64]
Steps = NDArray[np.int64]  # the same as it travels, in parts of a patient


@dataclass(frozen=True)
class OneClass:
    """How one of several classes is told from the rest; None where the counts cannot say.

    Attributes:
        auc, auc_ci95: one against rest, as in `Metrics`.
        sensitivity, specificity: of the class that is called, the likeliest one.
    """

    auc: float | None
    auc_ci95: tuple[float, float] | None
    sensitivity: float | None
    specificity: float | None


@dataclass(frozen=True)
class Metrics:
    """Performance on held-out patients; a value is None where the counts cannot give it.

    Attributes:
        patients: how many were scored.
        auc, auc_ci95: area under the ROC curve and its 95% interval over patients.
        accuracy, sensitivity, specificity, f1: at probability 0.5.
        loss: mean cross-entropy, nats, from bin centres.
        classes: each of several; all above are then means over them, but the accuracy, which is
            the share of patients whose class was called, and the loss.
    """

    patients: int
    auc: float | None
    auc_ci95: tuple[float, float] | None
    accuracy: float | None
    sensitivity: float | None
    specificity: float | None
    f1: float | None
    loss: float | None
    classes: tuple[OneClass, ...] = ()


@dataclass(frozen=True)
class Confusion:
    """Held-out patients by truth and by the answer at probability 0.5; a tumour is positive.

    Whole numbers but where patients are shared out over their examples.
    """

    true_positive: float
    false_negative: float
    false_positive: float
    true_negative: float


@torch.no_grad()
def score(
    network: FusionNetwork, group: PatientTensors, *, encoded: bool, chunk: int = 32
) -> Tensor:
    """Logits (examples,), or (examples, classes); `encoded`: the group holds tokens, not images."""
    parts = [group[start : start + chunk] for start in range(0, len(group), chunk)]
    logits = [network(part.images, part.present, encoded=encoded) for part in parts]
    return torch.cat(logits) if logits else torch.zeros(0, *network.shape.answer)


def count_scores(logits: Tensor, labels: Tensor, shares: Tensor | None = None) -> Counts:
    """(n,) logits and (n,) labels -> (2 * BINS,) counts: label 0's bins, then label 1's.

    Args:
        shares: (n,) what each adds, in steps of 1 / STEPS; None for one each.

    Raises:
        RunError: a logit is not a number.
    """
    if bool(logits.isnan().any()):
        raise RunError(
            "the score of a held-out patient is not a number",
            hint="training has diverged; lower training.learning_rate",
        )
    # Scaled, which is exact, before it is shifted: the sum would round -1e-17 up to zero.
    bins = (logits.double().cpu() * (BINS / (2 * LARGEST_LOGIT))).floor() + BINS // 2
    bins = bins.clamp(0, BINS - 1).long()
    flat = bins + BINS * labels.long().cpu()
    steps = torch.full_like(flat, STEPS) if shares is None else shares.cpu()
    # A power of two divides exactly, and sums of floats this small are exact.
    counts: Counts = torch.bincount(flat, steps.double(), minlength=COUNTS).numpy() / STEPS
    return counts


def metrics(counts: Counts) -> Metrics:
    """Metrics of a (possibly summed) histogram, shape (2 * BINS,)."""
    negatives, positives = counts.reshape(2, BINS)
    n_negative, n_positive = float(negatives.sum()), float(positives.sum())
    both = n_negative > 0 and n_positive > 0
    auc = float(area(negatives, positives)) if both else None
    return of_confusion(
        confusion(counts),
        auc=auc,
        interval=None if auc is None else auc_interval(auc, n_negative, n_positive),
        loss=_loss(negatives, positives) if counts.any() else None,
    )


def of_confusion(
    confusion: "Confusion",
    *,
    auc: float | None,
    interval: tuple[float, float] | None,
    loss: float | None,
) -> Metrics:
    """Metrics with all that follows from a confusion matrix."""
    right = confusion.true_positive + confusion.true_negative
    wrong = confusion.false_positive + confusion.false_negative
    return Metrics(
        patients=round(right + wrong),
        auc=auc,
        auc_ci95=interval,
        accuracy=ratio(right, right + wrong),
        sensitivity=ratio(
            confusion.true_positive, confusion.true_positive + confusion.false_negative
        ),
        specificity=ratio(
            confusion.true_negative, confusion.true_negative + confusion.false_positive
        ),
        f1=ratio(2 * confusion.true_positive, 2 * confusion.true_positive + wrong),
        loss=loss,
    )


def confusion(counts: Counts) -> Confusion:
    """The confusion matrix of a (possibly summed) histogram, shape (2 * BINS,); exact."""
    negatives, positives = counts.reshape(2, BINS)
    half = BINS // 2
    return Confusion(
        true_positive=whole(float(positives[half:].sum())),
        false_negative=whole(float(positives[:half].sum())),
        false_positive=whole(float(negatives[half:].sum())),
        true_negative=whole(float(negatives[:half].sum())),
    )


def roc(counts: Counts) -> NDArray[np.float64] | None:
    """Corners of the ROC curve of a histogram: (points, 2) of false- and true-positive rate.

    From (0, 0) to (1, 1), one corner per bin that holds a patient. None without both labels.
    """
    both = counts.reshape(2, BINS)
    totals = both.sum(axis=1)
    if not totals.all():
        return None
    above = both[:, ::-1].cumsum(axis=1)[:, both[:, ::-1].any(axis=0)] / totals[:, None]
    return np.concatenate([[[0.0, 0.0]], above.T])


def whole(patients: float) -> int | float:
    """The same number, as an integer where it is one: so it is written and shown."""
    return int(patients) if patients.is_integer() else patients


def ratio(part: float, whole: float) -> float | None:
    """A share; None of nobody."""
    return part / whole if whole else None


def auc_interval(
    auc: float, negatives: float, positives: float, noise: float = 0.0
) -> tuple[float, float]:
    """95% interval of an area over patients, widened by `noise`, a standard deviation beside it."""
    # Newcombe 2006 (Statistics in Medicine 25:559), method 5: the true areas from which the
    # observed one is at most 1.96 standard errors away. Unlike a bootstrap it does not shrink to
    # nothing where a handful of patients happen to be ranked perfectly.
    extra = (negatives + positives) / 2 - 1

    def standard_error(true: float) -> float:
        spread = 1 + extra * (1 - true) / (2 - true) + extra * true / (1 + true)
        return math.hypot(math.sqrt(true * (1 - true) * spread / (negatives * positives)), noise)

    def low(true: float) -> float:
        return auc - true - Z_95 * standard_error(true)

    def high(true: float) -> float:
        return true - auc - Z_95 * standard_error(true)

    return (
        float(brentq(low, 0.0, min(auc, 1 - EDGE))) if auc > Z_95 * noise else 0.0,
        float(brentq(high, max(auc, EDGE), 1.0)) if auc < 1 - Z_95 * noise else 1.0,
    )


def _loss(negatives: Counts, positives: Counts) -> float:
    nats = negatives * nats_of(1) + positives * nats_of(-1)
    return float(nats.sum() / (negatives.sum() + positives.sum()))


def nats_of(sign: int) -> NDArray[np.float64]:
    """(BINS,) cross-entropy at bin centres: of label 0 with sign 1, of label 1 with sign -1."""
    logit = (np.arange(BINS) + 0.5) / BINS * 2 * LARGEST_LOGIT - LARGEST_LOGIT
    nats: NDArray[np.float64] = np.logaddexp(0, sign * logit)
    return nats
