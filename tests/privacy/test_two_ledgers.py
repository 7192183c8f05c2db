"""A run's own ledger beside that of all runs: what is in the one is in the other too."""

from pathlib import Path
from typing import Any

import pytest

from securefed.errors import BudgetExceeded
from securefed.privacy import ledger_rows
from securefed.privacy.accounting import Event, epsilon
from securefed.privacy.ledger import Ledger

STEP = Event(2.0, 0.25, 1)
SCORE = Event(4.0, 1.0, 1)
ONE = epsilon([STEP], 1e-5, "rdp")


def pair(folder: Path, lasting: float | None, own: float | None) -> tuple[Ledger, Ledger]:
    """The ledger of all runs, and that of a run that spends there first, with these budgets."""
    terms: dict[str, Any] = {"unit": "patient", "delta": 1e-5, "accountant": "rdp"}
    first = Ledger.create(folder / "all.sqlite", client="all", budget_epsilon=lasting, **terms)
    second = Ledger.create(folder / "own.sqlite", client="own", budget_epsilon=own, **terms)
    second.reserve_first_in(first, "run/own")
    return first, second


def test_what_is_spent_is_in_both_under_each_one_s_name_of_the_run(tmp_path: Path) -> None:
    lasting, own = pair(tmp_path, None, None)
    own.reserve(1, STEP, run="run")
    own.reserve_evaluation(SCORE, run="run")
    assert own.history() == lasting.history() == [STEP]
    assert lasting.statement().attempts("run/own") == own.statement().attempts("run")
    assert [each.run for each in lasting.statement().evaluations] == ["run/own"]


@pytest.mark.parametrize(("lasting", "own"), [(1.01 * ONE, None), (None, 1.01 * ONE)])
def test_what_one_of_them_refuses_is_in_neither(
    tmp_path: Path, lasting: float | None, own: float | None
) -> None:
    both = pair(tmp_path, lasting, own)
    both[1].reserve(1, STEP, run="run")
    assert both[1].would_exceed([STEP], "run")
    with pytest.raises(BudgetExceeded):
        both[1].reserve(2, STEP, run="run")
    assert both[0].history() == both[1].history() == [STEP]


def test_a_crash_between_the_two_leaves_more_in_that_of_all_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasting, own = pair(tmp_path, None, None)
    written: list[Any] = []
    append = ledger_rows.append_reservation

    def crash_at_the_second(*row: Any) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(row)
        append(*row)

    with monkeypatch.context() as patch:
        patch.setattr(ledger_rows, "append_reservation", crash_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            own.reserve(1, STEP, run="run")
    assert (lasting.history(), own.history()) == ([STEP], [])
    own.reserve(1, STEP, run="run")
    assert (lasting.history(), own.history()) == ([STEP, STEP], [STEP])


def test_the_same_release_again_counts_once_in_both(tmp_path: Path) -> None:
    lasting, own = pair(tmp_path, None, None)
    for _ in range(2):
        own.reserve(1, STEP, run="run", replay_key="k")
        own.reserve_evaluation(SCORE, run="run", replay_key="k")
    assert lasting.history() == own.history() == [STEP]
    assert len(lasting.statement().evaluations) == len(own.statement().evaluations) == 1
