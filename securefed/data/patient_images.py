"""From a manifest's rows to patients: images are opened, put in order and stacked.

A row whose image cannot be read costs that row. A modality that a slice does not have is a block of
zeros with its mask False.
"""

from collections.abc import Callable

import numpy as np

from securefed.data.images import read_image
from securefed.data.manifest import Manifest, Row
from securefed.data.samples import Images, Patient
from securefed.data.table import Problem
from securefed.errors import DataError


def read_patients(
    manifest: Manifest,
    size: int,
    name: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Patient], list[Problem]]:
    """The patients of a manifest's rows, and the rows whose images cannot be read.

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
                slices.append(_read_row(row, size))
            except DataError as error:
                problems.append(Problem(name, str(error), row.line))
        if slices:
            patients.append(_stack(group[0], slices, manifest.modalities, size))
    return patients, problems


def _in_order(rows: list[Row]) -> list[Row]:
    numbers = [row.slice for row in rows if row.slice is not None]
    if len(numbers) < len(rows):
        return rows
    return [row for _, row in sorted(zip(numbers, rows, strict=True), key=lambda pair: pair[0])]


_Slice = dict[str, Images]  # modality -> (size, size)


def _read_row(row: Row, size: int) -> _Slice:
    return {name: read_image(path, size) for name, path in row.images.items()}


def _stack(row: Row, slices: list[_Slice], modalities: tuple[str, ...], size: int) -> Patient:
    images = np.zeros((len(modalities), len(slices), size, size), dtype=np.uint8)
    present = np.zeros((len(modalities), len(slices)), dtype=np.bool_)
    for index, shown in enumerate(slices):
        for name, image in shown.items():
            images[modalities.index(name), index] = image
            present[modalities.index(name), index] = True
    return Patient(row.patient_id, row.site, row.label, modalities, images, present)
