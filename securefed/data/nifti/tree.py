"""Import of a folder of NIfTI volumes: slice pairs under pseudonyms, as from DICOM.

A file does not say whose it is or what it was taken with, so its name does (names), or a rule of
the operator's. Nothing of a header is written but what `DatasetWriter.add` takes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from securefed.data.choice import Choice, keep
from securefed.data.dicom.report import ImportReport, PatientSeries
from securefed.data.dicom.volume import Series
from securefed.data.export import DatasetWriter
from securefed.data.file_kinds import NIFTI, kind_of
from securefed.data.import_rules import ImportRules
from securefed.data.labelled import identity_fault, label_fault, without_scans
from securefed.data.nifti.choice import Volume, choose, description_of
from securefed.data.nifti.names import DERIVATIVES, LAYOUTS, name_of
from securefed.data.nifti.volume import read_volume
from securefed.data.patient_writing import require_contrast, write_patient
from securefed.data.pseudonyms import SiteKey
from securefed.data.series_rules import SeriesRules
from securefed.data.table import Problem
from securefed.data.walk import files_below, place_of
from securefed.errors import DataError
from securefed.wording import first_of

_SAYS_NOTHING = "whose name says no modality"

Decide = Callable[[str, Choice[Volume]], Choice[Volume]]


def import_nifti(
    root: Path,
    writer: DatasetWriter | None,
    labels: Mapping[str, int],
    key: SiteKey,
    rules: ImportRules,
    progress: Callable[[int, int], None] = lambda done, total: None,
    decide: Decide = keep,
) -> ImportReport:
    """Import every patient below `root` that has a label.

    Args:
        writer: None to choose volumes only; then no voxel is read, and none can turn out damaged.
        labels: label by the NAME of the layout; stays at the site.
        progress: called with (patients done, patients in all).
        decide: may choose otherwise; called with a patient's pseudonym and the rules' choice.

    Raises:
        DataError: not one patient could be imported.
    """
    report = ImportReport()
    rules = replace(rules, max_gap_days=None)  # no file has a date
    if writer is not None:
        writer.modalities, writer.classes = tuple(rules.series.modalities), rules.classes
    by_patient = find_volumes(root, rules.series, report)
    for done, (patient_id, volumes) in enumerate(sorted(by_patient.items())):
        progress(done, len(by_patient))
        if not volumes:  # what is wrong with its files is told
            continue
        fault = identity_fault(patient_id, by_patient) or label_fault(patient_id, labels)
        if fault:
            report.problems.append(Problem(volumes[0].place, fault))
            continue
        patient = _Patient(key.pseudonym(patient_id), volumes, rules, report, decide)
        patient.write(labels[patient_id], writer)
    report.notes += report.unused(root, rules.series) + without_scans(labels, by_patient)
    if not (writer.patients if writer else any(each.used for each in report.series)):
        told = [*map(str, report.problems), *report.skipped.lines()]
        why = first_of(told) if told else "it holds no file"
        raise DataError(
            f"{root}: not one patient could be imported ({why})", hint=f"expected {LAYOUTS}"
        )
    return report


def find_volumes(root: Path, rules: SeriesRules, report: ImportReport) -> dict[str, list[Volume]]:
    """Patient -> volumes that may be used, by place; what is not read goes to `report`."""
    by_patient: dict[str, list[Volume]] = {}
    for path in files_below(root, report.problems, report.skipped):
        place, name = place_of(path, root), name_of(path.relative_to(root), rules.modalities)
        description = description_of(path, root)
        meant = any(rule.means(description) for each in rules.own.values() for rule in each)
        wanted = meant or name.modality in rules.modalities
        try:
            kind = kind_of(path) if path.is_file() else "no regular file"
        except OSError as error:
            report.problems.append(Problem(place, f"cannot be opened ({error.strerror})"))
            continue
        if kind != NIFTI:
            if wanted:
                # Its name is a patient's volume, which is not to vanish.
                report.problems.append(Problem(place, f"is {kind or 'something else'}, not NIfTI"))
            elif path != root / "labels.csv":
                report.skipped.add(f"{kind or 'other'}, not NIfTI", place)
        elif DERIVATIVES in path.relative_to(root).parts[:1]:
            report.skipped.add("derivatives of BIDS, which a program has worked on", place)
        elif not wanted:
            of = f"of {name.modality.upper()}, which is not imported (--modalities)"
            report.skipped.add(f"NIfTI {of if name.modality else _SAYS_NOTHING}", place)
        elif not name.patient:
            report.problems.append(Problem(place, "its name says no patient"))
        else:
            volumes = by_patient.setdefault(name.patient, [])
            try:
                volumes.append(Volume.read(path, root, name))
            except DataError as error:
                report.problems.append(Problem(place, str(error)))
    return by_patient


@dataclass(frozen=True)
class _Patient:
    """One patient on the way from files to slices."""

    name: str  # pseudonym
    volumes: list[Volume] = field(repr=False)
    rules: ImportRules
    report: ImportReport
    decide: Decide = field(repr=False)

    def write(self, label: int, writer: DatasetWriter | None) -> None:
        """Write the patient's slices, or say why not; without a writer only choose the volumes."""
        choice, scans = self._chosen() if writer else (self._choice(self.volumes), {})
        left = [f"{volume}: {why}" for volume, why in choice.left]
        used = {modality: str(volume) for modality, volume in choice.used.items()}
        self.report.described.update(volume.described for volume in self.volumes)
        for volume, why in choice.left:
            self.report.skipped.add(f"volume left: {why}", volume.place)
        if not choice.used:
            self.report.problems.append(Problem(self.name, "has no usable volume"))
            return
        self.report.series.append(PatientSeries(self.name, used, left, dict(choice.reasons)))
        if writer is None:
            return
        for modality, series in scans.items():
            where = f"{self.name} {modality.upper()}"
            self.report.notes += [Problem(where, note) for note in series.notes]
        write_patient(self.name, label, scans, writer, rules=self.rules, report=self.report)

    def _choice(self, volumes: list[Volume]) -> Choice[Volume]:
        return self.decide(self.name, choose(volumes, self.rules.series))

    def _chosen(self) -> tuple[Choice[Volume], dict[str, Series]]:
        """The choice and its volumes; one that cannot be read gives way to the next."""
        able = list(self.volumes)
        while True:
            choice = self._choice(able)
            built: dict[str, Series] = {}
            for modality, volume in choice.used.items():
                try:
                    series = read_volume(volume.path, self.rules.series.kind(modality))
                    require_contrast(series, self.rules.window)
                    built[modality] = series
                except DataError as error:
                    self.report.problems.append(Problem(volume.place, str(error)))
                    able.remove(volume)
            if len(built) == len(choice.used):
                return choice, built
