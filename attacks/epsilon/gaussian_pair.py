"""A lower bound on epsilon from canaries' scores as they are: two normal laws, and no guess.

Guesses keep of a score on which side of a cut it fell, and the worst that can follow from that has
nearly no wrong guess in it. Here a canary's score is the sum over the rounds of how much of its
direction was seen. By the central limit theorem it is normal over the canaries that are in and over
those that are out, and whoever tells the two laws apart tells neighbours apart: the hockey-stick
divergence of the laws is a lower bound on that of the mechanism, of whatever family it is (Agrawal,
Wei, Singh, Magdon-Ismail & Zikas 2026, "Let's Ask Gauss", arXiv 2606.12733).

The bound is epsilon of N(0, 1) against N(mu, 1), mu a lower limit of the distance D of the means in
units of the larger deviation w:

    why equal     let W be the wider law, at 0, W' its copy at D, N the narrower law at D. The
    deviations    half-line that tells W from W' best ends before D, where N is below W'; so it
                  tells W from N at least as well. A guarantee is for both orders of the two.
    why a limit   take the kind whose true deviation is w, its sample's s, and d the difference of
                  sample means: d / w is N(D / w, at most 1/n + 1/m) and independent of s / w, so
                  that d over the larger s is no larger than a noncentral t.

Assumed: that scores are normal. `normal_enough` says where the claimed mechanism's are.
"""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from attacks.epsilon.bounds import check_significance
from attacks.epsilon.composed_power import HALVED, CanaryView, largest_share
from attacks.epsilon.gaussian_dp import MINIMUM_CANARIES, MU_LARGEST, gaussian_epsilon
from attacks.errors import TooFewTargets
from attacks.statistics.targets import finite_vector

SIGNIFICANCE = 0.01  # of the bound: there is power to spare, and a false alarm is dear
NEARLY = 1.001  # a claim's noise is computed that exactly
SKEWED = 0.1  # skewness from which scores do not count as normal
QUADRATURE = 801  # points over a sample's deviation
REACH = 9.0  # standard errors of a sample's deviation that are looked at

Array = npt.NDArray[np.float64]


def pair_mu(
    included: npt.ArrayLike, excluded: npt.ArrayLike, significance: float = SIGNIFICANCE
) -> float:
    """Lower limit of the distance of the two laws, in the larger of their deviations; 0 to 100.

    Raises:
        TooFewTargets: fewer than 20 canaries of a kind.
        InvalidScores: scores that are not finite, or significance outside (0, 0.5].
    """
    check_significance(significance)
    inside, outside = finite_vector(included, "in"), finite_vector(excluded, "out")
    sizes = _sizes(inside.size, outside.size)
    deviation = max(float(np.std(inside, ddof=1)), float(np.std(outside, ddof=1)))
    apart = float(inside.mean() - outside.mean())
    if apart <= 0 or deviation == 0:
        return MU_LARGEST if apart > 0 else 0.0
    return _lower_limit(min(apart / deviation, 2 * MU_LARGEST), sizes, significance)


def pair_bound(
    included: npt.ArrayLike,
    excluded: npt.ArrayLike,
    delta: float,
    significance: float = SIGNIFICANCE,
) -> float:
    """The lower bound on epsilon at delta; 0 where the laws are not told apart.

    Guarantee: for normal scores of an (epsilon, delta)-DP run it exceeds epsilon with probability
    at most `significance`.

    Raises:
        TooFewTargets, InvalidScores: as `pair_mu`, or delta outside (0, 1).
    """
    return gaussian_epsilon(pair_mu(included, excluded, significance), delta)


def _sizes(included: int, excluded: int) -> tuple[int, int]:
    if min(included, excluded) < MINIMUM_CANARIES:
        raise TooFewTargets(
            f"{included} canaries in and {excluded} out; two laws need {MINIMUM_CANARIES} each"
        )
    return included, excluded


def _lower_limit(ratio: float, sizes: tuple[int, int], significance: float) -> float:
    """The mu at which so large a ratio of difference and deviation has just that chance."""

    def excess(mu: float) -> float:
        return _tail(ratio, mu, sizes) - significance

    if excess(0.0) > 0:
        return 0.0
    if excess(MU_LARGEST) <= 0:
        return MU_LARGEST
    return float(optimize.brentq(excess, 0.0, MU_LARGEST, xtol=1e-9))


def _tail(ratio: float, mu: float, sizes: tuple[int, int]) -> float:
    """Bound on P[difference of means over the larger deviation >= ratio], laws mu apart."""
    error = math.sqrt(1 / sizes[0] + 1 / sizes[1])
    return max(_tail_of_one(ratio, mu, error, size - 1) for size in set(sizes))


def _tail_of_one(ratio: float, mu: float, error: float, freedom: int) -> float:
    spread, weights = _law_of_deviation(freedom)
    return float(special.ndtr((mu - ratio * spread) / error) @ weights)


@lru_cache(maxsize=16)
def _law_of_deviation(freedom: int) -> tuple[Array, Array]:
    """Deviations of samples over the true one, and their probabilities."""
    spread = _around_one(freedom)
    weights = stats.chi.pdf(spread * math.sqrt(freedom), freedom)
    return spread, weights / weights.sum()


def _around_one(freedom: int) -> Array:
    """Deviations of samples over the true one that are worth looking at."""
    reach = REACH / math.sqrt(2 * freedom)
    return np.linspace(max(1e-3, 1 - reach), 1 + reach, QUADRATURE)


def normal_enough(view: CanaryView, delta: float, claim: float) -> bool:
    """Whether sums of the claimed mechanism's rounds are so near to normal that the bound holds.

    In the limit of many canaries the bound is that of the scores' own means and deviations; it has
    to be under the claim then, and the scores must not lean.
    """
    shift, inside, _ = _moments(view, 1.0)
    rate, steps = view.mechanism.sample_rate, view.rounds * view.steps_per_round
    skewness = steps * rate * (1 - rate) * (1 - 2 * rate) / inside**3
    if abs(skewness) > SKEWED:
        return False
    mu = shift / inside
    return mu <= MU_LARGEST and gaussian_epsilon(mu, delta) <= NEARLY * claim


def pair_power(
    included: int,
    excluded: int,
    view: CanaryView,
    claim: float,
    delta: float,
    share: float = HALVED,
    significance: float = SIGNIFICANCE,
) -> float:
    """Chance that the bound is over the claim where this share of the noise was added.

    Args:
        included, excluded: canaries.

    Raises:
        TooFewTargets: fewer than 20 canaries of a kind.
    """
    sizes = _sizes(included, excluded)
    claimed = _mu_of(claim, delta)
    if claimed >= MU_LARGEST:
        return 0.0
    least = float(
        optimize.brentq(
            lambda ratio: _tail(ratio, claimed, sizes) - significance, 0.0, 3 * MU_LARGEST
        )
    )
    shift, *deviations = _moments(view, share)
    # The larger of the two samples' deviations: its law is the product of theirs.
    reach = _around_one(min(sizes) - 1) * max(deviations)
    below = np.prod(
        [
            stats.chi2.cdf((size - 1) * (reach / deviation) ** 2, size - 1)
            for size, deviation in zip(sizes, deviations, strict=True)
        ],
        axis=0,
    )
    error = math.hypot(deviations[0] / math.sqrt(included), deviations[1] / math.sqrt(excluded))
    return float(np.diff(below, prepend=0.0) @ special.ndtr((shift - least * reach) / error))


def least_visible(included: int, excluded: int, view: CanaryView, delta: float) -> float:
    """Smallest true epsilon whose bound is above 0 four times in five; infinite if none is.

    Raises:
        TooFewTargets: fewer than 20 canaries of a kind.
    """

    def power(share: float) -> float:
        return pair_power(included, excluded, view, 0.0, delta, share)

    share = largest_share(power, 1 / 16, 64.0)
    return view.mechanism.curve(share * view.claimed_noise).epsilon(delta) if share else math.inf


def _moments(view: CanaryView, share: float) -> tuple[float, float, float]:
    """Shift of a summed score by a canary, and its deviations in and out."""
    rate, steps = view.mechanism.sample_rate, view.rounds * view.steps_per_round
    noise = steps * (share * view.claimed_noise * view.noise_ratio) ** 2
    return steps * rate, math.sqrt(noise + steps * rate * (1 - rate)), math.sqrt(noise)


def _mu_of(epsilon: float, delta: float) -> float:
    """The Gaussian mechanism that has this epsilon at delta."""
    if gaussian_epsilon(MU_LARGEST, delta) <= epsilon:
        return MU_LARGEST
    root = optimize.brentq(lambda mu: gaussian_epsilon(mu, delta) - epsilon, 0.0, MU_LARGEST)
    return float(root)
