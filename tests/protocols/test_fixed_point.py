"""Fixed point: the sum cannot wrap, the error is bounded, and what does not fit is refused."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocols.errors import BadVector, InvalidRules, NotFinite, ValueOutOfRange, WouldOverflow
from protocols.fixed_point import CountSlot, FixedPoint

ranges = st.floats(1e-6, 1e6)


@settings(deadline=None)
@given(ranges, st.integers(1, 2000), st.sampled_from([-1.0, 1.0]))
@example(1.0, 3, 1.0)
def test_the_largest_values_of_all_clients_together_do_not_wrap(value_range, summands, sign):
    codec = FixedPoint(value_range, summands)
    word = codec.encode(np.array([sign * value_range]))
    total = (int(word[0]) * summands) % 2**32
    decoded = codec.decode(np.array([total], dtype=np.uint32))[0]
    assert abs(decoded - sign * value_range * summands) <= codec.error_bound(summands)


@settings(deadline=None)
@given(st.data())
def test_the_decoded_sum_is_within_the_error_bound(data):
    summands = data.draw(st.integers(1, 40))
    codec = FixedPoint(data.draw(ranges), summands)
    present = data.draw(st.integers(1, summands))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = rng.uniform(-codec.value_range, codec.value_range, (present, 11))
    total = np.zeros(11, dtype=np.uint32)
    for row in values:
        total += codec.encode(row)
    exact = [math.fsum(column) for column in values.T]
    assert np.abs(codec.decode(total) - exact).max() <= codec.error_bound(present)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_the_federated_mean_equals_the_plain_one_within_the_stated_bound(data):
    clients = data.draw(st.integers(1, 12))
    most = 500
    weights = np.array(
        data.draw(st.lists(st.integers(1, most), min_size=clients, max_size=clients))
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    updates = rng.uniform(-0.5, 0.5, (clients, 7)).astype(np.float32)
    codec, counts = FixedPoint(most * 0.5, clients), CountSlot(most, clients)
    total = np.zeros(8, dtype=np.uint32)
    for weight, update in zip(weights, updates, strict=True):
        weighted = codec.encode(weight * update.astype(np.float64))
        total += np.concatenate([weighted, counts.encode([int(weight)])])
    weight_sum = int(counts.decode(total[7:])[0])
    assert weight_sum == weights.sum()
    mean = codec.decode(total[:7]) / weight_sum
    plain = np.average(updates.astype(np.float64), axis=0, weights=weights)
    assert np.abs(mean - plain).max() <= codec.error_bound(clients) / weight_sum + 1e-15


def test_float32_and_float64_of_one_value_encode_alike():
    values = np.linspace(-1, 1, 200_001, dtype=np.float32)  # several chunks
    codec = FixedPoint(1.0, 10)
    np.testing.assert_array_equal(codec.encode(values), codec.encode(values.astype(np.float64)))


def test_encoding_rounds_to_nearest_and_keeps_the_shape():
    codec = FixedPoint(float(2**31 - 1), 1)  # one step is exactly one
    words = codec.encode(np.array([[0.4, 0.6], [-0.6, -3.0]]))
    np.testing.assert_array_equal(words, np.array([[0, 1], [2**32 - 1, 2**32 - 3]], np.uint32))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 65_535, 65_536, 99_999])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_infinity_are_refused_wherever_they_stand(bad, place, dtype):
    values = np.zeros(100_000, dtype)
    values[place] = bad
    with pytest.raises(NotFinite, match=f"at {place} "):
        FixedPoint(1.0, 4).encode(values)


@pytest.mark.parametrize("bad", [1.0000001, -1.0000001, 1e30])
def test_a_value_beyond_the_range_is_refused_not_clipped(bad):
    with pytest.raises(ValueOutOfRange, match="at 2 "):
        FixedPoint(1.0, 4).encode(np.array([0.0, 1.0, bad]))


def test_integers_are_not_taken_for_real_values():
    with pytest.raises(BadVector, match="int64"):
        FixedPoint(1.0, 4).encode(np.array([1, 2]))


@pytest.mark.parametrize("value_range", [0.0, -1.0, math.nan, math.inf])
def test_a_range_that_is_no_positive_number_is_refused(value_range):
    with pytest.raises(InvalidRules, match="value_range"):
        FixedPoint(value_range, 2)


def test_too_many_summands_or_too_coarse_a_step_is_refused_before_the_run():
    with pytest.raises(WouldOverflow, match="no room"):
        FixedPoint(1.0, 2**31)
    with pytest.raises(WouldOverflow, match="coarser"):
        FixedPoint(1000.0, 16, coarsest_resolution=1e-6)
    with pytest.raises(InvalidRules):
        FixedPoint(1.0, 0)


@given(st.integers(1, 50), st.data())
def test_counts_sum_exactly(summands, data):
    slot = CountSlot((2**32 - 1) // summands, summands)
    counts = data.draw(st.lists(st.integers(0, slot.maximum), min_size=1, max_size=summands))
    total = sum((slot.encode([c]) for c in counts), np.zeros(1, dtype=np.uint32))
    assert slot.decode(total).tolist() == [sum(counts)]


def test_a_count_that_does_not_fit_is_refused():
    slot = CountSlot(100, 5)
    for bad in (-1, 101, 2**40):
        with pytest.raises(ValueOutOfRange):
            slot.encode([bad])
    with pytest.raises(BadVector, match="float64"):
        slot.encode([0.5])
    with pytest.raises(WouldOverflow):
        CountSlot(2**31, 2)
    with pytest.raises(InvalidRules):
        CountSlot(0, 2)
