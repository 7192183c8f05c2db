"""memberships.jsonl: the jobs of a run that a hospital joined, how far it trained, how each ended.

A job's name is never used twice, whatever a server says; who has lost this file has lost the run.
A hospital keeps it beside the run's folder and not in it, so that a folder that is lost, or is an
old copy, is noticed.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from securefed.errors import RunError
from securefed.record import lines

NAME = "memberships.jsonl"
JOBS = "jobs"  # in a site's folder, where they lie by run
LARGEST_FILE = 16 * 2**20  # bytes

Outcome = Literal["joined", "trained", "finished", "left"]


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """One line.

    Attributes:
        number: 1, 2, ... within the run.
        outcome: "joined" when it began, "trained" for each round that the hospital trained in it;
            "finished" where the final parameters were scored in it, "left" where it ended before.
            One without a line of its end was killed.
        finished: rounds that the run had finished then; of "trained" that round.
        at: when, in UTC.
        policy: of the hospital, as it joined under it; None in other lines, and at a server.
        spent: most that a patient of the hospital had spent then, over all runs, as epsilon;
            None without a ledger.
    """

    number: Annotated[int, msgspec.Meta(ge=1)]
    outcome: Outcome
    finished: Annotated[int, msgspec.Meta(ge=0)]
    at: str
    policy: dict[str, Any] | None = None
    spent: float | None = None


def read(folder: Path) -> tuple[Membership, ...]:
    """The lines in a run's folder; none before the first job.

    Raises:
        RunError: damaged; the line is named.
    """
    return lines.read_as(folder / NAME, LARGEST_FILE, Membership)


def newest(folder: Path) -> int:
    """The largest number that was joined; 0 before the first."""
    return max((each.number for each in read(folder)), default=0)


def trained(folder: Path) -> int:
    """The last round that was trained; 0 before the first."""
    lines_ = read(folder)
    return max((each.finished for each in lines_ if each.outcome == "trained"), default=0)


def note(
    folder: Path,
    number: int,
    outcome: Outcome,
    finished: int,
    *,
    policy: dict[str, Any] | None = None,
    spent: float | None = None,
) -> None:
    """Add a line of now; on disk at return.

    Raises:
        RunError: it cannot be written.
    """
    membership = Membership(
        number=number,
        outcome=outcome,
        finished=finished,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        policy=policy,
        spent=spent,
    )
    try:
        lines.append(folder / NAME, [msgspec.json.encode(membership)])
    except OSError as error:
        raise RunError(f"cannot write {folder / NAME}: {error.strerror}") from None
