"""The ledger: nothing spent is ever forgotten, and nothing is spent twice by mistake."""

import math
import multiprocessing
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securefed.errors import BudgetExceeded, ConfigurationError, PrivacyError
from securefed.privacy import ledger_file
from securefed.privacy.accounting import Event, epsilon, solve_noise_multiplier
from securefed.privacy.ledger import Ledger, replay_key
from securefed.privacy.limits import RunLimit
from securefed.privacy.noise import SeededSource

DELTA = 1e-5
STEP = Event(2.0, 0.25, 1)


def _create(path: Path, budget: float | None = None, **changes: Any) -> Ledger:
    fields: dict[str, Any] = {"client": "hospital-1", "unit": "patient", "delta": DELTA}
    return Ledger.create(path, budget_epsilon=budget, **{**fields, "accountant": "prv", **changes})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_reservation_is_in_the_history_of_a_fresh_handle(path: Path) -> None:
    assert _create(path).reserve(0, STEP, run="a").attempt == 1
    assert Ledger.open(path).history() == [STEP]


def test_numbers_survive_the_file_exactly(path: Path) -> None:
    event = Event(1.1, 256 / 60_000, 3_510)
    _create(path).reserve(0, event, run="a")
    assert Ledger.open(path).history() == [event]


def test_runs_over_the_same_patients_compose_as_one_history(path: Path) -> None:
    """Opacus' trap: a new engine per round (or per run) reports the same epsilon each time."""
    ledger = _create(path)
    spent = []
    for round_number in range(3):
        Ledger.open(path).reserve(round_number, STEP, run="first")
        Ledger.open(path).reserve(round_number, STEP, run="second")
        spent.append(ledger.spent())
    assert spent[0] < spent[1] < spent[2]
    assert spent[2] == epsilon([Event(2.0, 0.25, 6)], DELTA)
    assert ledger.spent("rdp") == epsilon([Event(2.0, 0.25, 6)], DELTA, "rdp")


def test_guarantee_names_unit_delta_and_accountant(path: Path) -> None:
    ledger = _create(path, unit="image", accountant="rdp")
    ledger.reserve(0, STEP, run="a")
    guarantee = ledger.guarantee()
    assert (guarantee.unit, guarantee.delta, guarantee.accountant) == ("image", DELTA, "rdp")
    assert guarantee.epsilon == ledger.spent() == epsilon([STEP], DELTA, "rdp")


# Budget


def test_a_plan_solved_for_the_budget_fits_to_the_last_step_and_not_one_more(path: Path) -> None:
    sigma = solve_noise_multiplier(2.0, DELTA, 0.25, 12)
    ledger = _create(path, budget=2.0)
    ledger.require([Event(sigma, 0.25, 12)])
    for round_number in range(12):
        ledger.reserve(round_number, Event(sigma, 0.25, 1), run="a")
    assert ledger.spent() <= 2.0
    with pytest.raises(BudgetExceeded, match="round 12 would take hospital-1 to epsilon"):
        ledger.reserve(12, Event(sigma, 0.25, 1), run="a")
    assert len(ledger.history()) == 12


def test_refusal_says_the_numbers_and_the_way_out(path: Path) -> None:
    ledger = _create(path, budget=1.0)
    with pytest.raises(BudgetExceeded) as caught:
        ledger.require([Event(0.5, 1.0, 100)])
    message = str(caught.value)
    assert "this run would take hospital-1 to epsilon" in message
    assert "above its budget of 1;" in message
    assert "spent so far: epsilon 0.000 at delta 1e-05 per patient (add/remove" in message
    assert "more noise, fewer rounds" in (caught.value.hint or "")


def test_asking_whether_a_plan_fits_spends_nothing(path: Path) -> None:
    ledger = _create(path, budget=3.0)
    assert not ledger.would_exceed([STEP])
    assert ledger.would_exceed([Event(0.3, 1.0, 50)])
    assert ledger.history() == []


def test_what_another_process_spent_counts_against_an_approved_plan(path: Path) -> None:
    """The plan was affordable when asked; the check at reservation looks again."""
    plan = Event(2.0, 0.25, 6)
    ledger = _create(path, budget=epsilon([plan], DELTA))
    ledger.require([plan])
    Ledger.open(path).reserve(0, STEP, run="someone else's")
    with pytest.raises(BudgetExceeded):
        ledger.reserve(0, plan, run="mine")
    assert ledger.history() == [STEP]


def test_an_approved_plan_does_not_cover_other_steps(path: Path) -> None:
    ledger = _create(path, budget=1.5 * epsilon([STEP], DELTA))
    ledger.require([STEP])
    with pytest.raises(BudgetExceeded):
        ledger.reserve(0, Event(0.5, 1.0, 1), run="a")
    ledger.reserve(0, STEP, run="a")
    with pytest.raises(BudgetExceeded):  # the approved kind is all there, and more besides
        ledger.reserve(1, Event(0.5, 1.0, 1), run="a")


def test_an_approved_plan_ends_when_the_budget_is_lowered(path: Path) -> None:
    plan = Event(2.0, 0.25, 6)
    ledger = _create(path, budget=epsilon([plan], DELTA))
    ledger.require([plan])
    Ledger.open(path).amend_budget(0.5 * epsilon([STEP], DELTA), "lowered by the ethics board")
    with pytest.raises(BudgetExceeded):
        ledger.reserve(0, STEP, run="a")


def test_a_run_has_a_limit_of_its_own_beside_that_of_all_runs(path: Path) -> None:
    step = Event(1.0, 0.1, 1)
    of_two = epsilon([step, step], 1e-5)
    _create(path, budget=10 * of_two)
    ledger = Ledger.open(path, run_limit=RunLimit(of_two, 1e-5, "prv"))
    ledger.require([step, step], "one")
    for number in (1, 2):
        ledger.reserve(number, step, run="one")
    with pytest.raises(BudgetExceeded, match=r"would take run one at .* above the .* of a run"):
        ledger.reserve(3, step, run="one")
    # Other runs have their own, and all of them together the ledger's.
    ledger.reserve(1, step, run="two")
    assert len(ledger.history()) == 3
    with pytest.raises(BudgetExceeded):
        ledger.require([step] * 2, "two")
    Ledger.open(path).reserve(3, step, run="one")


def test_without_a_budget_everything_is_recorded_and_nothing_refused(path: Path) -> None:
    ledger = _create(path)
    ledger.reserve(0, Event(0.0, 1.0, 1), run="a")
    assert ledger.spent() == math.inf
    assert ledger.budget is None


def test_amended_budget_counts_from_then_on_and_every_reason_stays(path: Path) -> None:
    cost, twice = (epsilon([Event(2.0, 0.25, steps)], DELTA) for steps in (1, 2))
    ledger = _create(path, budget=1.01 * cost)
    ledger.reserve(0, STEP, run="a")
    assert ledger.would_exceed([STEP])
    ledger.amend_budget(3 * cost, "the ethics board agreed, minute 7")
    ledger.reserve(1, STEP, run="a")
    ledger.amend_budget(1.01 * twice, "and changed its mind")
    assert ledger.would_exceed([STEP])
    assert [(each.epsilon, each.reason) for each in ledger.budgets()] == [
        (1.01 * cost, "set when the ledger was created"),
        (3 * cost, "the ethics board agreed, minute 7"),
        (1.01 * twice, "and changed its mind"),
    ]


def test_a_budget_below_what_is_spent_is_refused_and_the_old_one_stays(path: Path) -> None:
    ledger = _create(path, budget=4.0)
    ledger.reserve(0, STEP, run="a")
    with pytest.raises(BudgetExceeded, match=r"a budget of 0\.01; spent: ") as caught:
        ledger.amend_budget(0.01, "too late")
    enough = float((caught.value.hint or "").rsplit(" ", 1)[1])  # as it stands in the hint
    assert [each.epsilon for each in ledger.budgets()] == [4.0]
    ledger.amend_budget(enough, "no more")
    assert ledger.would_exceed([STEP])


def test_each_run_is_listed_with_its_repetitions(path: Path) -> None:
    ledger = _create(path)
    for run, round_number in (("b", 0), ("b", 1), ("a", 1), ("b", 2), ("b", 1)):
        ledger.reserve(round_number, Event(2.0, 0.25, 3), run=run)
    listed = [(each.run, each.rounds, each.reservations, each.steps) for each in ledger.runs()]
    assert [ledger.reservations(run) for run, *_ in listed] == [each[2] for each in listed]
    assert ledger.reservations("no run") == 0
    assert listed == [("b", 2, 4, 12), ("a", 1, 1, 3)]  # round 0 is what was declared before
    assert all(each.first <= each.last for each in ledger.runs())


def test_a_refusal_names_the_command_that_amends_the_budget(path: Path) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        _create(path, budget=0.01).reserve(0, STEP, run="a")
    assert f"securefed ledger budget {path} --epsilon" in (caught.value.hint or "")


def test_budget_change_without_a_reason_is_refused(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs a reason"):
        _create(path, budget=1.0).amend_budget(2.0, "  ")


# Repetition


def test_repeating_a_round_with_fresh_noise_is_a_second_release(path: Path) -> None:
    ledger = _create(path)
    attempts = [ledger.reserve(4, STEP, run="a").attempt for _ in range(3)]
    assert attempts == [1, 2, 3]
    assert ledger.history() == [STEP] * 3


def test_repeating_a_round_bit_for_bit_counts_once(path: Path) -> None:
    key = replay_key(b"seed 7", b"weights")
    first = _create(path).reserve(4, STEP, run="a", replay_key=key)
    again = Ledger.open(path).reserve(4, STEP, run="a", replay_key=key)
    assert (first.replayed, again.replayed) == (False, True)
    assert first.attempt == again.attempt == 1
    assert Ledger.open(path).history() == [STEP]


def test_repetition_is_free_even_where_the_budget_is_used_up(path: Path) -> None:
    ledger = _create(path, budget=epsilon([STEP], DELTA))
    ledger.reserve(0, STEP, run="a", replay_key="k")
    assert ledger.reserve(0, STEP, run="a", replay_key="k").replayed
    with pytest.raises(BudgetExceeded):
        ledger.reserve(0, STEP, run="a", replay_key="other weights")


@pytest.mark.parametrize(
    "changed", [{"run": "b"}, {"round_number": 5}, {"replay_key": "x"}, {"replay_key": None}]
)
def test_anything_else_than_the_identical_release_counts_again(path: Path, changed: dict) -> None:
    ledger = _create(path)
    asked: dict[str, Any] = {"round_number": 4, "event": STEP, "run": "a", "replay_key": "k"}
    ledger.reserve(**asked)
    assert not ledger.reserve(**{**asked, **changed}).replayed
    assert len(ledger.history()) == 2


def test_one_key_for_two_kinds_of_step_is_refused(path: Path) -> None:
    ledger = _create(path)
    ledger.reserve(0, STEP, run="a", replay_key="k")
    with pytest.raises(PrivacyError, match="under the same replay key"):
        ledger.reserve(0, Event(1.0, 0.25, 1), run="a", replay_key="k")
    assert ledger.history() == [STEP]


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
@settings(max_examples=100)
def test_replay_keys_are_equal_only_for_equal_parts(one: list, other: list) -> None:
    assert (replay_key(*one) == replay_key(*other)) == (one == other)
    assert replay_key(b"a", b"bc") != replay_key(b"ab", b"c")


# Crashes and company

_TRAIN_AND_HANG = """
import sys, time
from pathlib import Path
from securefed.privacy import ledger_file
from securefed.privacy.accounting import Event
from securefed.privacy.ledger import Ledger
ledger = Ledger.open(Path(sys.argv[1]))
ledger.reserve(0, Event(2.0, 0.25, 1), run="killed")
print("training", flush=True)
time.sleep(60)  # the round's work, never finished
"""


def test_spend_survives_a_kill_between_reservation_and_the_end_of_training(path: Path) -> None:
    _create(path)
    process = subprocess.Popen(
        [sys.executable, "-c", _TRAIN_AND_HANG, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "training\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    ledger = Ledger.open(path)
    assert ledger.history() == [STEP]
    assert ledger.spent() == epsilon([STEP], DELTA)
    assert ledger.reserve(0, STEP, run="killed").attempt == 2


_KILLED_IN_TRANSACTION = """
import os, signal, sys
from pathlib import Path
from securefed.privacy import ledger_file
with ledger_file.connection(Path(sys.argv[1])) as db, ledger_file.transaction(db):
    db.execute("INSERT INTO budget (epsilon, reason, set_at) VALUES (99, 'half', 'now')")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_write_killed_before_its_commit_leaves_no_trace(path: Path) -> None:
    _create(path, budget=5.0)
    result = subprocess.run([sys.executable, "-c", _KILLED_IN_TRANSACTION, str(path)], check=False)
    assert result.returncode == -signal.SIGKILL
    assert Ledger.open(path).budget == 5.0


def _reserve_ten(path: Path, run: str, start: Barrier, accepted: "SimpleQueue[int]") -> None:
    ledger, count = Ledger.open(path), 0
    start.wait()
    for number in range(10):
        with suppress(BudgetExceeded):
            ledger.reserve(number, STEP, run=run)
            count += 1
    accepted.put(count)


def test_two_processes_together_never_pass_the_budget(path: Path) -> None:
    affordable = 13  # of the 20 that both ask for
    ledger = _create(path, epsilon([Event(2.0, 0.25, affordable)], DELTA, "rdp"), accountant="rdp")
    context = multiprocessing.get_context("fork")
    start, accepted = context.Barrier(2), context.SimpleQueue()
    both = [context.Process(target=_reserve_ten, args=(path, run, start, accepted)) for run in "ab"]
    with warnings.catch_warnings():
        # Python 3.12 warns of forking beside threads; the children here only use SQLite.
        warnings.simplefilter("ignore", DeprecationWarning)
        for process in both:
            process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert accepted.get() + accepted.get() == affordable
    assert ledger.history() == [STEP] * affordable


def test_threads_sharing_one_handle_lose_nothing(path: Path) -> None:
    ledger = _create(path)

    def reserve(run: str) -> None:
        for number in range(5):
            ledger.reserve(number, STEP, run=run)

    threads = [threading.Thread(target=reserve, args=(f"run-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.history()) == 20


def test_creating_at_the_same_time_gives_exactly_one_ledger(path: Path) -> None:
    outcomes: list[str] = []

    def create(name: str) -> None:
        try:
            outcomes.append(_create(path, client=name).client)
        except PrivacyError:
            outcomes.append("refused")

    threads = [threading.Thread(target=create, args=(f"hospital-{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("refused") == 5
    assert Ledger.open(path).client in outcomes
    assert os.listdir(path.parent) == [path.name]


# The file


def test_file_is_readable_by_its_owner_only(path: Path) -> None:
    old = os.umask(0o000)
    try:
        ledger = _create(path)
        with sqlite3.connect(path) as reader:  # holds the write-ahead log open
            reader.execute("SELECT * FROM ledger").fetchall()
            ledger.reserve(0, STEP, run="a")
            modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
            assert len(list(path.parent.iterdir())) == 3
        reader.close()
    finally:
        os.umask(old)
    assert modes == {0o600}


def test_commits_are_on_disk_before_they_return(path: Path) -> None:
    """Write-ahead log with synchronous=FULL (2): SQLite syncs the log at every commit."""
    _create(path)
    with ledger_file.connection(path) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM reservation",
        "UPDATE reservation SET steps = 0",
        "INSERT OR REPLACE INTO reservation VALUES (1, 'a', 0, 1, NULL, 9.0, 0.25, 0, 'now')",
        "UPDATE ledger SET delta = 0.5",
        "DELETE FROM ledger",
        "INSERT OR REPLACE INTO ledger VALUES (1, 'x', 'patient', 0.5, 'prv', 'now')",
        "UPDATE budget SET epsilon = 100",
        "DELETE FROM budget",
    ],
)
def test_rows_can_be_neither_changed_nor_deleted_nor_replaced(path: Path, statement: str) -> None:
    ledger = _create(path, budget=5.0)
    ledger.reserve(0, STEP, run="a")
    database = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        database.execute(statement)
    database.close()
    again = Ledger.open(path)
    assert (again.history(), again.delta, again.budget) == ([STEP], DELTA, 5.0)


def test_existing_ledger_is_never_replaced(path: Path) -> None:
    _create(path).reserve(0, STEP, run="a")
    with pytest.raises(PrivacyError, match="there is a ledger at") as caught:
        _create(path)
    assert "forget" in (caught.value.hint or "")
    assert Ledger.open(path).history() == [STEP]


def test_missing_ledger_is_not_invented(path: Path) -> None:
    with pytest.raises(PrivacyError, match="there is no ledger at"):
        Ledger.open(path)
    ledger = _create(path)
    path.unlink()
    with pytest.raises(PrivacyError, match="cannot open the ledger"):
        ledger.reserve(0, STEP, run="a")
    assert not path.exists()


def test_unwritable_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match=r"cannot create the ledger .*No such file"):
        _create(tmp_path / "missing" / "ledger.sqlite")


def test_ledger_of_another_client_or_unit_is_refused(path: Path) -> None:
    _create(path)
    with pytest.raises(PrivacyError, match="is of client 'hospital-1', not 'hospital-2'"):
        Ledger.open(path, client="hospital-2")
    with pytest.raises(PrivacyError, match="is of unit 'patient', not 'image'"):
        Ledger.open(path, unit="image")


def test_overwritten_pages_are_noticed(path: Path) -> None:
    ledger = _create(path)
    for number in range(20):
        ledger.reserve(number, STEP, run="a")
    damaged = bytearray(path.read_bytes())
    noise = SeededSource(1, "damage").keystream(4096)
    for start in range(8192, len(damaged), 8192):
        damaged[start : start + 4096] = noise[: len(damaged) - start]
    path.write_bytes(damaged)
    with pytest.raises(PrivacyError, match=r"ledger\.sqlite is damaged") as caught:
        Ledger.open(path)
    assert "do not start a new one" in (caught.value.hint or "")


@pytest.mark.parametrize("content", [b"not a database " * 300, b"\x00" * 4096])
def test_file_of_another_kind_is_called_damaged(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(PrivacyError, match="is damaged: file is not a database"):
        Ledger.open(path)


def test_truncated_file_is_noticed(path: Path) -> None:
    _create(path)
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(PrivacyError, match=r"is damaged|cannot use the ledger"):
        Ledger.open(path)


def test_sqlite_file_of_another_program_is_refused(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE ledger (client)")
    database.commit()
    database.close()
    with pytest.raises(PrivacyError, match="is no ledger of securefed"):
        Ledger.open(path)


def test_newer_format_is_refused(path: Path) -> None:
    _create(path)
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 3")
    database.close()
    with pytest.raises(PrivacyError, match="has format 3; this version reads 2"):
        Ledger.open(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"client": ""}, "needs the name"),
        ({"unit": "slice"}, "patient or image, got 'slice'"),
        ({"delta": 0.0}, "delta must be between 0 and 1"),
        ({"accountant": "gdp"}, "prv or rdp"),
        ({"budget": 0.0}, "budget must be positive"),
        ({"budget": math.nan}, "budget must be positive"),
        ({"budget": math.inf}, "budget must be positive"),
    ],
)
def test_impossible_settings_leave_no_file(path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        _create(path, **changes)
    assert os.listdir(path.parent) == []


def test_negative_round_is_refused(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="got -1"):
        _create(path).reserve(-1, STEP, run="a")


def test_a_ledger_that_cannot_be_made_is_named_by_its_own_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(ledger_file, "build", full)
    with pytest.raises(PrivacyError, match="disk I/O error") as refused:
        _create(path)
    assert str(path) in str(refused.value)
    assert f".{path.name}." not in str(refused.value)
    assert refused.value.hint
    assert list(path.parent.iterdir()) == []
