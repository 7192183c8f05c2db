"""Lower bounds on epsilon from the canaries that were guessed in one training run.

One-run bound: Steinke, Nasr & Jagielski (2023, "Privacy auditing with one (1) training run", the
main theorem). It holds for every (epsilon, delta)-DP mechanism. f-DP bound: Mahloujifar, Melis &
Chaudhuri (2024, arXiv 2410.22235, algorithm 3). It is much tighter, but `f_dp_bound` is
*conditional*: it refutes that the mechanism's trade-off curve is Gaussian, and so overstates the
epsilon of a mechanism of another shape (randomised response, see the tests). DP-SGD over many
steps is close to Gaussian, not equal, so that an audit of a run uses `composed_bound`: the same
test against the curve of the run's own mechanism (`trade_off`), over all noise multipliers.

Both need what `canaries` provides: membership by independent fair coins and a number of guesses
fixed before the scores were seen. A bound of 0 says that the attack was too weak or the run
private; it does not say which.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy import special, stats

from attacks.epsilon.gaussian_dp import MU_LARGEST, check_delta, gaussian_epsilon
from attacks.epsilon.trade_off import NOISE_LARGEST, NOISE_SMALLEST, SubsampledGaussian
from attacks.errors import InvalidScores

# The least probability of a wrong guess on a canary, given the probability of a right one.
TradeOff = Callable[[float], float]
TOLERANCE = 1e-9  # of a bound; ends are rounded towards 0
NOISES_PER_OCTAVE = 1024  # noise multipliers that `composed_bound` tries, 0.07% apart


def check_counts(canaries: int, guesses: int, correct: int) -> None:
    """Raises InvalidScores unless 0 <= correct <= guesses <= canaries and guesses >= 1."""
    if not 0 <= correct <= guesses <= canaries or guesses < 1:
        raise InvalidScores(
            f"{correct} correct of {guesses} guesses on {canaries} canaries is impossible"
        )


def check_significance(significance: float) -> None:
    """Raises InvalidScores unless 0 < significance <= 0.5."""
    if not 0 < significance <= 0.5:
        raise InvalidScores(f"significance must be in (0, 0.5], got {significance}", hint="0.05")


def one_run_p_value(
    canaries: int, guesses: int, correct: int, epsilon: float, delta: float
) -> float:
    """Bound on P[at least `correct` right guesses] if the run is (epsilon, delta)-DP.

    beta + 2 m delta alpha, with q = e^epsilon / (1 + e^epsilon), beta = P[Bin(r, q) >= v] and
    alpha the largest over 1 <= i <= v of P[v-i <= Bin(r, q) < v] / i.

    Raises:
        InvalidScores: impossible counts, epsilon < 0 or delta outside [0, 1).
    """
    check_counts(canaries, guesses, correct)
    if not epsilon >= 0 or not 0 <= delta < 1:
        raise InvalidScores(f"epsilon {epsilon}, delta {delta} is no privacy guarantee")
    if correct == 0:
        return 1.0
    # In wrong guesses, whose probability 1 - q keeps its digits where q rounds to 1.
    wrong = special.expit(-epsilon)
    beta = float(stats.binom.cdf(guesses - correct, guesses, wrong))
    masses = stats.binom.pmf(np.arange(guesses - correct + 1, guesses + 1), guesses, wrong)
    alpha = float((np.cumsum(masses) / np.arange(1, correct + 1)).max())
    return min(1.0, beta + 2 * canaries * delta * alpha)


def _last_refuted(refuted: Callable[[float], bool], high: float) -> float:
    """Bisection between 0, which is refuted, and `high`, which is not."""
    low = 0.0
    while high - low > TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def fewest_refuting(guesses: int, refuted: Callable[[int], bool]) -> int | None:
    """The fewest right guesses, of `guesses`, that refute; None if not even all of them do."""
    if not refuted(guesses):
        return None
    low, high = 0, guesses  # not refuted, refuted
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if refuted(middle) else (middle, high)
    return high


def one_run_bound(
    canaries: int, guesses: int, correct: int, delta: float, significance: float = 0.05
) -> float:
    """The largest epsilon that the guesses refute; 0 where they refute nothing.

    Guarantee: for an (epsilon, delta)-DP run the bound exceeds epsilon with probability at most
    `significance`.

    Raises:
        InvalidScores: impossible counts, delta outside [0, 1), significance outside (0, 0.5].
    """
    check_significance(significance)

    def refuted(epsilon: float) -> bool:
        return one_run_p_value(canaries, guesses, correct, epsilon, delta) < significance

    if not refuted(0.0):
        return 0.0
    high = 1.0
    while refuted(high):  # ends: beta goes to 1
        high *= 2
    return _last_refuted(refuted, high)


def gaussian_curve(mu: float) -> TradeOff:
    """The curve of N(0, 1) against N(mu, 1)."""
    return lambda right: float(special.ndtr(special.ndtri(right) - mu))


def f_dp_refutes(
    canaries: int, guesses: int, correct: int, curve: TradeOff, significance: float = 0.05
) -> bool:
    """Whether that many right guesses refute that every canary obeys the trade-off curve.

    For each i, `right` bounds the probability of being right on one canary, and `wrong` of being
    wrong on it, while at least i others are right, both averaged over canaries. Starting from
    i = correct, where the hypothesis "this happens with probability `significance`" fixes both,
    the curve forces `wrong` up and `wrong` forces `right` up; the hypothesis falls when together
    they pass the share of canaries guessed on.

    Raises:
        InvalidScores: impossible counts or significance outside (0, 0.5].
    """
    check_counts(canaries, guesses, correct)
    check_significance(significance)
    right = significance * correct / canaries
    wrong = significance * (guesses - correct) / canaries
    for i in range(correct - 1, -1, -1):
        forced = curve(right)
        if forced <= wrong:
            break  # neither can change any more
        right = min(right + (forced - wrong) * i / (guesses - i), 1.0)
        wrong = forced
    return right + wrong > guesses / canaries


def f_dp_mu_bound(
    canaries: int, guesses: int, correct: int, significance: float = 0.05
) -> float | None:
    """The largest mu in [0, 100] that the guesses refute; None where they refute nothing.

    Raises:
        InvalidScores: impossible counts or significance outside (0, 0.5].
    """

    def refuted(mu: float) -> bool:
        return f_dp_refutes(canaries, guesses, correct, gaussian_curve(mu), significance)

    if not refuted(0.0):
        return None
    return MU_LARGEST if refuted(MU_LARGEST) else _last_refuted(refuted, MU_LARGEST)


def f_dp_bound(
    canaries: int, guesses: int, correct: int, delta: float, significance: float = 0.05
) -> float:
    """The f-DP bound as an epsilon at `delta`; 0 where nothing is refuted.

    Holds under the hypothesis that the run's trade-off curve is Gaussian; see the module's text.

    Raises:
        InvalidScores: impossible counts, delta outside (0, 1), significance outside (0, 0.5].
    """
    check_delta(delta)
    mu = f_dp_mu_bound(canaries, guesses, correct, significance)
    return 0.0 if mu is None else gaussian_epsilon(mu, delta)


def composed_bound(
    canaries: int,
    guesses: int,
    correct: int,
    mechanism: SubsampledGaussian,
    delta: float,
    significance: float = 0.05,
) -> float:
    """The f-DP bound for a mechanism of known sampling and steps and unknown noise.

    The hypotheses are "at least as private as `mechanism` with noise multiplier s". Less noise is
    a weaker hypothesis, so those that fall are all from some s on; the result is epsilon at delta
    of the smallest s that falls, on a grid, and 0 where none does.

    Guarantee: if the hypothesis holds at s, the bound exceeds epsilon(s) with probability at most
    `significance`.

    Raises:
        InvalidScores: impossible counts, delta outside (0, 1), significance outside (0, 0.5].
    """
    check_delta(delta)

    def refuted(step: int) -> bool:
        curve = mechanism.curve(2.0 ** (step / NOISES_PER_OCTAVE))
        return f_dp_refutes(canaries, guesses, correct, curve, significance)

    low = round(math.log2(NOISE_SMALLEST) * NOISES_PER_OCTAVE)  # taken as standing
    high = round(math.log2(NOISE_LARGEST) * NOISES_PER_OCTAVE)
    if not refuted(high):
        return 0.0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if refuted(middle) else (middle, high)
    return mechanism.curve(2.0 ** (high / NOISES_PER_OCTAVE)).epsilon(delta)
