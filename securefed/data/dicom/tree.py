"""Import of a DICOM tree: from a hospital's files to 8-bit slice pairs under pseudonyms.

In order: find and refuse (files), group by series, build volumes (volume), choose CT
and MRI of a patient whose studies are closest in time, align and resample them (pairing), write
PNGs and a manifest (export). A patient with one modality is kept. Nothing of a header is written
but the label that the hospital gives, a keyed pseudonym, and how the pair was aligned. Faces can
be reconstructed from head scans, so the result is still personal data; de-identifying DICOM files
themselves (PS3.15) is a task for other tools.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from securefed.data.dicom.anonymisers import repeated_instances, without_shared_frames
from securefed.data.dicom.choice import Choice, choose, doubts_of
from securefed.data.dicom.files import NOT_DICOM, scan_tree
from securefed.data.dicom.grey_values import WINDOWS
from securefed.data.dicom.header import Slice, place_of
from securefed.data.dicom.identity import contradiction, traces
from securefed.data.dicom.report import ImportReport, PatientSeries
from securefed.data.dicom.stacks import Stack, stacks_of
from securefed.data.dicom.volume import Series, build_series, to_eight_bits
from securefed.data.export import DatasetWriter
from securefed.data.file_kinds import PICTURES, way_out
from securefed.data.head_overlap import LEAST_OVERLAP, head_overlap
from securefed.data.names import require_patient, shown, spelling
from securefed.data.pairing import pair
from securefed.data.pseudonyms import SiteKey
from securefed.data.table import Problem
from securefed.errors import ConfigurationError, DataError
from securefed.wording import counted, first_of


@dataclass(frozen=True)
class ImportRules:
    """The choices of an import; public.

    Attributes:
        site: name of the hospital in the manifest.
        window: CT window, one of WINDOWS.
        image_size: edge of the written images, 16 to 1024 pixels.
        max_gap_days: CT and MRI further apart are not paired (both are kept).
        allow_burned_in: accept secondary captures and declared burned-in text.
        allow_unregistered: pair in scanner coordinates what could not be registered.
    """

    site: str = "site-1"
    window: str = "brain"
    image_size: int = 256
    max_gap_days: int = 30
    allow_burned_in: bool = False
    allow_unregistered: bool = False

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


def import_dicom(
    root: Path,
    writer: DatasetWriter,
    labels: Mapping[str, int],
    key: SiteKey,
    rules: ImportRules,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> ImportReport:
    """Import every patient below `root` that has a label.

    Args:
        labels: label by original PatientID; stays at the site.
        progress: called with ("files" or "patients", done, in all): first all files are read.

    Raises:
        DataError: no such folder, or not one patient could be imported.
    """
    scan = scan_tree(
        root, allow_burned_in=rules.allow_burned_in, progress=partial(progress, "files")
    )
    report = ImportReport(list(scan.problems), [], scan.skipped)
    slices, notes = without_shared_frames(scan.slices)
    report.notes += [Problem(root.name, note) for note in notes]
    by_patient: dict[str, list[Slice]] = {}
    for item in slices:
        by_patient.setdefault(item.patient_id, []).append(item)
    people = traces({who: [item.person for item in each] for who, each in by_patient.items()})
    for done, patient_id in enumerate(sorted(by_patient)):
        person = key.person(people[patient_id])
        name = key.pseudonym(patient_id)
        patient = _Patient(name, person, by_patient[patient_id], root, rules, report)
        why_not = _why_not(patient_id, by_patient, labels)
        if why_not:
            patient.refuse(why_not)
        else:
            patient.write(labels[patient_id], writer)
        progress("patients", done + 1, len(by_patient))
    report.notes += _mixed_weightings(root, report) + _without_scans(labels, by_patient)
    if not writer.patients:
        raise _nothing_imported(root, report)
    return report


def _why_not(
    patient_id: str, by_patient: Mapping[str, Sequence[Slice]], labels: Mapping[str, int]
) -> str | None:
    """Why a patient cannot be imported, before a pixel is read."""
    try:
        require_patient(patient_id, by_patient)
    except DataError as error:
        return str(error)
    differing = contradiction([item.person for item in by_patient[patient_id]])
    if differing:
        return f"its PatientID stands for different people, by {differing}; left out"
    if patient_id in labels:
        return None
    why = "its patient has no usable line in the label list"
    written = [each for each in labels if spelling(each) == spelling(patient_id)]
    if written:
        why += f", which has {shown(written[0])} where the scan has {shown(patient_id)}"
    return why


def _mixed_weightings(root: Path, report: ImportReport) -> list[Problem]:
    """A note if the MRIs differ in kind: a network may learn who got which protocol."""
    counts = [f"{name} ({patients})" for name, patients in report.weightings.most_common()]
    if len(counts) < 2:
        return []
    return [
        Problem(root.name, f"the weighting of the MRI differs, by patients: {', '.join(counts)}")
    ]


def _without_scans(labels: Mapping[str, int], scanned: Collection[str]) -> list[Problem]:
    """Who is in the label list and not in the tree: a folder may be missing."""
    missing = [patient for patient in labels if patient not in scanned]
    if not missing:
        return []
    of = f"{len(missing)} of {counted(len(labels), 'labelled patient')}"
    first = first_of([shown(patient) for patient in missing], ", ")
    return [Problem("label list", f"no scan here of {of}: {first}")]


def _nothing_imported(root: Path, report: ImportReport) -> DataError:
    told = [*map(str, report.problems), *report.skipped.lines()]
    why = first_of(told) if told else "it holds no file"
    skipped = [each.removesuffix(NOT_DICOM) for each in report.skipped.counts]
    outs = [f"{kind} files are not read: {way_out(kind)}" for kind in skipped if way_out(kind)]
    hint = outs[0] if outs else "it should hold CT and MR files, and --labels their PatientID"
    if set(skipped) & set(PICTURES):
        hint = "for pictures leave --labels out: labels.csv lies beside their folders ct/ and mri/"
    return DataError(f"{root}: not one patient could be imported ({why})", hint=hint)


@dataclass(frozen=True)
class _Patient:
    """One patient on the way from images to slice pairs."""

    name: str  # pseudonym
    person: str  # pseudonym of who is behind it, "" where the headers do not say
    slices: Sequence[Slice] = field(repr=False)
    root: Path
    rules: ImportRules
    report: ImportReport

    def refuse(self, reason: str) -> None:
        """Leave the patient out, with the first file for the operator to find."""
        self._problem(self.slices[0], reason)

    def write(self, label: int, writer: DatasetWriter) -> None:
        """Write the patient's slices, or say why not."""
        stacks, refused = stacks_of(self.slices)
        for item, reason in refused:
            self._problem(item, f"series refused: {reason}")
        self._skip_copies(stacks)
        repeated = repeated_instances(item for stack in stacks for item in stack.slices)
        self.report.notes += [Problem(self.name, note) for note in repeated]
        choice, ct, mri = self._chosen(stacks)
        self.report.series.append(PatientSeries.of(self.name, choice, self.root))
        for stack in choice.chosen():
            where = f"{self.name} {stack.first.modality}"
            doubts = doubts_of(stack, self.rules.window)
            self.report.notes += [Problem(where, doubt) for doubt in doubts]
        for stack, why in choice.left:
            self.report.skipped.add(f"series left: {why}", self.name, len(stack.slices))
        if ct is None and mri is None:
            self._problem(None, "has no usable series" + _left_words(choice))
            return
        if choice.mri is not None:
            self.report.weightings[choice.mri.traits.weighting or "not known"] += 1
        self._note(ct, mri)
        self._write_pairs(label, ct, mri, writer)

    def _chosen(self, stacks: Sequence[Stack]) -> tuple[Choice, Series | None, Series | None]:
        """The choice and its volumes; a series that cannot be read gives way to the next."""
        able = list(stacks)
        while True:
            rules = self.rules
            choice = choose(able, window=rules.window, max_gap_days=rules.max_gap_days)
            built: dict[str, Series] = {}
            for stack in choice.chosen():
                try:
                    series = build_series(stack)
                    _require_contrast(series, rules.window)
                    built[stack.first.modality] = series
                except DataError as error:
                    self._problem(stack.first, f"series refused: {error}")
                    able.remove(stack)
            if len(built) == len(list(choice.chosen())):
                return choice, built.get("CT"), built.get("MR")

    def _write_pairs(
        self, label: int, ct: Series | None, mri: Series | None, writer: DatasetWriter
    ) -> None:
        rules = self.rules
        if ct is not None and mri is not None:
            mri = self._with_believed_frame(ct, mri)
        try:
            pairing = pair(
                ct,
                mri,
                window=rules.window,
                size=rules.image_size,
                max_gap_days=rules.max_gap_days,
                allow_unregistered=rules.allow_unregistered,
            )
        except DataError as error:
            self._problem(None, str(error))
            return
        self.report.notes += [Problem(self.name, note) for note in pairing.notes]
        writer.add(
            self.name,
            label,
            rules.site,
            pairing.slices,
            registration=pairing.status,
            error_mm=pairing.error_mm,
            person=self.person,
        )

    def _with_believed_frame(self, ct: Series, mri: Series) -> Series:
        """The MRI, without a frame of reference that it shares with the CT and does not keep."""
        if not ct.frame or ct.frame != mri.frame or ct.positions is None or mri.positions is None:
            return mri
        overlap = head_overlap(ct, mri)
        if overlap is None or overlap >= LEAST_OVERLAP:
            return mri
        doubt = (
            f"CT and MRI share a FrameOfReferenceUID, but their heads overlap by {overlap:.0%}"
            " only; it is not believed"
        )
        self.report.notes.append(Problem(self.name, doubt))
        return replace(mri, first=replace(mri.first, frame=""))

    def _note(self, ct: Series | None, mri: Series | None) -> None:
        for series in (ct, mri):
            if series is not None:
                where = f"{self.name} {series.modality}"
                self.report.notes += [Problem(where, note) for note in series.notes]
                for item, reason in series.unreadable:
                    self._problem(item, reason)

    def _skip_copies(self, stacks: Sequence[Stack]) -> None:
        for item in (item for stack in stacks for item in stack.copies):
            self.report.skipped.add("the same image again", place_of(item.path, self.root))

    def _problem(self, item: Slice | None, reason: str) -> None:
        place = self.name if item is None else place_of(item.path, self.root)
        self.report.problems.append(Problem(place, reason))


def _require_contrast(series: Series, window: str) -> None:
    pictures = to_eight_bits(series, series.values, window)
    if pictures.min() == pictures.max():
        raise DataError(f"shows one grey only ({pictures.max()} of 255)")


def _left_words(choice: Choice) -> str:
    reasons = dict.fromkeys(why for _, why in choice.left)
    return f" ({', '.join(reasons)})" if reasons else ""
