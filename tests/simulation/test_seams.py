"""What nobody in the product has heard of goes through a whole run: a strategy, a mechanism.

Each is added here as a newcomer would add it, and everything that follows a run has to go along:
check points, masks, the ledger, the replay of the recording, a hospital's view, shadow models.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from attacks.membership.federation_replay import replay
from attacks.membership.shadow_models import pool_of, replay_plan
from securefed.auditing.subject import subject_of
from securefed.model.strategies import STRATEGIES
from securefed.model.strategies.strategy import Hyperparameters, MeanEstimate, State, Values
from securefed.privacy.accounting import Event
from securefed.privacy.ledger import Ledger
from securefed.run_directory import Run
from securefed.simulation.execution import execute
from securefed.training.mechanism import MECHANISMS, OwnNoise
from securefed.wire.description import JobDescription
from tests.tiny import resume, settings_with, start

settings = settings_with(privacy={"dp": False}, federation={"rounds": 4, "evaluate_every": 2})


@dataclass(frozen=True)
class Momentum:
    """FedAvgM (Hsu et al. 2019): adds a running sum of mean updates."""

    beta: float = 0.5
    proximal: float = 0.0
    stateful: bool = True

    @classmethod
    def of(cls, settings: Hyperparameters) -> "Momentum":
        return cls()

    def step(self, shared: Values, mean_update: Values, state: State) -> tuple[Values, State]:
        velocity = self.beta * state.get("velocity", np.zeros_like(shared)) + mean_update
        return shared + velocity, {"velocity": velocity}

    def require(self, state: State) -> None:
        assert not state or state.keys() == {"velocity"}

    def explain(self, trajectory: Sequence[NDArray[np.float32]]) -> list[MeanEstimate]:
        steps = np.diff([each.astype(np.float64) for each in trajectory], axis=0)
        before = np.concatenate([np.zeros_like(steps[:1]), steps[:-1]])
        return [MeanEstimate(mean, 0.0, 0.0) for mean in steps - self.beta * before]


@pytest.fixture
def momentum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "momentum", Momentum)


@pytest.mark.usefixtures("momentum")
def test_a_new_strategy_runs_resumes_and_is_understood_by_every_observer(tmp_path: Path) -> None:
    wanted = settings(federation={"strategy": "momentum"})
    execute(wanted, tmp_path / "whole")
    first = start(wanted, tmp_path / "run")
    next(iter(first.rounds()))
    second = resume(tmp_path / "run")
    assert [record.round for record, _ in second.rounds()] == [2, 3, 4]
    observers = Run.open(tmp_path / "whole").observers()
    server, peer = observers.server(), observers.peer("hospital-2")
    assert [view.number for view in server.rounds] == [1, 2, 3, 4]
    for ours, theirs in zip(server.rounds, peer.rounds, strict=True):
        assert ours.mean is not None
        assert theirs.mean is not None
        assert np.abs(ours.mean).max() > 1e-4
        # What a hospital tells from the models alone is what the server saw.
        assert np.allclose(ours.mean, theirs.mean, atol=1e-6)
    assert server.missing == peer.missing == ""
    # Sampling is seeded; only the fixed point of other masks differs.
    assert np.allclose(second.server.shared, server.released, atol=1e-5)


@pytest.mark.usefixtures("momentum")
def test_shadow_models_take_the_steps_of_a_new_strategy(tmp_path: Path) -> None:
    """With everybody in every step there is no chance in it: one shadow ends where the run does."""
    everybody = {"batch_size": 10, "max_slices": 4}
    execute(settings(federation={"strategy": "momentum"}, training=everybody), tmp_path / "run")
    subject = subject_of(Run.open(tmp_path / "run"))
    plan, pool = replay_plan(subject), pool_of(subject.network, subject)
    (shadow,) = replay(plan, pool, pool.is_member[None], [1], lambda: None)
    released = Run.open(tmp_path / "run").observers().outsider().released
    moved = np.abs(released - plan.initial[plan.shared].numpy()).max()
    assert np.abs(shadow[plan.shared].numpy() - released).max() < 0.01 * moved


@dataclass(frozen=True)
class TwiceTheNoise(OwnNoise):
    """Own noise, twice as much as the budget asks for, and priced as such."""

    @classmethod
    def of(cls, job: JobDescription, hospital: str, records: int) -> OwnNoise:
        usual = OwnNoise.of(job, hospital, records)
        return replace(usual, noise_multiplier=2 * usual.noise_multiplier)


def test_a_new_mechanism_is_paid_masked_and_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = settings(privacy={"dp": True, "epsilon": 8.0})
    usual = execute(wanted, tmp_path / "usual")
    monkeypatch.setitem(MECHANISMS, "local", TwiceTheNoise)
    quiet = execute(wanted, tmp_path / "quiet")
    assert usual.epsilon is not None
    assert quiet.epsilon is not None
    assert 0 < quiet.epsilon < 0.6 * usual.epsilon
    (spent,) = {(event.noise_multiplier, event.steps) for event in _history(tmp_path / "quiet")}
    (before,) = {(event.noise_multiplier, event.steps) for event in _history(tmp_path / "usual")}
    assert spent == (2 * before[0], before[1])
    rounds = Run.open(tmp_path / "quiet").observers().server().rounds
    assert [view.mean is not None for view in rounds] == [True] * 4


def _history(path: Path) -> list[Event]:
    return Ledger.open(path / "hospitals" / "hospital-1" / "ledger.sqlite").history()
