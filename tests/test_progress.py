"""One display of progress: a bar on a terminal, and only what stays in a pipe."""

import io

import pytest
from rich.console import Console

from securefed.progress import SILENCE_S, Bar


def shown(*, terminal: bool, kept: bool = False) -> str:
    screen = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with Bar(screen, kept=kept) as bar:
        bar.say("reading [patients]")
        bar.note("two [hospitals]")
        bar.line("round 1 [of 2]")
        bar.reach(0.5, "rounds 1/2")
        bar.reach(1.0, "rounds 2/2")
    return str(screen.file.getvalue())  # type: ignore[attr-defined]  # it is a StringIO


def test_a_terminal_sees_the_bar_and_what_stays() -> None:
    text = shown(terminal=True)
    assert "rounds 2/2" in text
    assert "100%" in text


def test_a_pipe_gets_what_stays_and_nothing_else() -> None:
    assert shown(terminal=False) == "note: two [hospitals]\nround 1 [of 2]\n"


def test_a_bar_that_is_kept_stands_there_at_the_end() -> None:
    lines = shown(terminal=False, kept=True).splitlines()
    assert lines[:2] == ["note: two [hospitals]", "round 1 [of 2]"]
    assert "rounds 2/2" in lines[-1]
    assert "100%" in lines[-1]


def test_a_pipe_is_told_of_stages_where_there_are_few() -> None:
    screen = Console(file=io.StringIO(), force_terminal=False, width=100)
    with Bar(screen, staged=True) as bar:
        for share, text in ((0.0, "one [1]"), (0.2, "one [1]"), (0.25, "two"), (1.0, "two")):
            bar.reach(share, text)
    assert str(screen.file.getvalue()) == "  0% one [1]\n 25% two\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("staged", "expected"),
    [
        (False, "first [1]\nround 1\nthird\n"),
        (True, "  0% stage\nfirst [1]\nround 1\nthird\n 10% stage\n"),
    ],
)
def test_a_pipe_is_not_left_in_silence(staged: bool, expected: str) -> None:
    screen = Console(file=io.StringIO(), force_terminal=False, width=100)
    now = 0.0
    with Bar(screen, staged=staged, clock=lambda: now) as bar:
        bar.reach(0.0, "stage")
        for passed, text in ((SILENCE_S, "first [1]"), (SILENCE_S - 1, "second"), (1.0, "")):
            now += passed
            if text:
                bar.say(text)
            else:
                bar.line("round 1")
        now += SILENCE_S
        bar.say("third")
        now += SILENCE_S if staged else 0.0
        bar.reach(0.1, "stage")
    assert str(screen.file.getvalue()) == expected  # type: ignore[attr-defined]


def test_a_terminal_has_a_bar_in_place_of_lines() -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Bar(screen, clock=iter(range(0, 10_000, 100)).__next__) as bar:
        bar.say("working")
    assert "working\n" not in str(screen.file.getvalue())  # type: ignore[attr-defined]
