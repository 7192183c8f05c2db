"""Which parameters become the final model: the first of the best, and when training ends for it."""

import numpy as np
import pytest

from securefed.errors import RunError
from securefed.server.best import Best

SHARED = np.arange(3.0)


def told(best: Best, *aucs: float | None, after: int = 0) -> Best:
    for number, auc in enumerate(aucs, start=after):
        best.scored(number, SHARED + number, auc)
    return best


def test_the_first_of_the_best_is_kept_and_patience_counts_what_is_no_better() -> None:
    best = told(Best(2), 0.5, 0.8, 0.8)
    assert (best.after, best.auc, best.worse, best.stops, best.may_stop) == (1, 0.8, 1, False, True)
    assert not told(best, 0.81, after=3).stops
    assert (best.after, best.worse) == (3, 0)
    assert told(best, 0.7, 0.6, after=4).stops
    assert best.shared is not None
    assert np.array_equal(best.shared, SHARED + 3)


def test_what_has_no_auc_tells_nothing() -> None:
    best = told(Best(1), None, None, None)
    assert (best.auc, best.shared, best.stops) == (None, None, False)
    assert best.state() == {}


def test_what_is_kept_is_a_copy() -> None:
    best, moving = Best(1), SHARED.copy()
    best.scored(0, moving, 0.5)
    moving += 1
    assert best.shared is not None
    assert np.array_equal(best.shared, SHARED)


def test_a_check_point_has_it_whole() -> None:
    best = told(Best(3), 0.5, 0.8, 0.7)
    memory = {"moment": SHARED, **best.state()}
    again = Best(3)
    again.restore(memory, finished=2, parameters=3)
    assert memory.keys() == {"moment"}
    assert (again.after, again.auc, again.worse) == (1, 0.8, 1)
    assert again.shared is not None
    assert np.array_equal(again.shared, SHARED + 1)


@pytest.mark.parametrize(
    "change",
    [
        {"best.auc": np.array([1.5])},
        {"best.auc": np.array([np.nan])},
        {"best.after": np.array([0.5])},
        {"best.after": np.array([7.0])},
        {"best.worse": np.array([-1.0])},
        {"best.worse": np.array([1.0, 2.0])},
        {"best.shared": np.array([1.0, np.inf, 0.0])},
        {"best.shared": None},
        {"best.shared": np.zeros(4)},
        {"best.after": None},
    ],
)
def test_a_check_point_that_makes_no_sense_is_refused(change: dict[str, np.ndarray | None]) -> None:
    memory = {**told(Best(3), 0.5, 0.8).state(), **change}
    kept = {key: value for key, value in memory.items() if value is not None}
    with pytest.raises(RunError, match="which round was best"):
        Best(3).restore(kept, finished=2, parameters=3)
