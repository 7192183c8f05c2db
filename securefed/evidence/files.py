"""Whether every file that a run leaves behind is there."""

from collections.abc import Iterator
from pathlib import Path

from securefed.privacy import ledger_file
from securefed.record import egress, jobs, memberships, metrics, model_file, recording
from securefed.record.agreement import Agreement
from securefed.record.check_point import CheckPoint
from securefed.record.declared import Declared
from securefed.record.inventory import Inventory, digest
from securefed.record.mismatch import Mismatch
from securefed.record.summary import HeldOut, HospitalSummary, Summary
from securefed.run_directory import Run
from securefed.wire import agreement as agreement_file
from securefed.wire import openings


def missing(run: Run) -> Iterator[Mismatch]:
    """Files that follow from the settings and from how far the run got, and are not there."""
    own = (run.place(name, file) for name in run.here for file in _own(run, name))
    for place in (*_of_server(run), *own, *_of_everybody(run)):
        if not (run.path / place).is_file():
            yield Mismatch(place, "missing")
    if run.party != "everybody" and not (run.jobs / memberships.NAME).is_file():
        yield Mismatch(memberships.NAME, "missing")
    for name in run.here if run.settings.privacy.dp else ():
        if not run.ledger(name).is_file():
            yield Mismatch(run.place(name, ledger_file.NAME), "missing")
    for folder in sorted((run.path / "hospitals").glob("*")):
        if folder.name not in run.here:
            yield Mismatch(f"hospitals/{folder.name}", "run.json names no such hospital")


def of_inventory(run: Run) -> Iterator[Mismatch]:
    """Whether a finished run's files are what they were when it ended, byte by byte."""
    for each in Inventory.read(run.path).files:
        path = run.path / each.path
        if not path.is_file():
            yield Mismatch(each.path, "missing")
        elif digest(path) != each.sha256:
            yield Mismatch(each.path, f"changed since the run ended ({Inventory.NAME})")


def _of_everybody(run: Run) -> Iterator[str]:
    """What every party has, for itself or together with others."""
    if run.settings.exposures.record:
        yield from (f"exposures/{name}" for name in (recording.INDEX, recording.BYTES, jobs.FILE))
    if run.finished and run.learned:
        yield model_file.NAME
    if run.party != "everybody":
        yield agreement_file.NAME


def _of_server(run: Run) -> Iterator[str]:
    if run.party == "hospital":
        return
    if run.past_a_round:
        yield metrics.NAME
        yield CheckPoint.NAME
        yield CheckPoint.parameters(CheckPoint.read(run.path).round)
    if run.finished:
        yield Summary.NAME
        if run.learned and run.summary.auc is not None:
            yield HeldOut.NAME
    if run.settings.secure_aggregation.enabled:
        yield openings.NAME


def _own(run: Run, name: str) -> Iterator[str]:
    """What each hospital has."""
    settings = run.settings
    yield Agreement.NAME
    if settings.secure_aggregation.enabled:
        yield openings.NAME
    if run.past_a_round:
        yield egress.NAME
    yield from _states(run, run.hospital(name))
    if settings.privacy.dp and settings.privacy.patients_epsilon is not None:
        yield Declared.NAME
    if run.finished and run.learned:
        yield HospitalSummary.NAME


def _states(run: Run, folder: Path) -> Iterator[str]:
    """After the last two rounds that it trained, which a server may ask it to go on from."""
    steps = (
        run.job.plan.step(each.step)
        for each in egress.read(folder)
        if each.stage == "work" and not each.refusal
    )
    trained = sorted({step.round for step in steps if step and step.train})
    yield from map(CheckPoint.parameters, trained[-2:])
