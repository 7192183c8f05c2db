"""A hospital's check point: its trainer's state after a round, in its own folder.

It notes how many reservations the ledger held for the run. They never become fewer, so a ledger
with fewer is an old copy, or of another run.
"""

from pathlib import Path

from securefed.errors import PrivacyError, RunError
from securefed.hospital.opening import Hospital
from securefed.record.check_point import CheckPoint
from securefed.record.directory import read_about, read_tensors, save_tensors
from securefed.wire.plan import Step


def after_work(hospital: Hospital, step: Step) -> None:
    """Write the state after a round that this hospital trained, and keep the one before.

    A server that was killed asks again for the round whose result it lost, or for the next; a
    hospital does not know which, and can go on from either.
    """
    if not step.train:
        return
    about = {"round": str(step.round), "reservations": str(hospital.reservations)}
    save_tensors(_file(hospital, step.round), hospital.trainer.state(), about)
    for number in _kept(hospital.folder)[:-2]:
        _file(hospital, number).unlink(missing_ok=True)


def restore(hospital: Hospital, finished: int) -> None:
    """Continue a run of which the server has finished so many rounds.

    Raises:
        RunError: that is further back than what is kept here, or damaged.
        PrivacyError: the ledger holds less than it did when the check point was written.
    """
    kept = _kept(hospital.folder)
    fitting = [number for number in kept if number <= finished]
    if fitting:
        _restore(hospital, fitting[-1])
    elif len(kept) > 1:
        raise RunError(
            f"the server goes on after round {finished}; this hospital has trained in round "
            f"{kept[-1]}, and keeps what it was after rounds {kept[0]} and {kept[-1]} only",
            hint="the server's folder is an old copy: put back the newest one",
        )


def _restore(hospital: Hospital, finished: int) -> None:
    path = _file(hospital, finished)
    about = read_about(path)
    try:
        before = int(about["reservations"])
    except (KeyError, TypeError, ValueError):
        raise RunError(
            f"{path} does not say how much was reserved when it was written",
            hint="put back the one that belongs here, from a backup",
        ) from None
    if hospital.ledger and hospital.reservations < before:
        raise PrivacyError(
            f"the ledger {hospital.ledger.path} holds {hospital.reservations} "
            f"reservation{'' if hospital.reservations == 1 else 's'} of this run; it held "
            f"{before} when {path.name} was written",
            hint="it is an old copy or of another run; put back the newest one",
        )
    hospital.trainer.restore(read_tensors(path))


def newest(folder: Path) -> int:
    """The last round whose state is in a hospital's folder of a run; 0 without any."""
    return max(_kept(folder), default=0)


def _kept(folder: Path) -> list[int]:
    """The rounds whose state is on disk, ascending."""
    return sorted(map(CheckPoint.round_of, folder.glob(CheckPoint.parameters("*"))))


def _file(hospital: Hospital, finished: int) -> Path:
    return hospital.folder / CheckPoint.parameters(finished)
