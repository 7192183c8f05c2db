"""Intervals of rates: sensitivity, specificity, accuracy. No torch: pages use them too."""

import math
from statistics import NormalDist

Z_95 = NormalDist().inv_cdf(0.975)


def wilson(rate: float, patients: float) -> tuple[float, float]:
    """Wilson's 95% interval (1927) of a share of so many patients, which need not be whole."""
    z = Z_95**2 / patients
    middle, half = rate + z / 2, math.sqrt(z * rate * (1 - rate) + z * z / 4)
    return (middle - half) / (1 + z), (middle + half) / (1 + z)
