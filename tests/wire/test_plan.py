"""The public plan: whose turn it is, and how often."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securefed.wire.plan import Plan


def sampled(hospitals: int, asked: int | None, rounds: int, seed: int = 0) -> Plan:
    names = tuple(f"hospital-{number}" for number in range(1, hospitals + 1))
    return Plan(names, rounds, asked, evaluate_every=None, seed=seed)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(2, 12), st.data(), st.integers(1, 40), st.integers(0, 5))
def test_turns_are_even_at_any_time(
    hospitals: int, data: st.DataObject, rounds: int, seed: int
) -> None:
    asked = data.draw(st.integers(2, hospitals))
    plan = sampled(hospitals, asked, rounds, seed)
    so_far = Counter(dict.fromkeys(plan.clients, 0))
    for number in range(1, rounds + 1):
        cohort = plan.cohort(number)
        assert len(set(cohort)) == asked
        so_far.update(cohort)
        assert max(so_far.values()) - min(so_far.values()) <= 1
    assert {name: plan.turns(name) for name in plan.clients} == dict(so_far)
    assert plan.most_turns == max(so_far.values())


def test_another_order_is_drawn_each_time_and_the_seed_decides() -> None:
    plan, other = sampled(10, 4, 80), sampled(10, 4, 80, seed=1)
    assert len({plan.cohort(number) for number in range(1, 81)}) > 40
    assert [plan.cohort(n) for n in range(1, 6)] != [other.cohort(n) for n in range(1, 6)]
    assert [plan.turns(name) for name in plan.clients] == [32] * 10


def test_every_hospital_is_as_likely_in_any_round() -> None:
    """The first cohorts of 2,000 seeds; five standard deviations, false alarms below 1e-5."""
    found = Counter(name for seed in range(2000) for name in sampled(5, 2, 1, seed).cohort(1))
    assert all(abs(count - 800) < 5 * (2000 * 0.4 * 0.6) ** 0.5 for count in found.values())


@pytest.mark.parametrize("asked", [None, 3])
def test_turns_within_some_rounds_are_those_of_their_cohorts(asked: int | None) -> None:
    plan = sampled(4, asked, 9)
    for name in plan.clients:
        later = sum(name in plan.cohort(number) for number in (4, 5, 6))
        assert plan.turns(name, range(4, 7)) == later
    assert plan.turns("nobody") == 0
