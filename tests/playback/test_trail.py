"""Each round's parameters follow from the round before, or the recording is refused."""

import numpy as np
import pytest

from securefed.errors import RunError
from securefed.model.strategies.fedadam import FedAdam
from securefed.model.strategies.fedavg import FedAvg
from securefed.model.strategies.strategy import State, Strategy
from securefed.playback.trail import Trail

SIZE = 20


def steps(strategy: Strategy, rounds: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Parameters before each round and after the last, and the means."""
    rng = np.random.default_rng(2)
    shared, means = [rng.normal(0, 1, SIZE).astype(np.float32).astype(np.float64)], []
    state = State()
    for _ in range(rounds):
        means.append(rng.normal(0, 0.3, SIZE))
        after, state = strategy.step(shared[-1], means[-1], state)
        shared.append(after)
    return shared, means


def sent(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)


@pytest.mark.parametrize("kind", [FedAvg(), FedAdam(0.03)])
def test_a_run_follows_itself_and_a_changed_value_does_not(kind: Strategy) -> None:
    shared, means = steps(kind, 30)
    trail = Trail(kind)
    for number, mean in enumerate(means, start=1):
        trail.at(number, sent(shared[number - 1]))
        trail.step(number, mean)
    assert trail.unchecked == []
    trail.at(31, sent(shared[30]))
    changed = sent(shared[30])
    changed[4] *= 1 + 1e-5
    with pytest.raises(RunError, match=r"round 31 .* \(1 of 20 values\)"):
        trail.at(31, changed)
    changed[4] = np.nan
    with pytest.raises(RunError, match="round 31"):
        trail.at(31, changed)


def test_fedavg_is_followed_again_after_an_unknown_round() -> None:
    shared, means = steps(FedAvg(), 30)
    trail = Trail(FedAvg())
    for number, mean in enumerate(means, start=1):
        trail.at(number, sent(shared[number - 1]))
        trail.step(number, mean)
        if number == 5:
            trail.lose(number)
    assert trail.unchecked == [6]
    trail.at(31, sent(shared[30]))
    with pytest.raises(RunError, match="round 31"):
        trail.at(31, sent(shared[30] + 1e-4))


def test_fedadam_cannot_be_followed_beyond_an_unknown_round() -> None:
    shared, means = steps(FedAdam(0.03), 4)
    trail = Trail(FedAdam(0.03))
    trail.at(1, sent(shared[0]))
    trail.lose(1)
    trail.at(2, sent(shared[1]))
    trail.step(2, means[1])
    trail.at(3, sent(shared[2]))
    assert trail.unchecked == [2, 3]


def test_a_round_without_a_mean_leaves_the_parameters() -> None:
    shared, _ = steps(FedAvg(), 1)
    trail = Trail(FedAvg())
    trail.at(1, sent(shared[0]))
    trail.step(1, None)
    trail.at(2, sent(shared[0]))
    with pytest.raises(RunError, match="round 2"):
        trail.at(2, sent(shared[1]))


def test_a_repeated_round_starts_where_it_started_before() -> None:
    shared, means = steps(FedAdam(0.03), 3)
    trail = Trail(FedAdam(0.03))
    for number in (1, 2):
        trail.at(number, sent(shared[number - 1]))
        trail.step(number, means[number - 1])
    trail.at(2, sent(shared[1]))
    other = -means[1]
    trail.step(2, other)
    with pytest.raises(RunError, match="round 3"):
        trail.at(3, sent(shared[2]))
