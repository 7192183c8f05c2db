"""The part of `securefed data import` that reads scans: DICOM of a folder or a service, NIfTI."""

import shutil
from collections.abc import Collection
from functools import partial
from pathlib import Path

from securefed.cli.data_output import shower
from securefed.cli.series_choice import ask
from securefed.data.choice import Choice
from securefed.data.dicom.report import ImportReport, describe
from securefed.data.dicom.stacks import Stack
from securefed.data.dicom.structured import MODALITY
from securefed.data.dicom.tree import import_dicom
from securefed.data.export import DatasetWriter
from securefed.data.import_rules import ImportRules
from securefed.data.nifti.choice import Volume
from securefed.data.nifti.tree import import_nifti
from securefed.data.pseudonyms import SiteKey
from securefed.data.sources import Source, labels_of
from securefed.data.table import Labels, Problem, read_labels
from securefed.errors import ConfigurationError
from securefed.progress import Bar

_HEADERS = 0.2  # of the time of an import, roughly
_FETCHING = 0.7  # of one from a service


def import_scans(
    kind: Source,
    source: str,
    labels: Path | None,
    fetched: Path,
    writer: DatasetWriter | None,
    key: SiteKey,
    rules: ImportRules,
    bar: Bar,
    *,
    interactive: bool,
) -> ImportReport:
    """Import DICOM or NIfTI, and tell what of the label list was not used.

    Args:
        fetched: folder for what a service gives, see `discard`.
        writer: None to choose series only.
        interactive: ask a person where a patient has several series.
    """
    in_scans = bool(rules.label_attribute or rules.label_report)
    table = None if in_scans else labels_of(source, kind, labels)
    listed = read_labels(table, rules.classes) if table is not None else None
    by_patient = None if listed is None else listed.by_patient
    if by_patient is not None and kind is Source.NIFTI:
        show = shower(bar, "patients")

        def volume_of(patient: str, choice: Choice[Volume]) -> Choice[Volume]:
            return ask(str, patient, choice) if interactive else choice

        report = import_nifti(Path(source), writer, by_patient, key, rules, show, volume_of)
    else:
        tree, faults, ready = Path(source), list[Problem](), 0.0
        if kind is Source.DICOMWEB:
            kinds = rules.series.all_kinds | ({MODALITY} if rules.label_report else set())
            tree, faults, ready = *_fetched(source, listed, kinds, fetched, bar), _FETCHING

        def step(what: str, done: int, total: int) -> None:
            begun, share = (0.0, _HEADERS) if what == "files" else (_HEADERS, 1 - _HEADERS)
            reached = ready + (1 - ready) * (begun + share * done / total)
            bar.reach(reached, f"{what} {done}/{total}")

        def series_of(patient: str, choice: Choice[Stack]) -> Choice[Stack]:
            return ask(partial(describe, root=tree), patient, choice) if interactive else choice

        bar.say("listing files")
        report = import_dicom(tree, writer, by_patient, key, rules, step, series_of)
        report.problems = faults + report.problems
    if table is not None and listed is not None:
        report.problems = listed.problems + report.problems
        unread = [f"column {column!r} is not read" for column in listed.unread]
        report.notes += [Problem(table.name, why) for why in unread]
    return report


def fetched_beside(out: Path) -> Path:
    """Where the scans of a service lie until they are imported: they name patients."""
    return out.with_name(f"{out.name}.fetched")


def discard(fetched: Path, report: ImportReport) -> None:
    """Take away what was fetched, unless there is something to fetch again."""
    if not report.problems:
        shutil.rmtree(fetched)
        return
    what = "the scans stay here, so that a second start (with --force) fetches only what is missing"
    report.notes.append(Problem(str(fetched), f"{what}; they name patients, delete them when done"))


def _fetched(
    source: str, listed: Labels | None, kinds: Collection[str], folder: Path, bar: Bar
) -> tuple[Path, list[Problem]]:
    try:
        from securefed.data.dicomweb.fetching import fetch
    except ImportError:
        raise ConfigurationError(
            "DICOMweb needs dicomweb-client, which is not installed",
            hint="pip install 'securefed[dicom]'",
        ) from None

    def show(done: int, total: int) -> None:
        bar.reach(_FETCHING * done / total, f"asking for patients {done}/{total}")

    bar.say("asking the service")
    patients = None if listed is None else sorted(listed.by_patient)
    archive = fetch(source, folder, patients, kinds, show)
    return archive.scans, archive.problems
