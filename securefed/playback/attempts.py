"""Recorded messages as a transport: what the server asks, and the replies that really came.

Behind a `Playback` there is nobody. The server's own code runs against it, and whatever it computes
follows from the recorded replies alone. It must ask for exactly what the recorded server asked:
that ties the replay to the record, byte by byte.

    sightings -> exchanges (one stage, all its clients) -> attempts (one round of one job)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from securefed.errors import RunError
from securefed.record import jobs
from securefed.record.jobs import Job
from securefed.record.recording import Sighting, content, sightings
from securefed.wire.messages import Request, decode_request


class RecordingEnds(RunError):
    """The recorded server was stopped here."""


@dataclass(frozen=True)
class Exchange:
    """One stage: requests and replies by client."""

    stage: str
    requests: dict[str, Sighting] = field(default_factory=dict)
    replies: dict[str, Sighting] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        """Whether the bytes of every message were kept."""
        both = (*self.requests.values(), *self.replies.values())
        return all(seen.offset is not None for seen in both)


@dataclass(frozen=True)
class Attempt:
    """One step of the plan in one job, up to where it got.

    Attributes:
        number: of the step.
        last: whether its job recorded nothing after it.
    """

    number: int
    exchanges: list[Exchange]
    last: bool

    @property
    def kept(self) -> bool:
        """Whether the bytes of every message were kept."""
        return all(exchange.kept for exchange in self.exchanges)

    def stage(self, name: str) -> Exchange | None:
        """The exchange of a stage; None if the round did not get there."""
        return next((each for each in self.exchanges if each.stage == name), None)


class Playback:
    """The transport of one attempt: one recorded exchange for each stage asked for."""

    def __init__(self, folder: Path, attempt: Attempt) -> None:
        self._folder = folder
        self._number = attempt.number
        self._left = list(attempt.exchanges)

    def clients(self) -> list[str]:
        return sorted(self._left[0].requests) if self._left else []

    def stage(self, requests: Mapping[str, bytes], deadline_s: float) -> dict[str, bytes]:
        """The recorded replies.

        Raises:
            RecordingEnds: there is no further exchange.
            RunError: the recorded server asked something else.
        """
        if not self._left:
            raise RecordingEnds(f"the recording of round {self._number} ends early")
        exchange = self._left.pop(0)
        if dict(requests) != contents(self._folder, exchange.requests):
            raise RunError(
                f"round {self._number}, stage {exchange.stage}: the recorded requests are not what "
                "follows from the recorded replies",
                hint="the recording in exposures/ is damaged; make the run again",
            )
        return contents(self._folder, exchange.replies)

    def require_played(self) -> None:
        """RunError if exchanges are left that the server had no use for."""
        if self._left:
            raise RunError(
                f"round {self._number} goes on in the recording with stage {self._left[0].stage}, "
                "where the server was done",
                hint="the recording in exposures/ is damaged; make the run again",
            )


def contents(folder: Path, seen: Mapping[str, Sighting]) -> dict[str, bytes]:
    """Client -> bytes; RunError if some were not kept."""
    return {name: content(folder, each) for name, each in seen.items()}


def work_request(folder: Path, exchange: Exchange) -> Request | None:
    """The request of a work stage without its body; None if no client's was kept.

    Everybody gets the same shared parameters, so any client's will do.
    """
    for seen in exchange.requests.values():
        if seen.offset is not None:
            request = decode_request(content(folder, seen))
            return Request(
                round=request.round,
                stage=request.stage,
                train=request.train,
                evaluate=request.evaluate,
                shared=request.shared,
                describe=request.describe,
            )
    return None


def attempts_by_job(folder: Path, client: str | None = None) -> list[tuple[Job, list[Attempt]]]:
    """What was recorded, by job and round: everything, or the messages of one client.

    Raises:
        RunError: the recording is missing or damaged.
    """
    seen = list(sightings(folder))
    begun = jobs.read(folder)
    ends = [*(job.first for job in begun[1:]), len(seen)]
    if begun[-1].first > len(seen):
        raise RunError(f"{folder} holds {len(seen)} messages; job {len(begun)} begins after more")
    found = []
    for job, end in zip(begun, ends, strict=True):
        part = [each for each in seen[job.first : end] if client in (None, each.client)]
        found.append((job, list(_attempts(part))))
    return found


def _attempts(seen: list[Sighting]) -> Iterator[Attempt]:
    groups = [list(group) for _, group in groupby(seen, key=lambda each: each.round)]
    for index, group in enumerate(groups):
        exchanges = [_exchange(part) for part in _stages(group)]
        yield Attempt(group[0].round, exchanges, last=index == len(groups) - 1)


def _stages(seen: list[Sighting]) -> Iterator[list[Sighting]]:
    """The messages of each exchange: a request after replies begins another, of the same stage too.

    Work is asked again of a hospital that refused another's box.
    """
    part: list[Sighting] = []
    for each in seen:
        again = bool(part) and part[-1].direction == "up" and each.direction == "down"
        if part and (again or each.stage != part[-1].stage):
            yield part
            part = []
        part.append(each)
    if part:
        yield part


def _exchange(seen: list[Sighting]) -> Exchange:
    exchange = Exchange(seen[0].stage)
    for each in seen:
        side = exchange.requests if each.direction == "down" else exchange.replies
        if each.client in side or (each.direction == "up" and each.client not in exchange.requests):
            raise RunError(
                f"round {each.round}, stage {each.stage}: a message of {each.client} too many",
                hint="the index in exposures/ is damaged; make the run again",
            )
        side[each.client] = each
    return exchange
