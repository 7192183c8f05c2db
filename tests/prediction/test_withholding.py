"""No group of a few patients is shown, and none can be worked out from those that are."""

import numpy as np

from securefed.prediction.withholding import Bools, Cell, withheld

POSITIVE = np.arange(120) % 2 == 0
PATIENT = np.arange(120)


def cells(**columns: list[int]) -> dict[Cell, Bools]:
    """Columns whose values "0", "1", ... have so many patients each, one behind the other."""
    return {
        (column, str(value)): np.repeat(np.arange(len(sizes)), sizes) == value
        for column, sizes in columns.items()
        for value in range(len(sizes))
    }


def hidden(of: dict[Cell, Bools]) -> set[str]:
    found = withheld(of, POSITIVE, PATIENT, fewest=5)
    return {f"{column} {value}" for column, value in found}


def test_groups_of_enough_are_shown() -> None:
    assert hidden(cells(site=[60, 30, 30])) == set()


def test_one_small_group_takes_the_smallest_other_with_it() -> None:
    assert hidden(cells(site=[64, 50, 6])) == {"site 1", "site 2"}


def test_small_groups_that_are_enough_together_take_nobody_with_them() -> None:
    assert hidden(cells(site=[100, 8, 6, 6])) == {"site 1", "site 2", "site 3"}


def test_two_small_groups_that_are_few_together_take_a_third_with_them() -> None:
    assert hidden(cells(site=[66, 46, 4, 4])) == {"site 1", "site 2", "site 3"}


def test_a_few_patients_between_groups_of_two_columns_are_not_told() -> None:
    """All women but four were on one scanner: the difference is four women."""
    of = cells(sex=[60, 60], scanner=[56, 64])
    assert hidden(of) == {"scanner 0", "scanner 1"}


def test_columns_that_divide_alike_tell_nothing_more() -> None:
    assert hidden(cells(sex=[60, 60], ward=[60, 60])) == set()


def test_a_patient_with_many_slices_is_one() -> None:
    of = {("site", "a"): np.arange(120) < 60, ("site", "b"): np.arange(120) >= 60}
    two = np.arange(120) // 60  # a patient each
    assert withheld(of, POSITIVE, two, fewest=5) == set(of)
