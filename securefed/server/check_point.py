"""The server's check point: shared parameters and the strategy's state after a round.

`save` writes the state under a name of its own and `commit` makes it the current one, so that
whoever has more to write (in one process, every hospital) does so in between: a crash leaves either
the old check point or the new one, whole.
"""

from pathlib import Path

import msgspec

from securefed.record.directory import SCHEMA, RunDirectory, read_arrays, save_arrays
from securefed.server.rounds import Server

CURRENT = "checkpoint.json"


class Current(msgspec.Struct, frozen=True):
    """checkpoint.json: the finished round to continue after, and wall seconds of the run so far."""

    schema: int
    round: int
    elapsed_s: float


def save(folder: Path, server: Server) -> None:
    """Write the state after the server's last finished round."""
    save_arrays(_file(folder, server.finished), server.state())


def commit(folder: Path, server: Server, elapsed_s: float) -> None:
    """Make the saved state the one that `current` names, and remove the one before."""
    finished = server.finished
    RunDirectory(folder).write_json(
        CURRENT, {"schema": SCHEMA, "round": finished, "elapsed_s": elapsed_s}
    )
    _file(folder, finished - 1).unlink(missing_ok=True)


def current(folder: Path) -> Current | None:
    """The current check point; None before the first round has ended.

    Raises:
        RunError: the file is damaged.
    """
    if not (folder / CURRENT).exists():
        return None
    value = RunDirectory(folder).read_json(CURRENT)
    return Current(SCHEMA, int(value["round"]), float(value["elapsed_s"]))


def restore(folder: Path, finished: int, server: Server) -> None:
    """Put the server behind its `finished` rounds; RunError if the state is damaged."""
    server.restore(finished, read_arrays(_file(folder, finished)))


def _file(folder: Path, finished: int) -> Path:
    return folder / f"checkpoint-{finished}.safetensors"
