"""Our epsilons and the audit's trade-off curve against dp_accounting (Google), which shares no code
with Opacus or with us.

Its own requirements ask for an old attrs, so that it cannot be an extra beside our constraints:
.ci/run installs it without them. Where it is missing, this file is skipped.
"""

import functools
import math
from typing import Any

import numpy as np
import pytest

from attacks.epsilon.trade_off import SubsampledGaussian
from securefed.privacy import composition
from securefed.privacy.accounting import Event, epsilon

oracle: Any = pytest.importorskip(
    "dp_accounting", reason="dp-accounting is not installed (.ci/run installs it)"
)

DELTA = 1e-5
MESH = 1e-4  # of the oracle's privacy losses: it rounds up, by less than this on each side

# (noise multiplier, sampling rate, steps): runs of a hospital, published cases, and the edges: no
# subsampling, a single step, little noise, much noise, rare sampling.
SETTINGS = [
    (2.0, 1 / 3, 80),
    (0.989, 1 / 3, 80),
    (1.0, 0.1, 200),
    (1.1, 256 / 60_000, 3_510),
    (1.3, 0.9, 30),
    (3.0, 1.0, 50),
    (0.7, 0.01, 500),
    (5.0, 0.5, 400),
    (0.8, 0.05, 4),
    (20.0, 0.25, 1_000),
    (0.6, 0.002, 1_000),
    (1.5, 0.2, 1),
]
MIXED = [(1.3, 0.2, 40), (2.0, 0.1, 10), (3.0, 1.0, 5)]


@functools.cache
def losses(noise: float, rate: float, steps: int) -> Any:
    """The oracle's privacy-loss distribution, adding and removing."""
    one = oracle.pld.privacy_loss_distribution.from_gaussian_mechanism(
        noise, sampling_prob=rate, value_discretization_interval=MESH
    )
    return one.self_compose(steps)


def composed_by(accountant: Any, history: list[tuple[float, float, int]]) -> float:
    for noise, rate, steps in history:
        event = oracle.PoissonSampledDpEvent(rate, oracle.GaussianDpEvent(noise))
        accountant.compose(event, steps)
    return float(accountant.get_epsilon(DELTA))


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_prv_is_never_below_the_oracle_and_at_most_what_it_adds_above(
    setting: tuple[float, float, int],
) -> None:
    """PRV's upper end is its estimate + 0.01, and delta is taken a thousandth smaller."""
    exact = losses(*setting).get_epsilon_for_delta(DELTA)
    assert exact <= epsilon([Event(*setting)], DELTA) <= exact + 0.0125


def test_a_history_of_several_mechanisms_is_composed_as_the_oracle_does() -> None:
    accountant = oracle.pld.PLDAccountant(value_discretization_interval=MESH)
    exact = composed_by(accountant, MIXED)
    assert exact <= epsilon([Event(*each) for each in MIXED], DELTA) <= exact + 0.0125


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_rdp_at_whole_orders_is_the_oracles_to_rounding(setting: tuple[float, float, int]) -> None:
    orders = tuple(range(2, 65))
    exact = composed_by(oracle.rdp.RdpAccountant(orders), [setting])
    assert composition.rdp_epsilon((setting,), DELTA, orders) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_rdp_lies_between_the_exact_epsilon_and_the_oracles_rdp(
    setting: tuple[float, float, int],
) -> None:
    """The oracle leaves out fractional orders whose series is long; ours may only be smaller."""
    found = epsilon([Event(*setting)], DELTA, "rdp")
    assert losses(*setting).get_epsilon_for_delta(DELTA) <= found
    looser = composed_by(oracle.rdp.RdpAccountant(composition.RENYI_ORDERS), [setting])
    assert found <= looser * (1 + 1e-9)
    assert found == pytest.approx(looser, rel=0.01)


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_audits_curve_has_the_oracles_epsilon(
    setting: tuple[float, float, int], delta: float
) -> None:
    noise, rate, steps = setting
    found = SubsampledGaussian(rate, steps).curve(noise).epsilon(delta)
    exact = losses(*setting).get_epsilon_for_delta(delta)
    assert found == pytest.approx(exact, rel=1e-3, abs=3e-4)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_audits_curve_is_the_oracles_trade_off_and_never_above_it(
    setting: tuple[float, float, int],
) -> None:
    """A curve too high would refute an honest run; one too low only weakens the audit."""
    noise, rate, steps = setting
    curve = SubsampledGaussian(rate, steps).curve(noise)
    reach = losses(*setting).get_epsilon_for_delta(1e-10)
    levels = np.linspace(0.0, reach, 2_000)
    deltas = np.asarray(losses(*setting).get_delta_for_epsilon(levels))
    for right in (1e-4, 1e-3, 0.01, 0.1, 0.3, 0.5, 0.8, 0.99):
        # Wasserman & Zhou 2010: every (epsilon, delta) is two lines under the trade-off curve.
        lines = np.maximum(
            np.exp(-levels) * (right - deltas), 1 - deltas - np.exp(levels) * (1 - right)
        )
        exact = max(0.0, float(lines.max()))
        assert exact - 2e-4 <= curve(right) <= exact + 1e-5


def test_what_the_oracle_calls_no_privacy_is_no_privacy_here() -> None:
    assert epsilon([Event(0.0, 0.5, 1)], DELTA) == math.inf
    none = oracle.pld.PLDAccountant()
    none.compose(oracle.PoissonSampledDpEvent(0.5, oracle.GaussianDpEvent(0.0)))
    assert none.get_epsilon(DELTA) == math.inf
