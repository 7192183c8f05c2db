"""Sparse recovery: inputs of a batch from one gradient, exactly, or a reason."""

import numpy as np
import pytest

from attacks.head import sparse_recovery
from attacks.head.features import Floats, HeadGradient
from attacks.head.sparse_recovery import recover

UNITS, WIDTH = 64, 12


class _Head:
    """A random head, and the gradient that inputs with residuals give by the chain rule."""

    def __init__(self, seed: int, units: int = UNITS, width: int = WIDTH) -> None:
        self.rng = np.random.default_rng(seed)
        self.weight = self.rng.uniform(-1, 1, (units, width)) / width**0.5
        self.bias = self.rng.uniform(-1, 1, units) / width**0.5
        self.output = self.rng.uniform(0.1, 1, units) * self.rng.choice([-1, 1], units)

    def gradient(self, inputs: Floats, residuals: Floats) -> HeadGradient:
        weight, bias = np.zeros_like(self.weight), np.zeros_like(self.bias)
        for x, residual in zip(inputs, residuals, strict=True):
            for unit in range(len(bias)):  # one place at a time: a naive oracle
                if self.weight[unit] @ x + self.bias[unit] > 0:
                    weight[unit] += residual * self.output[unit] * x
                    bias[unit] += residual * self.output[unit]
        return HeadGradient(weight, bias, residuals.sum(keepdims=True))

    def recover(self, gradient: HeadGradient):
        return recover(gradient, self.weight, self.bias, self.output, np.random.default_rng(0))


def _worst_error(found: Floats, true: Floats) -> float:
    return max(float(np.abs(found - x).max(axis=1).min()) for x in true)


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5])
def test_inputs_and_residuals_of_a_small_batch_come_out_exactly(batch: int):
    for seed in range(5):
        head = _Head(seed)
        inputs = head.rng.normal(size=(batch, WIDTH))
        residuals = head.rng.uniform(0.3, 0.7, batch) * head.rng.choice([-1, 1], batch)
        found = head.recover(head.gradient(inputs, residuals))
        assert found.rank == batch
        assert found.reason == ""
        assert found.agreement == 1.0
        assert _worst_error(found.inputs, inputs) < 1e-6
        assert np.allclose(np.sort(found.residuals), np.sort(residuals))


@pytest.mark.parametrize(("batch", "units"), [(8, 128), (16, 256), (20, 256)])
def test_independent_components_take_larger_batches_apart(batch: int, units: int):
    # Sets of rows would have to be met once in 2^(batch - 1).
    head = _Head(1, units, width=32)
    inputs = head.rng.normal(size=(batch, 32))
    residuals = head.rng.uniform(0.3, 0.7, batch) * head.rng.choice([-1, 1], batch)
    found = head.recover(head.gradient(inputs, residuals))
    assert (found.rank, found.reason, found.agreement) == (batch, "", 1.0)
    assert _worst_error(found.inputs, inputs) < 1e-6


def test_sets_alone_do_not_take_them_apart(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sparse_recovery, "NEAREST_SEPARATED", 99)
    head = _Head(1, 256, width=32)
    gradient = head.gradient(head.rng.normal(size=(16, 32)), np.full(16, 0.5))
    assert not len(head.recover(gradient).inputs)


def test_patients_that_look_alike_are_not_mistaken_for_their_difference():
    # Columns of two similar inputs have a difference sparser than either.
    head = _Head(3)
    inputs = head.rng.normal(size=WIDTH) + 0.4 * head.rng.normal(size=(3, WIDTH))
    found = head.recover(head.gradient(inputs, np.array([0.5, -0.45, 0.55])))
    assert _worst_error(found.inputs, inputs) < 1e-6


def test_rounding_of_a_float32_update_does_not_spoil_the_answer():
    head = _Head(4)
    inputs = head.rng.normal(size=(4, WIDTH))
    exact = head.gradient(inputs, np.array([0.5, -0.4, 0.6, 0.3]))
    start = np.concatenate([head.weight, head.bias[:, None]], axis=1).astype(np.float32)
    moved = start - np.float32(0.075) * exact.rows.astype(np.float32)
    seen = (moved.astype(np.float64) - start) / -0.075
    assert not np.array_equal(seen, exact.rows)
    found = head.recover(HeadGradient(seen[:, :-1], seen[:, -1], np.zeros(1)))
    assert _worst_error(found.inputs, inputs) < 1e-3


def test_as_many_places_as_units_are_refused_with_a_reason():
    head = _Head(5, units=8)
    found = head.recover(head.gradient(head.rng.normal(size=(40, WIDTH)), np.full(40, 0.5)))
    assert len(found.inputs) == 0
    assert "full rank 8" in found.reason


def test_no_gradient_gives_no_inputs():
    head = _Head(6)
    found = head.recover(head.gradient(np.zeros((0, WIDTH)), np.zeros(0)))
    assert (found.rank, len(found.inputs), found.reason) == (0, 0, "the gradient is zero")


def test_noise_is_not_taken_for_inputs():
    # Full rank: no structure is found in any of ten noise gradients.
    for seed in range(10):
        head = _Head(seed)
        noise = head.rng.normal(size=(UNITS, WIDTH + 1))
        found = head.recover(HeadGradient(noise[:, :-1], noise[:, -1], np.zeros(1)))
        assert len(found.inputs) == 0
        assert found.reason


def test_a_low_rank_gradient_without_relu_structure_is_refused():
    head = _Head(7)
    rows = head.rng.normal(size=(UNITS, 3)) @ head.rng.normal(size=(3, WIDTH + 1))
    found = head.recover(HeadGradient(rows[:, :-1], rows[:, -1], np.zeros(1)))
    assert found.rank == 3
    assert len(found.inputs) == 0
    assert "fit" in found.reason


def test_the_same_generator_gives_the_same_answer():
    head = _Head(8)
    gradient = head.gradient(head.rng.normal(size=(4, WIDTH)), np.array([0.5, -0.5, 0.4, 0.6]))
    first, second = head.recover(gradient), head.recover(gradient)
    assert np.array_equal(first.inputs, second.inputs)
