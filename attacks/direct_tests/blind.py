"""Noise measured without the patients: what two neighbouring rounds do not have in common.

Patients' gradients fill a few directions only, and change slowly. So the difference of a round and
the next, over sqrt(2), is noise as claimed in nearly every direction, and patients' part can only
add to it: too little variance is too little noise, whoever the patients are. Of a single round the
same is true of its own length. Which directions patients fill most is learnt from one half of the
pairs and left out of the other, so that the choice does not depend on what it is used on.

Tested on one side only. Covers every round, costs nothing, and needs no model: it works where the
patients are not there, or their gradients cannot be computed.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import special

from attacks.direct_tests.releases import Releases
from attacks.direct_tests.residuals import logarithm
from attacks.findings import Surprise

NOISE, WORST = "noise without patients", "worst round without patients"
METHODS = (NOISE, WORST)

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Lengths:
    """Squares of noise, and of whatever else there is, in directions quiet in the other half.

    Attributes:
        name: of the series.
        numbers: of the rounds, (R,).
        of_rounds: (R,) squared lengths of the releases, and in how many directions.
        of_pairs: (R // 2,) the same of differences of neighbours.
    """

    name: str
    numbers: tuple[int, ...]
    of_rounds: tuple[Array, Counts] = field(repr=False)
    of_pairs: tuple[Array, Counts] = field(repr=False)

    @property
    def noise_ratio(self) -> float:
        """At most this share of the claimed noise is there, but for chance."""
        squares, directions = self.of_pairs
        return math.sqrt(squares.sum() / directions.sum())

    def tests(self) -> dict[str, Surprise]:
        """Method -> surprise that there is so little."""
        squares, directions = self.of_pairs
        total = special.chdtr(directions.sum(), squares.sum())
        said = f"{self.name}, at most {self.noise_ratio:.3f} of the claimed noise"
        lengths, directions = self.of_rounds
        each = special.chdtr(directions, lengths)
        worst = int(np.argmin(each))
        place = f"{self.name}, round {self.numbers[worst]}"
        return {
            NOISE: Surprise.at(logarithm(float(total)), said),
            WORST: Surprise.at(logarithm(float(each[worst])), place, len(each)),
        }


def lengths(releases: Releases) -> Lengths | None:
    """What a series shows without its patients; None with fewer than two rounds."""
    values = releases.values
    rounds, size = values.shape
    odd = rounds % 2  # the first round is then in no pair
    first, second = values[odd::2], values[odd + 1 :: 2]
    if not len(second):
        return None
    differences = (second - first) / math.sqrt(2)
    half = np.arange(len(differences)) % 2
    of_pairs, of_rounds = np.empty(len(differences)), np.empty(rounds)
    pair_directions = np.empty(len(differences), np.int64)
    directions = np.empty(rounds, np.int64)
    for own in (0, 1):
        loud, chosen = _loud(differences[half != own]), half == own
        of_pairs[chosen] = _outside(differences[chosen], loud)
        pair_directions[chosen] = size - len(loud)
        there = np.concatenate([np.full(odd, own == 0), np.repeat(chosen, 2)])
        of_rounds[there] = _outside(values[there], loud)
        directions[there] = size - len(loud)
    return Lengths(
        releases.name, releases.numbers, (of_rounds, directions), (of_pairs, pair_directions)
    )


def _outside(vectors: Array, loud: Array) -> Array:
    """Squared lengths outside of some directions."""
    squares: Array = np.square(vectors).sum(axis=1) - np.square(vectors @ loud.T).sum(axis=1)
    return np.maximum(squares, 0.0)


def _loud(differences: Array) -> Array:
    """The directions in which a half of the pairs is largest, half as many as there are pairs."""
    count = min(len(differences) // 2, differences.shape[1] // 2)
    if not count:
        return np.zeros((0, differences.shape[1]))
    return np.linalg.svd(differences, full_matrices=False)[2][:count]
