"""Accounting of discrete Gaussian noise that hospitals share out among themselves, in a secure sum.

Each survivor of a round adds a discrete Gaussian of `share_sigma` to every word of an integer
vector, and only the sum is opened (Kairouz, Liu & Steinke 2021, "The distributed discrete Gaussian
mechanism for federated learning with secure aggregation"). `counted` shares, those of the fewest
survivors less those that the observers know themselves, have to hide one patient, whose own vector
has integer entries and a bounded norm. This module says what that costs, and how large a share
must be.

The proof is a reduction to the continuous Gaussian, with which sampling and composition (PRV or
RDP) are then the same as everywhere in this package. Let P(z) be the mass at z, word by word.

1. The sum of n shares is within exp(+-tau) of the discrete Gaussian of sigma sqrt(n), with
   tau = 10 sum_{k=1}^{n-1} exp(-2 pi^2 sigma^2 k / (k + 1))       (their theorem 1's tau).
2. The discrete Gaussian of S is within exp(+-eta) of what comes out when a continuous Gaussian of
   sqrt(S^2 - w^2) is drawn and then re-drawn as a discrete Gaussian of w centred there, and a shift
   by an integer passes through. By Poisson summation the normalisers sum_k exp(-(k - x)^2 / 2 w^2)
   of all centres x differ by the factor (1 + h) / (1 - h) at most, h = 2 sum_j exp(-2 pi^2 w^2 j^2)
   (Peikert 2010, theorem 3.1, is the same argument); eta is the logarithm of that factor.
3. So a step is, within exp(+-d (tau + eta)), a *post-processing* of the Poisson-subsampled Gaussian
   step of noise_multiplier sqrt(counted sigma^2 - w^2) / norm bound. All T steps of a history,
   chosen adaptively, are within exp(+-s), s = T d (tau + eta), and an (epsilon, delta) of the
   continuous steps is (epsilon + 2s, delta e^s) for these. With w = 4 and sigma of 64 and more, 2s
   is below 1e-100 for any run: far less than the last digit of epsilon. `calibrate` checks it.

Hence amplification by sampling loses nothing against the continuous mechanism; what discreteness
costs is the growth of the norm by rounding (`RingNoise.norm_growth`, well below one per cent).
More survivors only add independent noise, and wrapping modulo 2^32 is post-processing: neither
weakens the guarantee.

Not covered: hospitals that add no noise, or tell it, beyond the number assumed. Their shares are
then missing for everybody. An audit of the opened sums finds the first, afterwards; nobody can find
the second. Local noise does not depend on others.
"""

import math
from dataclasses import dataclass

from securefed.errors import ConfigurationError, PrivacyError

FINEST_SHARE, COARSEST_SHARE = 2**13, 2**6  # standard deviation of a share, ring steps
SMOOTHING = 4.0  # w above, ring steps
LARGEST_SLACK = 1e-100
ROUNDING_FAILURE = 2.0**-20  # beta of the paper: how often rounding has to be drawn again
LARGEST_NORM_GROWTH = 0.05
WRAP_PROBABILITY = 2.0**-40  # that some word of some round of a run wraps
_RING_HALF = 2**31 - 1


@dataclass(frozen=True)
class RingNoise:
    """One hospital's noise, and the size of a patient's vector; public and the same for all.

    Attributes:
        dimension: words of a vector after padding, a power of two.
        share_sigma: parameter of the noise each hospital adds to each word, ring steps.
        counted: shares that hide a patient: fewest survivors less colluding hospitals.
        clip_steps: the clipping norm in ring steps.
        norm_bound_squared: largest squared norm of a patient's rounded vector, ring steps squared.
    """

    dimension: int
    share_sigma: int
    counted: int
    clip_steps: float
    norm_bound_squared: int

    @property
    def noise_multiplier(self) -> float:
        """Of the continuous Gaussian step that costs as much (step 3 above)."""
        variance = self.counted * self.share_sigma**2 - SMOOTHING**2
        return math.sqrt(variance / self.norm_bound_squared)

    @property
    def norm_growth(self) -> float:
        """What rounding adds to a patient's norm, as a share of the clipping norm."""
        return math.sqrt(self.norm_bound_squared) / self.clip_steps - 1


def counted_shares(cohort: int, minimum_survivors: int, colluding: int) -> int:
    """Noise shares that an observer cannot know.

    Coalitions that could make the secure sum open single vectors, each with one share only, are
    refused: 2 minimum_survivors - cohort hospitals and a lying server (docs/protocol.md).

    Args:
        cohort: hospitals asked in a round.
        minimum_survivors: fewest vectors in a sum, as the secure sum enforces it.
        colluding: hospitals that pool what they know, beside the server.

    Raises:
        ConfigurationError: numbers out of order, or more colluding than the secure sum withstands.
    """
    if colluding < 0 or not cohort / 2 < minimum_survivors <= cohort:
        raise ConfigurationError(
            f"{colluding} colluding hospitals and {minimum_survivors} survivors of {cohort} make "
            "no sense"
        )
    withstood = 2 * minimum_survivors - cohort - 1
    if colluding > withstood:
        raise ConfigurationError(
            f"privacy.colluding: {colluding} hospitals that pool what they know are more than the "
            f"{withstood} that sums over {minimum_survivors} of {cohort} hospitals withstand",
            hint="assume fewer, ask more hospitals per round, or use privacy.placement: local",
        )
    return minimum_survivors - colluding


def sum_log_ratio(sigma: float, shares: int) -> float:
    """tau: how far a sum of discrete Gaussians is from the discrete Gaussian of its variance.

    The largest |log| of the ratio of the two mass functions, at any integer. Kairouz, Liu &
    Steinke (2021), the tau of theorem 1, for sigma^2 >= 1/2.

    Raises:
        ConfigurationError: a smaller sigma, or no shares.
    """
    if sigma**2 < 0.5 or shares < 1:
        raise ConfigurationError(
            f"sums are bounded for sigma^2 of 1/2 or more, got sigma {sigma}, {shares} shares"
        )
    return 10 * sum(math.exp(-2 * math.pi**2 * sigma**2 * k / (k + 1)) for k in range(1, shares))


def smoothing_log_ratio(width: float) -> float:
    """eta: how far a continuous Gaussian that is re-drawn on the integers is from a discrete one.

    Args:
        width: w, parameter of the second draw, at least 1/2.
    """
    if width < 0.5:
        raise ConfigurationError(f"the smoothing width must be at least 1/2, got {width}")
    # j-th term: exp(-2 pi^2 w^2 j^2), below the first to the j-th power.
    first = math.exp(-2 * math.pi**2 * width**2)
    h = 2 * first / (1 - first)
    return math.log1p(h) - math.log1p(-h)


def slack(noise: RingNoise, steps: int) -> float:
    """2s: what `steps` discrete steps may add to the epsilon of the continuous ones."""
    of_word = sum_log_ratio(noise.share_sigma, noise.counted) + smoothing_log_ratio(SMOOTHING)
    return 2 * steps * noise.dimension * of_word


def calibrate(
    noise_multiplier: float,
    *,
    dimension: int,
    rounds: int,
    counted: int,
    hospitals: int,
    expected_batch: float,
) -> RingNoise:
    """The share that makes a round cost as much as a step of `noise_multiplier`.

    The share is as many ring steps as fit, so that rounding is fine: the finest power of two for
    which a word of a sum wraps, in any round, with probability below WRAP_PROBABILITY.

    Args:
        noise_multiplier: of the continuous step, > 0 (solved for the whole run).
        dimension: words after padding, a power of two.
        rounds: of the whole run.
        counted: see `counted_shares`.
        hospitals: most vectors in one sum.
        expected_batch: patients drawn in a round by all hospitals together, on average.

    Raises:
        ConfigurationError: a multiplier that is not positive and finite.
        PrivacyError: no share is both fine enough and small enough for 32 bits.
    """
    if not (math.isfinite(noise_multiplier) and noise_multiplier > 0):
        raise ConfigurationError(
            f"distributed noise needs a positive noise multiplier, got {noise_multiplier}"
        )
    share = FINEST_SHARE
    while share >= COARSEST_SHARE:
        noise = _of_share(share, noise_multiplier, dimension, counted)
        if noise is None or noise.norm_growth > LARGEST_NORM_GROWTH:
            break  # coarser ones are worse
        if _largest_word(noise, rounds, hospitals, expected_batch) <= _RING_HALF:
            if slack(noise, rounds) > LARGEST_SLACK:
                raise PrivacyError(f"{rounds} rounds of {dimension} words are beyond the proof")
            return noise
        share //= 2
    raise PrivacyError(
        f"noise of multiplier {noise_multiplier:g} over {dimension} words does not fit 32 bits "
        f"in sums over {hospitals} hospitals that draw {expected_batch:g} patients a round",
        hint="ask fewer hospitals per round, draw smaller batches, choose a larger epsilon, or "
        "use privacy.placement: local",
    )


def _of_share(
    share: int, noise_multiplier: float, dimension: int, counted: int
) -> RingNoise | None:
    """Share -> largest norm it hides -> clipping norm that rounding keeps below it."""
    bound_squared = math.floor((counted * share**2 - SMOOTHING**2) / noise_multiplier**2)
    # A vector of norm c, rounded at random, has a squared norm of at most
    # c^2 + d/4 + b (c + sqrt(d)/2), b = sqrt(2 log(1/beta)), but for a chance of beta
    # (Kairouz, Liu & Steinke 2021, theorem 1, with granularity 1); solved for c.
    b = math.sqrt(2 * math.log(1 / ROUNDING_FAILURE))
    square = b**2 / 4 + bound_squared - dimension / 4 - b * math.sqrt(dimension) / 2
    clip_steps = math.sqrt(square) - b / 2 if square > 0 else 0.0
    if clip_steps <= 0:
        return None
    return RingNoise(dimension, share, counted, clip_steps, bound_squared)


def _largest_word(noise: RingNoise, rounds: int, hospitals: int, expected_batch: float) -> float:
    """No word of any sum of the run is larger, but for a chance of WRAP_PROBABILITY."""
    # A third of the chance each for the number drawn, the rotation and the noise.
    log_rounds = math.log(3 * rounds / WRAP_PROBABILITY)
    log_words = math.log(2 * noise.dimension) + log_rounds
    # Bernstein's inequality for a sum of independent draws.
    batch = expected_batch + log_rounds / 3
    batch += math.sqrt(log_rounds**2 / 9 + 2 * log_rounds * expected_batch)
    # After random signs and Walsh-Hadamard a word is subgaussian with parameter norm / sqrt(d).
    flat = min(1.0, math.sqrt(2 * log_words / noise.dimension))
    signal = batch * (noise.clip_steps * flat + 1)  # rounding moves a word by less than one
    return signal + noise.share_sigma * math.sqrt(2 * hospitals * log_words)
