"""Import of a folder of NIfTI volumes: slice pairs under pseudonyms, as from DICOM.

A file does not say whose it is or what it was taken with, so its name does:
`ct/NAME.nii.gz` and `mri/NAME.nii.gz`, or `NAME/ct.nii.gz` and `NAME/mri.nii.gz`, are the CT and
the MRI of patient NAME. Nothing of a header is written but what `DatasetWriter.add` takes.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from securefed.data import modalities
from securefed.data.dicom.geometry import plane_of
from securefed.data.dicom.report import ImportReport, PatientSeries
from securefed.data.dicom.volume import Series
from securefed.data.export import DatasetWriter
from securefed.data.file_kinds import NIFTI, kind_of
from securefed.data.import_rules import ImportRules
from securefed.data.labelled import identity_fault, label_fault, without_scans
from securefed.data.nifti.volume import read_volume
from securefed.data.patient_writing import require_contrast, write_patient
from securefed.data.pseudonyms import SiteKey
from securefed.data.table import Problem
from securefed.data.walk import files_below, place_of
from securefed.errors import DataError
from securefed.wording import counted, first_of

LAYOUTS = "ct/NAME.nii.gz and mri/NAME.nii.gz, or NAME/ct.nii.gz and NAME/mri.nii.gz"
_OF_NAME = {name: modality for modality, name in modalities.OF_DICOM.items()}
_SUFFIXES = (".nii.gz", ".nii")

Volumes = dict[str, Path]  # modality -> file


def import_nifti(
    root: Path,
    writer: DatasetWriter,
    labels: Mapping[str, int],
    key: SiteKey,
    rules: ImportRules,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ImportReport:
    """Import every patient below `root` that has a label.

    Args:
        labels: label by the NAME of the layout; stays at the site.
        progress: called with (patients done, patients in all).

    Raises:
        DataError: not one patient could be imported.
    """
    report = ImportReport()
    by_patient = find_volumes(root, report)
    for done, (patient_id, volumes) in enumerate(sorted(by_patient.items())):
        progress(done, len(by_patient))
        fault = identity_fault(patient_id, by_patient) or label_fault(patient_id, labels)
        if fault:
            first = next(iter(volumes.values()))
            report.problems.append(Problem(place_of(first, root), fault))
            continue
        name = key.pseudonym(patient_id)
        ct, mri = (_read(name, which, volumes, root, rules, report) for which in ("CT", "MR"))
        if ct is None and mri is None:
            report.problems.append(Problem(name, "has no usable volume"))
            continue
        report.series.append(_chosen(name, ct, mri, volumes, root))
        write_patient(name, labels[patient_id], ct, mri, writer, rules=rules, report=report)
    report.notes += without_scans(labels, by_patient)
    if not writer.patients:
        told = [*map(str, report.problems), *report.skipped.lines()]
        why = first_of(told) if told else "it holds no file"
        raise DataError(
            f"{root}: not one patient could be imported ({why})", hint=f"expected {LAYOUTS}"
        )
    return report


def find_volumes(root: Path, report: ImportReport) -> dict[str, Volumes]:
    """Patient -> volumes by modality; what is not read goes to `report`."""
    by_patient: dict[str, Volumes] = {}
    for path in files_below(root, report.problems, report.skipped):
        place = place_of(path, root)
        try:
            kind = kind_of(path) if path.is_file() else "no regular file"
        except OSError as error:
            report.problems.append(Problem(place, f"cannot be opened ({error.strerror})"))
            continue
        if kind != NIFTI:
            if _named(path.relative_to(root)):
                # Its name is a patient's volume, which is not to vanish.
                report.problems.append(Problem(place, f"is {kind or 'something else'}, not NIfTI"))
            elif path != root / "labels.csv":
                report.skipped.add(f"{kind or 'other'}, not NIfTI", place)
            continue
        named = _named(path.relative_to(root))
        if named is None:
            report.skipped.add("NIfTI whose name says no modality", place)
            continue
        patient_id, modality = named
        volumes = by_patient.setdefault(patient_id, {})
        if modality in volumes:
            used = place_of(volumes[modality], root)
            report.problems.append(Problem(place, f"is a second {modality} beside {used}; left"))
            continue
        volumes[modality] = path
    return by_patient


def _named(path: Path) -> tuple[str, str] | None:
    """Patient and modality by a file's place; None where it says none."""
    stem = next((path.name[: -len(s)] for s in _SUFFIXES if path.name.lower().endswith(s)), "")
    if len(path.parts) != 2 or not stem:
        return None
    folder = path.parts[0]
    by_folder, by_stem = (
        _OF_NAME.get(modalities.named(text.lower()) or "") for text in (folder, stem)
    )
    if by_folder:
        return stem, by_folder
    return (folder, by_stem) if by_stem else None


def _read(
    name: str, modality: str, volumes: Volumes, root: Path, rules: ImportRules, report: ImportReport
) -> Series | None:
    path = volumes.get(modality)
    if path is None:
        return None
    try:
        series = read_volume(path, modality)
        require_contrast(series, rules.window)
    except DataError as error:
        report.problems.append(Problem(place_of(path, root), str(error)))
        return None
    report.notes += [Problem(f"{name} {modality}", note) for note in series.notes]
    return series


def _chosen(
    name: str, ct: Series | None, mri: Series | None, volumes: Volumes, root: Path
) -> PatientSeries:
    def words(series: Series | None) -> str | None:
        if series is None:
            return None
        slices = counted(len(series.values), "slice")
        place = place_of(volumes[series.modality], root)
        return f"{place} ({slices}, {plane_of(series.grid.axes)})"

    return PatientSeries(name, words(ct), words(mri), [])
