"""The trade-off curve of DP-SGD itself: composed steps of the Poisson-subsampled Gaussian.

What a claim (noise multiplier, sampling rate, steps) allows an attacker is a curve: how often a
guess must be wrong, given how often it is right. For one Gaussian release it has a closed form
(`gaussian_dp`). For composed and subsampled releases it has none, and a Gaussian curve of the same
epsilon is not conservative. Here it comes from the privacy-loss distribution:

    one step   the loss under "canary in" and under "canary out", on a grid. Mass between two grid
               points is split between them so that the probabilities under *both* are kept
               (Doroshenko, Ghazi, Kamath, Kumar & Manurangsi 2022, "Connect the dots"): the
               discrete step is never more private than the true one.
    steps      convolution by Fourier transform; what leaves the window counts as infinite loss.
    curve      delta(epsilon), the larger of adding and removing (neither is the worse for all,
               Lebeda et al. 2024); each (epsilon, delta) bounds the curve by two straight lines
               (Wasserman & Zhou 2010), and the largest of all lines is a convex lower bound.

Every approximation puts the curve too low and epsilon too high, so a refutation of the curve
refutes the mechanism. Not covered: steps that differ from each other, or other sampling.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from attacks.epsilon.gaussian_dp import check_delta
from attacks.errors import InvalidScores

Array = npt.NDArray[np.float64]

POINTS = 1 << 15  # of the composed grid
TAIL = 1e-15  # probability that may leave the composed window on each side
ROUNDING = 1e-10  # added to every delta: above what tails and transforms lose
LOSS_LARGEST = 500.0  # where composed losses pass it, the mechanism promises nothing
LINES = 400  # epsilons whose lines make the curve
NOISE_SMALLEST, NOISE_LARGEST = 2.0**-4, 2.0**14  # noise multipliers that are told apart
SPREAD = 9.0  # standard deviations of one step that are kept; beyond lies 1e-19


@dataclass(frozen=True)
class Curve:
    """The trade-off curve of one mechanism; call it with the probability of a right guess.

    Attributes:
        epsilons, above, weight: the privacy profile from epsilon 0 on: between two grid points
            delta(epsilon) = above - e^epsilon * weight.
    """

    epsilons: Array = field(repr=False)
    above: Array = field(repr=False)
    weight: Array = field(repr=False)
    slopes: Array = field(repr=False)
    intercepts: Array = field(repr=False)

    def __call__(self, right: float) -> float:
        """The least probability of a wrong guess, in [0, 1]."""
        return max(0.0, float((self.slopes * right + self.intercepts).max()))

    def delta(self, epsilon: float) -> float:
        """delta at an epsilon >= 0; 0 beyond the grid would be a promise, so 1e-10 is the least."""
        k = int(np.searchsorted(self.epsilons, epsilon, side="right")) - 1
        return float(self.above[k] - math.exp(epsilon) * self.weight[k])

    def epsilon(self, delta: float) -> float:
        """The smallest epsilon >= 0 at `delta`; infinite where the grid does not reach it.

        Raises:
            InvalidScores: delta outside (0, 1).
        """
        check_delta(delta)
        profile = self.above - np.exp(self.epsilons) * self.weight
        enough = np.flatnonzero(profile <= delta)
        if not enough.size:
            return math.inf
        if enough[0] == 0:
            return 0.0
        k = enough[0] - 1
        return math.log((self.above[k] - delta) / self.weight[k])


@dataclass(frozen=True)
class SubsampledGaussian:
    """Mechanisms that differ only in their noise multiplier.

    Attributes:
        sample_rate: probability with which a record enters a step, in (0, 1].
        steps: how many releases.

    Raises:
        InvalidScores: a value out of its range.
    """

    sample_rate: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 < self.sample_rate <= 1:
            raise InvalidScores(f"sample_rate must be in (0, 1], got {self.sample_rate}")
        if type(self.steps) is not int or self.steps < 1:
            raise InvalidScores(f"steps must be a whole number above 0, got {self.steps!r}")

    def curve(self, noise_multiplier: float) -> Curve:
        """The curve at this noise; kept for the life of the process.

        Raises:
            InvalidScores: a noise multiplier that is not positive and finite.
        """
        if not (math.isfinite(noise_multiplier) and noise_multiplier > 0):
            raise InvalidScores(f"noise_multiplier must be positive, got {noise_multiplier}")
        return _curve(self, noise_multiplier)

    def noise_multiplier(self, epsilon: float, delta: float) -> float:
        """The noise at which the mechanism has that epsilon at delta.

        Raises:
            InvalidScores: no noise between NOISE_SMALLEST and NOISE_LARGEST does.
        """
        check_delta(delta)

        def excess(log_noise: float) -> float:
            # Infinite where the curve promises nothing; a finite number keeps the search going.
            return min(self.curve(math.exp(log_noise)).epsilon(delta), LOSS_LARGEST) - epsilon

        low, high = math.log(NOISE_SMALLEST), math.log(NOISE_LARGEST)
        if not excess(high) <= 0 <= excess(low):
            raise InvalidScores(
                f"no noise gives {self.steps} steps at rate {self.sample_rate:g} epsilon {epsilon}"
            )
        return math.exp(optimize.brentq(excess, low, high, xtol=1e-5))


@lru_cache(maxsize=128)  # of some 800 kB each
def _curve(family: SubsampledGaussian, noise_multiplier: float) -> Curve:
    lowest, highest = _one_step_range(noise_multiplier, family.sample_rate)
    coarse = max((highest - lowest) / 1024, 1e-12)
    window = max(
        _composed_reach(masses, indices.astype(np.float64) * coarse, family.steps)
        for masses, indices, _ in _both(noise_multiplier, family.sample_rate, coarse)
    )
    if window > LOSS_LARGEST:
        return _no_promise()
    mesh = float(2 * window / POINTS)
    above, weight = np.zeros(POINTS // 2), np.zeros(POINTS // 2)
    epsilons = np.arange(POINTS // 2, dtype=np.float64) * mesh
    worst = np.full(POINTS // 2, -np.inf)
    for masses, indices, infinite in _both(noise_multiplier, family.sample_rate, mesh):
        composed = _compose(masses, indices, family.steps)
        lost = -math.expm1(family.steps * math.log1p(-min(infinite, 0.5))) + ROUNDING
        a, w = _profile(composed, epsilons)
        a += lost
        larger = a - np.exp(epsilons) * w > worst
        above[larger], weight[larger] = a[larger], w[larger]
        worst = np.maximum(worst, a - np.exp(epsilons) * w)
    return _with_lines(epsilons, above, weight, worst)


def _one_step_range(noise_multiplier: float, rate: float) -> tuple[float, float]:
    """Losses between which one step lies but for 1e-19, cut off at LOSS_LARGEST."""
    ends = [_loss(x, noise_multiplier, rate) for x in _reach(noise_multiplier)]
    return max(ends[0], -LOSS_LARGEST), min(ends[1], LOSS_LARGEST)


def _reach(sigma: float) -> tuple[float, float]:
    return -SPREAD * sigma, 1 + SPREAD * sigma


def _loss(x: float, sigma: float, rate: float) -> float:
    """log of ((1 - q) N(0, s^2) + q N(1, s^2)) over N(0, s^2) at x."""
    exponent = (2 * x - 1) / (2 * sigma**2)
    inside = math.log(rate) + exponent
    return inside if rate == 1 else float(np.logaddexp(math.log1p(-rate), inside))


def _both(
    sigma: float, rate: float, mesh: float
) -> list[tuple[Array, npt.NDArray[np.int64], float]]:
    """One step's loss for removing and for adding: masses, grid indices, infinite mass."""
    lowest, highest = _one_step_range(sigma, rate)
    first, last = math.floor(lowest / mesh) - 1, math.ceil(highest / mesh) + 1
    indices = np.arange(first, last + 1, dtype=np.int64)
    losses = indices.astype(np.float64) * mesh
    # Where the loss reaches each grid value; no x gives a loss below log(1 - q).
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log1p(np.maximum(np.expm1(losses) / rate, -1.0))
    x = sigma**2 * ratio + 0.5
    out, out_below, out_above = _interval_masses(x / sigma)
    shifted, shifted_below, shifted_above = _interval_masses((x - 1) / sigma)
    drawn = (1 - rate) * out + rate * shifted
    removed = _split(drawn, out, losses, mesh)
    # A loss smaller than the grid's smallest counts as that one.
    removed[0] += (1 - rate) * out_below + rate * shifted_below
    added = _split(out[::-1], drawn[::-1], -losses[::-1], mesh)
    added[0] += out_above
    removed_infinite = (1 - rate) * out_above + rate * shifted_above
    return [(removed, indices, removed_infinite), (added, -indices[::-1], out_below)]


def _interval_masses(z: Array) -> tuple[Array, float, float]:
    """Normal probability between neighbours of z, below the first and above the last."""
    # Upper tails in the upper half, so that small probabilities keep their digits.
    between = np.where(
        z[:-1] > 0,
        special.ndtr(-z[:-1]) - special.ndtr(-z[1:]),
        special.ndtr(z[1:]) - special.ndtr(z[:-1]),
    )
    return between, float(special.ndtr(z[0])), float(special.ndtr(-z[-1]))


def _split(masses: Array, others: Array, losses: Array, mesh: float) -> Array:
    """Mass between losses a and b to its ends, keeping its probability under both laws.

    p_a + p_b = mass and p_a e^-a + p_b e^-b = other; (intervals,) -> (intervals + 1,).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        upper = (masses - others * np.exp(losses[:-1])) / -math.expm1(-mesh)
    upper = np.clip(np.nan_to_num(upper, nan=np.inf), 0.0, masses)
    grid = np.zeros(losses.size)
    grid[1:] += upper
    grid[:-1] += masses - upper
    return grid


def _composed_reach(masses: Array, losses: Array, steps: int) -> float:
    """A bound that the sum of `steps` losses passes in either direction with probability TAIL.

    Chernoff's bound, over a grid of its parameter.
    """
    kept = masses > 0
    logs, values = np.log(masses[kept]), losses[kept]
    parameters = np.geomspace(1e-3, 1e6, 60)
    reach = 0.0
    for sign in (1.0, -1.0):
        exponents = logs + sign * parameters[:, None] * values
        largest = exponents.max(axis=1)
        cumulants = largest + np.log(np.exp(exponents - largest[:, None]).sum(axis=1))
        reach = max(reach, float(((steps * cumulants - math.log(TAIL)) / parameters).min()))
    return 1.05 * reach


def _compose(masses: Array, indices: npt.NDArray[np.int64], steps: int) -> Array:
    """The law of the sum of `steps` losses, on grid indices -POINTS/2 .. POINTS/2 - 1."""
    ring = np.zeros(POINTS)
    np.add.at(ring, indices % POINTS, masses)
    summed = np.fft.irfft(np.fft.rfft(ring) ** steps, POINTS)
    return np.fft.fftshift(summed)


def _profile(composed: Array, epsilons: Array) -> tuple[Array, Array]:
    """Sums over losses above each epsilon of p, and of p e^-loss."""
    positive = composed[POINTS // 2 :]
    above = np.append(np.cumsum(positive[::-1])[::-1][1:], 0.0)
    weight = np.append(np.cumsum((positive * np.exp(-epsilons))[::-1])[::-1][1:], 0.0)
    return above, np.maximum(weight, 0.0)


def _no_promise() -> Curve:
    """delta is 1 at every epsilon, and every guess may be right."""
    one, zero = np.ones(1), np.zeros(1)
    return Curve(zero, one, zero, zero, zero)


def _with_lines(epsilons: Array, above: Array, weight: Array, delta: Array) -> Curve:
    last = int(np.argmax(delta <= 10 * ROUNDING)) or delta.size - 1
    chosen = np.unique(np.linspace(0, last, LINES).astype(int))
    grow = np.exp(epsilons[chosen])
    shrink, deltas = 1 / grow, np.minimum(delta[chosen], 1.0)
    slopes = np.concatenate([shrink, grow])
    intercepts = np.concatenate([-shrink * deltas, 1 - deltas - grow])
    return Curve(epsilons, above, weight, slopes, intercepts)
