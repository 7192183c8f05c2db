"""What hospitals hold, as one vector of counts, and what its noised sum says.

    the table       patients by label (0 and 1, or classes) and by what was acquired (CT alone, MRI
                    alone, both; of n modalities 2^n - 1 selections)
    then            grey values of each modality, GREYS bins each: every patient adds one patient,
                    divided over the bins as its pixels are

Entries are ring steps of `privacy.counts`, STEPS to a patient. A patient more or less changes the
table and a part for each modality, each by STEPS at most in Euclidean norm: one cell of the table
by STEPS; and shares of one patient, which are not negative and sum up to STEPS. However many slices
and pixels a patient has, it counts once.

Grey values are those of the images as they are trained on (8 bits, CT through the brain window), of
pixels that are not black: what is black is mostly air, and what was padded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from securefed.privacy.counts import STEPS
from securefed.wording import listed

LABELS = ("healthy", "tumour")  # 0 and 1, where there are no classes
GREYS = 16  # bins of grey values
Z = 1.959963984540054  # of a normal distribution: 95 per cent within

Steps = NDArray[np.int64]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Form:
    """Where everything stands in the vector.

    Attributes:
        modalities: as they are shown to people: CT, MRI.
        labels: what they are called, from 0 on.
    """

    modalities: tuple[str, ...]
    labels: tuple[str, ...] = LABELS

    @classmethod
    def of(cls, modalities: Sequence[str], classes: Sequence[str] = ()) -> "Form":
        """Of modalities and classes by their names in the settings."""
        return cls(tuple(name.upper() for name in modalities), tuple(classes) or LABELS)

    @cached_property
    def acquired(self) -> tuple[str, ...]:
        """What a patient may have, in words: entry i - 1 has modality k where bit k of i is set."""
        several = [
            [name for k, name in enumerate(self.modalities) if i >> k & 1]
            for i in range(1, 1 << len(self.modalities))
        ]
        return tuple(f"{each[0]} alone" if len(each) == 1 else listed(each) for each in several)

    @property
    def table(self) -> int:
        """Words before the grey values."""
        return len(self.labels) * len(self.acquired)

    @property
    def words(self) -> int:
        return self.table + len(self.modalities) * GREYS

    @property
    def changed(self) -> int:
        """Parts that a patient may change, each by one patient at most."""
        return 1 + len(self.modalities)

    def of_patient(self, label: int, scans: Sequence[Pixels | None]) -> Steps:
        """One patient's part, (words,) ring steps.

        Args:
            scans: its pixels by modality, of any shape; None where there are none.

        Raises:
            ValueError: a label that has no name here, or no scan.
        """
        there = sum(1 << k for k, pixels in enumerate(scans) if pixels is not None)
        if label not in range(len(self.labels)) or not there:
            raise ValueError(f"a patient has a label from 0 to {len(self.labels) - 1}, and a scan")
        table = np.zeros((len(self.labels), len(self.acquired)), np.int64)
        table[label, there - 1] = STEPS
        return np.concatenate([table.reshape(-1), *map(_greys, scans)])


def _greys(pixels: Pixels | None) -> Steps:
    """STEPS, divided over the bins as the pixels are; nothing of a picture that is all black."""
    seen = np.zeros(0, np.uint8) if pixels is None else pixels[pixels > 0]
    counts = np.bincount(seen // (256 // GREYS), minlength=GREYS)
    # Differences of a rounded cumulated sum: whole steps, none negative, STEPS together.
    cumulated = STEPS * np.cumsum(counts) // max(seen.size, 1)
    return np.diff(cumulated, prepend=0)


@dataclass(frozen=True)
class Estimate:
    """A number of patients, or a share, and how far the noise may have moved it: 95 per cent are
    within the margin."""

    value: float
    margin: float


@dataclass(frozen=True, eq=False)
class Survey:
    """What the noised sum over all hospitals says.

    Attributes:
        counts: (words,) patients, neither whole nor positive.
        deviation: standard deviation of the noise of each, patients.
    """

    form: Form
    counts: NDArray[np.float64] = field(repr=False)
    deviation: float

    @property
    def patients(self) -> Estimate:
        """Of all hospitals together."""
        return self._sum(self._table)

    def of_label(self, label: int) -> Estimate:
        """Patients of one label."""
        return self._sum(self._table[label])

    def cell(self, label: int, acquired: str) -> Estimate:
        """Patients of one label of whom that was acquired, of `form.acquired`."""
        return self._sum(self._table[label, [self.form.acquired.index(acquired)]])

    def with_modality(self, modality: str) -> Estimate:
        """Patients with a modality, alone or not."""
        k = self.form.modalities.index(modality)
        cells = [i for i in range(len(self.form.acquired)) if (i + 1) >> k & 1]
        return self._sum(self._table[:, cells].reshape(-1))

    def greys(self, modality: str) -> list[Estimate] | None:
        """Share of each bin of grey values among the pixels of a patient, on average, 0..1; None
        where noise leaves nobody with that modality. The margin is of the bin's own noise."""
        there = self.with_modality(modality)
        if there.value <= there.margin:
            return None
        start = self.form.table + self.form.modalities.index(modality) * GREYS
        bins = self.counts[start : start + GREYS]
        margin = Z * self.deviation / there.value
        return [Estimate(float(each) / there.value, margin) for each in bins]

    @property
    def _table(self) -> NDArray[np.float64]:
        return self.counts[: self.form.table].reshape(len(self.form.labels), -1)

    def _sum(self, cells: NDArray[np.float64]) -> Estimate:
        return Estimate(float(cells.sum()), Z * self.deviation * math.sqrt(cells.size))
