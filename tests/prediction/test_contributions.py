"""What places add to a logit: completeness, order, symmetry, and a case worked out by hand."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp

from securefed.prediction.contributions import contributions


@pytest.mark.parametrize("spread", [0.0, 1e-3, 1.0, 20.0, 400.0])
def test_they_sum_to_the_logit_whatever_the_spread(spread: float) -> None:
    logits = np.random.default_rng(3).normal(size=640) * spread - 2
    logit = logsumexp(logits) - math.log(len(logits))
    assert contributions(logits).sum() == pytest.approx(logit, abs=1e-9 * max(1, abs(logit)))


def test_a_place_of_a_higher_logit_adds_more_and_equal_ones_add_equally() -> None:
    logits = np.array([-9.0, -4.0, -4.0, -3.5, 2.0, -9.0])
    added = contributions(logits)
    assert np.array_equal(np.argsort(added, kind="stable"), np.argsort(logits, kind="stable"))
    assert added[1] == added[2]
    assert added[0] == added[5]


def test_of_two_places_by_hand() -> None:
    """The upper one adds the integral of 3 e^(3t) / (1 + e^(3t)), which is log((1 + e^3) / 2)."""
    added = contributions(np.array([1.0, 4.0]))
    assert added[0] == pytest.approx(0.5)
    assert added[1] == pytest.approx(0.5 + math.log((1 + math.exp(3)) / 2))


def test_each_is_the_integral_that_it_is_said_to_be() -> None:
    logits = np.array([-3.0, 0.5, 1.5, 6.0])
    above = logits + 3

    def slope(t: float, place: int) -> float:
        return float(np.exp(t * above[place] - logsumexp(t * above)))

    expected = [-3 / 4 + above[i] * quad(slope, 0, 1, args=(i,))[0] for i in range(4)]
    assert contributions(logits) == pytest.approx(expected, abs=1e-9)
