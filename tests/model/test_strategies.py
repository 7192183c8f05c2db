"""The server's step against the published formulas, one number at a time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securefed.errors import ConfigurationError, RunError
from securefed.model.strategies import FedAdam, FedAvg, build_strategy

_updates = st.lists(
    st.lists(st.floats(-2, 2), min_size=3, max_size=3).map(np.array), min_size=1, max_size=6
)


@given(updates=_updates)
@settings(max_examples=30, deadline=None)
def test_fedavg_adds_every_mean_update(updates: list[np.ndarray]):
    shared, strategy = np.array([1.0, -2.0, 0.5]), FedAvg()
    for update in updates:
        shared = strategy.step(shared, update)
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
    for update in updates:
        shared = strategy.step(shared, update)
    expected = [_naive_adam(start[i], [float(u[i]) for u in updates], rate, tau) for i in range(3)]
    np.testing.assert_allclose(shared, expected, rtol=1e-9, atol=1e-12)


def test_fedadam_goes_with_the_mean_update_and_by_about_its_rate_at_first():
    step = FedAdam(0.03).step(np.zeros(2), np.array([5.0, -0.2]))
    np.testing.assert_allclose(step, [0.03, -0.03], rtol=0.06)


def test_steps_leave_what_they_were_given_alone():
    for strategy in (FedAvg(), FedAdam(0.1)):
        shared, update = np.ones(3), np.full(3, 0.5)
        after = strategy.step(shared, update)
        assert after is not shared
        assert (shared == 1).all()
        assert (update == 0.5).all()


def test_a_restored_fedadam_continues_bit_for_bit():
    rng = np.random.default_rng(0)
    whole, stopped = FedAdam(0.1), FedAdam(0.1)
    first = second = np.zeros(4)
    for _ in range(3):
        update = rng.normal(size=4)
        first, second = whole.step(first, update), stopped.step(second, update)
    state = {name: moment.copy() for name, moment in stopped.state().items()}
    stopped.step(second, rng.normal(size=4))  # what happens later must not leak into the state
    resumed = FedAdam(0.1)
    resumed.restore(state)
    update = rng.normal(size=4)
    assert resumed.step(second, update).tobytes() == whole.step(first, update).tobytes()


def test_a_new_strategy_has_nothing_to_save_and_fedavg_takes_no_state():
    assert FedAvg().state() == FedAdam(0.1).state() == {}
    FedAvg().restore({})
    with pytest.raises(RunError, match="first"):
        FedAvg().restore({"first": np.zeros(1)})


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
    strategy = FedAdam(0.1)
    with pytest.raises(RunError, match="moments"):
        strategy.restore(state)
    assert strategy.state() == {}


def test_names_build_the_strategies_and_fedprox_is_the_clients_matter():
    assert isinstance(build_strategy("fedavg", 0.1), FedAvg)
    assert isinstance(build_strategy("fedprox", 0.1), FedAvg)
    adam = build_strategy("fedadam", 0.07)
    assert isinstance(adam, FedAdam)
    assert adam.learning_rate == 0.07


@pytest.mark.parametrize("name", ["", "FedAdam", "fedyogi"])
def test_a_name_that_is_no_strategy_is_refused(name: str):
    with pytest.raises(ConfigurationError, match="unknown strategy"):
        build_strategy(name, 0.1)


def test_repr_shows_no_moments():
    strategy = FedAdam(0.1)
    strategy.step(np.zeros(1), np.array([0.123456]))
    assert repr(strategy) == "FedAdam(learning_rate=0.1, tau=0.001)"
