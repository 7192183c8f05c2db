"""Counts, lists and commands in the words that people read."""

import shlex
from collections.abc import Sequence

NAMED = 3  # of many things, before "and n more"


def counted(count: float, noun: str) -> str:
    """ "1 round", "2 rounds"."""
    number = str(count) if isinstance(count, int) else f"{count:g}"
    return f"{number} {noun}" if count == 1 else f"{number} {noun}s"


def first_of(things: Sequence[object], separator: str = "; ") -> str:
    """The first NAMED things, and how many more there are."""
    text = separator.join(map(str, things[:NAMED]))
    return text + (f"{separator}and {len(things) - NAMED} more" if len(things) > NAMED else "")


def listed(things: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"; at least one."""
    *others, last = things
    return f"{', '.join(others)} and {last}" if others else last


def command_line(*words: object) -> str:
    """A command of this program, as a shell takes it."""
    return shlex.join(["securefed", *map(str, words)])
