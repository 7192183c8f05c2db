"""Import of a DICOM tree: from a hospital's files to 8-bit slice pairs under pseudonyms.

In order: find and refuse (dicom_files), group by series, build volumes (dicom_volume), pair the CT
and MRI of a patient whose studies are closest in time, align (alignment), write PNGs and a
manifest (export). A patient with one modality is kept. Nothing of a header is written but the
label that the hospital gives, a keyed pseudonym, and how the pair was aligned. Faces can be
reconstructed from head scans, so the result is still personal data; de-identifying DICOM files
themselves (PS3.15) is a task for other tools.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from securefed.data.alignment import align, onto_ct
from securefed.data.dicom_files import Slice, scan_tree
from securefed.data.dicom_volume import WINDOWS, Series, build_series, to_eight_bits
from securefed.data.export import DatasetWriter
from securefed.data.images import fit_square
from securefed.data.pseudonyms import SiteKey
from securefed.data.table import Problem
from securefed.errors import ConfigurationError, DataError

LEAST_COVERAGE = 0.25  # a CT slice of which the MRI shows less has no MRI

Images = NDArray[np.uint8]
SlicePair = tuple[Images | None, Images | None]


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
    skipped: Counter[str] = field(default_factory=Counter)  # reason -> files


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
            report.problems.append(Problem(first, "its patient has no line in the label list"))
        progress(done + 1, len(by_patient))
    if not writer.patients:
        raise DataError(
            f"{root}: not one patient could be imported ({len(report.problems)} problems"
            + (f", the first: {report.problems[0]})" if report.problems else ")"),
            hint="is it a tree of CT and MR files, and does --labels name their PatientID?",
        )
    return report


def _import_patient(
    name: str,
    label: int,
    slices: Sequence[Slice],
    rules: ImportRules,
    writer: DatasetWriter,
    report: ImportReport,
) -> None:
    built = _build_all(name, slices, report)
    ct, mri, days = _choose(built)
    if ct is None and mri is None:
        report.problems.append(Problem(name, "has no usable series"))
        return
    for series in built:
        if series is not ct and series is not mri:
            report.skipped["another series of the patient was chosen"] += len(series.values)
        else:
            where = f"{name} {series.modality}"
            report.notes += [Problem(where, note) for note in series.notes]
    try:
        pairs, status = _pair(name, ct, mri, days, rules, report)
    except DataError as error:
        report.problems.append(Problem(name, str(error)))
        return
    writer.add(name, label, rules.site, pairs, status)


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


def _choose(series: Sequence[Series]) -> tuple[Series | None, Series | None, int | None]:
    """The CT and the MRI closest in time, of those the ones with most slices; and the days between.

    Days are None if a date is missing.
    """
    ranked = sorted(series, key=lambda each: -len(each.values))
    cts = [each for each in ranked if each.modality == "CT"]
    mris = [each for each in ranked if each.modality == "MR"]
    if not cts or not mris:
        return next(iter(cts), None), next(iter(mris), None), None
    pairs = [(ct, mri, _days_between(ct, mri)) for ct in cts for mri in mris]
    # min keeps the first of equals, and the first have most slices. Unknown dates come last.
    return min(pairs, key=lambda pair: (pair[2] is None, pair[2] or 0))


def _days_between(ct: Series, mri: Series) -> int | None:
    first, second = ct.first.study_date, mri.first.study_date
    return abs((first - second).days) if first and second else None


def _pair(
    name: str,
    ct: Series | None,
    mri: Series | None,
    days: int | None,
    rules: ImportRules,
    report: ImportReport,
) -> tuple[list[SlicePair], str]:
    """The slices to write and how they were aligned ("" for one modality)."""
    ct_images = None if ct is None else to_eight_bits(ct, ct.values, rules.window)
    mri_images = None if mri is None else to_eight_bits(mri, mri.values, rules.window)
    if ct is None or mri is None or ct_images is None or mri_images is None:
        return _side_by_side(ct_images, mri_images, rules.image_size), ""
    reason = _why_not_paired(ct, mri, days, rules.max_gap_days)
    if reason:
        report.notes.append(Problem(name, f"CT and MRI kept as separate slices: {reason}"))
        return _side_by_side(ct_images, mri_images, rules.image_size), "unpaired"
    if days is None:
        report.notes.append(Problem(name, "a study date is missing; the gap is unknown"))
    alignment = align(ct, mri)
    if alignment.status in ("failed", "unregistered"):
        report.notes.append(Problem(name, _doubt(alignment.status)))
    elif alignment.metric is not None:
        report.notes.append(Problem(name, f"registered, mutual information {alignment.metric:.3f}"))
    resampled, covered = onto_ct(mri_images, mri, ct, alignment)
    size = rules.image_size
    pairs: list[SlicePair] = [
        (fit_square(a, size), fit_square(b, size) if share >= LEAST_COVERAGE else None)
        for a, b, share in zip(ct_images, resampled, covered, strict=True)
    ]
    if all(image is None for _, image in pairs):
        report.notes.append(Problem(name, "CT and MRI kept as separate slices: no overlap"))
        return _side_by_side(ct_images, mri_images, size), "unpaired"
    return pairs, alignment.status


def _doubt(status: str) -> str:
    if status == "failed":
        return "registration failed; paired in scanner coordinates, look at it"
    return (
        "SimpleITK is not installed; paired in scanner coordinates (pip install securefed[dicom])"
    )


def _why_not_paired(ct: Series, mri: Series, days: int | None, max_gap_days: int) -> str | None:
    if days is not None and days > max_gap_days:
        return f"{days} days lie between them, more than {max_gap_days}"
    if ct.positions is None or mri.positions is None:
        return "a series has no geometry"
    return None


def _side_by_side(ct: Images | None, mri: Images | None, size: int) -> list[SlicePair]:
    pairs: list[SlicePair] = [
        (fit_square(image, size), None) for image in (ct if ct is not None else ())
    ]
    return pairs + [(None, fit_square(image, size)) for image in (mri if mri is not None else ())]
