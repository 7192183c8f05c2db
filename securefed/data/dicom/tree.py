"""Import of a DICOM tree: from a hospital's files to 8-bit slice pairs under pseudonyms.

In order: find and refuse (files), group by series (stacks), choose a patient's series of each
modality (choice), build volumes (volume), align and resample them (pairing), write PNGs and a
manifest (export). A patient who lacks modalities is kept. Nothing of a header is written
but the label that the hospital gives, a keyed pseudonym, and how the pair was aligned. Faces can
be reconstructed from head scans, so the result is still personal data; de-identifying DICOM files
themselves (PS3.15) is a task for other tools.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from securefed.data.choice import Choice, keep
from securefed.data.dicom.anonymisers import repeated_instances, without_shared_frames
from securefed.data.dicom.choice import choose
from securefed.data.dicom.files import NOT_DICOM, scan_tree
from securefed.data.dicom.header import Slice
from securefed.data.dicom.identity import traces
from securefed.data.dicom.labels import Labels, Words, nowhere
from securefed.data.dicom.ranks import doubts_of
from securefed.data.dicom.report import ImportReport, PatientSeries
from securefed.data.dicom.stacks import Stack, stacks_of
from securefed.data.dicom.structured import StructuredReport
from securefed.data.dicom.volume import Series, build_series
from securefed.data.export import DatasetWriter
from securefed.data.file_kinds import PICTURES, way_out
from securefed.data.import_rules import ImportRules
from securefed.data.labelled import without_scans
from securefed.data.patient_writing import require_contrast, write_patient
from securefed.data.pseudonyms import SiteKey
from securefed.data.series_rules import SeriesRules
from securefed.data.table import Problem
from securefed.data.walk import place_of
from securefed.errors import DataError
from securefed.wording import first_of, listed

Decide = Callable[[str, Choice[Stack]], Choice[Stack]]


def import_dicom(
    root: Path,
    writer: DatasetWriter | None,
    labels: Mapping[str, int] | None,
    key: SiteKey,
    rules: ImportRules,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    decide: Decide = keep,
) -> ImportReport:
    """Import every patient below `root` that has a label.

    Args:
        writer: None to choose series only; then no pixel is read, and none can turn out damaged.
        labels: label by original PatientID; stays at the site. None: headers or reports have it,
            in `rules.label_attribute` or under `rules.label_report`.
        progress: called with ("files" or "patients", done, in all): first all files are read.
        decide: may choose otherwise; called with a patient's pseudonym and the rules' choice.

    Raises:
        DataError: no such folder, or not one patient could be imported.
    """
    scan = scan_tree(
        root,
        kinds=rules.series.all_kinds,
        allow_burned_in=rules.allow_burned_in,
        label_attribute=rules.label_attribute,
        label_report=rules.label_report,
        progress=partial(progress, "files"),
    )
    report = ImportReport(list(scan.problems), [], scan.skipped)
    if writer is not None:
        writer.modalities, writer.classes = tuple(rules.series.modalities), rules.classes
    slices, notes = without_shared_frames(scan.slices)
    report.notes += [Problem(root.name, note) for note in notes]
    by_patient: dict[str, list[Slice]] = {}
    for item in slices:
        by_patient.setdefault(item.patient_id, []).append(item)
    reports: dict[str, list[StructuredReport]] = {}
    for each in scan.reports:
        reports.setdefault(each.patient_id, []).append(each)
    words = Words(rules.series.labels, rules.classes)
    known = Labels(labels, rules.label_report, reports, words)
    people = traces({who: [item.person for item in each] for who, each in by_patient.items()})
    for done, patient_id in enumerate(sorted(by_patient)):
        person = key.person(people[patient_id])
        name = key.pseudonym(patient_id)
        patient = _Patient(name, person, by_patient[patient_id], root, rules, report, decide)
        try:
            label = known.of(patient_id, name, by_patient)
        except DataError as error:
            patient.refuse(str(error))
        else:
            patient.write(label, writer)
        progress("patients", done + 1, len(by_patient))
    report.notes += _mixed_weightings(root, report) + report.unused(root, rules.series)
    report.notes += known.said(root) + without_scans(labels or reports.keys(), by_patient)
    if not (writer.patients if writer else any(each.used for each in report.series)):
        why = nowhere(rules.label_report, scan.reports) if rules.label_report else None
        raise _nothing_imported(root, report, rules.series, why)
    return report


def _mixed_weightings(root: Path, report: ImportReport) -> list[Problem]:
    """A note if the MRs differ in kind: a network may learn who got which protocol."""
    notes = []
    for name, found in report.weightings.items():
        counts = [f"{kind} ({patients})" for kind, patients in found.most_common()]
        if len(counts) > 1:
            why = f"the weighting of the {name.upper()} differs, by patients: {', '.join(counts)}"
            notes.append(Problem(root.name, why))
    return notes


def _nothing_imported(
    root: Path, report: ImportReport, rules: SeriesRules, why_labels: str | None
) -> DataError:
    told = [*map(str, report.problems), *report.skipped.lines()]
    why = why_labels or (first_of(told) if told else "it holds no file")
    skipped = [each.removesuffix(NOT_DICOM) for each in report.skipped.counts]
    outs = [f"{kind} files are not read: {way_out(kind)}" for kind in skipped if way_out(kind)]
    files = listed(sorted(rules.all_kinds))
    hint = outs[0] if outs else f"it should hold {files} files, and --labels their PatientID"
    if why_labels:
        hint = "reports are DICOM files of Modality SR; a list, --labels, is another way"
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
    decide: Decide = field(repr=False)

    def refuse(self, reason: str) -> None:
        """Leave the patient out, with the first file for the operator to find."""
        self._problem(self.slices[0], reason)

    def write(self, label: int, writer: DatasetWriter | None) -> None:
        """Write the patient's slices, or say why not; without a writer only choose their series."""
        stacks, refused = stacks_of(self.slices)
        for item, reason in refused:
            self._problem(item, f"series refused: {reason}")
        self._skip_copies(stacks)
        repeated = repeated_instances(item for stack in stacks for item in stack.slices)
        self.report.notes += [Problem(self.name, note) for note in repeated]
        choice, scans = self._chosen(stacks) if writer else (self._choice(stacks), {})
        self.report.series.append(PatientSeries.of(self.name, choice, self.root))
        self.report.described.update(stack.described for stack in stacks)
        for modality, stack in choice.used.items():
            where = f"{self.name} {modality.upper()}"
            doubts = doubts_of(stack, self.rules.window, modality, self.rules.series)
            self.report.notes += [Problem(where, doubt) for doubt in doubts]
            if stack.first.modality == "MR":
                counts = self.report.weightings.setdefault(modality, Counter())
                counts[stack.traits.weighting or "not known"] += 1
        for stack, why in choice.left:
            self.report.skipped.add(f"series left: {why}", self.name, len(stack.slices))
        if not choice.used:
            self._problem(None, "has no usable series" + _left_words(choice))
            return
        if writer is None:
            return
        self._note(scans)
        write_patient(
            self.name,
            label,
            scans,
            writer,
            rules=self.rules,
            report=self.report,
            person=self.person,
        )

    def _choice(self, stacks: Sequence[Stack]) -> Choice[Stack]:
        rules = self.rules
        found = choose(
            stacks, window=rules.window, max_gap_days=rules.max_gap_days, rules=rules.series
        )
        return self.decide(self.name, found)

    def _chosen(self, stacks: Sequence[Stack]) -> tuple[Choice[Stack], dict[str, Series]]:
        """The choice and its volumes; a series that cannot be read gives way to the next."""
        able = list(stacks)
        while True:
            choice = self._choice(able)
            built: dict[str, Series] = {}
            for modality, stack in choice.used.items():
                try:
                    series = build_series(stack)
                    require_contrast(series, self.rules.window)
                    built[modality] = series
                except DataError as error:
                    self._problem(stack.first, f"series refused: {error}")
                    able.remove(stack)
            if len(built) == len(choice.used):
                return choice, built

    def _note(self, scans: Mapping[str, Series]) -> None:
        for modality, series in scans.items():
            where = f"{self.name} {modality.upper()}"
            self.report.notes += [Problem(where, note) for note in series.notes]
            for item, reason in series.unreadable:
                self._problem(item, reason)

    def _skip_copies(self, stacks: Sequence[Stack]) -> None:
        for item in (item for stack in stacks for item in stack.copies):
            self.report.skipped.add("the same image again", place_of(item.path, self.root))

    def _problem(self, item: Slice | None, reason: str) -> None:
        place = self.name if item is None else place_of(item.path, self.root)
        self.report.problems.append(Problem(place, reason))


def _left_words(choice: Choice[Stack]) -> str:
    reasons = dict.fromkeys(why for _, why in choice.left)
    return f" ({', '.join(reasons)})" if reasons else ""
