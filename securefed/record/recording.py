"""Observers and what they saw: the recorded messages of a run, by who could read them.

A run writes every message that crossed the transport to `exposures/`: `index.jsonl` has one line
per message, `messages.bin` the bytes one after another. An observer's exposure is a selection of
them, so an audit cannot look at anything that never travelled: under secure aggregation there is
no individual update in the file.

    server       every message, both directions
    peer         the messages to and from one client, and what that client sent before masking
    coalition    every message, and what all clients but one sent before masking
    outsider     none of them; the released model.safetensors alone

What a client sent before masking is a recording of the same form, in that client's own folder.

The bytes of a stage are written before its lines, and a last line that a crash cut short counts as
not written. Files are readable by their owner only.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from securefed.errors import RunError
from securefed.files import append_private

Direction = Literal["down", "up"]
Count = Annotated[int, msgspec.Meta(ge=0)]
INDEX, BYTES = "index.jsonl", "messages.bin"


class Sighting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message on the wire.

    Attributes:
        round, stage: where it belongs.
        client: who sent it ("up") or received it ("down").
        offset, size: where its bytes are in messages.bin; offset is None where only the size was
            kept because the recording had reached its bound.
    """

    round: Count
    stage: str
    client: str
    direction: Direction
    offset: Count | None
    size: Count


class Recording:
    """Appends messages to a run's `exposures/` folder, at most `limit` bytes of content."""

    def __init__(self, folder: Path, limit: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._index = folder / INDEX
        self._bytes = folder / BYTES
        self._limit = limit
        #: How many messages the folder holds.
        self.messages = _drop_torn_line(self._index)
        self._used = self._bytes.stat().st_size if self._bytes.exists() else 0

    def add(self, messages: list[tuple[int, str, str, Direction, bytes]]) -> None:
        """Record (round, stage, client, direction, content) of each message, in order."""
        lines: list[bytes] = []
        with append_private(self._bytes) as store:
            for round_number, stage, client, direction, content in messages:
                fits = self._used + len(content) <= self._limit
                offset = self._used if fits else None
                if fits:
                    store.write(content)
                    self._used += len(content)
                message = Sighting(round_number, stage, client, direction, offset, len(content))
                lines.append(msgspec.json.encode(message) + b"\n")
        with append_private(self._index) as index:
            index.writelines(lines)
        self.messages += len(lines)


def _drop_torn_line(index: Path) -> int:
    """Cut off what follows the last newline; returns the number of lines that are left."""
    if not index.exists():
        return 0
    data = index.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(index, whole)
    return data.count(b"\n")


def sightings(folder: Path) -> Iterator[Sighting]:
    """All recorded messages of a run, oldest first.

    Raises:
        RunError: the recording is missing or damaged.
    """
    try:
        with (folder / INDEX).open("rb") as index:
            for line in index:
                if not line.endswith(b"\n"):
                    return  # a crash came between; nobody acted on this message
                yield msgspec.json.decode(line, type=Sighting)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunError(
            f"cannot read the recorded messages in {folder}: {error}",
            hint="was the run made with exposures.record: false?",
        ) from None


def content(folder: Path, message: Sighting) -> bytes:
    """The bytes of one recorded message.

    Raises:
        RunError: only its size was kept, or the file is damaged.
    """
    if message.offset is None:
        raise RunError(
            f"round {message.round} {message.stage} of {message.client} was not kept",
            hint="raise exposures.limit_mb and run again",
        )
    try:
        with (folder / BYTES).open("rb") as store:
            store.seek(message.offset)
            data = store.read(message.size)
    except OSError as error:
        raise RunError(
            f"cannot read round {message.round} {message.stage} from {folder / BYTES}: "
            f"{error.strerror}"
        ) from None
    if len(data) != message.size:
        raise RunError(f"{folder / BYTES} ends before round {message.round} {message.stage}")
    return data
