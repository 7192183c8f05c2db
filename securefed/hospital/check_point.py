"""A hospital's check point: its trainer's state after a round, in its own folder.

It notes how many reservations the ledger held for the run. They never become fewer, so a ledger
with fewer is an old copy, or of another run.
"""

from pathlib import Path

from securefed.errors import PrivacyError, RunError
from securefed.hospital.opening import Hospital
from securefed.record.check_point import CheckPoint
from securefed.record.directory import read_about, read_tensors, save_tensors


def save(hospital: Hospital, finished: int) -> None:
    """Write the state after `finished` rounds beside the one before, which `drop` removes."""
    about = {"round": str(finished), "reservations": str(hospital.reservations)}
    save_tensors(_file(hospital, finished), hospital.trainer.state(), about)


def restore(hospital: Hospital, finished: int) -> None:
    """Continue after `finished` rounds.

    Raises:
        RunError: the check point is missing or damaged.
        PrivacyError: the ledger holds less than it did when the check point was written.
    """
    path = _file(hospital, finished)
    about = read_about(path)
    try:
        before = int(about["reservations"])
    except (KeyError, TypeError, ValueError):
        raise RunError(f"{path} does not say how much was reserved when it was written") from None
    if hospital.ledger and hospital.reservations < before:
        raise PrivacyError(
            f"the ledger {hospital.ledger.path} holds {hospital.reservations} "
            f"reservation{'' if hospital.reservations == 1 else 's'} of this run; it held "
            f"{before} when {path.name} was written",
            hint="it is an old copy or of another run; put back the newest one",
        )
    hospital.trainer.restore(read_tensors(path))


def drop(hospital: Hospital, finished: int) -> None:
    """Remove the state after `finished` rounds: a later one is complete everywhere."""
    _file(hospital, finished).unlink(missing_ok=True)


def _file(hospital: Hospital, finished: int) -> Path:
    return hospital.folder / CheckPoint.parameters(finished)
