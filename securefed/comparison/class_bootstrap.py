"""The figures of several classes, and their intervals, by drawing the held-out patients again.

The matrix of true by called holds every patient once, so its rows are drawn again as they are, each
class's patients apart. Histograms of different classes hold the same patients, and how they depend
on each other is not in the counts: each is drawn by itself, and means over classes are taken of
draws in order of size. No way to depend spreads a mean more than that, so its interval is too wide
rather than too narrow; its ends are the means of the classes' ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from securefed.model.auc import area
from securefed.model.class_scores import counts_of
from securefed.model.scores import BINS, Counts

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """One hospital's counts, so many times.

    Attributes:
        histograms: of each class against the rest, (classes, draws, 2, BINS).
        matrix: (draws, classes, classes), true by called.
    """

    histograms: Floats = field(repr=False)
    matrix: Floats = field(repr=False)

    @property
    def areas(self) -> Floats:
        """(classes, draws)."""
        areas: Floats = area(self.histograms[:, :, 0], self.histograms[:, :, 1])
        return areas

    def __add__(self, other: "Drawn") -> "Drawn":
        return Drawn(self.histograms + other.histograms, self.matrix + other.matrix)


def redrawn(bins: Counts, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """(count, bins): as many patients as there were, over the bins that they were in."""
    redraws = np.zeros((count, len(bins)), np.int64)
    if patients := round(bins.sum()):
        # Over the occupied bins only: a hospital has far fewer patients than bins.
        occupied = np.flatnonzero(bins)
        share = bins[occupied] / bins.sum()
        redraws[:, occupied] = rng.multinomial(patients, share, size=count)
    return redraws


def once(counts: Counts) -> Drawn:
    """The counts as they are."""
    histograms, matrix = counts_of(counts)
    return Drawn(
        np.stack(histograms).reshape(-1, 1, 2, BINS).astype(np.float64),
        matrix[None].astype(np.float64),
    )


def drawn(counts: Counts, rng: np.random.Generator, count: int) -> Drawn:
    """As many patients of each class as there were, drawn again."""
    histograms, matrix = counts_of(counts)
    rows = [redrawn(row, rng, count) for row in matrix]
    of_each = [
        redrawn(half, rng, count) for histogram in histograms for half in histogram.reshape(2, BINS)
    ]
    return Drawn(
        np.stack(of_each)
        .reshape(len(histograms), 2, count, BINS)
        .swapaxes(1, 2)
        .astype(np.float64),
        np.stack(rows, axis=1).astype(np.float64),
    )


def class_figures(groups: Sequence[Drawn], rng: np.random.Generator) -> dict[str, Floats]:
    """`bootstrap.FIGURES` of the hospitals together, (draws,) each; means over the classes.

    Args:
        rng: puts means of ordered draws into no order.
    """
    total = groups[0]
    for group in groups[1:]:
        total = total + group
    own = np.stack([_in_step(group.areas, rng) for group in groups])  # (hospitals, draws)
    right = total.matrix.diagonal(axis1=1, axis2=2)  # (draws, classes)
    true, called, everybody = (total.matrix.sum(axis) for axis in (2, 1, (1, 2)))
    wrong = everybody[:, None] - true - called + right  # rightly not called
    has_auc = ~np.isnan(own)
    return {
        "auc": _in_step(total.areas, rng),
        "mean_auc": _share(np.where(has_auc, own, 0.0).sum(0), has_auc.sum(0)),
        "accuracy": _share(right.sum(1), everybody),
        "precision": _share(right, called).mean(1),
        "recall": _share(right, true).mean(1),
        "specificity": _share(wrong, everybody[:, None] - true).mean(1),
        "f1": _share(2 * right, true + called).mean(1),
    }


def _in_step(of_classes: Floats, rng: np.random.Generator) -> Floats:
    """(classes, draws) -> means of the draws in order of size, in no order.  # (draws,)"""
    means: Floats = np.sort(of_classes, axis=1).mean(axis=0)
    mixed: Floats = rng.permutation(means)
    return mixed


def _share(part: NDArray[np.generic], whole: NDArray[np.generic]) -> Floats:
    top, bottom = np.broadcast_arrays(part.astype(np.float64), np.asarray(whole, np.float64))
    share: Floats = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
    return share
