"""A server that subtracts two sums: what it asks for is not planned, or not answered twice.

Each test begins with what the server would have, which is what it had when hospitals answered each
round for itself.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from securefed.data.load import FederatedData
from securefed.model.scores import COUNTS
from securefed.simulation.patients import load_data
from securefed.simulation.simulation import Simulation
from securefed.wire.contribution import Total, vector_length
from tests.hospital.lying_server import LyingServer, Refused, Shared
from tests.tiny import resume, settings_with, start

VICTIM = "hospital-3"
ROUNDS = 4
settings = settings_with(
    # Everybody in every step: a hospital's update follows from the parameters alone.
    training={"batch_size": 10},
    privacy={"dp": False},
    secure_aggregation={"enabled": True, "max_patients": 16},
    federation={"shared": "classifier", "rounds": ROUNDS, "evaluate_every": 2},
    exposures={"record": False},
)

Make = Callable[..., Simulation]


@pytest.fixture(scope="module")
def patients() -> FederatedData:
    return load_data(settings())


@pytest.fixture
def make(tmp_path: Path, patients: FederatedData) -> Make:
    """The run, begun or taken up again in another process."""

    def run(*, again: bool = False, **federation: object) -> Simulation:
        if again:
            return resume(tmp_path / "run", patients)
        return start(settings(federation=federation), tmp_path / "run", patients)

    return run


def start_of(run: Simulation) -> Shared:
    return run.job.shared.astype(np.float64)


def scored(total: Total) -> int:
    return int(total.scores.sum()) if isinstance(total.scores, np.ndarray) else 0


# ---- held-out patients ------------------------------------------------------------------------


def test_a_hospitals_histogram_is_not_the_difference_of_two_sums(make: Make) -> None:
    run = make()
    server, shared = LyingServer(run), start_of(run)
    whole = server.sum(ROUNDS + 1, shared, train=False, evaluate=True)
    assert scored(whole) == 16
    with pytest.raises(Refused) as refused:
        server.sum(ROUNDS + 3, shared, train=False, evaluate=True, lose=[VICTIM])
    assert refused.value.names == {"NotEverybody"}


@pytest.mark.parametrize("number", [*range(ROUNDS + 1), ROUNDS + 2, ROUNDS + 4, 2 * ROUNDS + 2])
def test_held_out_patients_are_scored_when_the_plan_says_and_not_more_often(
    make: Make, number: int
) -> None:
    """Sixty-two questions with a scaled output layer read every patient's label and score."""
    run = make()
    server = LyingServer(run)
    with pytest.raises(Refused) as refused:
        server.sum(number, 1000 * start_of(run), train=False, evaluate=True)
    assert refused.value.names == {"Unplanned"}


@pytest.mark.parametrize(("train", "evaluate"), [(True, True), (True, False), (False, False)])
def test_a_scoring_step_does_nothing_else(make: Make, train: bool, evaluate: bool) -> None:
    run = make()
    with pytest.raises(Refused) as refused:
        LyingServer(run).sum(ROUNDS + 1, start_of(run), train=train, evaluate=evaluate)
    assert refused.value.names == {"Unplanned"}


def test_scores_of_two_steps_are_of_the_same_hospitals_whatever_the_parameters(make: Make) -> None:
    """Nor does a last digit help: no sum of scores is without anybody."""
    run = make(clients_per_round=3)
    server, shared = LyingServer(run), start_of(run)
    assert scored(server.sum(ROUNDS + 1, shared, train=False, evaluate=True)) == 16
    nudged = np.nextafter(shared.astype(np.float32), np.float32(np.inf)).astype(np.float64)
    fewer = list(run.hospitals)[1:]
    with pytest.raises(Refused) as refused:
        server.sum(ROUNDS + 3, nudged, train=False, evaluate=True, cohort=fewer)
    assert refused.value.names == {"Unplanned"}
    with pytest.raises(Refused) as refused:
        server.sum(2 * ROUNDS + 1, nudged, train=False, evaluate=True, lose=[VICTIM])
    assert refused.value.names == {"NotEverybody"}


# ---- updates ----------------------------------------------------------------------------------


def test_a_hospitals_update_is_not_the_difference_of_two_sums(make: Make) -> None:
    run = make()
    server, shared = LyingServer(run), start_of(run)
    assert server.sum(1, shared, train=True, evaluate=False).patients == 40
    with pytest.raises(Refused) as refused:
        server.sum(2, shared, train=True, evaluate=False, lose=[VICTIM])
    assert refused.value.names == {"AskedBefore"}


def test_the_same_hospitals_answer_again_since_nothing_can_be_subtracted(make: Make) -> None:
    run = make()
    server, shared = LyingServer(run), start_of(run)
    first = server.sum(1, shared, train=True, evaluate=False)
    second = server.sum(2, shared, train=True, evaluate=False)
    assert first.patients == second.patients == 40


def test_zeros_of_either_sign_are_the_same_parameters(make: Make) -> None:
    run = make()
    server, shared = LyingServer(run), start_of(run)
    shared[:5] = 0.0
    server.sum(1, shared, train=True, evaluate=False)
    shared[:5] = -0.0
    with pytest.raises(Refused, match="AskedBefore"):
        server.sum(2, shared, train=True, evaluate=False, lose=[VICTIM])


def test_the_memory_outlives_the_process(make: Make) -> None:
    first = make()
    shared = start_of(first)
    LyingServer(first).sum(1, shared, train=True, evaluate=False)
    second = make(again=True)
    with pytest.raises(Refused, match="AskedBefore"):
        LyingServer(second).sum(1, shared, train=True, evaluate=False, lose=[VICTIM])
    memory = second.hospitals[VICTIM].folder / "openings.jsonl"
    assert memory.stat().st_mode & 0o777 == 0o600


def test_a_restart_does_not_begin_the_plan_again(make: Make) -> None:
    next(iter(make().rounds()))
    second = make(again=True)
    server, shared = LyingServer(second), start_of(second) + 0.5  # another question
    for number, train in ((1, True), (ROUNDS + 1, False)):
        with pytest.raises(Refused) as refused:
            server.sum(number, shared, train=train, evaluate=not train)
        assert refused.value.names == {"RunError"}
    assert server.sum(2, shared, train=True, evaluate=False).patients == 40


def test_a_sum_that_was_lost_before_it_could_be_opened_may_be_asked_again(make: Make) -> None:
    run = make()
    server, shared = LyingServer(run), start_of(run)
    with pytest.raises(Refused):
        server.sum(1, shared, train=True, evaluate=False, lose=[VICTIM, "hospital-1"])
    assert server.sum(2, shared, train=True, evaluate=False).patients == 40


def test_shares_given_count_as_opened_whatever_the_server_says(make: Make) -> None:
    run = make()
    server, shared = LyingServer(run), start_of(run)
    with pytest.raises(Refused):
        server.sum(1, shared, train=True, evaluate=False, openers=2)
    with pytest.raises(Refused) as refused:
        server.sum(2, shared, train=True, evaluate=False, lose=[VICTIM])
    assert refused.value.names == {"AskedBefore"}
    assert server.sum(3, shared, train=True, evaluate=False).patients == 40


@pytest.mark.parametrize("number", [0, ROUNDS + 1, 2 * ROUNDS + 1, 2**31])
def test_training_is_for_the_rounds_of_the_plan(make: Make, number: int) -> None:
    run = make()
    with pytest.raises(Refused) as refused:
        LyingServer(run).sum(number, start_of(run), train=True, evaluate=False)
    assert refused.value.names == {"Unplanned"}


def test_a_hospital_works_in_no_other_cohort_than_the_plans(make: Make) -> None:
    run = make(clients_per_round=3)
    server, shared = LyingServer(run), start_of(run)
    planned = set(run.server.plan.cohort(1))
    (out,) = set(run.hospitals) - planned
    other = [out, *sorted(planned)[:2]]
    with pytest.raises(Refused) as refused:
        server.sum(1, shared, train=True, evaluate=False, cohort=other)
    assert refused.value.names == {"Unplanned"}
    # Announced over everybody, though who is not in the plan is not asked for anything:
    with pytest.raises(Refused) as refused:
        server.sum(2, shared, train=True, evaluate=False, cohort=run.hospitals)
    assert refused.value.names == {"Unplanned"}
    cohort = run.server.plan.cohort(3)
    assert server.sum(3, shared, train=True, evaluate=False, cohort=cohort).patients == 30


@pytest.mark.parametrize("train", [True, False])
def test_a_question_is_answered_in_a_sum_of_vectors_as_long_as_its_answer(
    make: Make, train: bool
) -> None:
    """Refused before anything is trained: the other kind of step has another length."""
    run = make()
    server, shared = LyingServer(run), start_of(run)
    layout, number = run.job.layout, 1 if train else ROUNDS + 1
    assert vector_length(layout, train=True) != vector_length(layout, train=False)
    other = vector_length(layout, train=not train)
    with pytest.raises(Refused) as refused:
        server.sum(number, shared, train=train, evaluate=not train, length=other)
    assert refused.value.names == {"Unplanned"}
    total = server.sum(number + 2, shared, train=train, evaluate=not train)
    assert (total.patients, scored(total)) == ((40, 0) if train else (0, 16))


def test_what_a_hospital_refuses_costs_it_nothing(tmp_path: Path, patients: FederatedData) -> None:
    run = start(settings(privacy={"dp": True}), tmp_path / "private", patients)
    server = LyingServer(run)
    for number in (0, ROUNDS + 1, 2 * ROUNDS + 1):
        with pytest.raises(Refused):
            server.sum(number, start_of(run), train=True, evaluate=False)
    with pytest.raises(Refused):
        server.sum(1, start_of(run), train=True, evaluate=False, length=COUNTS)
    ledgers = [hospital.ledger for hospital in run.hospitals.values()]
    assert all(ledger is not None and not ledger.history() for ledger in ledgers)
