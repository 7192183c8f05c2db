"""Which questions were answered in sums that may have been opened, and by whom: a memory on disk.

A question is what a hospital's answer depends on: shared parameters, and whether to train or to
score. It does not depend on the number of a round. Two sums of answers to one question over
different hospitals can be subtracted, and the difference is the answer of those that are missing
from one. So a hospital that has helped to open one lets the question be answered again only over
the very same hospitals, and a server that goes on after a crash asks no others.

Every hospital keeps such a memory in its own folder, and the server one of its own: the hospitals'
is what protects them. An entry is on disk before the answer that opens a sum leaves. The file grows
only; a last line that a crash cut short was of an answer that did not leave. Names stand only where
they are not those of the line before: each of a thousand hospitals would write down all of them in
every round.

Not covered: parameters that differ in the last digit are another question.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from protocols.attestations import statement
from securefed.errors import RunError
from securefed.files import append_private, read_bounded
from securefed.wire.messages import Request, vector_from_bytes

NAME = "openings.jsonl"
LARGEST_FILE = 2**28

Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Hospital = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    question: Digest
    over: Annotated[tuple[Hospital, ...], msgspec.Meta(min_length=1)] | None  # the line before's


# Made here and not at the first line: two threads that make one at once crash msgspec 0.22.
_LINES = msgspec.json.Decoder(_Line)


def question_of(work: Request) -> str:
    """Digest of what an answer depends on: the parameters as numbers, and the kind of work.

    Raises:
        RunError: the parameters are not whole numbers of four bytes.
    """
    shared = vector_from_bytes(work.shared) + np.float32(0)  # -0.0 is 0.0
    kind = b"train" if work.train else b"describe" if work.describe else b"score"
    return statement(b"securefed question", kind, shared.astype("<f4").tobytes()).hex()


class Openings:
    """The memory in a file, or for the life of the process."""

    def __init__(self, path: Path | None = None, *, begun: bool = False) -> None:
        """Read the memory, or begin one.

        Args:
            path: its file, made readable by its owner only; None keeps nothing on disk.
            begun: whether there must be one already.

        Raises:
            RunError: it is missing or damaged. Who cannot remember must not answer.
        """
        self._path = path
        self._over: dict[str, frozenset[str]] = {}
        self._last: frozenset[str] | None = None  # of the last line that was written here
        if path is None:
            return
        if path.exists():
            self._read(path)
        elif begun:
            raise RunError(
                f"{path} is missing: which questions were answered is not known",
                hint="bring the file back; without it the run cannot go on",
            )
        else:
            append_private(path).close()

    def over(self, question: str) -> frozenset[str] | None:
        """The hospitals whose sum of answers may have been opened; None if none was."""
        return self._over.get(question)

    def note(self, question: str, hospitals: Iterable[str]) -> None:
        """Remember that a sum may be open from now on; on disk at return.

        Raises:
            RunError: it cannot be written.
        """
        over = frozenset(hospitals)
        if over == self._last:
            over = self._last  # one set in memory, too
        if self._over.get(question) == over:
            return
        if self._path:
            names = None if over is self._last else tuple(sorted(over))
            line = msgspec.json.encode(_Line(question, names)) + b"\n"
            try:
                with append_private(self._path) as out:
                    out.write(line)
                    out.flush()
                    os.fsync(out.fileno())
            except OSError as error:
                raise RunError(f"cannot write {self._path}: {error.strerror}") from None
        self._over[question] = self._last = over

    def _read(self, path: Path) -> None:
        self._over, whole = read(path)
        if whole < path.stat().st_size:
            os.truncate(path, whole)  # or the next line would be joined to it


def read(path: Path) -> tuple[dict[str, frozenset[str]], int]:
    """Question -> hospitals, and how many bytes of a memory are whole lines. Changes nothing.

    Raises:
        RunError: it is missing or damaged.
    """
    data, over = read_bounded(path, LARGEST_FILE), {}
    whole, last = data.rfind(b"\n") + 1, None
    for number, content in enumerate(data[:whole].splitlines(), start=1):
        try:
            line = _LINES.decode(content)
            last = frozenset(line.over) if line.over is not None else last
            if last is None:
                raise msgspec.ValidationError("no hospitals are named, here or in a line before")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RunError(
                f"{path}, line {number}: {error}",
                hint="bring the file back as it was; without it the run cannot go on",
            ) from None
        over[line.question] = last
    return over, whole
