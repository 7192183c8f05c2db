"""A hospital solves FedAdam's public steps for the mean updates, and knows how well it did.

Seeds are fixed, so each test passes or fails for good.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from securefed.model.strategies.adam_inversion import invert
from securefed.model.strategies.fedadam import FedAdam
from securefed.model.strategies.strategy import State

RATE, TAU = 0.03, 1e-3
Values = NDArray[np.float64]


def trajectory(means: Values, *, start: Values | None = None) -> list[NDArray[np.float32]]:
    """Shared parameters as they are sent, before round 1 and after each."""
    strategy = FedAdam(RATE, TAU)
    shared = np.zeros(means.shape[1]) if start is None else start
    sent = [shared.astype(np.float32)]
    shared = sent[0].astype(np.float64)
    state = State()
    for mean in means:
        shared, state = strategy.step(shared, mean, state)
        sent.append(shared.astype(np.float32))
    return sent


def updates(seed: int, rounds: int = 40, size: int = 300) -> Values:
    """Mean updates of noisy training: a drift and noise of the size that runs have."""
    rng = np.random.default_rng(seed)
    drift = rng.normal(0, 1e-3, size)
    return drift + rng.normal(0, 3e-3, (rounds, size))


def relative(found: Values, true: Values) -> float:
    return float(np.linalg.norm(found - true) / np.linalg.norm(true))


@pytest.mark.parametrize("seed", range(3))
def test_noisy_updates_come_back_over_many_rounds(seed: int) -> None:
    true = updates(seed)
    start: Values = np.random.default_rng(seed).normal(0, 0.5, true.shape[1:])
    found = invert(trajectory(true, start=start), RATE, TAU)
    assert len(found) == len(true)
    for estimate, mean in zip(found, true, strict=True):
        assert relative(estimate.mean, mean) < 1e-3
        # The copies drift apart as the answer drifts from the truth, give or take their number.
        assert estimate.relative_error > relative(estimate.mean, mean) / 4
        assert estimate.relative_error < 1e-2


def test_the_first_step_is_solved_exactly_as_far_as_float32_goes() -> None:
    true = updates(7, rounds=1) * np.logspace(-3, 1, 300)
    (estimate,) = invert(trajectory(true), RATE, TAU)
    assert np.allclose(estimate.mean, true[0], rtol=1e-4)
    assert estimate.ambiguous == 0


def test_coarser_parameters_make_a_larger_reported_error() -> None:
    true = updates(3, rounds=10)
    errors = []
    for size in (0.01, 1.0, 100.0):
        found = invert(trajectory(true, start=np.full(300, size)), RATE, TAU)
        errors.append(found[-1].relative_error)
        assert relative(found[-1].mean, true[-1]) < 4 * errors[-1]
    assert errors[0] < errors[1] < errors[2]
    assert errors[2] > 100 * errors[0]


def test_a_step_with_two_explanations_is_counted_as_ambiguous() -> None:
    true = np.random.default_rng(1).uniform(0.4, 0.6, (3, 50))
    true[1, 5:] *= 0.3
    true[1, :5] *= 3  # beyond the point where larger updates make larger steps
    found = invert(trajectory(true), RATE, TAU)
    wrong = ~np.isclose(found[1].mean, true[1], rtol=0.01)
    assert wrong.any(), "the jump must be on the far branch, or nothing is tested"
    assert set(np.flatnonzero(wrong)) <= set(range(5))
    assert relative(found[0].mean, true[0]) < 1e-3
    assert found[0].ambiguous == 0
    assert found[1].ambiguous >= wrong.mean()
    assert found[2].ambiguous >= found[1].ambiguous, "a wrong root spoils what follows"


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_no_wrong_value_goes_without_a_warning(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    true = scale * rng.standard_t(3, (15, 200))  # heavy tails: jumps happen
    found = invert(trajectory(true), RATE, TAU)
    for estimate, mean in zip(found, true, strict=True):
        wrong = np.abs(estimate.mean - mean) > 0.01 * np.abs(mean).max()
        assert wrong.mean() <= estimate.ambiguous or estimate.relative_error > 1e-3


def test_values_that_never_moved_have_no_update() -> None:
    true = updates(5, rounds=4)
    true[:, :10] = 0
    for estimate in invert(trajectory(true), RATE, TAU):
        assert np.array_equal(estimate.mean[:10], np.zeros(10))
