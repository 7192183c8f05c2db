"""Patients of a manifest in batches, so that memory does not grow with how many there are.

A batch is so many rows, not patients, since a patient may have hundreds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from securefed.data.manifest import Manifest, Row
from securefed.data.patient_images import read_patients
from securefed.data.samples import Patient
from securefed.data.table import Problem
from securefed.errors import DataError
from securefed.wording import first_of

BATCH = 128  # rows; one patient may have more


def batches(
    manifest: Manifest, size: int, name: str, done: frozenset[tuple[str, str]] = frozenset()
) -> Iterator[tuple[list[Patient], list[Problem]]]:
    """The patients of each batch, in the order of the manifest, and the rows that cannot be read.

    Args:
        size: edge of the images, pixels.
        name: of the manifest, for problems.
        done: patients and their examples; who has no other is left out.
    """
    by_patient: dict[str, list[Row]] = {}
    for row in manifest.rows:
        by_patient.setdefault(row.patient_id, []).append(row)
    groups = [
        rows
        for patient_id, rows in by_patient.items()
        if not done.issuperset((patient_id, row.example) for row in rows)
    ]
    for rows in _parts(groups):
        yield read_patients(replace(manifest, rows=rows), size, name)


def _parts(groups: Sequence[list[Row]]) -> Iterator[list[Row]]:
    """Rows of whole patients, BATCH at most unless one has more."""
    part: list[Row] = []
    for rows in groups:
        if part and len(part) + len(rows) > BATCH:
            yield part
            part = []
        part = part + rows
    if part:
        yield part


def one_patient(manifest: Manifest, patient_id: str, size: int, name: str) -> Patient:
    """A patient of a manifest, whole.

    Args:
        size, name: as for `batches`.

    Raises:
        DataError: there is no such patient, or an image of it cannot be read.
    """
    rows = [row for row in manifest.rows if row.patient_id == patient_id]
    if not rows:
        raise DataError(
            f"--patient {patient_id[:100]}: there is no usable patient of that id",
            hint="ids are those of the manifest's column patient_id",
        )
    patients, problems = read_patients(replace(manifest, rows=rows), size, name)
    if problems:  # an explanation of fewer slices is one of another answer
        raise DataError(f"{first_of(problems)}", hint="securefed data check lists every problem")
    return patients[0]
