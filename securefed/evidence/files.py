"""Whether every file that a run leaves behind is there."""

from collections.abc import Iterator

from securefed.privacy import ledger_file
from securefed.record import jobs, metrics, model_file, recording
from securefed.record.agreement import Agreement
from securefed.record.check_point import CheckPoint
from securefed.record.declared import Declared
from securefed.record.inventory import Inventory, digest
from securefed.record.mismatch import Mismatch
from securefed.record.summary import HeldOut, HospitalSummary, Summary
from securefed.run_directory import Run
from securefed.wire import openings


def missing(run: Run) -> Iterator[Mismatch]:
    """Files that follow from the settings and from how far the run got, and are not there."""
    for place in (*_of_run(run), *(f"hospitals/{n}/{f}" for n in run.hospitals for f in _own(run))):
        if not (run.path / place).is_file():
            yield Mismatch(place, "missing")
    for folder in sorted((run.path / "hospitals").glob("*")):
        if folder.name not in run.hospitals:
            yield Mismatch(f"hospitals/{folder.name}", "run.json names no such hospital")


def of_inventory(run: Run) -> Iterator[Mismatch]:
    """Whether a finished run's files are what they were when it ended, byte by byte."""
    for each in Inventory.read(run.path).files:
        path = run.path / each.path
        if not path.is_file():
            yield Mismatch(each.path, "missing")
        elif digest(path) != each.sha256:
            yield Mismatch(each.path, f"changed since the run ended ({Inventory.NAME})")


def _of_run(run: Run) -> Iterator[str]:
    if run.past_a_round:
        yield metrics.NAME
        yield CheckPoint.NAME
        yield CheckPoint.parameters(CheckPoint.read(run.path).round)
    if run.finished:
        yield Summary.NAME
    if run.finished and run.learned:
        yield model_file.NAME
        if run.summary.auc is not None:
            yield HeldOut.NAME
    if run.settings.exposures.record:
        yield from (f"exposures/{name}" for name in (recording.INDEX, recording.BYTES, jobs.FILE))
    if run.settings.secure_aggregation.enabled:
        yield openings.NAME


def _own(run: Run) -> Iterator[str]:
    """What each hospital has."""
    settings = run.settings
    yield Agreement.NAME
    if settings.privacy.dp:
        yield ledger_file.NAME
    if settings.secure_aggregation.enabled:
        yield openings.NAME
    if run.past_a_round:
        yield CheckPoint.parameters(CheckPoint.read(run.path).round)
    if settings.privacy.dp and settings.privacy.patients_epsilon is not None:
        yield Declared.NAME
    if run.finished and run.learned:
        yield HospitalSummary.NAME
