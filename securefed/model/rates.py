"""Intervals of rates: sensitivity, specificity, accuracy. No torch: pages use them too."""

import math
from statistics import NormalDist

Z_95 = NormalDist().inv_cdf(0.975)


def wilson(rate: float, patients: float) -> tuple[float, float]:
    """Wilson's 95% interval (1927) of a share of so many patients, which need not be whole."""
    z = Z_95**2 / patients
    middle, half = rate + z / 2, math.sqrt(z * rate * (1 - rate) + z * z / 4)
    return (middle - half) / (1 + z), (middle + half) / (1 + z)


def rate_interval(
    right: float, wrong: float, noise: tuple[float, float] = (0.0, 0.0)
) -> tuple[float, float] | None:
    """95% interval of right / (right + wrong), Wilson's; None of nobody.

    Args:
        noise: standard deviations of the noise in `right` and in `wrong`, patients.
    """
    patients = right + wrong
    if not patients:
        return None
    rate = right / patients
    low, high = wilson(rate, patients)
    # What noise in the counts does to the rate, to first order, beside what chance does.
    noised = Z_95 * math.hypot(wrong * noise[0], right * noise[1]) / patients**2
    return around(rate, (rate - low, noised), (high - rate, noised))


def around(
    rate: float, below: tuple[float, float], above: tuple[float, float]
) -> tuple[float, float]:
    """A rate with several margins on each side, which add as squares, within [0, 1].

    Each side by itself: Newcombe's square-and-add, MOVER (Zou and Donner 2008, Statistics in
    Medicine 27:1693).
    """
    return max(0.0, rate - math.hypot(*below)), min(1.0, rate + math.hypot(*above))
