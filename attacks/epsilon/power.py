"""What an epsilon audit of a run without a claim could have seen: computed, never guessed.

A bound of 0 from 50 canaries means little, and the report has to say how little. The number of
right guesses is binomial, so the power is exact once the chance of a right guess is known. Here it
is that of the ideal attacker of one Gaussian release, who guesses on the canaries with the most
extreme scores. A real attack is weaker, so that the smallest epsilon it sees is larger. Guesses are
taken as independent; clipping and shared batches couple canaries a little. Where a run claims an
epsilon, its own mechanism is known, and `composed_power` answers.
"""

import math

from scipy import optimize, special, stats

from attacks.epsilon.bounds import (
    check_counts,
    check_significance,
    fewest_refuting,
    one_run_p_value,
)
from attacks.epsilon.composed_power import WANTED_POWER
from attacks.epsilon.gaussian_dp import MU_LARGEST, gaussian_epsilon
from attacks.errors import InvalidScores


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
    canaries: int, guesses: int, delta: float, significance: float = 0.05
) -> float:
    """The smallest true epsilon of a Gaussian release whose one-run bound is above 0 four times
    in five.

    Infinity where no epsilon is visible: too few guesses, or delta too large for the canaries.

    Raises:
        InvalidScores: impossible counts, delta or significance.
    """
    check_counts(canaries, guesses, guesses)
    check_significance(significance)

    def refuted(correct: int) -> bool:
        return one_run_p_value(canaries, guesses, correct, 0.0, delta) < significance

    critical = fewest_refuting(guesses, refuted)
    if critical is None:
        return math.inf
    # The accuracy at which at least `critical` guesses are right with the wanted power.
    accuracy = float(stats.beta.ppf(WANTED_POWER, critical, guesses - critical + 1))
    return gaussian_epsilon(_mu_of_accuracy(accuracy, guesses / canaries), delta)


def _mu_of_accuracy(accuracy: float, guessed_share: float) -> float:
    """The mu at which the ideal attacker is right that often."""
    if accuracy <= 0.5:
        return 0.0

    def excess(mu: float) -> float:
        return guess_accuracy_gaussian(mu, guessed_share) - accuracy

    return float(optimize.brentq(excess, 0.0, MU_LARGEST))
