"""The law of one release, from the patients that entered it: mean, covariance, and what is left.

Each of N records with clipped gradient g_i is in a sum by a coin of rate q of its own, and noise
N(0, s^2 I) is added. Given the parameters that the round started from,

    mean         q sum g_i
    covariance   q (1 - q) sum g_i g_i^T + s^2 I

The residual whitened by it is N(0, I) where the mechanism is what it claims: exactly in directions
in which patients' gradients are small, by the central limit theorem in the few others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from attacks.statistics.principal import principal

Array = npt.NDArray[np.float64]
QUIET = 0.02  # variance by sampling, over that of the noise, below which a direction is all noise


@dataclass(frozen=True, eq=False)
class Part:
    """One hospital's records in a release.

    Attributes:
        rows: (N, P) clipped gradients, in standard deviations of the release's noise.
        excess: (P,) sum of what clipping took off them, in the same unit.
        rate: probability with which each of them is in.
    """

    rows: Array = field(repr=False)
    excess: Array = field(repr=False)
    rate: float


@dataclass(frozen=True)
class Factor:
    """How often a known vector is in what was released, by least squares.

    Attributes:
        along: inner product of the two.
        information: of the vector with itself; the estimate's variance is its inverse.
    """

    along: float
    information: float

    def __add__(self, other: "Factor") -> "Factor":
        return Factor(self.along + other.along, self.information + other.information)

    @property
    def estimate(self) -> float:
        return self.along / self.information

    @property
    def error(self) -> float:
        """Standard error."""
        return 1 / math.sqrt(self.information)


@dataclass(frozen=True, eq=False)
class Whitened:
    """One release against its law.

    Attributes:
        residual: (P,), N(0, I) if the claim is true.
        quiet: its squared length in directions that hold noise alone, and how many those are.
        dose: of what patients are expected to give, 1 if the claim is true.
        excess: of what clipping is expected to take off, 0 if it does.
    """

    residual: Array = field(repr=False)
    quiet: tuple[float, int]
    dose: "Factor"
    excess: "Factor"


@dataclass(frozen=True, eq=False)
class Law:
    """What a release with these records in it follows; make it with `of`.

    Attributes:
        mean, excess: expected sum, and what clipping is expected to take off it, (P,).
        variances, directions: by sampling, (K,) and (P, K); elsewhere there is noise alone.
    """

    mean: Array = field(repr=False)
    excess: Array = field(repr=False)
    variances: Array = field(repr=False)
    directions: Array = field(repr=False)

    @classmethod
    def of(cls, parts: Sequence[Part]) -> "Law":
        """From the records of every hospital in the release."""
        rows = np.concatenate([np.sqrt(p.rate * (1 - p.rate)) * p.rows for p in parts])
        nothing = np.zeros(rows.shape[1])
        mean = sum((part.rate * part.rows.sum(axis=0) for part in parts), nothing)
        excess = sum((part.rate * part.excess for part in parts), nothing)
        return cls(mean, excess, *principal(rows))

    def whiten(self, value: Array) -> Whitened:
        """Hold a release, (P,), against it."""
        residual, expected = self._white(value - self.mean), self._white(self.mean)
        excess = self._white(self.excess)
        loud = self.directions[:, self.variances > QUIET]
        energy = float(residual @ residual - np.square(loud.T @ residual).sum())
        information = float(expected @ expected)
        return Whitened(
            residual,
            (max(energy, 0.0), value.size - loud.shape[1]),
            Factor(float(expected @ residual) + information, information),
            Factor(float(excess @ residual), float(excess @ excess)),
        )

    def _white(self, vector: Array) -> Array:
        """Times the inverse of the covariance's symmetric root."""
        shrink = 1 / np.sqrt(1 + self.variances) - 1
        white: Array = vector + self.directions @ (shrink * (self.directions.T @ vector))
        return white
