"""Secure FedAvg against FedAvg in the clear, within the bound that is stated before a run."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from protocols.errors import BadVector, InvalidRules, ValueOutOfRange, WouldOverflow
from securefed.errors import RunError
from securefed.model.scores import COUNTS, Counts
from securefed.wire.contribution import (
    Contribution,
    ContributionLayout,
    Total,
    bits_for,
    vector_length,
)
from securefed.wire.plain import (
    plain_contribution,
    plain_scores,
    plain_scores_total,
    plain_total,
    plain_update,
)

Trained = tuple[NDArray[np.float32], int]
ZEROS = np.zeros(COUNTS, np.int64)


def encoded(
    layout: ContributionLayout, update: NDArray[np.float32], patients: int
) -> NDArray[np.uint32]:
    return layout.encode(Contribution(update, patients, 0))


def in_the_clear(contributions: list[Trained]) -> Total:
    return plain_total([(*each, ZEROS) for each in contributions])


def exact(total: Total) -> Counts:
    assert isinstance(total.scores, np.ndarray)
    return total.scores


@dataclass
class Case:
    """A federation's layout, everybody's contributions, and who survives."""

    layout: ContributionLayout
    contributions: list[Trained]
    survivors: list[int]


@st.composite
def _cases(draw: st.DrawFn) -> Case:
    clients = draw(st.integers(1, 9))
    layout = ContributionLayout(
        parameters=draw(st.integers(1, 12)),
        clients=clients,
        value_range=draw(st.sampled_from([1e-3, 0.5, 4.0, 1000.0])),
        max_patients=draw(st.integers(1, 20_000)),
        modulus_bits=draw(st.integers(18, 32)),
    )
    limit = float(np.nextafter(np.float32(layout.value_range), np.float32(0)))
    entries = st.floats(-limit, limit, width=32)
    contributions = []
    for _ in range(clients):
        update = draw(arrays.arrays(np.float32, layout.parameters, elements=entries))
        contributions.append((update, draw(st.integers(1, layout.max_patients))))
    everybody = st.lists(st.integers(0, clients - 1), min_size=1, unique=True)
    return Case(layout, contributions, draw(everybody))


def _summed(layout: ContributionLayout, contributions: list[Trained]) -> NDArray[np.uint32]:
    """The oracle of the masked sum: Python integers in the ring."""
    vectors = [encoded(layout, *contribution).tolist() for contribution in contributions]
    ring = 2**layout.modulus_bits
    return np.array([sum(column) % ring for column in zip(*vectors, strict=True)], np.uint32)


@given(case=_cases())
@settings(max_examples=60, deadline=None)
def test_the_decoded_mean_is_plain_fedavg_of_whoever_survives_within_the_bound(case: Case):
    kept = [case.contributions[index] for index in case.survivors]
    plain = in_the_clear(kept)
    secure = case.layout.decode(_summed(case.layout, kept), 1)
    assert secure.patients == plain.patients == sum(weight for _, weight in kept)
    assert secure.scores is None
    assert secure.mean_update is not None
    assert plain.mean_update is not None
    bound = case.layout.error_bound(len(kept), plain.patients)
    assert np.abs(secure.mean_update - plain.mean_update).max() <= bound


def _ones(layout: ContributionLayout, value: float, patients: int) -> Trained:
    return np.full(layout.parameters, value, np.float32), patients


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("clients", [1, 3, 1000])
def test_everybody_at_the_range_with_the_most_patients_does_not_wrap(clients: int, sign: int):
    layout = ContributionLayout(2, clients, value_range=4.0, max_patients=10_000)
    words = encoded(layout, *_ones(layout, sign * 4.0, 10_000)).astype(np.uint64) * clients % 2**32
    total = layout.decode(words.astype(np.uint32), 1)
    assert total.patients == clients * 10_000
    assert total.mean_update == pytest.approx(sign * 4.0, abs=layout.error_bound(clients, 10_000))


@given(
    clients=st.integers(1, 1000),
    value_range=st.sampled_from([1e-3, 0.5, 4.0]),
    max_patients=st.integers(1, 100_000),
    patients=st.integers(1, 1000),
    error=st.sampled_from([1e-5, 1e-4, 1e-2, 1.0]),
)
@settings(max_examples=200, deadline=None)
def test_a_ring_is_as_narrow_as_the_stated_error_allows(
    clients: int, value_range: float, max_patients: int, patients: int, error: float
):
    """Where 32 bits do not suffice it has all of them, and the bound says what that gives."""
    assume(clients * max_patients < 2**32)
    sizes = {"clients": clients, "value_range": value_range, "max_patients": max_patients}
    bits = bits_for(error, **sizes, patients=patients)  # type: ignore[arg-type]
    everybody = clients * patients
    layout = ContributionLayout(1, **sizes, modulus_bits=bits)  # type: ignore[arg-type]
    if bits < 32:
        # The last of it is float64's share of the bound.
        assert layout.error_bound(clients, everybody) <= error * (1 + 1e-6) + 1e-9
    try:
        narrower = ContributionLayout(1, **sizes, modulus_bits=bits - 1)  # type: ignore[arg-type]
    except (InvalidRules, WouldOverflow):
        return
    assert bits == 8 or narrower.error_bound(clients, everybody) > error * (1 - 1e-6)


def test_closer_ranges_make_words_shorter_at_the_same_error():
    usual = {"clients": 4, "value_range": 4.0, "max_patients": 10_000, "patients": 100}
    assert bits_for(1e-5, **usual) == 28  # type: ignore[arg-type]
    assert bits_for(1e-9, **usual) == 32  # type: ignore[arg-type]
    closer = {**usual, "value_range": 0.25, "max_patients": 500}
    assert bits_for(1e-5, **closer) == 19  # type: ignore[arg-type]


def test_the_bound_of_a_usual_run_is_far_below_what_training_notices():
    layout = ContributionLayout(145, clients=4, value_range=4.0, max_patients=10_000)
    assert 1e-8 < layout.error_bound(clients=4, patients=1200) < 2e-7


def test_the_bound_grows_as_patients_get_fewer_than_the_layout_allows():
    layout = ContributionLayout(1, clients=4, value_range=4.0, max_patients=10_000)
    assert layout.error_bound(4, 120) == pytest.approx(10 * layout.error_bound(4, 1200))


def test_an_update_beyond_the_range_is_clipped_to_it():
    layout = ContributionLayout(3, clients=2, value_range=0.5, max_patients=10)
    update = np.array([7.0, -0.25, -1e30], np.float32)
    total = layout.decode(encoded(layout, update, 10), 1)
    assert total.mean_update is not None
    np.testing.assert_allclose(total.mean_update, np.array([0.5, -0.25, -0.5]), atol=1e-8)


def test_weights_are_patients():
    layout = ContributionLayout(1, clients=2, value_range=1.0, max_patients=100)
    contributions = [_ones(layout, 0.9, 30), _ones(layout, -0.3, 90)]
    total = layout.decode(_summed(layout, contributions), 1)
    assert total.mean_update == pytest.approx((0.9 * 30 - 0.3 * 90) / 120, abs=1e-7)


def test_a_round_in_which_nobody_trained_has_no_mean():
    layout = ContributionLayout(2, clients=2, value_range=1.0, max_patients=100)
    contributions = [_ones(layout, 0.0, 0)] * 2
    for total in (layout.decode(_summed(layout, contributions), 1), in_the_clear(contributions)):
        assert total.mean_update is None
        assert total.patients == 0


def test_a_training_vector_holds_update_and_patients_and_nothing_else():
    layout = ContributionLayout(5, clients=2, value_range=1.0, max_patients=100)
    words = encoded(layout, *_ones(layout, 0.0, 42))
    assert words.dtype == np.uint32
    assert words.shape == (layout.words,) == (5 + 1,) == (vector_length(layout, train=True),)
    assert np.flatnonzero(words).tolist() == [5]
    assert words[5] == 42


def test_a_scoring_vector_holds_the_histogram_and_nothing_else():
    layout = ContributionLayout(5, clients=2, value_range=1.0, max_patients=100)
    counts = ZEROS.copy()
    counts[[0, COUNTS - 1]] = [100, 3]
    words = layout.scores.encode(counts)
    assert words.shape == (COUNTS,) == (vector_length(layout, train=False),)
    total = layout.scores.decode(words + words)
    assert np.array_equal(exact(total), 2 * counts)
    assert (total.mean_update, total.patients) == (None, 0)
    given = plain_contribution(plain_scores(counts), 5, layout, train=False, number=1)
    assert np.array_equal(exact(plain_scores_total([given] * 2, layout.scores)), 2 * counts)


def test_an_answer_to_the_other_kind_of_step_is_refused_in_the_clear_too():
    layout = ContributionLayout(5, clients=2, value_range=1.0, max_patients=100)
    update = plain_update(Contribution(np.ones(5, np.float32), 7, 0), 5)
    assert plain_contribution(update, 5, layout, train=True, number=1)[1] == 7
    with pytest.raises(RunError, match="wrong length"):
        plain_contribution(update, 5, layout, train=False, number=1)
    with pytest.raises(RunError, match="wrong length"):
        plain_contribution(plain_scores(ZEROS), 5, layout, train=True, number=1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_non_finite_update_is_refused(value: float):
    layout = ContributionLayout(3, clients=2, value_range=1.0, max_patients=100)
    update = np.array([0.0, value, 0.0], np.float32)
    with pytest.raises(RunError, match="non-finite"):
        encoded(layout, update, 10)


def test_a_weight_or_a_count_that_is_not_allowed_is_refused():
    layout = ContributionLayout(1, clients=2, value_range=1.0, max_patients=100)
    for patients in (101, -1):
        with pytest.raises(ValueOutOfRange):
            encoded(layout, np.ones(1, np.float32), patients)
    for count in (101, -1):
        counts = ZEROS.copy()
        counts[3] = count
        with pytest.raises(ValueOutOfRange):
            layout.scores.encode(counts)
    with pytest.raises(BadVector, match="integers"):
        layout.scores.encode(np.zeros(COUNTS))  # type: ignore[arg-type]  # what is refused


def test_lengths_that_are_not_the_layouts_are_refused():
    layout = ContributionLayout(3, clients=2, value_range=1.0, max_patients=100)
    for update in (np.zeros(2, np.float32), np.zeros((3, 1), np.float32)):
        with pytest.raises(RunError, match="shape"):
            encoded(layout, update, 10)
    with pytest.raises(RunError, match="shape"):
        layout.scores.encode(ZEROS[1:])


@pytest.mark.parametrize(
    ("settings_", "error"),
    [
        ({"clients": 2**20}, WouldOverflow),  # patients: 2^20 hospitals of 10,000
        ({"clients": 2**31, "max_patients": 1}, WouldOverflow),  # no integer left for an update
        ({"max_patients": 2**30, "clients": 4}, WouldOverflow),
        ({"clients": 0}, InvalidRules),
        ({"max_patients": 0}, InvalidRules),
        ({"value_range": 0.0}, InvalidRules),
        ({"value_range": float("inf")}, InvalidRules),
        ({"value_range": float("nan")}, InvalidRules),
    ],
)
def test_a_layout_whose_sum_could_wrap_does_not_exist(
    settings_: dict[str, float], error: type[Exception]
):
    usual = {"parameters": 3, "clients": 4, "value_range": 4.0, "max_patients": 10_000}
    with pytest.raises(error):
        ContributionLayout(**{**usual, **settings_})  # type: ignore[arg-type]
