"""What hospitals hold, as one vector of counts, and what its noised sum says.

    word 0 .. 5     patients by label (0, 1) and by what was acquired (CT alone, MRI alone, both)
    word 6 ..       grey values of CT, and then of MRI, GREYS bins each: every patient adds one
                    patient, divided over the bins as its pixels are

Entries are ring steps of `privacy.counts`, STEPS to a patient. A patient more or less changes three
parts of the vector (the table, CT, MRI), each by STEPS at most in Euclidean norm: one cell of the
table by STEPS; and shares of one patient, which are not negative and sum up to STEPS. However many
slices and pixels a patient has, it counts once.

Grey values are those of the images as they are trained on (8 bits, CT through the brain window), of
pixels that are not black: what is black is mostly air, and what was padded.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from securefed.privacy.counts import STEPS

ACQUIRED = ("CT alone", "MRI alone", "CT and MRI")
MODALITIES = ("CT", "MRI")
LABELS = 2
GREYS = 16  # bins of grey values
TABLE = LABELS * len(ACQUIRED)
WORDS = TABLE + len(MODALITIES) * GREYS
CHANGED = 1 + len(MODALITIES)  # parts that a patient may change, each by one patient at most
Z = 1.959963984540054  # of a normal distribution: 95 per cent within

Steps = NDArray[np.int64]
Pixels = NDArray[np.uint8]


def of_patient(label: int, ct: Pixels | None, mri: Pixels | None) -> Steps:
    """One patient's part, (WORDS,) ring steps.

    Args:
        ct, mri: its pixels, of any shape; None where there are none.

    Raises:
        ValueError: another label than 0 and 1, or neither CT nor MRI.
    """
    if label not in (0, 1) or (ct is None and mri is None):
        raise ValueError("a patient has the label 0 or 1, and CT or MRI")
    acquired = 2 if ct is not None and mri is not None else int(ct is None)
    table = np.zeros((LABELS, len(ACQUIRED)), np.int64)
    table[label, acquired] = STEPS
    return np.concatenate([table.reshape(-1), _greys(ct), _greys(mri)])


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
        counts: (WORDS,) patients, neither whole nor positive.
        deviation: standard deviation of the noise of each, patients.
    """

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
        """Patients of one label of whom that was acquired, of ACQUIRED."""
        return self._sum(self._table[label, [ACQUIRED.index(acquired)]])

    def with_modality(self, modality: str) -> Estimate:
        """Patients with CT, or with MRI, alone or not."""
        alone = MODALITIES.index(modality)
        return self._sum(self._table[:, [alone, ACQUIRED.index("CT and MRI")]].reshape(-1))

    def greys(self, modality: str) -> list[Estimate] | None:
        """Share of each bin of grey values among the pixels of a patient, on average, 0..1; None
        where noise leaves nobody with that modality. The margin is of the bin's own noise."""
        there = self.with_modality(modality)
        if there.value <= there.margin:
            return None
        start = TABLE + MODALITIES.index(modality) * GREYS
        bins = self.counts[start : start + GREYS]
        margin = Z * self.deviation / there.value
        return [Estimate(float(each) / there.value, margin) for each in bins]

    @property
    def _table(self) -> NDArray[np.float64]:
        return self.counts[:TABLE].reshape(LABELS, len(ACQUIRED))

    def _sum(self, cells: NDArray[np.float64]) -> Estimate:
        return Estimate(float(cells.sum()), Z * self.deviation * math.sqrt(cells.size))
