"""Composition: epsilon of a merged history by Opacus' two accountants, RDP and PRV.

RDP: Mironov, Talwar & Zhang (2019), converted by Balle et al. (2020, theorem 21). PRV: Gopi, Lee &
Wutschitz (2021). Both return upper bounds. A module of its own, since Opacus imports torch, which
takes seconds: `accounting` loads it when the first epsilon is asked for, and a ledger that only
records never does. Results are kept for the life of the process.
"""

import math
import threading
import warnings
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from opacus.accountants import PRVAccountant
from opacus.accountants.analysis import rdp as renyi
from opacus.accountants.analysis.prv import (
    DiscretePRV,
    Domain,
    PoissonSubsampledGaussianPRV,
    TruncatedPrivacyRandomVariable,
    compose_heterogeneous,
    discretize,
)
from scipy.fft import next_fast_len

from securefed.errors import PrivacyError

EPSILON_ERROR = 0.01  # PRV: the upper bound lies at most 0.02 above the true epsilon
COARSE_ERROR = 0.2  # PRV, for searching: a grid of a twentieth of the points
WORTH_ESTIMATING = 1 << 18  # points: below, the fine grid takes as long as all that is around it
MAX_GRID_POINTS = 1 << 23  # PRV: about half a gigabyte while it computes
MAX_WORK = 1 << 24  # PRV: points of the grid, for each kind of step: some seconds
MAX_GRID_HALF_WIDTH = 600.0  # PRV: exp of it must be finite
MEAN_ERROR = 1e-10  # of a loss's mean; Opacus' own integral allows 1.5e-8 for each of its pieces
PIECES = 24  # of the axis on either side of 0
NEAR = 1.1  # RDP from few orders: more of them lower it by less than this
CERTAIN = 6.0  # erfc(6) is 2e-17
# Opacus' own orders, and larger ones for the noise of very small epsilons.
RENYI_ORDERS = (*(1 + x / 10.0 for x in range(1, 100)), *range(12, 64), 64, 96, 128, 256, 512)
FEW_ORDERS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512)
GRID_ORDERS = (1.2, 1.5, *range(2, 12), 16, 24, 32, 48, 64, 128)

_Values = npt.NDArray[np.float64]
_RULES = tuple(np.polynomial.legendre.leggauss(points) for points in (40, 64))

# (noise_multiplier, sample_rate, steps), sorted, each pair of the first two once.
Composed = tuple[tuple[float, float, int], ...]


# catch_warnings swaps a list of the whole process, and hospitals of a simulation are threads.
_ONE_AT_A_TIME = threading.Lock()


@lru_cache(maxsize=1024)
def rdp_divergence(
    noise_multiplier: float, sample_rate: float, orders: tuple[float, ...]
) -> npt.NDArray[np.float64]:
    """Renyi divergence of one step at each order, nats."""
    return np.array([_divergence_at(noise_multiplier, sample_rate, order) for order in orders])


# By the order: which of them are asked for changes with every step, and with the history.
@lru_cache(maxsize=1 << 16)
def _divergence_at(noise_multiplier: float, sample_rate: float, order: float) -> float:
    # Huge noise overflows in orders that do not matter: they become infinite and are not chosen.
    with np.errstate(all="ignore"):
        (divergence,) = renyi.compute_rdp(
            q=sample_rate, noise_multiplier=noise_multiplier, steps=1, orders=[order]
        )
    return float(divergence)


@lru_cache(maxsize=4096)
def rdp_epsilon(
    composed: Composed, delta: float, orders: tuple[float, ...] = RENYI_ORDERS
) -> float:
    """Upper bound by Renyi divergences at `orders`; every set of orders gives a valid one.

    Between whole orders a divergence takes a hundred times as long, so it is computed only where it
    could lower the bound: at an order where a divergence of zero would.
    """
    whole = tuple(order for order in orders if order == int(order))
    bound = _at_orders(composed, delta, whole) if whole else math.inf
    between = tuple(order for order in orders if order != int(order))
    between = tuple(order for order in between if _least(order, delta) < bound)
    return min(bound, _at_orders(composed, delta, between)) if between else bound


def _at_orders(composed: Composed, delta: float, orders: tuple[float, ...]) -> float:
    each = [n * rdp_divergence(sigma, rate, orders) for sigma, rate, n in composed]
    return max(0.0, _spent(orders, np.sum(each, axis=0), delta))


@lru_cache(maxsize=4096)
def _least(order: float, delta: float) -> float:
    """What an order gives where nothing was released; asked again for every history."""
    return _spent((order,), (0.0,), delta)


def _spent(orders: Sequence[float], divergence: npt.ArrayLike, delta: float) -> float:
    with _ONE_AT_A_TIME, warnings.catch_warnings(), np.errstate(all="ignore"):
        # "Optimal order is the largest alpha": the bound holds, a wider range would be tighter.
        warnings.filterwarnings("ignore", message="Optimal order is the")
        bound, _ = renyi.get_privacy_spent(orders=orders, rdp=divergence, delta=delta)
    return float(bound)


class QuickPRV(PoissonSubsampledGaussianPRV):  # type: ignore[misc]  # Opacus ships no types
    """Opacus' privacy loss, whose distribution function is computed where it is not 0 or 1.

    Most of a grid is there for the composition. The values are the same.
    """

    def ends(self) -> tuple[float, float]:
        """Where the distribution function leaves 0, and where it reaches 1."""
        q, sigma = self.sample_rate, self.noise_multiplier
        # Beyond, the complementary error function is 2 or rounds away beside 1.
        end = (2 * math.sqrt(2) * sigma * CERTAIN + 1) / (2 * sigma**2)
        high = end + math.log(q) + math.log1p((1 - q) / q * math.exp(-end))
        return math.log1p(-q) if q < 1 else -end, high

    def cdf(self, t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """P(loss <= t)."""
        if np.ndim(t) == 0:
            return np.asarray(super().cdf(t))
        low, high = self.ends()
        inside = (t > low) & (t < high)
        values = np.where(t < high, 0.0, 1.0)
        values[inside] = super().cdf(t[inside])
        return values


class _QuickTruncated(TruncatedPrivacyRandomVariable):  # type: ignore[misc]  # Opacus ships no types
    """Opacus' loss between two ends; where nothing is cut off, its mean is kept."""

    def mean(self) -> float:
        """Of the loss: an integral, which takes most of the time of an epsilon."""
        low, high = self._prv.ends()
        if self.t_min <= low and high <= self.t_max:
            return _mean(self._prv.sample_rate, self._prv.noise_multiplier)
        return float(super().mean())


@lru_cache(maxsize=1024)
def _mean(sample_rate: float, noise_multiplier: float) -> float:
    """Of a loss that is not cut off; from the loss alone, whoever asks first."""
    loss = QuickPRV(sample_rate, noise_multiplier)
    reach = 1.0 + max(abs(end) for end in loss.ends())
    close, closer = (_mean_by(loss, reach, *rule) for rule in _RULES)
    if abs(close - closer) <= MEAN_ERROR:
        return closer
    # Little noise makes steps of a distribution function, which take more than a fixed rule.
    return float(TruncatedPrivacyRandomVariable(loss, -reach, reach).mean())


def _mean_by(loss: QuickPRV, reach: float, nodes: _Values, weights: _Values) -> float:
    """The mean of a loss within (-reach, reach), by a rule of Gauss and Legendre on each piece."""
    side = np.logspace(-5, math.log10(reach), PIECES)  # finer near 0, where much noise puts it
    edges = np.unique([*-side, *loss.ends(), 0.0, *side])
    half, middle = np.diff(edges) / 2, (edges[1:] + edges[:-1]) / 2
    with np.errstate(all="ignore"):  # at sample_rate 1 the formulas rightly take log(0)
        values = loss.cdf(middle[:, None] + half[:, None] * nodes)
    return reach - float(values @ weights @ half)  # by parts


class _QuickPRVAccountant(PRVAccountant):  # type: ignore[misc]  # Opacus ships no types
    """Opacus' PRV accountant, except that fewer Renyi orders bound the range of its grid.

    Nineteen twentieths of its time went into that bound, over 150 orders. A bound from fewer
    orders is looser, so the grid only becomes wider; the step of the grid is unchanged.
    """

    def _get_dprv(self, eps_error: float, delta_error: float) -> DiscretePRV:
        losses = [QuickPRV(rate, sigma) for sigma, rate, _ in self.history]
        steps = [count for _, _, count in self.history]
        domain = self._get_domain(losses, steps, eps_error, delta_error)
        ends = domain.t_min, domain.t_max
        parts = [discretize(_QuickTruncated(loss, *ends), domain) for loss in losses]
        return compose_heterogeneous(parts, steps)

    def _get_domain(
        self,
        prvs: Sequence[object],
        num_self_compositions: Sequence[int],
        eps_error: float,
        delta_error: float,
    ) -> Domain:
        total = sum(num_self_compositions)
        range_of = [rdp_epsilon(tuple(self.history), delta_error / 4, GRID_ORDERS)]
        for sigma, rate, _ in self.history:
            single = ((sigma, rate, 1),)
            range_of.append(rdp_epsilon(single, delta_error / (8 * total), GRID_ORDERS))
        half_width = max(*range_of, eps_error) + 3  # Gopi et al., remark 5.6
        mesh = eps_error / math.sqrt(total * math.log(12 / delta_error) / 2)
        # A wider grid of a length that transforms quickly: some lengths take ten times as long.
        points = 2 * next_fast_len(math.ceil(half_width / mesh) + 2, real=True)
        # A search on a coarser grid stops where the fine one would be too large, or is no work.
        fine = points * eps_error / EPSILON_ERROR
        needless = eps_error > EPSILON_ERROR and fine < WORTH_ESTIMATING
        too_large = fine > MAX_GRID_POINTS or fine * len(prvs) > MAX_WORK
        if needless or too_large or half_width > MAX_GRID_HALF_WIDTH:
            raise _GridTooLargeError
        half_width = ((points - 2) / 2 - 0.5) * mesh  # which `create_aligned` rounds up to `points`
        return Domain.create_aligned(-half_width, half_width, mesh)


class _GridTooLargeError(Exception):
    """Or not worth it. Raised and caught within this module."""


@lru_cache(maxsize=4096)
def prv_epsilon(composed: Composed, delta: float) -> float:
    """Upper end of the PRV accountant's interval, or the RDP bound where that is smaller.

    Both hold, so the smaller one does: RDP where so little is spent that the step of PRV's grid
    shows, or where that grid would be too large.

    Raises:
        PrivacyError: delta is too small for double precision.
    """
    try:
        bound = _prv_upper(composed, delta, EPSILON_ERROR)
    except _GridTooLargeError:
        return rdp_epsilon(composed, delta)
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
    return _or_rdp(bound, composed, delta)


@lru_cache(maxsize=4096)
def prv_estimate(composed: Composed, delta: float) -> float:
    """About `prv_epsilon`, from a coarser grid, several times as fast: no bound, for a search.

    The middle of the interval hardly depends on the grid; the error that is allowed for does.
    Where the fine grid is small it is the bound itself.

    Raises:
        PrivacyError: as `prv_epsilon`.
    """
    try:
        estimate = _prv_upper(composed, delta, COARSE_ERROR) - COARSE_ERROR + EPSILON_ERROR
    except (_GridTooLargeError, RuntimeError, ValueError):
        return prv_epsilon(composed, delta)
    return _or_rdp(estimate, composed, delta)


def _or_rdp(bound: float, composed: Composed, delta: float) -> float:
    """The RDP bound where it is smaller; all its orders are tried only where a few come near."""
    if rdp_epsilon(composed, delta, FEW_ORDERS) > NEAR * bound:
        return bound
    return min(bound, rdp_epsilon(composed, delta))


def _prv_upper(composed: Composed, delta: float, eps_error: float) -> float:
    accountant = _QuickPRVAccountant()
    accountant.history = list(composed)
    with np.errstate(all="ignore"):  # at sample_rate 1 the formulas rightly take log(0)
        # Opacus returns the upper end of its interval.
        return float(accountant.get_epsilon(delta, eps_error=eps_error))
