"""From a manifest's rows to patients: images are opened, put in order and stacked.

A row whose image cannot be read costs that row; a blank one costs itself alone. A modality that a
slice does not have is a block of zeros with its mask False. A label is of an example, which may be
some of a patient's slices.
"""

from collections.abc import Callable

import numpy as np

from securefed.data.images import BlankError, read_image
from securefed.data.manifest import Manifest, Row
from securefed.data.samples import Example, Images, Patient
from securefed.data.table import Problem
from securefed.errors import DataError


def read_patients(
    manifest: Manifest,
    size: int,
    name: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Patient], list[Problem]]:
    """The patients of a manifest's rows, and a problem for each row that is lost, or not whole.

    Args:
        name: of what was read, for problems.
        progress: called with (rows read, rows in all).
    """
    rows = manifest.rows
    by_patient: dict[str, list[Row]] = {}
    for row in rows:
        by_patient.setdefault(row.patient_id, []).append(row)
    patients: list[Patient] = []
    problems: list[Problem] = []
    done = 0
    for group in by_patient.values():
        progress(done, len(rows))
        done += len(group)
        slices = []
        for row in _in_order(group):
            try:
                shown, blank = _read_row(row, size)
                slices.append((row, shown))
                if blank:
                    problems.append(Problem(name, blank, row.line))
            except DataError as error:
                problems.append(Problem(name, str(error), row.line))
        if slices:
            patients.append(_stack(slices, manifest.modalities, size))
    return patients, problems


def _in_order(rows: list[Row]) -> list[Row]:
    """By number, study by study, in the order in which studies come."""
    studies = {study: place for place, study in enumerate(dict.fromkeys(row.study for row in rows))}
    if any(row.slice is None for row in rows):
        return sorted(rows, key=lambda row: studies[row.study])
    return sorted(rows, key=lambda row: (studies[row.study], row.slice or 0.0))


_Slice = dict[str, Images]  # modality -> (size, size)


def _read_row(row: Row, size: int) -> tuple[_Slice, str]:
    """The pictures of a row, and which of them are blank, "" if none is.

    Raises:
        DataError: one cannot be read, or all are blank.
    """
    shown: _Slice = {}
    blank: list[str] = []
    for name, path in row.images.items():
        try:
            shown[name] = read_image(path, size)
        except BlankError as error:
            blank.append(str(error))
    if not shown:
        raise DataError(blank[0])
    return shown, f"{', '.join(blank)}; the row's others are used" if blank else ""


def _stack(slices: list[tuple[Row, _Slice]], modalities: tuple[str, ...], size: int) -> Patient:
    images = np.zeros((len(modalities), len(slices), size, size), dtype=np.uint8)
    present = np.zeros((len(modalities), len(slices)), dtype=np.bool_)
    parts: dict[str, list[int]] = {}
    for index, (row, shown) in enumerate(slices):
        parts.setdefault(row.example, []).append(index)
        for name, image in shown.items():
            images[modalities.index(name), index] = image
            present[modalities.index(name), index] = True
    first = slices[0][0]
    patient = Patient(first.patient_id, first.site, first.label, modalities, images, present)
    if list(parts) == [""]:
        return patient
    label = {row.example: row.label for row, _ in slices}
    return patient.with_examples(
        [Example(name, label[name], tuple(places)) for name, places in parts.items()]
    )
