"""A hospital's check point: its trainer's state after a round, in its own folder."""

from pathlib import Path

from securefed.record.check_point import CheckPoint
from securefed.record.directory import read_tensors, save_tensors
from securefed.training.trainer import LocalTrainer


def save(folder: Path, finished: int, trainer: LocalTrainer) -> None:
    """Write the state after `finished` rounds beside the one before, which `drop` removes."""
    save_tensors(_file(folder, finished), trainer.state(), {"round": str(finished)})


def restore(folder: Path, finished: int, trainer: LocalTrainer) -> None:
    """Continue after `finished` rounds; RunError if the check point is missing or damaged."""
    trainer.restore(read_tensors(_file(folder, finished)))


def drop(folder: Path, finished: int) -> None:
    """Remove the state after `finished` rounds: a later one is complete everywhere."""
    _file(folder, finished).unlink(missing_ok=True)


def _file(folder: Path, finished: int) -> Path:
    return folder / CheckPoint.parameters(finished)
