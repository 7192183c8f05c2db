"""Privacy accounting: what a history of DP-SGD steps costs, and how much noise a budget needs.

One step is a Poisson-subsampled Gaussian mechanism: each privacy unit (a patient, unless the run
says otherwise) is drawn independently with probability `sample_rate`, its gradient is clipped to
norm C, and N(0, (noise_multiplier C)^2) is added to the sum. Adjacency is add/remove: two data
sets are neighbours if one holds one unit more.

The computations are Opacus' (see `composition`). Both figures, PRV and RDP, are upper bounds. For
PRV it is the accountant's own upper end, epsilon at delta - delta/1000, plus 0.01, or the RDP bound
where that is smaller.

Not covered: steps with another mechanism or another kind of sampling, and epsilons obtained
elsewhere: everything that touched a patient has to be in the history. PRV composes the
"remove" direction, which is the worse one for this mechanism at each step and, as far as is
known, under composition too (Lebeda, Regehr, Kamath & Steinke 2024 discuss where that fails for
others); a test compares both directions with an independent computation.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from securefed.errors import ConfigurationError
from securefed.privacy.accountant import Accountant

#: Where the noise comes from: only the cryptographic one protects anybody.
Noise = Literal["cryptographic", "seeded", "none"]

NEGLIGIBLE_NOISE = 1e-6
MIN_NOISE_MULTIPLIER, MAX_NOISE_MULTIPLIER = 0.05, 1e4
SMALLEST_EPSILON = 1e-12  # stands for 0 where a logarithm is taken
NOISE_MULTIPLIERS_PER_UNIT = 10_000  # the solved one is rounded up to a multiple of 1/10,000
LEAST_MULTIPLE = round(MIN_NOISE_MULTIPLIER * NOISE_MULTIPLIERS_PER_UNIT)
MOST_MULTIPLE = round(MAX_NOISE_MULTIPLIER * NOISE_MULTIPLIERS_PER_UNIT)
SURELY = 10  # times the error that an estimate was seen to have


@dataclass(frozen=True)
class Event:
    """Equal DP-SGD steps: `steps` releases of a Poisson-subsampled Gaussian sum.

    Attributes:
        noise_multiplier: standard deviation of the noise over the clipping norm, >= 0.
        sample_rate: probability with which each unit enters a step, in (0, 1].
        steps: how many steps, >= 0; steps whose Poisson batch was empty count too.
        noise_from: how many hospitals' noise together is `noise_multiplier`; 1 is the hospital's
            own, more need others to keep to the protocol (`distributed`). Costs the same.

    Raises:
        ConfigurationError: a field out of its range, or not a number.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int
    noise_from: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0):
            raise ConfigurationError(
                f"noise_multiplier must be finite and not negative, got {self.noise_multiplier}"
            )
        if not 0 < self.sample_rate <= 1:
            raise ConfigurationError(
                f"sample_rate must be in (0, 1], got {self.sample_rate}",
                hint="it is the expected batch size over the number of patients",
            )
        if type(self.steps) is not int or self.steps < 0:
            raise ConfigurationError(
                f"steps must be a whole number, not negative, got {self.steps!r}",
                hint="a part of a step releases as much as a whole one: round up",
            )
        if type(self.noise_from) is not int or self.noise_from < 1:
            raise ConfigurationError(
                f"noise_from must be a whole number, at least 1, got {self.noise_from!r}"
            )


def at_most(epsilon: float | None) -> str:
    """An upper bound in three decimals, rounded up; "-" for None.

    Every screen and page prints epsilon with this: rounded to the nearest figure it would look
    smaller than it is half of the time.
    """
    return _decimals(epsilon, math.ceil)


def at_least(epsilon: float | None) -> str:
    """A lower bound, as an audit certifies, in three decimals, rounded down; "-" for None."""
    return _decimals(epsilon, math.floor)


def _decimals(epsilon: float | None, whole: Callable[[float], int]) -> str:
    if epsilon is None:
        return "-"
    return f"{whole(epsilon * 1000) / 1000:.3f}" if math.isfinite(epsilon) else f"{epsilon}"


@dataclass(frozen=True)
class Guarantee:
    """An epsilon with everything that it means nothing without; its text is how it is printed.

    Attributes:
        counted: what the accountant comes to.
        noise: seeded noise promises nothing, whatever the accountant counts.
        noise_from: how many hospitals' noise together it takes; 1 is the hospital's own.
    """

    counted: float
    delta: float
    unit: str
    accountant: Accountant
    noise: Noise = "cryptographic"
    noise_from: int = 1
    adjacency: str = "add/remove"
    sampling: str = "poisson"

    @property
    def epsilon(self) -> float | None:
        """What is promised; None where nothing is."""
        return self.counted if self.noise == "cryptographic" else None

    def __str__(self) -> str:
        told = f"epsilon {at_most(self.counted)} at delta {self.delta:g} per {self.unit} "
        together = f", noise of {self.noise_from} hospitals together" if self.noise_from > 1 else ""
        told += (
            f"({self.adjacency} adjacency, {self.sampling} sampling, "
            f"{self.accountant.upper()} upper bound{together})"
        )
        if self.epsilon is None:
            return f"no epsilon: who has the seed removes the {self.noise} noise (counted: {told})"
        return told


def largest(guarantees: Iterable[Guarantee]) -> float | None:
    """The largest epsilon that is promised; None where one promises nothing, or there is none."""
    promised = [each.epsilon for each in guarantees]
    return None if None in promised else max(promised, default=None)  # type: ignore[type-var]


def steps_by_mechanism(history: Sequence[Event]) -> dict[tuple[float, float], int]:
    """(noise_multiplier, sample_rate) -> steps: all that composition looks at."""
    steps: dict[tuple[float, float], int] = {}
    for event in history:
        mechanism = (event.noise_multiplier, event.sample_rate)
        steps[mechanism] = steps.get(mechanism, 0) + event.steps
    return steps


def epsilon(history: Sequence[Event], delta: float, accountant: Accountant = "prv") -> float:
    """An upper bound on epsilon of the whole history, composed as one.

    | history                          | result                                          |
    |----------------------------------|-------------------------------------------------|
    | empty, or zero steps only        | 0.0                                             |
    | noise_multiplier below 1e-6      | inf                                             |
    | sample_rate 1                    | the Gaussian mechanism without subsampling      |
    | PRV grid above 2^23 points       | the RDP bound instead: looser, and still a bound|
    | many kinds of steps (2^24 in all)| the same: each kind needs a grid of its own     |
    | RDP bound below PRV's            | the RDP bound: both hold                        |
    | order of the events              | does not matter; equal events are added up      |
    | a sum of epsilons per round      | would be larger: composition is not addition    |

    Results are kept for the life of the process: the same history is computed once.

    Raises:
        ConfigurationError: delta outside (0, 1), or an unknown accountant.
        PrivacyError: PRV is not accurate enough for this history (a delta below about 1e-14).
    """
    _require_known(delta, accountant)
    composed = _composed(history)
    if not composed:
        return 0.0
    if composed[0][0] < NEGLIGIBLE_NOISE:
        return math.inf
    from securefed.privacy import composition  # imports torch: only when it is needed

    bound = composition.prv_epsilon if accountant == "prv" else composition.rdp_epsilon
    return bound(composed, delta)


def _composed(history: Sequence[Event]) -> tuple[tuple[float, float, int], ...]:
    steps = steps_by_mechanism(history)
    return tuple(sorted((*mechanism, n) for mechanism, n in steps.items() if n > 0))


def _require_known(delta: float, accountant: str) -> None:
    if not 0 < delta < 1:
        raise ConfigurationError(
            f"delta must be between 0 and 1, got {delta}",
            hint="set privacy.delta well below one over the number of patients",
        )
    if accountant not in get_args(Accountant):
        raise ConfigurationError(f"accountant must be prv or rdp, got {accountant!r}")


def solve_noise_multiplier(
    target_epsilon: float,
    delta: float,
    sample_rate: float,
    steps: int,
    accountant: Accountant = "prv",
    beside: Sequence[Event] = (),
) -> float:
    """The smallest noise multiplier, rounded up to 0.0001, that keeps `steps` steps in the budget.

    Solve once, for all the steps of all rounds: solving again in a later round would spend the
    budget again. Guarantee: `epsilon([*beside, Event(result, sample_rate, steps)], delta,
    accountant)` is at most `target_epsilon` (computed once more before returning). At least 0.05 is
    returned.

    Args:
        beside: what else the budget pays for.

    Raises:
        ConfigurationError: a value out of its range, no steps, or a target that even a noise
            multiplier of 10,000 cannot reach.
    """
    if not (math.isfinite(target_epsilon) and target_epsilon > 0):
        raise ConfigurationError(
            f"epsilon must be positive and finite, got {target_epsilon}",
            hint="for training without differential privacy use --no-dp",
        )
    Event(1.0, sample_rate, steps)  # refuses a rate or a number of steps out of range
    _require_known(delta, accountant)
    from securefed.privacy import composition  # imports torch: only when it is needed

    if steps == 0:
        raise ConfigurationError("zero steps need no noise", hint="set rounds and epochs first")

    def over(noise_multiplier: float, bound: Callable[..., float], *other: object) -> float:
        history = _composed([*beside, Event(noise_multiplier, sample_rate, steps)])
        return _log_ratio(bound(history, delta, *other), target_epsilon)

    def rough_excess(noise_multiplier: float) -> float:
        return over(noise_multiplier, composition.rdp_epsilon, composition.GRID_ORDERS)

    def close_excess(noise_multiplier: float) -> float:
        close = composition.prv_estimate if accountant == "prv" else composition.rdp_epsilon
        return over(noise_multiplier, close)

    def excess(noise_multiplier: float) -> float:
        event = Event(noise_multiplier, sample_rate, steps)
        return _log_ratio(epsilon([*beside, event], delta, accountant), target_epsilon)

    if rough_excess(MAX_NOISE_MULTIPLIER) > 0 and excess(MAX_NOISE_MULTIPLIER) > 0:
        raise ConfigurationError(
            f"epsilon {target_epsilon:g} cannot be reached: it would need a noise multiplier "
            f"above {MAX_NOISE_MULTIPLIER:g}",
            hint="use fewer rounds or local steps, a smaller batch, or a larger epsilon or "
            f"delta; the accountants show nothing below about {composition.EPSILON_ERROR}",
        )
    start = 1.0
    if rough_excess(MAX_NOISE_MULTIPLIER) < 0 < rough_excess(MIN_NOISE_MULTIPLIER):
        start = _root(rough_excess, MIN_NOISE_MULTIPLIER, MAX_NOISE_MULTIPLIER)
    # The fine grid may take seconds. It is asked where the coarse one crosses the target, which
    # says how far that one is off, and for what is returned.
    near = math.ceil(_crossing(close_excess, start) * NOISE_MULTIPLIERS_PER_UNIT)
    noise = near / NOISE_MULTIPLIERS_PER_UNIT
    off = abs(excess(noise) - close_excess(noise))

    def enough(multiple: int) -> bool:
        noise = multiple / NOISE_MULTIPLIERS_PER_UNIT
        # Where the coarse grid says no by far it is believed: no is on the safe side.
        return close_excess(noise) <= SURELY * off and excess(noise) <= 0

    return _smallest(enough, near) / NOISE_MULTIPLIERS_PER_UNIT


def _smallest(enough: Callable[[int], bool], guess: int) -> int:
    """The smallest multiple that is enough, where the largest is, found outwards from a guess."""
    least, most = LEAST_MULTIPLE, MOST_MULTIPLE
    high, stride = guess, 1
    while high < most and not enough(high):
        high, stride = min(high + stride, most), 2 * stride
    low, stride = (guess if high > guess else high - 1), 1
    while low >= least and enough(low):
        high, low, stride = low, low - stride, 2 * stride
    low = max(low, least - 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _log_ratio(value: float, target: float) -> float:
    """log(value / target), also for the epsilon of 0 that much noise and a large delta give."""
    return math.log(max(value, SMALLEST_EPSILON) / target)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where `function` crosses zero; in logarithms it is nearly straight, so few calls suffice."""

    def of_logarithm(x: float) -> float:
        return function(math.exp(x))

    from scipy.optimize import brentq  # takes a while to load, and an epsilon is shown without it

    return math.exp(brentq(of_logarithm, math.log(low), math.log(high), xtol=1e-5, rtol=1e-6))


def _crossing(excess: Callable[[float], float], start: float) -> float:
    """The noise multiplier from which on there is enough, searched from `start`; or the floor."""
    high = start
    while excess(high) > 0:
        if high >= MAX_NOISE_MULTIPLIER:
            return MAX_NOISE_MULTIPLIER
        high = min(1.5 * high, MAX_NOISE_MULTIPLIER)
    low = max(high / 1.5, MIN_NOISE_MULTIPLIER)
    while excess(low) <= 0:
        if low <= MIN_NOISE_MULTIPLIER:
            return MIN_NOISE_MULTIPLIER
        high, low = low, max(low / 1.5, MIN_NOISE_MULTIPLIER)
    return _root(excess, low, high)
