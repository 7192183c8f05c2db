"""The epsilon that measured noise implies, beside the one that is claimed.

Squares of noise alone bound its variance from above: more noise than that would show so small
squares with probability SIGNIFICANCE only. The run's own steps with so much noise have an epsilon
that the run's true one is not below: a lower bound on epsilon that needs no canary and no guess.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from attacks.epsilon.trade_off import LOSS_LARGEST, NOISE_SMALLEST, SubsampledGaussian
from attacks.findings import LowerBound
from attacks.subject import Hospital

SIGNIFICANCE = 1e-4  # of the bound, all hospitals together
HALVED = 0.5
NOTICED = 0.9  # of the claimed noise: so much less is a larger epsilon in every accountant


@dataclass(frozen=True)
class Measured:
    """Squares of noise, in units of its claimed variance, and how many they are.

    Attributes:
        others: all the noise that is in the squares by the claim, over the hospital's own.
    """

    squares: float
    count: int
    others: float = 1.0

    def at_most(self, significance: float) -> float:
        """Upper limit of the noise over the claimed one."""
        return float((self.squares / stats.chi2.ppf(significance, self.count)) ** 0.5)

    def power(self, significance: float) -> float:
        """Chance that half the noise would be told from all of it."""
        cut = (NOTICED / HALVED / self.others) ** 2 * stats.chi2.ppf(significance, self.count)
        return float(stats.chi2.cdf(cut, self.count))


def implied(
    hospital: Hospital, steps: int, delta: float, measured: Sequence[Measured], hospitals: int
) -> LowerBound | None:
    """The bound for one of several hospitals; None without a claim.

    Args:
        steps: that it was seen to release.
        measured: the same noise in several ways; the least is taken.
    """
    if hospital.claimed_epsilon is None or not measured or not steps:
        return None
    significance = SIGNIFICANCE / (hospitals * len(measured))
    mechanism = SubsampledGaussian(hospital.sample_rate, steps)

    def epsilon(share: float) -> float:
        noise = max(share * hospital.accounted_noise, NOISE_SMALLEST)
        return min(mechanism.curve(noise).epsilon(delta), LOSS_LARGEST)

    power = max(each.power(significance) for each in measured)
    if epsilon(HALVED / NOTICED) <= hospital.claimed_epsilon:
        power = 0.0  # the claim is of more than this run: an older history, too
    return LowerBound(
        value=epsilon(min(each.at_most(significance) for each in measured)),
        confidence=1 - SIGNIFICANCE,
        claim=hospital.claimed_epsilon,
        power=power,
        breach="half the noise",
        least_visible=0.0,
        if_refuted="what was sent carries less noise than epsilon is claimed for",
    )
