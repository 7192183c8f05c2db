"""Power of an epsilon audit of DP-SGD itself: composed, subsampled, as one observer sees it.

`power` answers for one Gaussian release. Here the claim is a mechanism of many subsampled
steps, and the observer may see a canary under more noise than its hospital added (the sum of a
secure aggregation holds everybody's noise). Right guesses are binomial with the chances that
`scores` computes, so the power is exact but for what patients add to the score: it is that
of the best observer. Only with the power in hand are guesses chosen, before anything is scored.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from attacks.epsilon.bounds import (
    NOISES_PER_OCTAVE,
    TradeOff,
    check_counts,
    check_significance,
    f_dp_refutes,
    fewest_refuting,
)
from attacks.epsilon.scores import ASSUMED_NOISE, ScoreLaws, score_laws
from attacks.epsilon.trade_off import NOISE_LARGEST, Curve, SubsampledGaussian
from attacks.errors import InvalidScores

WANTED_POWER = 0.8
SHARES_IN = (0.5, 0.55, 0.6)  # of the guesses that are "in"; more do not help
PLANS = 200  # numbers of guesses that are tried
HALVED = 0.5
SPARE = 1  # wrong guesses that a plan survives, where that costs little:
WORTH = 0.9  # of the power that a plan without has
MARGIN = 2.0 ** (-2 / NOISES_PER_OCTAVE)  # a bound is over a claim if this much less noise falls


@dataclass(frozen=True)
class CanaryView:
    """What an observer sees of a canary, if the claim is true.

    Attributes:
        mechanism: sampling and all steps of the hospital.
        claimed_noise: its noise multiplier by the claim, > 0.
        rounds, steps_per_round: that the observer saw.
        noise_ratio: noise that the observer sees over the noise of the claim, > 0; 1 where it sees
            the hospital's own update.

    Raises:
        InvalidScores: no rounds, or no noise.
    """

    mechanism: SubsampledGaussian
    claimed_noise: float
    rounds: int
    steps_per_round: int = 1
    noise_ratio: float = 1.0

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.steps_per_round < 1:
            raise InvalidScores(f"nothing is seen in {self.rounds} rounds")
        for value in (self.claimed_noise, self.noise_ratio):
            if not (math.isfinite(value) and value > 0):
                raise InvalidScores(f"a canary is not seen under noise {value}")

    @property
    def contradicted(self) -> Curve:
        """The curve that has to fall for the bound to be over the claim."""
        return self.mechanism.curve(MARGIN * self.claimed_noise)

    @property
    def seen_noise(self) -> float:
        """Standard deviation of one step's noise as it is seen, by the claim, in clipping norms."""
        return self.claimed_noise * self.noise_ratio

    @property
    def assumed_noise(self) -> float:
        """The noise that scores assume, in clipping norms."""
        return ASSUMED_NOISE * self.seen_noise

    def laws(self, noise_multiplier: float) -> ScoreLaws:
        """Laws of the score if the noise multiplier is this one in truth."""
        seen = noise_multiplier * self.noise_ratio
        return score_laws(
            self.mechanism.sample_rate, self.steps_per_round, self.rounds, seen, self.assumed_noise
        )


def critical_count(
    canaries: int, guesses: int, curve: TradeOff, significance: float = 0.05
) -> int | None:
    """The fewest right guesses that refute the curve; None if not even all of them do.

    Raises:
        InvalidScores: impossible counts or significance.
    """
    check_counts(canaries, guesses, guesses)
    check_significance(significance)

    def refuted(correct: int) -> bool:
        return f_dp_refutes(canaries, guesses, correct, curve, significance)

    return fewest_refuting(guesses, refuted)


def composed_power(
    canaries: int, guesses_in: int, guesses_out: int, critical: int | None, laws: ScoreLaws
) -> float:
    """P[at least `critical` right guesses], calls of "in" and of "out" being independent."""
    if critical is None:
        return 0.0
    accuracies = laws.accuracies(guesses_in / canaries, guesses_out / canaries)
    counts = [
        stats.binom.pmf(np.arange(guesses + 1), guesses, accuracy)
        for guesses, accuracy in zip((guesses_in, guesses_out), accuracies, strict=True)
    ]
    return min(1.0, float(np.convolve(*counts)[critical:].sum()))


def choose_guesses(canaries: int, view: CanaryView, significance: float = 0.05) -> tuple[int, int]:
    """How many canaries to call "in" and "out": most power against half the claimed noise.

    Power is that of the best observer, and a plan that one wrong guess ends has less of it in
    practice. So of the numbers that refute the claim with SPARE wrong guesses the best is taken,
    where it has nearly as much power as the best of all. Where no number refutes the claim, every
    canary is guessed on, which shows the most of a leak.
    """
    laws = view.laws(HALVED * view.claimed_noise)
    every = (canaries - canaries // 2, canaries // 2)
    strict, spare = (0.0, every), (0.0, every)
    for guesses in sorted({round(canaries * i / PLANS) for i in range(1, PLANS + 1)} - {0}):
        critical = critical_count(canaries, guesses, view.contradicted, significance)
        if critical is None:
            continue
        for share in SHARES_IN:
            calls = (round(share * guesses), guesses - round(share * guesses))
            plan = composed_power(canaries, *calls, critical, laws), calls
            strict = max(strict, plan)
            if guesses - critical >= SPARE:
                spare = max(spare, plan)
    return spare[1] if spare[0] >= WORTH * strict[0] > 0 else strict[1]


@dataclass(frozen=True)
class Power:
    """What a plan could have seen.

    Attributes:
        against_halved: chance to contradict the claim, had there been half the noise.
        noticed_noise: the largest share of the claimed noise that would have been noticed four
            times in five; 0 where none would.
        visible_epsilon: the smallest true epsilon whose bound is above 0 four times in five;
            infinite where none is.
    """

    against_halved: float
    noticed_noise: float
    visible_epsilon: float


def power_of(
    canaries: int, calls: tuple[int, int], view: CanaryView, delta: float, significance: float
) -> Power:
    """The power of calling `calls` canaries "in" and "out"."""
    claim = critical_count(canaries, sum(calls), view.contradicted, significance)
    nothing = critical_count(
        canaries, sum(calls), view.mechanism.curve(NOISE_LARGEST), significance
    )

    def seen(critical: int | None, share: float) -> float:
        return composed_power(canaries, *calls, critical, view.laws(share * view.claimed_noise))

    noticed = largest_share(lambda share: seen(claim, share), 1 / 16, 1.0)
    visible = largest_share(lambda share: seen(nothing, share), 1 / 16, 64.0)
    epsilon = math.inf
    if visible:
        epsilon = view.mechanism.curve(visible * view.claimed_noise).epsilon(delta)
    return Power(seen(claim, HALVED), noticed, epsilon)


def largest_share(power: Callable[[float], float], low: float, high: float) -> float:
    """The largest share of the noise with WANTED_POWER, to 1%; 0 if there is none."""
    if power(low) < WANTED_POWER:
        return 0.0
    if power(high) >= WANTED_POWER:
        return high
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if power(middle) >= WANTED_POWER else (low, middle)
    return low
