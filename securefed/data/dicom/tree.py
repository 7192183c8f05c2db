"""Import of a DICOM tree: from a hospital's files to 8-bit slice pairs under pseudonyms.

In order: find and refuse (files), group by series, build volumes (volume), choose CT
and MRI of a patient whose studies are closest in time, align and resample them (pairing), write
PNGs and a manifest (export). A patient with one modality is kept. Nothing of a header is written
but the label that the hospital gives, a keyed pseudonym, and how the pair was aligned. Faces can
be reconstructed from head scans, so the result is still personal data; de-identifying DICOM files
themselves (PS3.15) is a task for other tools.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from securefed.data.dicom.files import Slice, scan_tree
from securefed.data.dicom.volume import WINDOWS, Series, build_series
from securefed.data.export import DatasetWriter
from securefed.data.file_kinds import OTHER_SCANS
from securefed.data.names import shown, spelling
from securefed.data.pairing import days_between, pair
from securefed.data.pseudonyms import SiteKey
from securefed.data.skipped import NAMED, Skipped
from securefed.data.table import Problem
from securefed.errors import ConfigurationError, DataError


@dataclass(frozen=True)
class ImportRules:
    """The choices of an import; public.

    Attributes:
        site: name of the hospital in the manifest.
        window: CT window, one of WINDOWS.
        image_size: edge of the written images, 16 to 1024 pixels.
        max_gap_days: CT and MRI further apart are not paired (both are kept).
        allow_burned_in: accept secondary captures and declared burned-in text.
    """

    site: str = "site-1"
    window: str = "brain"
    image_size: int = 256
    max_gap_days: int = 30
    allow_burned_in: bool = False

    def __post_init__(self) -> None:
        if self.window not in WINDOWS:
            raise ConfigurationError(
                f"unknown CT window {self.window!r}", hint=f"choose one of {', '.join(WINDOWS)}"
            )
        if not 16 <= self.image_size <= 1024:
            raise ConfigurationError(
                f"image size must be 16 to 1024 pixels, got {self.image_size}",
                hint="256 keeps what a head scan shows",
            )
        if self.max_gap_days < 0:
            raise ConfigurationError(
                f"max gap must be 0 days or more, got {self.max_gap_days}", hint="30 is common"
            )


@dataclass
class ImportReport:
    """What an import did. Places are paths or pseudonyms, for the operator's eyes."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)  # unusual, but used
    skipped: Skipped = field(default_factory=Skipped)


def import_dicom(
    root: Path,
    writer: DatasetWriter,
    labels: Mapping[str, int],
    key: SiteKey,
    rules: ImportRules,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ImportReport:
    """Import every patient below `root` that has a label.

    Args:
        labels: label by original PatientID; stays at the site.
        progress: called with (patients done, patients in all).

    Raises:
        DataError: no such folder, or not one patient could be imported.
    """
    scan = scan_tree(root, allow_burned_in=rules.allow_burned_in)
    report = ImportReport(list(scan.problems), [], scan.skipped)
    by_patient: dict[str, list[Slice]] = {}
    for item in scan.slices:
        by_patient.setdefault(item.patient_id, []).append(item)
    for done, patient_id in enumerate(sorted(by_patient)):
        name = key.pseudonym(patient_id)
        if patient_id in labels:
            _import_patient(name, labels[patient_id], by_patient[patient_id], rules, writer, report)
        else:
            first = str(by_patient[patient_id][0].path.relative_to(root))
            why = "its patient has no line in the label list"
            written = [each for each in labels if spelling(each) == spelling(patient_id)]
            if written:
                why += f", which has {shown(written[0])} where the scan has {shown(patient_id)}"
            report.problems.append(Problem(first, why))
        progress(done + 1, len(by_patient))
    report.notes += _without_scans(labels, by_patient)
    if not writer.patients:
        raise _nothing_imported(root, report)
    return report


def _without_scans(labels: Mapping[str, int], scanned: Collection[str]) -> list[Problem]:
    """Who is in the label list and not in the tree: a folder may be missing."""
    missing = [patient for patient in labels if patient not in scanned]
    if not missing:
        return []
    first = ", ".join(map(shown, missing[:NAMED])) + (", ..." if len(missing) > NAMED else "")
    what = f"{len(missing)} of {len(labels)} labelled patients have no scan here: {first}"
    return [Problem("label list", what)]


def _nothing_imported(root: Path, report: ImportReport) -> DataError:
    why = [f"{len(report.problems)} problems"]
    why += [f"the first: {problem}" for problem in report.problems[:1]]
    why += report.skipped.lines()
    scans = [kind for kind in OTHER_SCANS if f"{kind}, not DICOM" in report.skipped.counts]
    hint = "is it a tree of CT and MR files, and does --labels name their PatientID?"
    if scans:
        hint = f"{' and '.join(scans)} files are not read; export the scans as DICOM"
    return DataError(f"{root}: not one patient could be imported ({'; '.join(why)})", hint=hint)


def _import_patient(
    name: str,
    label: int,
    slices: Sequence[Slice],
    rules: ImportRules,
    writer: DatasetWriter,
    report: ImportReport,
) -> None:
    built = _build_all(name, slices, report)
    ct, mri = _choose(built)
    if ct is None and mri is None:
        report.problems.append(Problem(name, "has no usable series"))
        return
    for series in built:
        if series is not ct and series is not mri:
            reason = "another series of the patient was chosen"
            report.skipped.add(reason, name, len(series.values))
        else:
            where = f"{name} {series.modality}"
            report.notes += [Problem(where, note) for note in series.notes]
    try:
        pairing = pair(
            ct,
            mri,
            window=rules.window,
            size=rules.image_size,
            max_gap_days=rules.max_gap_days,
        )
    except DataError as error:
        report.problems.append(Problem(name, str(error)))
        return
    report.notes += [Problem(name, note) for note in pairing.notes]
    writer.add(name, label, rules.site, pairing.slices, pairing.status)


def _build_all(name: str, slices: Sequence[Slice], report: ImportReport) -> list[Series]:
    by_series: dict[str, list[Slice]] = {}
    for item in slices:
        by_series.setdefault(item.series, []).append(item)
    built = []
    for group in by_series.values():
        try:
            built.append(build_series(group))
        except DataError as error:
            # The folder of the first file, not the UID: that is what an operator can open.
            place = f"{name} {group[0].modality} series of {group[0].path.name}"
            report.problems.append(Problem(place, f"series refused: {error}"))
    return built


def _choose(series: Sequence[Series]) -> tuple[Series | None, Series | None]:
    """The CT and the MRI closest in time, of those the ones with most slices."""
    ranked = sorted(series, key=lambda each: -len(each.values))
    cts = [each for each in ranked if each.modality == "CT"]
    mris = [each for each in ranked if each.modality == "MR"]
    if not cts or not mris:
        return next(iter(cts), None), next(iter(mris), None)
    pairs = [(ct, mri, days_between(ct, mri)) for ct in cts for mri in mris]
    # min keeps the first of equals, and the first have most slices. Unknown dates come last.
    ct, mri, _ = min(pairs, key=lambda pair: (pair[2] is None, pair[2] or 0))
    return ct, mri
