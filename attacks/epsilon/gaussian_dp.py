"""Gaussian trade-off curves: between mu, epsilon and delta, and Andrew's point estimate.

A mechanism is mu-GDP if telling two neighbours apart is at least as hard as telling N(0, 1) from
N(mu, 1) (Dong, Roth & Su 2022); mu is sensitivity over noise. The conversion is Balle & Wang
(2018, theorem 8). The point estimate of Andrew et al. (2023, "One-shot empirical privacy
estimation for federated learning") fits normal laws to the scores of canaries that were and were
not trained on. It has no confidence attached: it may lie above or below the truth, and a weak
attack pulls it down. Never compare it with a claim as if it were a bound.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from attacks.errors import InvalidScores, TooFewTargets
from attacks.statistics.targets import finite_vector

MU_LARGEST = 100.0  # epsilon above 5,000: no guarantee at all
MINIMUM_CANARIES = 20  # of each kind, for a fit of mean and deviation
EXPONENT_LARGEST = 700.0  # exp() of more is infinite


def check_delta(delta: float) -> None:
    """Raises InvalidScores unless 0 < delta < 1."""
    if not 0 < delta < 1:
        raise InvalidScores(
            f"delta must be in (0, 1), got {delta}",
            hint="a Gaussian mechanism has no finite epsilon at delta 0",
        )


def gaussian_delta(mu: float, epsilon: float) -> float:
    """The smallest delta at which mu-GDP implies (epsilon, delta)-DP; mu > 0."""
    gain = special.ndtr(mu / 2 - epsilon / mu)
    loss = math.exp(min(epsilon + special.log_ndtr(-mu / 2 - epsilon / mu), 0.0))
    return max(float(gain - loss), 0.0)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon >= 0 at which mu-GDP implies (epsilon, delta)-DP.

    Raises:
        InvalidScores: mu outside [0, 100] or delta outside (0, 1).
    """
    check_delta(delta)
    if not 0 <= mu <= MU_LARGEST:
        raise InvalidScores(f"mu must be in [0, {MU_LARGEST:g}], got {mu}")
    if mu == 0 or gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    # Tail bound: with probability 1 - delta the privacy loss is below this.
    highest = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta)) + 1
    root = optimize.brentq(lambda e: gaussian_delta(mu, e) - delta, 0.0, highest, xtol=1e-12)
    return float(root)


def hockey_stick(
    mean: float, deviation: float, other_mean: float, other_deviation: float, epsilon: float
) -> float:
    """delta = max over sets S of P[S] - e^epsilon Q[S], P = N(mean, deviation^2), Q the other.

    The best S is where log(p/q), a parabola in x, exceeds epsilon.
    """
    p_weight, q_weight = 1 / deviation**2, 1 / other_deviation**2
    a = (q_weight - p_weight) / 2
    b = mean * p_weight - other_mean * q_weight
    c = (other_mean**2 * q_weight - mean**2 * p_weight) / 2
    c += math.log(other_deviation / deviation) - epsilon
    discriminant = b * b - 4 * a * c
    if discriminant <= 0:  # the parabola never crosses epsilon
        inside = [(-math.inf, math.inf)] if a > 0 or (a == b == 0 and c > 0) else []
    else:
        half = -(b + math.copysign(math.sqrt(discriminant), b)) / 2  # stable as a goes to 0
        # Equal deviations: a straight line, the limit of a parabola that opens downwards.
        far = half / a if a else math.copysign(math.inf, -half)
        low, high = sorted((far, c / half))
        inside = [(-math.inf, low), (high, math.inf)] if a > 0 else [(low, high)]

    def mass(centre: float, width: float) -> float:
        total = 0.0
        for low, high in inside:
            ends = (low - centre) / width, (high - centre) / width
            if ends[0] > 0:  # count in the lower tail, where small numbers keep their digits
                ends = -ends[1], -ends[0]
            total += float(special.ndtr(ends[1]) - special.ndtr(ends[0]))
        return total

    q_mass = mass(other_mean, other_deviation)
    # Where Q's mass is too small for exp(epsilon) to be finite, what it takes away is nothing.
    taken = math.exp(min(epsilon + math.log(q_mass), 0.0)) if q_mass > 0 else 0.0
    return max(mass(mean, deviation) - taken, 0.0)


def point_estimate(
    included_scores: npt.ArrayLike, excluded_scores: npt.ArrayLike, delta: float
) -> float:
    """Andrew et al.'s estimate of epsilon: a point, not a bound.

    Both directions (remove and add) are evaluated at delta and the larger epsilon returned;
    infinity where even exp(700) would not do.

    Raises:
        TooFewTargets: fewer than 20 canaries of a kind.
        InvalidScores: scores not finite or all equal, or delta outside (0, 1).
    """
    check_delta(delta)
    fits = []
    for name, values in (("included", included_scores), ("excluded", excluded_scores)):
        scores = finite_vector(values, f"{name} canary scores")
        if scores.size < MINIMUM_CANARIES:
            raise TooFewTargets(
                f"{scores.size} {name} canaries; the point estimate needs {MINIMUM_CANARIES}"
            )
        deviation = float(np.std(scores, ddof=1))
        if deviation == 0:
            raise InvalidScores(f"all {name} canaries have one score: nothing to fit")
        fits.append((float(np.mean(scores)), deviation))

    def delta_at(epsilon: float) -> float:
        return max(
            hockey_stick(*fits[0], *fits[1], epsilon), hockey_stick(*fits[1], *fits[0], epsilon)
        )

    if delta_at(0.0) <= delta:
        return 0.0
    if delta_at(EXPONENT_LARGEST) > delta:
        return math.inf
    return float(optimize.brentq(lambda e: delta_at(e) - delta, 0.0, EXPONENT_LARGEST, xtol=1e-9))
