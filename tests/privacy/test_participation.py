"""Epsilon of a patient is that of the runs it was in: against working out each by itself."""

import itertools
import math
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securefed.data.pseudonyms import SiteKey
from securefed.errors import BudgetExceeded, PrivacyError
from securefed.privacy import spread, statement
from securefed.privacy.accounting import Event, epsilon
from securefed.privacy.ledger import Ledger
from securefed.privacy.ledger_copy import difference, export
from securefed.privacy.noise import SeededSource
from securefed.privacy.participation import MOST_COMPOSED, Participants, largest

KEY = SiteKey(bytes(range(32)))
OTHER_KEY = SiteKey(bytes(32))
DELTA = 1e-5
ROLES = ("nowhere", "trained", "held out")
TRAINING = [Event(sigma, rate, 3) for sigma, rate in ((1.0, 0.1), (1.5, 0.2), (2.0, 0.5))]
SCORES = [Event(sigma, 1.0, 1) for sigma in (2.0, 4.0)]


def took_part(roles: Sequence[str], key: SiteKey = KEY) -> Participants:
    """Patients 0, 1, ... in these roles."""
    trained, held_out = (
        frozenset(key.token(f"p{n}") for n, role in enumerate(roles) if role == side)
        for side in ROLES[1:]
    )
    return Participants(key.name, trained, held_out)


@dataclass(frozen=True)
class Run:
    """What a run releases, and in which role each patient was in it."""

    name: str
    roles: tuple[str, ...]
    training: Event
    score: Event

    def about(self, role: str) -> list[Event]:
        return {"nowhere": [], "trained": [self.training], "held out": [self.score]}[role]


def spend(ledger: Ledger, run: Run, participants: Participants | None) -> None:
    if participants:
        ledger.enrol(run.name, participants, [run.training], [run.score])
    ledger.reserve(1, run.training, run=run.name)
    ledger.reserve_evaluation(run.score, run=run.name)


def of_one(history: Sequence[Event]) -> float:
    return epsilon(history, DELTA, "rdp")


def create(folder: Path, budget: float | None = None) -> Ledger:
    return Ledger.create(
        folder / "ledger.sqlite",
        client="a",
        unit="patient",
        delta=DELTA,
        budget_epsilon=budget,
        accountant="rdp",
    )


@st.composite
def runs(draw: st.DrawFn, least: int = 1, most: int = 4) -> list[Run]:
    patients = draw(st.integers(1, 6))
    roles = st.tuples(*[st.sampled_from(ROLES)] * patients)
    events = (st.sampled_from(TRAINING), st.sampled_from(SCORES))
    drawn = draw(st.lists(st.tuples(roles, *events), min_size=least, max_size=most))
    return [Run(f"run-{n}", *each) for n, each in enumerate(drawn)]


@given(runs())
@settings(max_examples=40, deadline=None)
def test_the_largest_is_that_of_some_patient_and_nobody_has_more(history: list[Run]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = create(Path(folder))
        for run in history:
            spend(ledger, run, took_part(run.roles))
        each = [
            of_one([event for run in history for event in run.about(run.roles[patient])])
            for patient in range(len(history[0].roles))
        ]
        assert ledger.largest().counted == max(each)


@given(runs(least=2))
@settings(max_examples=40, deadline=None)
def test_a_run_is_refused_exactly_if_it_takes_one_of_its_patients_beyond(
    history: list[Run],
) -> None:
    *before, last = history
    each = [
        (role, of_one([e for run in before for e in run.about(run.roles[n])] + last.about(role)))
        for n, role in enumerate(last.roles)
    ]
    reached = [spent for role, spent in each if role != "nowhere"]
    with tempfile.TemporaryDirectory() as folder:
        ledger = create(Path(folder))
        for run in before:
            spend(ledger, run, took_part(run.roles))
        highest = max([*reached, ledger.largest().counted])
        ledger.amend_budget(max(highest, 0.01), "as much as is needed")
        ledger.enrol(last.name, took_part(last.roles), [last.training], [last.score])
    with tempfile.TemporaryDirectory() as folder:
        ledger = create(Path(folder))
        for run in before:
            spend(ledger, run, took_part(run.roles))
        least = ledger.largest().counted
        limit = max(max(reached, default=0.0) * 0.999, least, 0.01)
        ledger.amend_budget(limit, "a little less")
        rows = ledger.statement()
        if max(reached, default=0.0) > limit:
            with pytest.raises(BudgetExceeded, match="this run would take a to epsilon"):
                ledger.enrol(last.name, took_part(last.roles), [last.training], [last.score])
            assert ledger.statement() == rows  # nothing was written
        else:
            ledger.enrol(last.name, took_part(last.roles), [last.training], [last.score])


@given(runs(most=3), st.data())
@settings(max_examples=40, deadline=None)
def test_what_is_not_known_counts_for_everybody(history: list[Run], data: st.DataObject) -> None:
    """Runs without an enrolment, and runs under another key: the worst that may have been."""
    ways = [data.draw(st.sampled_from(("known", "unknown", "other key"))) for _ in history]
    with tempfile.TemporaryDirectory() as folder:
        ledger = create(Path(folder))
        for run, way in zip(history, ways, strict=True):
            known = took_part(run.roles, OTHER_KEY if way == "other key" else KEY)
            spend(ledger, run, None if way == "unknown" else known)
        told = ledger.largest().counted
    worst = 0.0
    for way in set(ways) - {"unknown"} or {"known"}:  # whose tokens a person is looked at under
        kept = [run.roles if its == way else None for run, its in zip(history, ways, strict=True)]
        for patient in range(len(history[0].roles)):
            choices = [ROLES if roles is None else (roles[patient],) for roles in kept]
            for roles in itertools.product(*choices):
                events = [
                    e for run, role in zip(history, roles, strict=True) for e in run.about(role)
                ]
                worst = max(worst, of_one(events))
    assert told >= worst
    if ways.count("unknown") == 1 and len(history) == 1:
        assert told == worst


def test_who_left_and_who_came_later_have_their_own_history(tmp_path: Path) -> None:
    """Three runs: one patient in the first two, one in the last two, one in all of them."""
    step = Event(2.0, 0.25, 4)
    ledger = create(tmp_path)
    roles = {"left": "110", "came": "011", "stayed": "111"}
    for number in range(3):
        there = [KEY.token(name) for name, was in roles.items() if was[number] == "1"]
        ledger.enrol(f"run-{number}", Participants(KEY.name, frozenset(there), frozenset()))
        ledger.reserve(1, step, run=f"run-{number}")
    assert ledger.largest().counted == of_one([step] * 3)
    ledger.amend_budget(1.0001 * of_one([step] * 3), "exactly three")
    # Without the one who stayed there is room for one more run.
    two = frozenset(KEY.token(name) for name in ("left", "came"))
    ledger.enrol("run-3", Participants(KEY.name, two, frozenset()), [step])
    everybody = frozenset(map(KEY.token, roles))
    with pytest.raises(BudgetExceeded):
        ledger.enrol("run-4", Participants(KEY.name, everybody, frozenset()), [step])
    newcomers = frozenset([KEY.token("new")])
    ledger.enrol("run-4", Participants(KEY.name, newcomers, frozenset()), [step] * 3)


def test_who_trained_once_and_was_held_out_once_has_both(tmp_path: Path) -> None:
    ledger = create(tmp_path)
    first = Run("first", ("trained", "held out"), TRAINING[0], SCORES[0])
    second = Run("second", ("held out", "trained"), TRAINING[1], SCORES[1])
    for run in (first, second):
        spend(ledger, run, took_part(run.roles))
    each = [of_one([TRAINING[0], SCORES[1]]), of_one([TRAINING[1], SCORES[0]])]
    assert ledger.largest().counted == max(each) > of_one([TRAINING[0]])


def test_scores_are_within_the_limit_of_those_who_are_held_out(tmp_path: Path) -> None:
    ledger = create(tmp_path, budget=of_one([SCORES[0]]) * 1.01)
    people = took_part(("trained", "held out"))
    ledger.enrol("a", people, [], [SCORES[0]])
    ledger.reserve_evaluation(SCORES[0], run="a")
    with pytest.raises(BudgetExceeded, match="scoring would take"):
        ledger.reserve_evaluation(SCORES[0], run="a")
    with pytest.raises(BudgetExceeded):
        ledger.enrol("b", people, [], [SCORES[0]])
    assert [each.run for each in ledger.statement().enrolments] == ["a", "a"]
    other = took_part(("held out", "trained"))  # of who trained in the first nothing was told
    ledger.enrol("b", other, [], [SCORES[0]])


def test_a_run_is_enrolled_once_and_with_the_same_people(tmp_path: Path) -> None:
    ledger = create(tmp_path)
    people = took_part(("trained", "trained", "held out"))
    ledger.enrol("a", people)
    ledger.enrol("a", people)
    assert [each.count for each in ledger.statement().enrolments] == [2, 1]
    with pytest.raises(PrivacyError, match="was begun with other patients"):
        ledger.enrol("a", took_part(("trained", "held out", "held out")))
    with pytest.raises(PrivacyError, match="was begun with other patients"):
        ledger.enrol("a", took_part(("trained", "trained", "held out"), OTHER_KEY))


def test_a_run_of_an_older_version_stays_without_and_counts_for_everybody(tmp_path: Path) -> None:
    ledger = create(tmp_path)
    ledger.reserve(1, TRAINING[0], run="old")
    ledger.enrol("old", took_part(("trained",)))
    assert ledger.statement().enrolments == ()
    spend(ledger, Run("new", (), TRAINING[1], SCORES[0]), took_part(("trained",)))
    assert ledger.largest().counted == of_one([TRAINING[0], TRAINING[1]])


def test_nobody_is_on_two_sides_and_tokens_have_one_length() -> None:
    token = KEY.token("a")
    with pytest.raises(ValueError, match="both sides"):
        Participants(KEY.name, frozenset([token]), frozenset([token]))
    with pytest.raises(ValueError, match="16 bytes"):
        Participants(KEY.name, frozenset([token[:8]]), frozenset())


def test_a_ledger_tells_nobody_without_the_key_who_took_part(tmp_path: Path) -> None:
    ledger = create(tmp_path)
    ledger.enrol("a", took_part(("trained",) * 3))
    assert KEY.token("p0") != OTHER_KEY.token("p0")
    assert KEY.name != OTHER_KEY.name
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert KEY.token("p0") in content
    for secret in (KEY.secret, b"p0", KEY.secret.hex().encode()):
        assert secret not in content
    assert "token" not in repr(ledger.statement().enrolments[0])


def test_of_many_histories_the_bound_stays_a_bound() -> None:
    """More histories than PRV works out: the result is no smaller than the largest by PRV."""
    histories = [[Event(1.0 + n / 1000, 0.01, 10)] for n in range(MOST_COMPOSED + 4)]
    each = [epsilon(history, DELTA) for history in histories]
    assert largest(histories[:3], DELTA, "prv") == max(each[:3])
    assert max(each) <= largest(histories, DELTA, "prv") <= epsilon(histories[0], DELTA, "rdp")
    assert largest(histories, DELTA, "prv", floor=50.0) == 50.0


_KILLED_AFTER_ENROLMENT = """
import os, signal, sys
from pathlib import Path
from securefed.privacy.ledger import Ledger
from tests.privacy.test_participation import took_part
ledger = Ledger.open(Path(sys.argv[1]))
ledger.enrol("killed", took_part(("trained", "held out")))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_between_enrolment_and_reservation_costs_nobody_anything(tmp_path: Path) -> None:
    ledger = create(tmp_path)
    spend(ledger, Run("first", (), TRAINING[0], SCORES[0]), took_part(("trained",)))
    before = ledger.largest().counted
    done = subprocess.run(
        [sys.executable, "-c", _KILLED_AFTER_ENROLMENT, str(ledger.path)],
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.returncode == -signal.SIGKILL
    after = Ledger.open(ledger.path)
    assert len(after.statement().enrolments) == 4
    assert after.largest().counted == before
    # It begins again: the same people, and now it is spent, once.
    people = took_part(("trained", "held out"))
    after.enrol("killed", people, [TRAINING[1]])
    after.reserve(1, TRAINING[1], run="killed")
    assert len(after.statement().enrolments) == 4
    assert after.largest().counted == of_one([TRAINING[0], TRAINING[1]])


def test_spending_is_told_in_cells_of_five_patients_at_least(tmp_path: Path) -> None:
    ledger = create(tmp_path)
    many = tuple(["trained"] * 12 + ["held out"] * 3)
    spend(ledger, Run("a", many, Event(9.0, 0.1, 1), Event(9.0, 1.0, 1)), took_part(many))
    (cell,) = spread.of(ledger.statement())  # three are too few to stand alone
    assert (cell.above, cell.patients) == (0.0, 15)
    few = tuple(["trained"] * 6 + ["nowhere"] * 9)
    spend(ledger, Run("b", few, Event(1.0, 0.5, 10), Event(9.0, 1.0, 1)), took_part(few))
    cells = spread.of(ledger.statement())
    assert [each.patients for each in cells] == [9, 6]
    assert cells[0].up_to == cells[1].above
    (tmp_path / "alone").mkdir()
    alone = create(tmp_path / "alone")
    spend(alone, Run("c", (), TRAINING[0], SCORES[0]), took_part(("trained",) * 4))
    assert spread.of(alone.statement()) == []


def test_a_copy_without_who_took_part_may_not_take_the_ledger_s_place(tmp_path: Path) -> None:
    ledger = create(tmp_path)
    held = export(ledger.path, tmp_path / "copy.sqlite")
    ledger.enrol("a", took_part(("trained",)))
    assert difference(statement.read(ledger.path), held) == "it lacks who took part in a run"
    assert math.isfinite(ledger.largest().counted)


def test_ten_thousand_patients_in_fifty_runs_are_each_worked_out(tmp_path: Path) -> None:
    """Who comes once and leaves once: every history by itself gives the same largest."""
    patients, spans = 10_000, SeededSource(4, "spans").keystream(20_000)
    stays = [sorted((spans[2 * n] % 50, spans[2 * n + 1] % 50)) for n in range(patients)]
    tokens = [n.to_bytes(16) for n in range(patients)]
    events = [Event(20.0 + run / 10, 0.03, 80) for run in range(50)]
    ledger = create(tmp_path)
    for run, event in enumerate(events):
        here = {n for n, (first, last) in enumerate(stays) if first <= run <= last}
        held = {n for n in here if n % 5 == 0}
        sides = [frozenset(tokens[n] for n in side) for side in (here - held, held)]
        ledger.enrol(f"run-{run}", Participants("k", *sides))
        ledger.reserve(1, event, run=f"run-{run}")
    trained = {tuple(stay) for n, stay in enumerate(stays) if n % 5}
    most = max(of_one(events[first : last + 1]) for first, last in trained)
    assert ledger.largest().counted == most
    ledger.amend_budget(1.001 * most, "no more for who has most")
    everybody = Participants("k", frozenset(tokens), frozenset())
    with pytest.raises(BudgetExceeded):
        ledger.enrol("another", everybody, [events[0]])
    assert ledger.path.stat().st_size < 20 * 2**20
    told = spread.of(ledger.statement())
    assert sum(cell.patients for cell in told) == patients
