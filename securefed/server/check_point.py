"""The server's check point: shared parameters and the strategy's state after a round.

The state is written under a name of its own before it becomes the current one: a crash leaves
either the old check point or the new one, whole.
"""

from pathlib import Path

from securefed.record.check_point import CheckPoint
from securefed.record.directory import read_arrays, save_arrays
from securefed.server.rounds import Server


def save(folder: Path, server: Server, elapsed_s: float) -> None:
    """Make the state after the server's last finished round the current one."""
    save_arrays(_file(folder, server.finished), server.state())
    CheckPoint(round=server.finished, elapsed_s=elapsed_s).write(folder)
    _file(folder, server.finished - 1).unlink(missing_ok=True)


def current(folder: Path) -> CheckPoint | None:
    """The current check point; None before the first round has ended.

    Raises:
        RunError: the file is damaged.
    """
    return CheckPoint.read(folder) if (folder / CheckPoint.NAME).exists() else None


def restore(folder: Path, finished: int, server: Server) -> None:
    """Put the server behind its `finished` rounds; RunError if the state is damaged."""
    server.restore(finished, read_arrays(_file(folder, finished)))


def _file(folder: Path, finished: int) -> Path:
    return folder / CheckPoint.parameters(finished)
