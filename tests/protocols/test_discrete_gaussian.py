"""Discrete Gaussian samples follow the exact mass function; undecided draws are resolved."""

import hashlib
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import discrete_gaussian
from protocols.discrete_gaussian import MAX_SIGMA, DiscreteGaussian, tail_bound
from protocols.errors import InvalidRules

KEY = hashlib.sha256(b"discrete gaussian").digest()


def mass(sigma: float, limit: int) -> np.ndarray:
    """The textbook mass function on -limit..limit."""
    k = np.arange(-limit, limit + 1)
    weights = np.exp(-(k.astype(float) ** 2) / (2 * sigma**2))
    return weights / weights.sum()


@pytest.mark.parametrize("sigma", [0.125, 0.5, 1.0, 3.7, 40.0, 1000.0])
def test_samples_fit_the_mass_function_by_chi_square(sigma):
    """400,000 samples; cells of fewer than 10 expected are pooled. False alarm: 5.7e-7 each
    (5 sigma after the Wilson-Hilferty transform), for the one fixed key."""
    count = 400_000
    limit = max(3, math.ceil(12 * sigma))
    drawn = DiscreteGaussian(sigma).sample(count, KEY)
    assert np.abs(drawn).max() <= limit
    observed = np.bincount(drawn + limit, minlength=2 * limit + 1).astype(float)
    expected = mass(sigma, limit) * count
    common = expected >= 10
    cells = np.append(observed[common], observed[~common].sum())
    means = np.append(expected[common], expected[~common].sum())
    if means[-1] < 10:  # too small for a cell of its own: joins the last one
        cells[-2:-1] += cells[-1]
        means[-2:-1] += means[-1]
        cells, means = cells[:-1], means[:-1]
    if cells.size == 1:
        assert cells[0] == count
        return
    degrees = cells.size - 1
    cube = (((cells - means) ** 2 / means).sum() / degrees) ** (1 / 3)
    z = (cube - (1 - 2 / (9 * degrees))) / math.sqrt(2 / (9 * degrees))
    assert abs(z) < 5 if degrees > 5 else z < 5


def test_the_same_check_notices_a_rounded_continuous_gaussian():
    count, sigma = 400_000, 0.5
    rounded = np.rint(np.random.default_rng(1).normal(0, sigma, count)).astype(int)
    expected = mass(sigma, 3) * count
    observed = np.bincount(np.clip(rounded, -3, 3) + 3, minlength=7)
    assert (((observed - expected) ** 2 / expected)[2:5]).sum() > 1000


@pytest.mark.parametrize("sigma", [0.3, 1.0, 25.0])
def test_thresholds_equal_a_naive_sum_of_exact_terms(sigma):
    terms = [math.exp(-k * k / (2 * sigma**2)) * (2 if k else 1) for k in range(200)]
    total, reached = math.fsum(terms), 0.0
    for term, threshold in zip(terms, DiscreteGaussian(sigma)._thresholds, strict=False):
        reached += term / total
        assert float(Fraction(threshold, 2**255)) == pytest.approx(min(reached, 1.0), abs=1e-13)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.125, 300), st.integers(0, 2**63 - 1))
def test_inversion_equals_a_linear_search(sigma, head):
    table = DiscreteGaussian(sigma)
    found = int(table._invert(np.array([head], dtype=np.uint64))[0])
    assert found == next(j for j, h in enumerate(table._heads.tolist()) if h >= head)


def test_an_undecided_draw_is_settled_by_further_bits():
    table = DiscreteGaussian(2.0)
    for magnitude in (0, 1, 5):
        threshold = table._thresholds[magnitude]
        head, more = threshold >> 192, threshold & (2**192 - 1)
        assert table._resolve(head, more - 1) == magnitude
        assert table._resolve(head, more) == magnitude + 1
    # Deep in the tail several thresholds share one head: all of them are looked at.
    deep = next(j for j, h in enumerate(table._heads.tolist()) if h == 2**63 - 1)
    uniform = table._thresholds[deep + 1]
    assert table._resolve(2**63 - 1, uniform & (2**192 - 1)) == deep + 2
    assert table._resolve(2**63 - 1, 2**192 - 1) == len(table._thresholds) - 1


def test_undecided_draws_are_met_when_the_head_is_forced(monkeypatch):
    table = DiscreteGaussian(2.0)
    head = table._thresholds[1] >> 192

    class Forced:
        """A keystream whose every word has the head of a threshold, then ones, then zeros."""

        def __init__(self) -> None:
            self.fill = (b"\xff" * 24, b"\0" * 24)
            self.asked = 0

        def update_into(self, _: bytes, buffer: bytearray) -> None:
            buffer[:16] = head.to_bytes(8, "little") * 2

        def update(self, _: bytes) -> bytes:
            self.asked += 1
            return self.fill[self.asked - 1]

    monkeypatch.setattr(discrete_gaussian, "keystream_from", lambda *_: Forced())
    assert table.sample(2, KEY).tolist() == [2, 1]


def test_a_key_determines_the_samples_and_none_gives_fresh_ones():
    table = DiscreteGaussian(50.0)
    first = table.sample(70_000, KEY)
    np.testing.assert_array_equal(first, table.sample(70_000, KEY))
    np.testing.assert_array_equal(first[:33_000], table.sample(33_000, KEY))
    assert not np.array_equal(table.sample(100), table.sample(100))
    assert table.sample(0).size == 0


def test_signs_are_fair_and_neighbours_independent():
    """Two statistics at 5 sigma: false alarm 1.2e-6."""
    drawn = DiscreteGaussian(100.0).sample(1_000_000, KEY).astype(float)
    assert abs(np.sign(drawn).sum()) < 5 * math.sqrt(drawn.size)
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) * math.sqrt(drawn.size) < 5


@pytest.mark.parametrize("sigma", [0.0, -1.0, 0.1, MAX_SIGMA + 1, math.nan, math.inf])
def test_a_sigma_outside_the_range_is_refused(sigma):
    with pytest.raises(InvalidRules, match="sigma"):
        DiscreteGaussian(sigma)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 10.0])
def test_the_tail_bound_holds(sigma):
    masses = mass(sigma, 200)
    for bound in range(200):
        beyond = masses[: 200 - bound].sum() * 2
        assert beyond <= tail_bound(sigma, bound) + 1e-15
