"""Vectors in units of what a sum over patients varies by: a few directions, and noise."""

from dataclasses import dataclass, field

import numpy as np

from attacks.statistics.principal import principal
from attacks.statistics.targets import Floats

LOUDER = np.geomspace(1, 1e8, 41)  # factors on the claimed variance of the noise that are tried


@dataclass(frozen=True, eq=False)
class Whitened:
    """A residual against a covariance of few directions and noise.

    Attributes:
        residual: (P,), of unit variance each way if the covariance is right.
        directions, shrink: (P, K) and (K,); `white` multiplies by the inverse symmetric root.
        deviation: of the noise.
        excess: squared length of the residual over what is expected, at least 1.
    """

    residual: Floats = field(repr=False)
    directions: Floats = field(repr=False)
    shrink: Floats = field(repr=False)
    deviation: float
    excess: float

    @classmethod
    def of(cls, rows: Floats, residual: Floats) -> "Whitened":
        """Covariance rows^T rows + s^2 I, s >= 1 the most likely (of LOUDER)."""
        variances, directions = principal(rows)
        along = directions.T @ residual
        rest = max(float(residual @ residual - along @ along), 0.0)
        count = residual.size - along.size
        total = variances + LOUDER[:, None]  # (tried, K)
        likely = np.log(total).sum(1) + (along**2 / total).sum(1)
        likely += count * np.log(LOUDER) + rest / LOUDER
        variance = float(LOUDER[likely.argmin()])
        shrink = 1 / np.sqrt(1 + variances / variance) - 1
        found = cls(residual, directions, shrink, float(np.sqrt(variance)), 1.0)
        white = found.white(residual)
        return cls(
            white, directions, shrink, found.deviation, max(1.0, float(white @ white) / white.size)
        )

    def white(self, vectors: Floats) -> Floats:
        """(..., P) in units of the covariance."""
        turned = (vectors @ self.directions) * self.shrink @ self.directions.T
        white: Floats = (vectors + turned) / self.deviation
        return white

    def against(self, vectors: Floats) -> tuple[Floats, Floats]:
        """Inner product of each vector with the residual and with itself, whitened."""
        white = self.white(vectors)
        return white @ self.residual, np.square(white).sum(axis=-1)
