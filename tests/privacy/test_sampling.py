"""A batch or a rate: one is set, and a record counts the same under either."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securefed.errors import ConfigurationError
from securefed.privacy.sampling import Batch, Rate, Sampling, expected

_samplings = st.one_of(
    st.integers(1, 1000).map(Batch),
    st.floats(1e-3, 1.0).map(Rate),
)


@given(_samplings, st.integers(0, 5000))
def test_a_record_counts_one_in_whichever_hospital(sampling: Sampling, more: int) -> None:
    """Weight over divisor, times the chance to be drawn, from what somebody declares at least."""
    declared = sampling.least + more
    counts = declared / expected(sampling, declared) * sampling.rate(declared)
    assert counts == pytest.approx(1.0, rel=1e-12)
    assert expected(sampling, declared) >= 1 - 1e-9
    assert 0 < sampling.rate(declared) <= 1
    assert sampling.parts(declared) <= sampling.most_parts(declared)


def test_a_batch_is_everybodys_divisor_and_a_rate_everybodys_rate() -> None:
    batch, rate = Batch(100), Rate(1 / 3)
    assert [expected(batch, n) for n in (100, 300, 5000)] == [100, 100, 100]
    assert [batch.rate(n) for n in (100, 300)] == [1.0, 100 / 300]
    assert [rate.rate(n) for n in (3, 300, 5000)] == [1 / 3] * 3
    assert expected(rate, 300) == pytest.approx(100)
    assert (batch.least, rate.least, Rate(1.0).least) == (100, 3, 1)
    assert all(Rate(1 / n).least == n for n in range(1, 5000))
    assert (str(batch), str(rate)) == ("batch 100", "rate 0.3333")


def test_parts_of_all_hospitals_add_up_to_the_batch_of_all() -> None:
    for sampling in (Batch(7), Rate(0.3)):
        sizes = (8, 20, 300)
        together = sampling.unit * sum(map(sampling.parts, sizes))
        assert together == pytest.approx(math.fsum(expected(sampling, n) for n in sizes))


@pytest.mark.parametrize("size", [0, -1, True, 2.0])
def test_a_batch_is_a_number_of_records(size: int) -> None:
    with pytest.raises(ConfigurationError, match="batch size"):
        Batch(size)


@pytest.mark.parametrize("value", [0.0, -0.1, 1.01, math.nan])
def test_a_rate_is_a_probability_and_not_nothing(value: float) -> None:
    with pytest.raises(ConfigurationError, match="sample_rate"):
        Rate(value)
