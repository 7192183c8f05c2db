"""A person who is a patient of several hospitals: the composition of their histories."""

from dataclasses import replace

import pytest

from securefed.privacy.accounting import Event, epsilon
from securefed.privacy.statement import Entry, Statement, of_one_person

DELTA = 1e-5


def ledger(sigma: float, rate: float = 0.25, steps: int = 20, shared: int = 1) -> Statement:
    event = Event(sigma, rate, steps, noise_from=shared)
    entry = Entry("a", 1, 1, seeded=False, event=event)
    return Statement("h", "patient", DELTA, "prv", (8.0,), (entry,))


def test_two_histories_compose_as_one_and_not_as_a_sum() -> None:
    both = of_one_person([ledger(2.0), ledger(1.5)], 2)
    assert both is not None
    assert both.epsilon == epsilon([Event(2.0, 0.25, 20), Event(1.5, 0.25, 20)], DELTA)
    alone = [epsilon([Event(sigma, 0.25, 20)], DELTA) for sigma in (2.0, 1.5)]
    assert max(alone) < both.counted < sum(alone)


def test_of_any_two_the_weakest_pair_is_told() -> None:
    ledgers = [ledger(sigma) for sigma in (3.0, 1.2, 2.0, 1.5)]
    two, all_four = of_one_person(ledgers, 2), of_one_person(ledgers, 4)
    assert two is not None
    assert all_four is not None
    assert two.counted == epsilon([Event(1.2, 0.25, 20), Event(1.5, 0.25, 20)], DELTA)
    assert all_four.counted > two.counted


def test_where_there_are_too_many_pairs_all_of_them_stand_for_any_two() -> None:
    ledgers = [ledger(5.0 + number / 10) for number in range(11)]
    two, everywhere = of_one_person(ledgers, 2), of_one_person(ledgers, 11)
    assert two == everywhere


def test_shared_noise_is_no_composition() -> None:
    assert of_one_person([ledger(2.0, shared=3), ledger(2.0, shared=3)], 2) is None


def test_ledgers_of_other_terms_do_not_compose() -> None:
    with pytest.raises(ValueError, match="one delta, unit and accountant"):
        of_one_person([ledger(2.0), replace(ledger(2.0), delta=1e-6)], 2)
