"""Noise on counts: what it costs, what it looks like, and that a number stays one."""

import math

import numpy as np
import pytest

from securefed.errors import ConfigurationError
from securefed.privacy.accounting import Event, epsilon
from securefed.privacy.counts import (
    STEPS,
    CountNoise,
    count_noise,
    declaration_noise,
    declared_number,
)
from securefed.privacy.noise import SeededSource


def source(*context: int) -> SeededSource:
    return SeededSource(5, "counts", *context)


def hockey_stick(sigma: int, shift: int, bound: float) -> float:
    """delta of a discrete Gaussian against itself moved by `shift`, by its masses."""
    integers = np.arange(-40 * sigma, 40 * sigma + 1)
    log_mass = -(integers.astype(float) ** 2) / (2 * sigma**2)
    mass = np.exp(log_mass)
    loss = log_mass + (integers + float(shift)) ** 2 / (2 * sigma**2)
    return float((mass * np.maximum(0, -np.expm1(bound - loss))).sum() / mass.sum())


@pytest.mark.parametrize("wanted", [0.3, 0.5, 2.0, 6.0])
def test_one_count_is_within_its_epsilon_by_the_exact_masses(wanted: float) -> None:
    noise = count_noise(wanted, 1e-5, "prv")
    assert epsilon([noise.event], 1e-5) <= wanted
    exact = hockey_stick(noise.sigma, STEPS, wanted)
    assert 0.5e-5 < exact < 1e-5  # and no more noise than that takes


@pytest.mark.parametrize("counted", [2, 3, 6])
def test_shares_that_count_cost_what_one_noise_of_their_sum_costs(counted: int) -> None:
    alone, shares = (count_noise(2.0, 1e-5, "prv", counted=n) for n in (1, counted))
    assert shares.event.noise_from == counted
    assert shares.noise_multiplier == pytest.approx(alone.noise_multiplier, rel=0.02)
    assert shares.sigma == pytest.approx(alone.sigma / math.sqrt(counted), rel=0.02)
    assert shares.deviation(counted) == pytest.approx(alone.deviation(1), rel=0.02)


def test_noise_is_gaussian_around_the_counts() -> None:
    """Mean and spread of 20,000 draws within five standard errors."""
    noise, counts = CountNoise(2 * STEPS), np.arange(20_000, dtype=np.int64)
    drawn = (noise.on(counts, source()) - STEPS * counts) / STEPS
    assert abs(drawn.mean()) < 5 * 2 / math.sqrt(20_000)
    assert abs(drawn.std() - 2) < 5 * 2 / math.sqrt(2 * 20_000)


def test_a_number_stays_a_weight_whatever_the_noise() -> None:
    loud = CountNoise(100 * STEPS)
    numbers = {declared_number(20, loud, source(draw), least=5, most=150) for draw in range(200)}
    assert min(numbers) == 5
    assert max(numbers) == 150
    assert len(numbers) > 50


def test_declaring_takes_no_more_than_a_part_of_a_small_budget() -> None:
    whole, tight = (declaration_noise(0.5, each, 1e-5, "rdp", "patient") for each in (8.0, 1.0))
    assert whole == count_noise(0.5, 1e-5, "rdp")
    assert tight == count_noise(0.25, 1e-5, "rdp")
    assert declaration_noise(None, 8.0, 1e-5, "rdp", "patient") is None


def test_where_images_are_the_records_two_numbers_are_paid_for() -> None:
    noise = declaration_noise(0.5, 8.0, 1e-5, "rdp", "image")
    assert noise is not None
    assert noise.event == Event(noise.noise_multiplier, 1.0, 2)
    assert epsilon([noise.event], 1e-5, "rdp") <= 0.5


def test_an_epsilon_that_needs_more_noise_than_can_be_drawn_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs noise of"):
        count_noise(0.02, 1e-5, "rdp")
