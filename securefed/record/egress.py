"""egress.jsonl: every message that left a hospital in a run, written down before it leaves.

It is the hospital's own, kept whatever else is recorded: no content, but its digest, so that who
has a message can say whether it is one of these. Digests of what was masked tell nothing.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec

from securefed.record import lines

NAME = "egress.jsonl"
LARGEST_FILE = 256 * 2**20  # bytes; 100,000 rounds stay below
Count = Annotated[int, msgspec.Meta(ge=0)]


class Departure(msgspec.Struct, frozen=True, kw_only=True):
    """One message.

    Attributes:
        at: when, in UTC.
        step, stage: what it answers, as it travelled; the plan knows the step's round.
        size: bytes.
        sha256: of the message, hex.
        refusal: the name of a refusal, which is then all that it says; "" where it answers.
    """

    at: str
    step: Count
    stage: str
    size: Count
    sha256: str
    refusal: str

    @classmethod
    def of(cls, message: bytes, step: int, stage: str, refusal: str) -> "Departure":
        """A message that leaves now."""
        return cls(
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            step=step,
            stage=stage,
            size=len(message),
            sha256=hashlib.sha256(message).hexdigest(),
            refusal=refusal,
        )


def read(folder: Path) -> tuple[Departure, ...]:
    """The lines in a hospital's folder of a run; none without a file.

    Raises:
        RunError: damaged; the line is named.
    """
    return lines.read_as(folder / NAME, LARGEST_FILE, Departure)


def append(folder: Path, departure: Departure) -> None:
    """Add a line.

    Raises:
        OSError: it cannot be written.
    """
    lines.append(folder / NAME, [msgspec.json.encode(departure)])
