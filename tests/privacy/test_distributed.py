"""Accounting of noise that hospitals share, against exact mass functions of small cases."""

import math

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import norm

from securefed.errors import ConfigurationError, PrivacyError
from securefed.privacy import composition
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import Event, epsilon
from securefed.privacy.distributed import (
    LARGEST_NORM_GROWTH,
    SMOOTHING,
    RingNoise,
    calibrate,
    counted_shares,
    slack,
    smoothing_log_ratio,
    sum_log_ratio,
)

Array = np.ndarray


def mass(sigma: float, reach: int) -> Array:
    """The discrete Gaussian on -reach..reach."""
    k = np.arange(-reach, reach + 1, dtype=np.float64)
    weights = np.exp(-(k**2) / (2 * sigma**2))
    return weights / weights.sum()


def mass_of_sum(sigma: float, shares: int, reach: int) -> Array:
    """The sum of `shares` discrete Gaussians on -reach..reach, by convolution."""
    one = mass(sigma, reach)
    total = one
    for _ in range(shares - 1):
        total = np.convolve(total, one, mode="same")
    return total


def hockey_stick(p: Array, q: Array, eps: float) -> float:
    """The smallest delta for which p <= e^eps q + delta on every set."""
    return float(np.maximum(p - math.exp(eps) * q, 0).sum())


def renyi(p: Array, q: Array, order: float) -> float:
    with np.errstate(divide="ignore"):
        terms = order * np.log(p) - (order - 1) * np.log(q)
    return float(logsumexp(terms[np.isfinite(terms)])) / (order - 1)


# The theorems that the accounting stands on


@pytest.mark.parametrize("sigma", [0.75, 0.9, 1.1])
@pytest.mark.parametrize("shares", [2, 3, 5])
def test_sum_of_shares_is_within_tau_of_one_discrete_gaussian(sigma: float, shares: int) -> None:
    reach = 60
    middle = slice(reach - 12, reach + 13)
    exact = mass_of_sum(sigma, shares, reach)[middle]
    single = mass(sigma * math.sqrt(shares), reach)[middle]
    off = float(np.abs(np.log(exact / single)).max())
    tau = sum_log_ratio(sigma, shares)
    assert off <= tau
    if shares == 2:
        assert off > tau / 10, "the case must come near the bound to test it"


def test_one_share_is_a_discrete_gaussian_itself() -> None:
    assert sum_log_ratio(1.0, 1) == 0.0


@pytest.mark.parametrize("width", [0.5, 0.6, 0.8])
def test_redrawn_continuous_gaussian_is_within_eta_of_the_discrete_one(width: float) -> None:
    """Step 2 of the reduction by numerical integration; a narrow first draw is the worst."""
    continuous = 0.1
    integers = np.arange(-20, 21)

    def density(x: float, y: int) -> float:
        normaliser = np.exp(-((integers - x) ** 2) / (2 * width**2)).sum()
        drawn = math.exp(-((y - x) ** 2) / (2 * width**2)) / normaliser
        return drawn * math.exp(-(x**2) / (2 * continuous**2))

    redrawn = [quad(density, -2, 2, args=(y,), epsrel=1e-12, points=[0])[0] for y in range(4)]
    scale = continuous * math.sqrt(2 * math.pi)
    discrete = mass(math.hypot(continuous, width), 60)[60:64]
    off = float(np.abs(np.log(np.array(redrawn) / scale / discrete)).max())
    eta = smoothing_log_ratio(width)
    assert eta / 100 < off <= eta


@pytest.mark.parametrize(("sigma", "shares"), [(0.8, 2), (0.8, 3), (1.5, 2)])
@pytest.mark.parametrize("order", [1.5, 2, 5])
@pytest.mark.parametrize("shift", [(1, 0), (2, 0), (2, 1), (2, 2)])
def test_renyi_divergence_of_a_sum_keeps_to_theorem_1_of_the_paper(
    sigma: float, shares: int, order: float, shift: tuple[int, int]
) -> None:
    """1/2 epsilon^2 concentrated privacy, epsilon as in Kairouz, Liu & Steinke (2021)."""
    one = mass_of_sum(sigma, shares, 30)
    noise = np.outer(one, one)
    moved = np.outer(np.roll(one, shift[0]), np.roll(one, shift[1]))
    middle = (slice(10, -10), slice(10, -10))
    exact = renyi(moved[middle], noise[middle], order)
    tau = sum_log_ratio(sigma, shares)
    ratio = math.hypot(*shift) / (sigma * math.sqrt(shares))
    squared = min(ratio**2 + tau * 2 / 2, (ratio + tau * math.sqrt(2)) ** 2)
    assert 0.5 * order * ratio**2 / 2 < exact <= order * squared / 2


# Whole steps, by enumeration

# Two counted shares hide a patient whose rounded vector has norm 60.
NOISE = RingNoise(dimension=2, share_sigma=64, counted=2, clip_steps=58.0, norm_bound_squared=3600)
REACH = 1100
RATE = 0.3


def step(shift: int) -> tuple[Array, Array]:
    """(without the patient, with a patient drawn at RATE) in one word."""
    without = mass_of_sum(NOISE.share_sigma, NOISE.counted, REACH)
    return without, (1 - RATE) * without + RATE * np.roll(without, shift)


def continuous_step(eps: float) -> float:
    """Worse of the two hockey sticks of the sampled continuous Gaussian, in closed form."""
    shift = 1 / NOISE.noise_multiplier
    grown = (math.exp(eps) - 1 + RATE) / RATE  # e^(shift x - shift^2 / 2) where the sides cross
    border = math.log(grown) / shift + shift / 2
    added = RATE * norm.sf(border - shift) - (math.exp(eps) - 1 + RATE) * norm.sf(border)
    shrunk = (math.exp(-eps) - 1 + RATE) / RATE
    if shrunk <= 0:
        return float(added)
    border = math.log(shrunk) / shift + shift / 2
    below = (1 - math.exp(eps) * (1 - RATE)) * norm.cdf(border)
    return float(max(added, below - math.exp(eps) * RATE * norm.cdf(border - shift)))


@pytest.mark.parametrize("eps", [0.05, 0.2, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("vector", [(60, 0), (36, 48)])
def test_sampled_step_loses_no_more_than_the_continuous_one_and_nearly_as_much(
    eps: float, vector: tuple[int, int]
) -> None:
    """The discrete Gaussian is not round; the bound by the norm holds in every direction."""
    words = mass_of_sum(NOISE.share_sigma, NOISE.counted, REACH)
    without = np.outer(words, words)
    drawn = (1 - RATE) * without + RATE * np.roll(without, vector, axis=(0, 1))
    exact = max(hockey_stick(drawn, without, eps), hockey_stick(without, drawn, eps))
    assert 0.98 * continuous_step(eps) < exact <= continuous_step(eps)


@pytest.mark.parametrize("order", [2, 3, 6, 10])
def test_renyi_divergence_of_a_sampled_sum_is_below_that_of_the_continuous_step(
    order: int,
) -> None:
    without, drawn = step(60)
    bound = composition.rdp_divergence(NOISE.noise_multiplier, RATE, (float(order),))[0]
    inner = slice(70, -70)  # the shift has come round the ends there
    exact = max(
        renyi(drawn[inner], without[inner], order), renyi(without[inner], drawn[inner], order)
    )
    assert 0.98 * bound < exact <= bound


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("accountant", ["prv", "rdp"])
def test_epsilon_of_two_steps_covers_the_exact_privacy_loss(
    delta: float, accountant: Accountant
) -> None:
    without, drawn = step(60)
    there, back = np.outer(without, without), np.outer(drawn, drawn)
    event = Event(NOISE.noise_multiplier, RATE, 2, noise_from=2)
    claimed = epsilon([event], delta, accountant)
    worst = max(hockey_stick(there, back, claimed), hockey_stick(back, there, claimed))
    assert worst <= delta
    if accountant == "prv":
        lower = claimed - 0.05
        assert max(hockey_stick(there, back, lower), hockey_stick(back, there, lower)) > delta


def test_survivors_beyond_the_fewest_only_lower_the_privacy_loss() -> None:
    losses = []
    for shares in (2, 3, 4):
        noise = mass_of_sum(NOISE.share_sigma, shares, REACH)
        losses.append(hockey_stick(np.roll(noise, 60), noise, 0.5))
    assert losses == sorted(losses, reverse=True)
    assert losses[2] < losses[0] / 1.5


def test_half_of_the_shares_missing_breaks_the_claim() -> None:
    """The counterpart: what the accounting counts on is really needed."""
    alone = mass(NOISE.share_sigma, REACH)
    event = Event(NOISE.noise_multiplier, 1.0, 1, noise_from=2)
    claimed = epsilon([event], 1e-5)
    assert hockey_stick(np.roll(alone, 60), alone, claimed) > 1e-4


# Calibration


@settings(max_examples=60, deadline=None)
@given(
    multiplier=st.floats(0.3, 20),
    log_dimension=st.integers(4, 18),
    counted=st.integers(1, 60),
    extra=st.integers(0, 40),
    batch=st.floats(1, 2000),
)
def test_calibrated_share_costs_what_was_asked_and_fits_the_ring(
    multiplier: float, log_dimension: int, counted: int, extra: int, batch: float
) -> None:
    try:
        noise = calibrate(
            multiplier,
            dimension=2**log_dimension,
            rounds=1000,
            counted=counted,
            hospitals=counted + extra,
            expected_batch=batch,
        )
    except PrivacyError:  # the largest dimensions with few shares of much noise do not fit
        assert log_dimension >= 14
        reject()
    assert multiplier <= noise.noise_multiplier <= multiplier * 1.001
    assert 0 < noise.norm_growth <= LARGEST_NORM_GROWTH
    # The paper's norm after rounding, at the clipping norm: no more than the accounted one.
    b = math.sqrt(2 * math.log(2**20))
    root = math.sqrt(noise.dimension)
    rounded = noise.clip_steps**2 + noise.dimension / 4 + b * (noise.clip_steps + root / 2)
    assert rounded <= noise.norm_bound_squared + 1
    assert slack(noise, 1000) < 1e-100
    # Every patient expected, and ten deviations of all the noise, on one word.
    words = batch * noise.clip_steps * min(1, 8 / root)
    assert words + 10 * noise.share_sigma * math.sqrt(counted + extra) < 2**31


def test_penalty_of_the_integers_is_below_a_tenth_of_a_per_cent_by_default() -> None:
    """354 parameters, 4 hospitals of which 3 survive and one is curious, epsilon 8."""
    noise = calibrate(1.6, dimension=512, rounds=80, counted=2, hospitals=4, expected_batch=400)
    assert noise.share_sigma == 2**13
    assert noise.norm_growth < 1e-3
    assert noise.noise_multiplier == pytest.approx(1.6, rel=1e-6)


def test_share_shrinks_with_the_hospitals_that_are_counted_on() -> None:
    def share_over_clip(counted: int) -> float:
        noise = calibrate(
            1.6, dimension=512, rounds=80, counted=counted, hospitals=20, expected_batch=400
        )
        return noise.share_sigma / noise.clip_steps

    assert share_over_clip(1) == pytest.approx(1.6, rel=1e-3)
    assert share_over_clip(16) == pytest.approx(1.6 / 4, rel=1e-3)


def test_large_cohorts_get_coarser_steps_instead_of_a_wrap() -> None:
    few, many = (
        calibrate(
            0.5,
            dimension=8192,
            rounds=80,
            counted=2 * hospitals // 3,
            hospitals=hospitals,
            expected_batch=100.0 * hospitals,
        )
        for hospitals in (6, 900)
    )
    assert few.share_sigma == 2**13
    assert 2**6 <= many.share_sigma < 2**13
    assert many.norm_growth < 0.001


@pytest.mark.parametrize(
    ("multiplier", "dimension", "batch"),
    [(1e4, 512, 400.0), (5.0, 2**26, 400.0), (0.05, 16, 1e8)],
)
def test_noise_that_fits_no_ring_of_32_bits_is_refused(
    multiplier: float, dimension: int, batch: float
) -> None:
    with pytest.raises(PrivacyError, match="does not fit 32 bits") as caught:
        calibrate(
            multiplier,
            dimension=dimension,
            rounds=80,
            counted=2,
            hospitals=4,
            expected_batch=batch,
        )
    assert "privacy.placement: local" in (caught.value.hint or "")


@pytest.mark.parametrize("multiplier", [0.0, -1.0, math.inf, math.nan])
def test_impossible_multipliers_are_refused(multiplier: float) -> None:
    with pytest.raises(ConfigurationError, match="positive noise multiplier"):
        calibrate(multiplier, dimension=512, rounds=80, counted=2, hospitals=4, expected_batch=400)


@pytest.mark.parametrize(
    ("cohort", "fewest", "colluding", "counted"),
    [(2, 2, 1, 1), (4, 3, 0, 3), (4, 3, 1, 2), (10, 7, 3, 4), (4, 4, 3, 1)],
)
def test_colluding_hospitals_are_not_counted_on(
    cohort: int, fewest: int, colluding: int, counted: int
) -> None:
    assert counted_shares(cohort, fewest, colluding) == counted


@pytest.mark.parametrize(("cohort", "fewest", "colluding"), [(4, 3, 2), (10, 7, 4), (3, 3, 3)])
def test_coalitions_that_the_secure_sum_does_not_withstand_are_refused(
    cohort: int, fewest: int, colluding: int
) -> None:
    with pytest.raises(ConfigurationError, match=rf"privacy\.colluding: {colluding} hospitals"):
        counted_shares(cohort, fewest, colluding)


@pytest.mark.parametrize(("cohort", "fewest", "colluding"), [(4, 3, -1), (4, 2, 0), (4, 5, 0)])
def test_impossible_rounds_are_refused(cohort: int, fewest: int, colluding: int) -> None:
    with pytest.raises(ConfigurationError, match="make no sense"):
        counted_shares(cohort, fewest, colluding)


def test_shares_too_narrow_for_the_theorem_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="1/2 or more"):
        sum_log_ratio(0.7, 2)
    with pytest.raises(ConfigurationError, match="1/2 or more"):
        sum_log_ratio(1.0, 0)
    with pytest.raises(ConfigurationError, match="at least 1/2"):
        smoothing_log_ratio(0.4)


def test_smoothing_takes_next_to_nothing_of_the_noise() -> None:
    noise = calibrate(1.6, dimension=512, rounds=80, counted=2, hospitals=4, expected_batch=400)
    assert SMOOTHING**2 / (noise.counted * noise.share_sigma**2) < 1e-6
