"""`securefed ledger` as a user types it: it shows the ledger's figures, and sets its limit."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from securefed.cli.app import cli
from securefed.errors import BudgetExceeded, ConfigurationError, Interrupted, PrivacyError
from securefed.privacy.accounting import Event, Guarantee, epsilon
from securefed.privacy.ledger import Ledger

STEPS = Event(2.0, 0.25, 4)
DELTA = 1e-5


def ledger(*arguments: object, answer: str | None = None) -> Result:
    words = ["ledger", *map(str, arguments)]
    return CliRunner().invoke(cli, words, input=answer, catch_exceptions=False)


def as_json(*arguments: object) -> dict[str, Any]:
    shown = ledger(*arguments, "--json")
    assert shown.exit_code == 0
    value: dict[str, Any] = json.loads(shown.stdout)
    return value


def create(folder: Path, client: str = "hospital-1", budget: float | None = 4.0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ledger.sqlite"
    Ledger.create(path, client=client, unit="patient", delta=DELTA, budget_epsilon=budget)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The ledger of one hospital that has trained in two runs, one round of them twice."""
    path = create(tmp_path / "hospital-1")
    for run, round_number in (("first", 1), ("second", 1), ("second", 1)):
        Ledger.open(path).reserve(round_number, STEPS, run=run)
    return path


# Show


def test_both_accountants_compose_all_runs_and_the_deciding_one_stands_first(path: Path) -> None:
    shown = ledger("show", path)
    assert shown.exit_code == 0
    spent = [line.removeprefix("spent:  ") for line in shown.stdout.splitlines() if "spent" in line]
    history = [Event(2.0, 0.25, 12)]
    assert spent == [
        str(Guarantee(epsilon(history, DELTA, "prv"), DELTA, "patient", "prv")),
        str(Guarantee(epsilon(history, DELTA, "rdp"), DELTA, "patient", "rdp")),
    ]
    assert "budget: epsilon 4, since " in shown.stdout
    assert "set when the ledger was created" in shown.stdout


def test_json_holds_the_whole_ledger(path: Path) -> None:
    (one,) = as_json("show", path)["ledgers"]
    assert (one["client"], one["unit"], one["delta"]) == ("hospital-1", "patient", DELTA)
    assert (one["accountant"], one["budget"], one["reservations"]) == ("prv", 4.0, 3)
    assert one["spent"]["prv"] == epsilon([Event(2.0, 0.25, 12)], DELTA)
    assert one["spent"]["rdp"] == epsilon([Event(2.0, 0.25, 12)], DELTA, "rdp")
    rows = [(r["run"], r["rounds"], r["reservations"], r["steps"]) for r in one["runs"]]
    assert rows == [("first", 1, 1, 4), ("second", 1, 2, 8)]


def test_a_hospitals_folder_and_a_run_directory_are_found(tmp_path: Path) -> None:
    paths = [
        create(tmp_path / "run" / "hospitals" / name, name) for name in ("hospital-1", "hospital-2")
    ]
    both = as_json("show", tmp_path / "run")["ledgers"]
    assert [each["path"] for each in both] == list(map(str, paths))
    (one,) = as_json("show", paths[1].parent)["ledgers"]
    assert one["client"] == "hospital-2"


def test_a_ledger_without_budget_or_runs_says_so(tmp_path: Path) -> None:
    shown = ledger("show", create(tmp_path, budget=None)).stdout
    assert "budget: no limit" in shown
    assert "runs:   none yet" in shown
    assert "epsilon 0.000 at delta" in shown


def test_noise_that_others_add_is_named(tmp_path: Path) -> None:
    path = create(tmp_path)
    Ledger.open(path).reserve(1, Event(2.0, 0.25, 1, noise_from=3), run="a")
    assert "noise:  of 3 hospitals together" in ledger("show", path).stdout


def test_an_epsilon_without_bound_is_null_in_json_and_inf_on_the_screen(tmp_path: Path) -> None:
    path = create(tmp_path, budget=None)
    Ledger.open(path).reserve(1, Event(0.0, 0.25, 1), run="a")
    assert as_json("show", path)["ledgers"][0]["spent"] == {"prv": None, "rdp": None}
    assert "epsilon inf at delta" in ledger("show", path).stdout


def test_where_prv_has_no_figure_the_deciding_accountant_still_has(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    settings: Any = {"client": "a", "unit": "patient", "delta": 1e-15, "accountant": "rdp"}
    Ledger.create(path, budget_epsilon=None, **settings).reserve(1, Event(1.0, 0.3, 80), run="a")
    (one,) = as_json("show", path)["ledgers"]
    assert one["spent"]["prv"] is None
    assert one["spent"]["rdp"] > 0
    assert len(one["guarantees"]) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "there is no ledger at"),
        ("", "there is no ledger in"),
        ("text", "is damaged"),
    ],
)
def test_what_is_no_ledger_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "text").write_text("not a database, and long enough to be read as one" * 20)
    with pytest.raises(PrivacyError, match=message):
        ledger("show", tmp_path / name)


# Amend


def test_a_confirmed_change_is_in_force_and_on_record(path: Path) -> None:
    done = ledger("budget", path, "--epsilon", 10, "--reason", "board, minute 7", answer="y\n")
    assert done.exit_code == 0
    assert "budget: epsilon 4 -> epsilon 10" in done.stderr
    assert "Set the new budget?" in done.stderr
    assert done.stdout == "the budget of hospital-1 is epsilon 10 now\n"
    assert Ledger.open(path).budget == 10
    assert [each["reason"] for each in as_json("show", path)["ledgers"][0]["budgets"]] == [
        "set when the ledger was created",
        "board, minute 7",
    ]


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_without_a_yes_nothing_changes(path: Path, answer: str) -> None:
    with pytest.raises(Interrupted):
        ledger("budget", path, "--epsilon", 10, "--reason", "x", answer=answer)
    assert len(Ledger.open(path).budgets()) == 1


def test_yes_asks_nothing_and_json_is_all_there_is(path: Path) -> None:
    changed = as_json("budget", path, "--epsilon", 3, "--reason", "less", "--yes")
    assert (changed["old_budget"], changed["new_budget"]) == (4.0, 3.0)
    assert (changed["client"], changed["reason"]) == ("hospital-1", "less")


def test_a_budget_below_what_is_spent_is_refused(path: Path) -> None:
    with pytest.raises(BudgetExceeded, match=r"cannot have a budget of 0\.1; spent: epsilon"):
        ledger("budget", path, "--epsilon", 0.1, "--reason", "stop", "--yes")
    assert Ledger.open(path).budget == 4.0


@pytest.mark.parametrize(
    ("limit", "reason", "message"),
    [(-1.0, "x", "positive"), ("nan", "x", "positive"), (9, " ", "needs a reason")],
)
def test_an_impossible_change_is_refused(
    path: Path, limit: object, reason: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ledger("budget", path, "--epsilon", limit, "--reason", reason, "--yes")


def test_the_refusal_of_a_round_leads_to_a_command_that_works(path: Path) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        Ledger.open(path).require([Event(0.5, 1.0, 50)])
    words = (caught.value.hint or "").split("securefed ")[1].split()
    filled = {"E": "2000", "TEXT": "agreed"}
    done = CliRunner().invoke(cli, [*(filled.get(word, word) for word in words), "--yes"])
    assert done.exit_code == 0
    Ledger.open(path).require([Event(0.5, 1.0, 50)])


def test_what_is_declared_before_the_first_round_is_paid_and_no_round(tmp_path: Path) -> None:
    path = create(tmp_path)
    opened = Ledger.open(path)
    opened.reserve(0, Event(7.0, 1.0, 1), run="a")
    opened.reserve(1, Event(2.0, 0.25, 4), run="a")
    (one,) = as_json("show", path)["ledgers"]
    (run,) = one["runs"]
    assert (run["rounds"], run["reservations"]) == (1, 2)
    assert one["spent"]["prv"] == epsilon([Event(7.0, 1.0, 1), Event(2.0, 0.25, 4)], DELTA)
    assert one["evaluation"] is None


def test_held_out_patients_stand_beside_and_never_in_what_training_spent(tmp_path: Path) -> None:
    path, release = create(tmp_path), Event(2.0, 1.0, 1, noise_from=3)
    for run in ("a", "b"):
        Ledger.open(path).reserve_evaluation(release, run=run)
    (one,) = as_json("show", path)["ledgers"]
    # Nobody knows who was in which of the runs, so both count; on training nothing was spent.
    assert one["spent"]["prv"] == one["evaluation"]["counted"]
    assert Ledger.open(path).guarantee().counted == 0.0
    assert one["evaluation"]["counted"] == epsilon([release, release], DELTA)
    assert one["evaluation"]["unit"] == "held-out patient"
    assert "beside: epsilon" in ledger("show", path).stdout
    with pytest.raises(ConfigurationError, match="not sampled"):
        Ledger.open(path).reserve_evaluation(Event(2.0, 0.5, 1), run="a")


# Export and verify


def test_a_copy_is_exported_and_known_to_be_old_after_the_next_round(
    path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.sqlite"
    made = ledger("export", path, copy)
    assert made.exit_code == 0
    assert made.stdout == f"{copy} holds 3 reservations of hospital-1, as the ledger does now\n"
    checked = ledger("verify", path, "--copy", copy)
    assert checked.exit_code == 0
    assert "is whole, 3 reservations" in checked.stdout
    Ledger.open(path).reserve(1, STEPS, run="second")
    with pytest.raises(PrivacyError, match=r"copy\.sqlite: it is older: it holds 3 of 4"):
        ledger("verify", path, "--copy", copy)


def test_export_and_verify_have_json_twins(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite"
    assert as_json("export", path, copy) == {
        "path": str(path),
        "copy": str(copy),
        "client": "hospital-1",
        "reservations": 3,
    }
    head = Ledger.open(path).head()
    whole = {"path": str(path), "client": "hospital-1", "reservations": 3}
    assert as_json("verify", path) == {
        "ledgers": [{**whole, "rows": head.rows, "head": head.hash}],
        "wrong": [],
    }


def test_a_damaged_ledger_is_named_by_its_own_path(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(PrivacyError) as refused:
        ledger("verify", path)
    assert str(path) in str(refused.value)
    assert "securefed-ledger-" not in str(refused.value)
