"""Counts and lists in words."""

from securefed.wording import counted, first_of


def test_one_is_no_plural() -> None:
    assert [counted(n, "round") for n in (0, 1, 2, 1.0, 1.85, 2_000_000)] == [
        "0 rounds",
        "1 round",
        "2 rounds",
        "1 round",
        "1.85 rounds",
        "2000000 rounds",
    ]


def test_a_long_list_says_how_much_more_there_is() -> None:
    assert first_of(["a", "b", "c"]) == "a; b; c"
    assert first_of([1, 2, 3, 4, 5], ", ") == "1, 2, 3, and 2 more"
