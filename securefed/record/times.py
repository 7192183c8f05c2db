"""hospitals/NAME/times.jsonl: how long a hospital worked in each round, which stays there.

A step over more patients takes longer, so the time of a round tells how many were drawn (a
correlation of .29 on phantoms). The hospital has its own times exactly; what travels is one median
over all rounds and hospitals, in summary.json.
"""

from pathlib import Path

import msgspec

from securefed.record import lines

NAME = "times.jsonl"
LARGEST_FILE = 64 * 2**20  # bytes; 100,000 rounds stay below


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of one round: of training, and of the protocol's work."""

    round: int
    train_s: float
    protocol_s: float


def append(folder: Path, times: Times) -> None:
    """Add a round."""
    lines.append(folder / NAME, [msgspec.json.encode(times)])


def read(folder: Path) -> tuple[Times, ...]:
    """The rounds of a hospital's folder, in the order they were written; none without a file.

    Raises:
        RunError: damaged; the line is named.
    """
    return lines.read_as(folder / NAME, LARGEST_FILE, Times)
