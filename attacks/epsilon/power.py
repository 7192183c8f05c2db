"""What an epsilon audit could have seen: its power, computed before or after, never guessed.

A bound of 0 from 50 canaries means little, and the report has to say how little. The number of
right guesses is binomial, so the power is exact once the chance of a right guess is known. Two
ideal attackers give it: one facing randomised response, who is right with probability
e^eps / (1 + e^eps), the most that any (eps, 0)-DP run allows; and one facing a Gaussian mechanism
who guesses on the canaries with the most extreme scores. A real attack is weaker than either, so
its power is smaller and the smallest epsilon it sees is larger. Guesses are taken as independent;
clipping and shared batches couple canaries a little.
"""

import math
from typing import Literal

from scipy import optimize, special, stats

from attacks.epsilon.bounds import (
    check_counts,
    check_significance,
    f_dp_refutes,
    fewest_refuting,
    gaussian_curve,
    one_run_p_value,
)
from attacks.epsilon.gaussian_dp import MU_LARGEST, gaussian_epsilon, gaussian_mu
from attacks.errors import InvalidScores

Method = Literal["one_run", "f_dp"]
Attacker = Literal["randomised response", "gaussian"]


def critical_correct(
    canaries: int,
    guesses: int,
    epsilon: float,
    delta: float,
    *,
    method: Method = "one_run",
    significance: float = 0.05,
) -> int | None:
    """The fewest right guesses whose bound exceeds `epsilon`; None if not even all of them do.

    Raises:
        InvalidScores: impossible counts, epsilon, delta or significance.
    """
    check_counts(canaries, guesses, guesses)
    check_significance(significance)
    curve = gaussian_curve(gaussian_mu(epsilon, delta)) if method == "f_dp" else None

    def refuted(correct: int) -> bool:
        if curve is not None:
            return f_dp_refutes(canaries, guesses, correct, curve, significance)
        return one_run_p_value(canaries, guesses, correct, epsilon, delta) < significance

    return fewest_refuting(guesses, refuted)


def power(guesses: int, critical: int | None, accuracy: float) -> float:
    """P[at least `critical` right guesses] at that chance of a right guess."""
    if critical is None:
        return 0.0
    return float(stats.binom.sf(critical - 1, guesses, accuracy))


def guess_accuracy_gaussian(mu: float, guessed_share: float) -> float:
    """The ideal attacker's chance of a right guess on a mu-GDP canary.

    Scores are N(mu/2, 1) with the canary and N(-mu/2, 1) without, coins fair. The attacker
    guesses on the `guessed_share` of canaries with the largest absolute scores.

    Raises:
        InvalidScores: guessed_share outside (0, 1] or mu outside [0, 100].
    """
    if not 0 < guessed_share <= 1 or not 0 <= mu <= MU_LARGEST:
        raise InvalidScores(f"no attacker guesses a share {guessed_share} at mu {mu}")

    def beyond(cut: float) -> float:  # P[|score| > cut]
        return float(special.ndtr(mu / 2 - cut) + special.ndtr(-mu / 2 - cut))

    if guessed_share == 1:
        cut = 0.0
    else:
        cut = optimize.brentq(lambda c: beyond(c) - guessed_share, 0.0, mu / 2 + 40)
    return float(special.ndtr(mu / 2 - cut)) / beyond(cut)


def smallest_visible_epsilon(
    canaries: int,
    guesses: int,
    delta: float,
    *,
    attacker: Attacker,
    method: Method = "one_run",
    wanted_power: float = 0.8,
    above: float = 0.0,
    significance: float = 0.05,
) -> float:
    """The smallest true epsilon whose bound exceeds `above` with probability `wanted_power`.

    Infinity where no epsilon is visible: too few guesses, or delta too large for the canaries.
    For the Gaussian attacker epsilon is at `delta`; for randomised response it is pure.

    Raises:
        InvalidScores: impossible counts, or wanted_power outside (0, 1).
    """
    if not 0 < wanted_power < 1:
        raise InvalidScores(f"wanted_power must be in (0, 1), got {wanted_power}", hint="0.8")
    critical = critical_correct(
        canaries, guesses, above, delta, method=method, significance=significance
    )
    if critical is None:
        return math.inf
    # The accuracy at which at least `critical` guesses are right with the wanted power.
    accuracy = float(special.betaincinv(critical, guesses - critical + 1, wanted_power))
    if attacker == "randomised response":
        return max(math.log(accuracy / (1 - accuracy)), 0.0)
    return gaussian_epsilon(_mu_of_accuracy(accuracy, guesses / canaries), delta)


def _mu_of_accuracy(accuracy: float, guessed_share: float) -> float:
    """The mu at which the ideal attacker is right that often."""
    if accuracy <= 0.5:
        return 0.0

    def excess(mu: float) -> float:
        return guess_accuracy_gaussian(mu, guessed_share) - accuracy

    return float(optimize.brentq(excess, 0.0, MU_LARGEST))


def power_against_halved_noise(
    canaries: int,
    guesses: int,
    claimed_epsilon: float,
    delta: float,
    *,
    method: Method = "one_run",
    significance: float = 0.05,
) -> float:
    """P[the bound exceeds the claimed epsilon] when a Gaussian run had half the noise it claims.

    Half the noise doubles mu of one release, and at least doubles that of composed, subsampled
    releases: a lower estimate of what an ideal attacker sees.

    Raises:
        InvalidScores: impossible counts, epsilon or delta.
    """
    critical = critical_correct(
        canaries, guesses, claimed_epsilon, delta, method=method, significance=significance
    )
    halved = min(2 * gaussian_mu(claimed_epsilon, delta), MU_LARGEST)
    return power(guesses, critical, guess_accuracy_gaussian(halved, guesses / canaries))
