"""Noise is for the rounds that the public plan asks a hospital in; a server gets none beside them.

The server lies: it asks whomever it likes, in any round, as often as it likes. What it is refused
has cost nothing.
"""

from pathlib import Path

import numpy as np
import pytest

from securefed.data.load import FederatedData
from securefed.errors import BudgetExceeded
from securefed.evidence import checks
from securefed.hospital import cost
from securefed.hospital.opening import Hospital
from securefed.privacy.accounting import epsilon, solve_noise_multiplier
from securefed.run_directory import Run
from securefed.simulation.execution import execute
from securefed.simulation.patients import load_data
from securefed.simulation.simulation import Simulation
from securefed.wire.messages import Request, vector_to_bytes
from tests.hospital.lying_server import LyingServer
from tests.tiny import finish, resume, settings_with, start

ROUNDS = 7
settings = settings_with(
    privacy={"accountant": "rdp", "seeded_noise": True},
    federation={"rounds": ROUNDS, "clients_per_round": 3},
    exposures={"record": False},
)
#: No masks, so that any one hospital can be asked by itself.
in_the_clear = settings(secure_aggregation={"enabled": False})


@pytest.fixture(scope="module")
def patients() -> FederatedData:
    return load_data(settings())


@pytest.fixture
def clear(tmp_path: Path, patients: FederatedData) -> Simulation:
    return start(in_the_clear, tmp_path / "run", patients)


def reserved(hospital: Hospital) -> int:
    assert hospital.ledger is not None
    return len(hospital.ledger.history())


def asks(run: Simulation, name: str, number: int, moved: float = 0.0) -> str:
    """Have a hospital train in a round; why it refused, or nothing."""
    shared = vector_to_bytes((run.job.shared + moved).astype(np.float32))
    request = Request(number, "work", b"", train=True, evaluate=False, shared=shared)
    return LyingServer(run).ask(name, request).refusal


def test_noise_is_for_a_hospitals_own_rounds_and_its_budget_lasts_as_long(
    tmp_path: Path, patients: FederatedData
) -> None:
    run = start(settings(), tmp_path / "run", patients)
    assert not any("rounds that are left" in note for note in run.notes)
    assert len(finish(run)) == ROUNDS
    for name, hospital in run.hospitals.items():
        turns = run.job.plan.turns(name)
        assert turns in {5, 6}
        event, ledger = hospital.trainer.event, hospital.ledger
        assert event is not None
        assert ledger is not None
        assert event.noise_multiplier == solve_noise_multiplier(8.0, 1e-3, 0.5, turns, "rdp")
        assert reserved(hospital) == turns
        assert 7.9 < epsilon(ledger.history(), 1e-3, "rdp") <= 8.0
        assert len(cost.planned(run.job, name, 10)) == turns


def test_shares_are_for_as_many_rounds_as_anybody_is_asked_in(
    tmp_path: Path, patients: FederatedData
) -> None:
    distributed = settings(
        privacy={"placement": "distributed", "colluding": 0},
        federation={"strategy": "fedavg", "shared": "fusion+classifier"},
    )
    run = start(distributed, tmp_path / "run", patients)
    finish(run)
    spent = {name: hospital.spent for name, hospital in run.hospitals.items()}
    counted = {name: each.guarantee().counted for name, each in spent.items() if each}
    most = run.job.plan.most_turns
    for name, each in counted.items():
        assert each <= 8.0
        assert (each > 7.9) == (run.job.plan.turns(name) == most)


def test_a_run_of_cohorts_is_finished_taken_up_and_found_whole(
    tmp_path: Path, patients: FederatedData
) -> None:
    begun = start(settings(exposures={"record": True}), tmp_path / "run", patients)
    rounds = begun.rounds()
    for _ in range(3):
        next(rounds)
    again = resume(tmp_path / "run", patients)
    assert not any("rounds that are left" in note for note in again.notes)
    assert len(finish(again)) == ROUNDS - 3
    whole = execute(settings(exposures={"record": True}), tmp_path / "other", data=patients)
    assert whole.rounds == ROUNDS
    checks.require(Run.open(tmp_path / "other"))


def test_a_server_that_asks_in_every_round_is_refused_where_it_is_not_a_hospitals_turn(
    clear: Simulation,
) -> None:
    plan = clear.job.plan
    for name, hospital in clear.hospitals.items():
        refused = [asks(clear, name, number) for number in range(1, ROUNDS + 1)]
        theirs = [name in plan.cohort(number) for number in range(1, ROUNDS + 1)]
        assert [not why for why in refused] == theirs
        assert {why for why in refused if why} == {"Unplanned"}
        assert reserved(hospital) == plan.turns(name)


def test_a_server_that_asks_twice_in_a_round_pays_for_no_second_answer(clear: Simulation) -> None:
    first = next(number for number in (1, 2) if "hospital-1" in clear.job.plan.cohort(number))
    assert not asks(clear, "hospital-1", first)
    assert asks(clear, "hospital-1", first, moved=0.5) == "RunError"
    assert reserved(clear.hospitals["hospital-1"]) == 1


def test_beyond_its_turns_a_hospitals_ledger_holds_nothing_even_if_nobody_looked_at_the_plan(
    clear: Simulation,
) -> None:
    """The client's own check taken away: each round is asked for, and each is within the plan."""
    for name, hospital in clear.hospitals.items():
        turns = clear.job.plan.turns(name)
        for number in range(1, turns + 1):
            hospital.trainer.contribute(number)
        before = {key: value.clone() for key, value in hospital.trainer.state().items()}
        with pytest.raises(BudgetExceeded):
            hospital.trainer.contribute(turns + 1)
        assert reserved(hospital) == turns
        after = hospital.trainer.state()
        assert all((after[key] == value).all() for key, value in before.items())
