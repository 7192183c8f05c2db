"""Privacy accounting: what a history of DP-SGD steps costs, and how much noise a budget needs.

One step is a Poisson-subsampled Gaussian mechanism: each privacy unit (a patient, unless the run
says otherwise) is drawn independently with probability `sample_rate`, its gradient is clipped to
norm C, and N(0, (noise_multiplier C)^2) is added to the sum. Adjacency is add/remove: two data
sets are neighbours if one holds one unit more.

The computations are Opacus': PRV (Gopi, Lee & Wutschitz 2021, "Numerical composition of
differential privacy") and RDP (Mironov, Talwar & Zhang 2019, converted by Balle et al. 2020,
theorem 21). Both figures are upper bounds. For PRV it is the accountant's own upper end: epsilon
at delta - delta/1000 plus EPSILON_ERROR, hence nothing below 0.01 can be shown by it.

Not covered: steps with another mechanism or another kind of sampling, and epsilons obtained
elsewhere: everything that touched a patient has to be in the history. PRV composes the
"remove" direction, which is the worse one for this mechanism at each step and, as far as is
known, under composition too (Lebeda, Regehr, Kamath & Steinke 2024 discuss where that fails for
others); a test compares both directions with an independent computation.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from opacus.accountants import PRVAccountant
from opacus.accountants.analysis import rdp as renyi
from opacus.accountants.analysis.prv import Domain
from scipy.optimize import brentq

from securefed.errors import ConfigurationError, PrivacyError

Accountant = Literal["prv", "rdp"]

EPSILON_ERROR = 0.01  # PRV: the upper bound lies at most 0.02 above the true epsilon
MAX_GRID_POINTS = 1 << 23  # PRV: about half a gigabyte while it computes
MAX_GRID_HALF_WIDTH = 600.0  # PRV: exp of it must be finite
# Opacus' own orders, and larger ones for the noise of very small epsilons.
RENYI_ORDERS = (*(1 + x / 10.0 for x in range(1, 100)), *range(12, 64), 64, 96, 128, 256, 512)
GRID_ORDERS = (1.2, 1.5, *range(2, 12), 16, 24, 32, 48, 64, 128)
NEGLIGIBLE_NOISE = 1e-6
MIN_NOISE_MULTIPLIER, MAX_NOISE_MULTIPLIER = 0.05, 1e4
NOISE_MULTIPLIERS_PER_UNIT = 10_000  # the solved one is rounded up to a multiple of 1/10,000


@dataclass(frozen=True)
class Event:
    """Equal DP-SGD steps: `steps` releases of a Poisson-subsampled Gaussian sum.

    Attributes:
        noise_multiplier: standard deviation of the noise over the clipping norm, >= 0.
        sample_rate: probability with which each unit enters a step, in (0, 1].
        steps: how many steps, >= 0; steps whose Poisson batch was empty count too.

    Raises:
        ConfigurationError: a field out of its range, or not a number.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int

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


@dataclass(frozen=True)
class Guarantee:
    """An epsilon with everything that it means nothing without."""

    epsilon: float
    delta: float
    unit: str
    accountant: Accountant
    adjacency: str = "add/remove"
    sampling: str = "poisson"

    @property
    def rounded_up(self) -> float:
        """Epsilon to three decimals, never below what was computed."""
        return math.ceil(self.epsilon * 1000) / 1000 if math.isfinite(self.epsilon) else math.inf

    def __str__(self) -> str:
        return (
            f"epsilon {self.rounded_up:.3f} at delta {self.delta:g} per {self.unit} "
            f"({self.adjacency} adjacency, {self.sampling} sampling, "
            f"{self.accountant.upper()} upper bound)"
        )


def epsilon(history: Sequence[Event], delta: float, accountant: Accountant = "prv") -> float:
    """An upper bound on epsilon of the whole history, composed as one.

    | history                          | result                                          |
    |----------------------------------|-------------------------------------------------|
    | empty, or zero steps only        | 0.0                                             |
    | noise_multiplier below 1e-6      | inf                                             |
    | sample_rate 1                    | the Gaussian mechanism without subsampling      |
    | PRV grid above 2^23 points       | the RDP bound instead: looser, and still a bound|
    | order of the events              | does not matter; equal events are added up      |
    | a sum of epsilons per round      | would be larger: composition is not addition    |

    Results are kept for the life of the process: the same history is computed once.

    Raises:
        ConfigurationError: delta outside (0, 1), or an unknown accountant.
        PrivacyError: PRV is not accurate enough for this history (a delta below about 1e-14).
    """
    _require_known(delta, accountant)
    steps: dict[tuple[float, float], int] = {}
    for event in history:
        mechanism = (event.noise_multiplier, event.sample_rate)
        steps[mechanism] = steps.get(mechanism, 0) + event.steps
    composed = tuple(sorted((*mechanism, n) for mechanism, n in steps.items() if n > 0))
    if not composed:
        return 0.0
    if composed[0][0] < NEGLIGIBLE_NOISE:
        return math.inf
    return _ACCOUNTANTS[accountant](composed, delta)


def _require_known(delta: float, accountant: str) -> None:
    if not 0 < delta < 1:
        raise ConfigurationError(
            f"delta must be between 0 and 1, got {delta}",
            hint="set privacy.delta well below one over the number of patients",
        )
    if accountant not in _ACCOUNTANTS:
        raise ConfigurationError(f"accountant must be prv or rdp, got {accountant!r}")


# (noise_multiplier, sample_rate, steps), sorted, each pair of the first two once.
_Composed = tuple[tuple[float, float, int], ...]


@lru_cache(maxsize=1024)
def _renyi_divergence(
    noise_multiplier: float, sample_rate: float, orders: tuple[float, ...]
) -> npt.NDArray[np.float64]:
    # Huge noise overflows in orders that do not matter: they become infinite and are not chosen.
    with np.errstate(all="ignore"):
        divergence = renyi.compute_rdp(
            q=sample_rate, noise_multiplier=noise_multiplier, steps=1, orders=orders
        )
    return np.asarray(divergence, dtype=np.float64)


@lru_cache(maxsize=4096)
def _rdp_epsilon(
    composed: _Composed, delta: float, orders: tuple[float, ...] = RENYI_ORDERS
) -> float:
    divergence = sum(n * _renyi_divergence(sigma, rate, orders) for sigma, rate, n in composed)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # "Optimal order is the largest alpha": the bound holds, a wider range would be tighter.
        warnings.filterwarnings("ignore", message="Optimal order is the")
        bound, _ = renyi.get_privacy_spent(orders=orders, rdp=divergence, delta=delta)
    return max(0.0, float(bound))


class _QuickPRVAccountant(PRVAccountant):  # type: ignore[misc]  # Opacus ships no types
    """Opacus' PRV accountant, except that fewer Renyi orders bound the range of its grid.

    Nineteen twentieths of its time went into that bound, over 150 orders. A bound from fewer
    orders is looser, so the grid only becomes wider; the step of the grid is unchanged.
    """

    def _get_domain(
        self,
        prvs: Sequence[object],
        num_self_compositions: Sequence[int],
        eps_error: float,
        delta_error: float,
    ) -> Domain:
        total = sum(num_self_compositions)
        range_of = [_rdp_epsilon(tuple(self.history), delta_error / 4, GRID_ORDERS)]
        for sigma, rate, _ in self.history:
            single = ((sigma, rate, 1),)
            range_of.append(_rdp_epsilon(single, delta_error / (8 * total), GRID_ORDERS))
        half_width = max(*range_of, eps_error) + 3  # Gopi et al., remark 5.6
        mesh = eps_error / math.sqrt(total * math.log(12 / delta_error) / 2)
        if 2 * half_width / mesh > MAX_GRID_POINTS or half_width > MAX_GRID_HALF_WIDTH:
            raise _GridTooLargeError
        return Domain.create_aligned(-half_width, half_width, mesh)


class _GridTooLargeError(Exception):
    """Raised and caught within this module."""


@lru_cache(maxsize=4096)
def _prv_epsilon(composed: _Composed, delta: float) -> float:
    accountant = _QuickPRVAccountant()
    accountant.history = list(composed)
    try:
        with np.errstate(all="ignore"):  # at sample_rate 1 the formulas rightly take log(0)
            # Opacus returns the upper end of its interval.
            bound = float(accountant.get_epsilon(delta, eps_error=EPSILON_ERROR))
    except _GridTooLargeError:
        return _rdp_epsilon(composed, delta)
    except (RuntimeError, ValueError) as error:
        raise PrivacyError(
            f"the PRV accountant cannot compute epsilon at delta {delta:g}: {error}",
            hint="choose a larger privacy.delta, or privacy.accountant: rdp",
        ) from error
    if not math.isfinite(bound):
        raise PrivacyError(
            f"the PRV accountant lost its accuracy at delta {delta:g}",
            hint="choose a larger privacy.delta, or privacy.accountant: rdp",
        )
    return bound


_ACCOUNTANTS: dict[str, Callable[[_Composed, float], float]] = {
    "prv": _prv_epsilon,
    "rdp": _rdp_epsilon,
}


def solve_noise_multiplier(
    target_epsilon: float,
    delta: float,
    sample_rate: float,
    steps: int,
    accountant: Accountant = "prv",
) -> float:
    """The smallest noise multiplier, rounded up to 0.0001, that keeps `steps` steps in the budget.

    Solve once, for all the steps of all rounds: solving again in a later round would spend the
    budget again. Guarantee: `epsilon([Event(result, sample_rate, steps)], delta, accountant)` is at
    most `target_epsilon` (computed once more before returning). At least 0.05 is returned.

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
    if steps == 0:
        raise ConfigurationError("zero steps need no noise", hint="set rounds and epochs first")

    def excess(noise_multiplier: float) -> float:
        event = Event(noise_multiplier, sample_rate, steps)
        return math.log(epsilon([event], delta, accountant) / target_epsilon)

    def rough_excess(noise_multiplier: float) -> float:
        composed = ((noise_multiplier, sample_rate, steps),)
        return math.log(_rdp_epsilon(composed, delta, GRID_ORDERS) / target_epsilon)

    if excess(MAX_NOISE_MULTIPLIER) > 0:
        raise ConfigurationError(
            f"epsilon {target_epsilon:g} cannot be reached: it would need a noise multiplier "
            f"above {MAX_NOISE_MULTIPLIER:g}",
            hint="use fewer rounds or local steps, a smaller batch, or a larger epsilon or "
            f"delta; the accountants show nothing below about {EPSILON_ERROR}",
        )
    start = 1.0
    if rough_excess(MAX_NOISE_MULTIPLIER) < 0 < rough_excess(MIN_NOISE_MULTIPLIER):
        start = _root(rough_excess, MIN_NOISE_MULTIPLIER, MAX_NOISE_MULTIPLIER)
    low, high = _bracket(excess, start)
    if low == high:
        return low
    multiple = math.floor(_root(excess, low, high) * NOISE_MULTIPLIERS_PER_UNIT)
    while excess(multiple / NOISE_MULTIPLIERS_PER_UNIT) > 0:
        multiple += 1
    return multiple / NOISE_MULTIPLIERS_PER_UNIT


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where `function` crosses zero; in logarithms it is nearly straight, so few calls suffice."""

    def of_logarithm(x: float) -> float:
        return function(math.exp(x))

    return math.exp(brentq(of_logarithm, math.log(low), math.log(high), xtol=1e-5, rtol=1e-6))


def _bracket(excess: Callable[[float], float], start: float) -> tuple[float, float]:
    """Noise multipliers (too small, enough), close to each other; both equal at the floor."""
    high = start
    while excess(high) > 0:
        high = min(1.5 * high, MAX_NOISE_MULTIPLIER)
    low = max(high / 1.5, MIN_NOISE_MULTIPLIER)
    while excess(low) <= 0:
        if low <= MIN_NOISE_MULTIPLIER:
            return MIN_NOISE_MULTIPLIER, MIN_NOISE_MULTIPLIER
        high, low = low, max(low / 1.5, MIN_NOISE_MULTIPLIER)
    return low, high
