"""Scores of held-out patients as counts, and the metrics that counts give.

A hospital turns its held-out patients into a histogram: label by logit bin. Histograms of several
hospitals add up, so they can travel inside the masked sum and the server learns totals only.
AUC, its interval and the confusion matrix all follow from the summed histogram. Two scores in
one bin count as a tie, which moves the AUC by less than the histogram's bin width can hide; the
threshold 0 (probability one half) is a bin edge, so the confusion matrix is exact.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from securefed.model.network import DualEncoderNetwork
from securefed.training.patients import PatientTensors

BINS = 512
LARGEST_LOGIT = 8.0  # beyond it a probability is within 0.0004 of 0 or 1
COUNTS = 2 * BINS
RESAMPLES = 2000

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Metrics:
    """Performance on held-out patients; a value is None where the counts cannot give it.

    Attributes:
        patients: how many were scored.
        auc, auc_ci95: area under the ROC curve and its 95% patient bootstrap interval.
        accuracy, sensitivity, specificity, f1: at probability 0.5.
        loss: mean cross-entropy, nats, from bin centres.
    """

    patients: int
    auc: float | None
    auc_ci95: tuple[float, float] | None
    accuracy: float | None
    sensitivity: float | None
    specificity: float | None
    f1: float | None
    loss: float | None


@torch.no_grad()
def score(
    network: DualEncoderNetwork, group: PatientTensors, *, encoded: bool, chunk: int = 32
) -> Tensor:
    """Logits (patients,); `encoded` says whether the group holds tokens or images."""
    parts = [group[start : start + chunk] for start in range(0, len(group), chunk)]
    logits = [
        network(part.ct, part.mri, part.has_ct, part.has_mri, encoded=encoded) for part in parts
    ]
    return torch.cat(logits) if logits else torch.zeros(0)


def count_scores(logits: Tensor, labels: Tensor) -> Counts:
    """(n,) logits and (n,) labels -> (2 * BINS,) counts: label 0's bins, then label 1's."""
    scaled = (logits.double().cpu() + LARGEST_LOGIT) / (2 * LARGEST_LOGIT) * BINS
    bins = scaled.floor().clamp(0, BINS - 1).long()
    flat = bins + BINS * labels.long().cpu()
    counts: Counts = torch.bincount(flat, minlength=COUNTS).numpy()
    return counts


def metrics(counts: Counts, seed: int = 0) -> Metrics:
    """Metrics of a (possibly summed) histogram, shape (2 * BINS,)."""
    negatives, positives = counts.reshape(2, BINS)
    n_negative, n_positive = int(negatives.sum()), int(positives.sum())
    total = n_negative + n_positive
    half = BINS // 2
    true_positive, true_negative = int(positives[half:].sum()), int(negatives[:half].sum())
    missed, false_alarms = n_positive - true_positive, n_negative - true_negative
    both = n_negative > 0 and n_positive > 0
    return Metrics(
        patients=total,
        auc=float(_auc(negatives, positives)) if both else None,
        auc_ci95=_auc_interval(negatives, positives, seed) if both else None,
        accuracy=_ratio(true_positive + true_negative, total),
        sensitivity=_ratio(true_positive, n_positive),
        specificity=_ratio(true_negative, n_negative),
        f1=_ratio(2 * true_positive, 2 * true_positive + missed + false_alarms),
        loss=_loss(negatives, positives) if total else None,
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _auc(negatives: NDArray[np.int64], positives: NDArray[np.int64]) -> NDArray[np.float64]:
    # P(positive scores above negative) + half the ties; the last axis is the bin.
    below = np.cumsum(negatives, axis=-1) - negatives
    wins = (positives * (below + 0.5 * negatives)).sum(axis=-1)
    area: NDArray[np.float64] = wins / (negatives.sum(axis=-1) * positives.sum(axis=-1))
    return area


def _auc_interval(
    negatives: NDArray[np.int64], positives: NDArray[np.int64], seed: int
) -> tuple[float, float]:
    # Resampling patients with replacement within a label is a multinomial draw of the histogram.
    rng = np.random.default_rng(seed)
    resampled = [
        rng.multinomial(int(counts.sum()), counts / counts.sum(), size=RESAMPLES)
        for counts in (negatives, positives)
    ]
    low, high = np.percentile(_auc(*resampled), [2.5, 97.5])
    return float(low), float(high)


def _loss(negatives: NDArray[np.int64], positives: NDArray[np.int64]) -> float:
    logit = (np.arange(BINS) + 0.5) / BINS * 2 * LARGEST_LOGIT - LARGEST_LOGIT
    nats = negatives * np.logaddexp(0, logit) + positives * np.logaddexp(0, -logit)
    return float(nats.sum() / (negatives.sum() + positives.sum()))
