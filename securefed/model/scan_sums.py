"""What hospitals say of their training patients' scans: two sums, and a reference made of them.

A reference (model.likeness) of real patients is a statistic of them, so it is made of sums that
masks hide and noise covers. Of each modality, in parts of a patient:

    first     the numbers that describe an example, centred, scaled and clipped, and a count
    second    told the means that follow: how many are how far from them, by kind of numbers, in
              bins of a distance that double in width every other one

A patient moves a modality's first words by no more than one in Euclidean norm and its count by no
more than one, and each of the second's histograms by no more than one: `FIRST` and `SECOND` groups
of a modality, as `privacy.counts.CountNoise` has them. Examples of one patient share out its part.

Correlations would be 666 sums of the picture alone, so the distance is the plain one. The second
sum is of distances from means that carry noise: what the noise moves them is in the distances too,
and costs sight, not false alarms.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from securefed.errors import RunError
from securefed.model.likeness import KINDS, Reference, numbers_of_examples
from securefed.model.patients import PatientTensors
from securefed.model.scores import Steps
from securefed.privacy.counts import STEPS

FIRST, SECOND = 2, len(KINDS)  # groups of words that a patient of a modality moves
NUMBERS = sum(KINDS.values())
# What most scans are near, whatever they show: guesses that cost nobody and need not be right. Far
# from them a patient is clipped, and the reference is blunter.
CENTRE = np.repeat([0.25, -3.5, 0.3], list(KINDS.values()))
RADIUS = 3.0
SCALE = np.repeat([1.0, 0.3, 1.0], list(KINDS.values())) / RADIUS
# Rounding a patient to steps moves it by sqrt(NUMBERS) / 2 steps at most.
LONGEST = 1 - np.sqrt(NUMBERS) / (2 * STEPS)
EDGES = 2.0 ** (np.arange(-15, 4) / 2)  # of distances: 0.006 to 2.8
BINS = len(EDGES) + 1
WORDS = BINS * SECOND  # of a modality in either sum; the first leaves the rest empty
ENOUGH = 30  # patients of a modality, in standard deviations of a word's noise: fewer, and it sees
# little and may take one in ten of those who are like it for unlike

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scans:
    """What describes a hospital's examples.

    Attributes:
        numbers: (examples, modalities, NUMBERS); not a number where there is no scan.
        patient: (examples,) whose each is.
        shares: (examples,) STEPS of a patient, divided over its examples.
    """

    numbers: Floats = field(repr=False)
    patient: NDArray[np.int64] = field(repr=False)
    shares: NDArray[np.int64] = field(repr=False)

    @classmethod
    def of(cls, group: PatientTensors) -> "Scans":
        numbers = numbers_of_examples(group)
        return cls(numbers, group.patient.cpu().numpy(), group.shares(STEPS).cpu().numpy())

    def first(self) -> Steps:
        """Their first sum, (modalities * WORDS,) ring steps."""
        there = ~np.isnan(self.numbers[..., 0])  # (examples, modalities)
        scaled = (np.where(there[..., None], self.numbers, CENTRE) - CENTRE) * SCALE
        length = np.linalg.norm(scaled, axis=2, keepdims=True)
        scaled *= np.minimum(1, LONGEST / np.maximum(length, LONGEST))
        # A patient is rounded as a whole, so that what it moves is bounded as a whole.
        of_patients = np.zeros((self.patient.max(initial=-1) + 1, *scaled.shape[1:]))
        np.add.at(of_patients, self.patient, scaled * self.shares[:, None, None])
        words = np.zeros((there.shape[1], WORDS), np.int64)
        words[:, :NUMBERS] = np.rint(of_patients).astype(np.int64).sum(axis=0)
        words[:, NUMBERS] = (there * self.shares[:, None]).sum(axis=0)
        return words.reshape(-1)

    def second(self, means: Floats) -> Steps:
        """Their second sum, (modalities * WORDS,) ring steps.

        Args:
            means: (modalities, NUMBERS).

        Raises:
            RunError: they are none.
        """
        if means.shape != self.numbers.shape[1:] or not np.isfinite(means).all():
            raise RunError(f"means of scans have shape {means.shape}, or are not finite")
        words = np.zeros((len(means), SECOND, BINS), np.int64)
        distances = _by_kind(self.numbers - means)  # (examples, modalities, kinds)
        example, modality, kind = np.nonzero(~np.isnan(distances))
        bins = np.searchsorted(EDGES, distances[example, modality, kind])
        np.add.at(words, (modality, kind, bins), self.shares[example])
        return words.reshape(-1)


def _by_kind(differences: Floats) -> Floats:
    """(..., NUMBERS) to lengths, (..., kinds)."""
    starts = np.cumsum([0, *KINDS.values()])[:-1]
    return np.asarray(np.sqrt(np.add.reduceat(differences**2, starts, axis=-1)))


def means_of(first: Floats, deviation: float) -> Floats | None:
    """What follows from the first sum of everybody, (modalities, NUMBERS); None of too few.

    Args:
        first: (modalities * WORDS,) patients.
        deviation: of the noise of each word, patients.
    """
    words = first.reshape(-1, WORDS)
    count = words[:, NUMBERS]
    if (count < max(ENOUGH * deviation, 1)).any():
        return None
    means = words[:, :NUMBERS] / count[:, None] / SCALE + CENTRE
    # As they travel, so that hospitals and reference have the same.
    return np.asarray(means, np.float32).astype(np.float64)


def reference_of(
    means: Floats, second: Floats, deviation: float, modalities: Sequence[str]
) -> Reference | None:
    """A reference from both sums; None where noise drowns the second, or bins end before people.

    The threshold of each kind is where the distances go that nine of ten are within, once more as
    far beyond it, in powers, as it is beyond the median: of a law that is normal in the logarithm
    one in two hundred is farther. What one in a hundred exceeds is itself lost in the noise.
    """
    thresholds = np.zeros((len(modalities), SECOND))
    for at, kinds in enumerate(second.reshape(len(modalities), SECOND, BINS)):
        for kind, counts in enumerate(kinds):
            if counts.sum() < max(ENOUGH * deviation, 1):
                return None
            half, most = _exceeded_by(0.5, counts), _exceeded_by(0.1, counts)
            thresholds[at, kind] = most * max(most / half, 1)
    if not np.isfinite(thresholds).all():
        return None
    return Reference.of_balls(means, thresholds, modalities)


def _exceeded_by(share: float, counts: Floats) -> float:
    """The distance that such a share of a noised histogram exceeds, (BINS,) patients; infinite
    where it lies beyond the last edge."""
    above = counts[::-1].cumsum()[::-1] / counts.sum()  # of each bin and those behind it
    above = np.maximum.accumulate(above[::-1])[::-1]  # noise aside, nobody is behind nobody
    if above[-1] > share:
        return float("inf")
    place = int(np.argmax(above <= share))
    if place < 2:
        return float(EDGES[0])
    # Between two edges as if spread evenly in the logarithm.
    part = (above[place - 1] - share) / (above[place - 1] - above[place])
    return float(EDGES[place - 2] * (EDGES[place - 1] / EDGES[place - 2]) ** part)
