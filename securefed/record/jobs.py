"""What everybody knew when a job began: the public half of what opens recorded sums again.

A job is one start of a run's process; `--resume` makes a new one, with new identity keys. Each adds
a line to `exposures/jobs.jsonl` when it begins. No secret is in it: public keys, agreed rules, the
size of shared noise, and where in the recording the job's messages begin.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from protocols.errors import ProtocolError
from protocols.identity import Roster
from protocols.parameters import JobRules
from securefed.errors import RunError
from securefed.files import read_bounded, write_atomically
from securefed.privacy.distributed import RingNoise
from securefed.record.recording import Recording

if TYPE_CHECKING:
    from securefed.wire.description import JobDescription

FILE = "jobs.jsonl"
LARGEST_FILE = 64 * 2**20  # bytes
Count = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        first: how many messages were recorded before it.
        finished: training rounds finished before it.
        roster, rules: of secure aggregation; None without it.
        noise: shared out by the hospitals; None where noise is each hospital's own.
    """

    first: int
    finished: int
    roster: Roster | None
    rules: JobRules | None
    noise: RingNoise | None


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    first: Count
    finished: Count
    keys: dict[str, bytes] | None
    rules: JobRules | None
    noise: RingNoise | None


def begin(recording: Recording, job: "JobDescription", finished: int) -> None:
    """Note beside a recording that the job's messages follow, after so many finished rounds."""
    append(
        recording.folder,
        Job(recording.messages, finished, job.roster, job.rules, job.shared_noise),
    )


def append(folder: Path, job: Job) -> None:
    """Add a job to the recording in `folder`."""
    keys = dict(job.roster.keys) if job.roster else None
    line = _Line(job.first, job.finished, keys, job.rules, job.noise)
    path = folder / FILE
    before = read_bounded(path, LARGEST_FILE) if path.exists() else b""
    write_atomically(path, before + msgspec.json.encode(line) + b"\n")


def read(folder: Path) -> list[Job]:
    """The jobs of a recording, in order.

    Raises:
        RunError: there are none, or the file is damaged.
    """
    jobs: list[Job] = []
    try:
        for text in read_bounded(folder / FILE, LARGEST_FILE).splitlines():
            line = msgspec.json.decode(text, type=_Line)
            roster = Roster(line.keys) if line.keys is not None else None
            jobs.append(Job(line.first, line.finished, roster, line.rules, line.noise))
    except (RunError, msgspec.DecodeError, UnicodeDecodeError, ProtocolError) as error:
        raise RunError(
            f"cannot read the recorded jobs in {folder / FILE}: {error}",
            hint="was the run made with exposures.record: false, or by an older version?",
        ) from None
    in_order = all(a.first <= b.first for a, b in pairwise(jobs))
    if not jobs or jobs[0].first != 0 or not in_order:
        raise RunError(f"{folder / FILE} does not begin at the first message or is out of order")
    return jobs
