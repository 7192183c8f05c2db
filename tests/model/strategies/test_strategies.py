"""The server's step against the published formulas, one number at a time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from securefed.config import FederationSettings
from securefed.errors import ConfigurationError, RunError
from securefed.model.strategies import STRATEGIES, build_strategy
from securefed.model.strategies.fedadam import FedAdam
from securefed.model.strategies.fedavg import FedAvg
from securefed.model.strategies.fedprox import FedProx
from securefed.model.strategies.strategy import State, Strategy

_updates = st.lists(
    st.lists(st.floats(-2, 2), min_size=3, max_size=3).map(np.array), min_size=1, max_size=6
)


@given(updates=_updates)
@settings(max_examples=30, deadline=None)
def test_fedavg_adds_every_mean_update(updates: list[np.ndarray]):
    shared, strategy = np.array([1.0, -2.0, 0.5]), FedAvg()
    state = State()
    for update in updates:
        shared, state = strategy.step(shared, update, state)
    np.testing.assert_allclose(shared, np.array([1.0, -2.0, 0.5]) + sum(updates), atol=1e-12)


def _naive_adam(start: float, updates: list[float], rate: float, tau: float) -> float:
    """Reddi et al. 2021, algorithm 2, for one parameter."""
    x, m, v = start, 0.0, 0.0
    for delta in updates:
        m = 0.9 * m + 0.1 * delta
        v = 0.99 * v + 0.01 * delta**2
        x += rate * m / (math.sqrt(v) + tau)
    return x


@given(updates=_updates, rate=st.floats(1e-3, 1.0), tau=st.sampled_from([1e-4, 1e-3, 0.1]))
@settings(max_examples=40, deadline=None)
def test_fedadam_is_the_papers_update_of_each_parameter(
    updates: list[np.ndarray], rate: float, tau: float
):
    start, strategy = [1.0, -2.0, 0.5], FedAdam(rate, tau)
    shared = np.array(start)
    state = State()
    for update in updates:
        shared, state = strategy.step(shared, update, state)
    expected = [_naive_adam(start[i], [float(u[i]) for u in updates], rate, tau) for i in range(3)]
    np.testing.assert_allclose(shared, expected, rtol=1e-9, atol=1e-12)


def test_fedadam_goes_with_the_mean_update_and_by_about_its_rate_at_first():
    step, _ = FedAdam(0.03).step(np.zeros(2), np.array([5.0, -0.2]), {})
    np.testing.assert_allclose(step, [0.03, -0.03], rtol=0.06)


@pytest.mark.parametrize("strategy", [FedAvg(), FedProx(0.5), FedAdam(0.1)])
def test_steps_leave_what_they_were_given_alone(strategy: Strategy):
    shared, update = np.ones(3), np.full(3, 0.5)
    once, state = strategy.step(shared, update, {})
    before = {name: value.copy() for name, value in state.items()}
    twice, _ = strategy.step(once, update, state)
    assert twice is not once
    assert (shared == 1).all()
    assert (update == 0.5).all()
    assert all(np.array_equal(value, before[name]) for name, value in state.items())


@pytest.mark.parametrize("name", STRATEGIES)
def test_leading_axes_are_federations_of_their_own(name: str):
    """Shadow models step side by side, and must not hear of each other."""
    strategy, rng = build_strategy(name, FederationSettings()), np.random.default_rng(0)
    shared, updates = rng.normal(size=(4, 5)), rng.normal(size=(3, 4, 5))
    together, state = shared, State()
    for update in updates:
        together, state = strategy.step(together, update, state)
    for row in range(4):
        alone, own = shared[row], State()
        for update in updates:
            alone, own = strategy.step(alone, update[row], own)
        assert alone.tobytes() == together[row].tobytes()


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_explains_its_own_steps_and_takes_its_own_state(name: str):
    strategy, rng = build_strategy(name, FederationSettings()), np.random.default_rng(1)
    trajectory, means, state = [rng.normal(size=50)], rng.normal(0, 0.01, (4, 50)), State()
    for mean in means:
        after, state = strategy.step(trajectory[-1], mean, state)
        trajectory.append(after)
        strategy.require(state)
        assert bool(state) == strategy.stateful
    estimates = strategy.explain([each.astype(np.float32) for each in trajectory])
    for estimate, mean in zip(estimates, means, strict=True):
        sure = np.abs(estimate.mean - mean) < 1e-4
        assert sure.mean() >= 1 - estimate.ambiguous - 0.05


def test_fedavg_takes_no_state():
    FedAvg().require({})
    with pytest.raises(RunError, match="first"):
        FedAvg().require({"first": np.zeros(1)})


@pytest.mark.parametrize(
    "state",
    [
        {"first": np.zeros(2)},
        {"second": np.zeros(2)},
        {"first": np.zeros(2), "second": np.zeros(3)},
        {"first": np.zeros(2), "second": np.zeros(2), "third": np.zeros(2)},
        {"first": np.zeros(2), "second": np.array([1.0, np.nan])},
        {"first": np.array([np.inf, 0.0]), "second": np.zeros(2)},
        {"first": np.zeros(2), "second": np.array([1.0, -1.0])},
    ],
    ids=lambda state: "-".join(state),
)
def test_fedadam_refuses_a_state_that_is_not_both_its_moments(state: dict[str, np.ndarray]):
    with pytest.raises(RunError, match="moments"):
        FedAdam(0.1).require(state)


def test_names_build_the_strategies_with_their_own_parameters():
    settings = FederationSettings(proximal=0.2, server_learning_rate=0.07)
    assert build_strategy("fedavg", settings) == FedAvg()
    assert build_strategy("fedadam", settings) == FedAdam(0.07)
    prox = build_strategy("fedprox", settings)
    assert isinstance(prox, FedProx)
    assert [build_strategy(n, settings).proximal for n in STRATEGIES] == [0.0, 0.2, 0.0]


@pytest.mark.parametrize("name", ["", "FedAdam", "fedyogi"])
def test_a_name_that_is_no_strategy_is_refused(name: str):
    with pytest.raises(ConfigurationError, match="unknown strategy"):
        build_strategy(name, FederationSettings())
    with pytest.raises(ValidationError, match="'fedavg', 'fedprox' or 'fedadam'"):
        FederationSettings(strategy=name)
