"""predictions.csv: a line for each patient, appended as it is made, so that it can be gone on with.

Every line names the model and the patients' data by their digests: lines of two models, or of two
data sets that have names in common, never stand in one file.
"""

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from securefed.errors import DataError
from securefed.files import append_private, read_bounded

LARGEST_TABLE = 2**30  # bytes
DIGITS = 16  # of a digest, in a line


@dataclass(frozen=True)
class Prediction:
    """What a model says of one example: a patient, a study or a slice, as it was trained.

    Attributes:
        patient_id, site: as in the manifest.
        example: which of the patient's, by study and number of the slice; "" for the patient.
        probability: of a tumour, 0 to 1, as the network gives it.
        calibrated, calibrated_low, calibrated_high: the same by the model's temperature, and its
            95% interval; None where it has none.
        logit: whose sigmoid the probability is.
        slices: that were looked at.
        missing: modalities of the model that no slice of the example has, joined by "+".
        model: the first DIGITS hex digits of the model's digest, of its file and the personal one.
        data: the same of what the manifest, or the folder, says and which files it names.
    """

    patient_id: str
    site: str
    example: str
    probability: float
    calibrated: float | None
    calibrated_low: float | None
    calibrated_high: float | None
    logit: float
    slices: int
    missing: str
    model: str
    data: str


COLUMNS = tuple(each.name for each in fields(Prediction))


_READ: dict[str, Callable[[str], Any]] = dict.fromkeys(COLUMNS, str) | {
    "probability": float,
    "logit": float,
    "slices": int,
    **dict.fromkeys(
        ("calibrated", "calibrated_low", "calibrated_high"),
        lambda text: float(text) if text else None,
    ),
}


def append(path: Path, predictions: Iterable[Prediction]) -> None:
    """Add lines behind the last whole one, below a header where the file is new.

    A new file is its owner's alone.
    """
    if path.exists():
        content = read_bounded(path, LARGEST_TABLE)
        os.truncate(path, content.rfind(b"\n") + 1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not path.exists() or not path.stat().st_size:
        writer.writerow(COLUMNS)
    writer.writerows(astuple(each) for each in predictions)
    with append_private(path) as out:
        out.write(text.getvalue().encode())


def read(path: Path) -> list[Prediction]:
    """All whole lines of a file; one that a crash cut off is left out.

    Raises:
        DataError: it is no table of predictions, nor the beginning of one.
    """
    if not path.is_file():  # a pipe would be waited for
        raise _no_table(path)
    text = read_bounded(path, LARGEST_TABLE).decode("utf-8", "replace")
    whole = text[: text.rfind("\n") + 1]
    # `append` takes a line off that was cut off: it must be one of ours.
    if not whole and not ",".join(COLUMNS).startswith(text):
        raise _no_table(path)
    try:
        rows = list(csv.reader(io.StringIO(whole)))
    except csv.Error:
        raise _no_table(path) from None
    return list(_lines(path, rows))


def _no_table(path: Path) -> DataError:
    return DataError(
        f"{path} is no table of predictions", hint="give --out a file that does not exist"
    )


def _lines(path: Path, rows: Sequence[Sequence[str]]) -> Iterator[Prediction]:
    if rows and tuple(rows[0]) != COLUMNS:
        raise _no_table(path)
    for number, row in enumerate(rows[1:], start=2):
        try:
            told: dict[str, str] = dict(zip(COLUMNS, row, strict=True))
            yield Prediction(**{name: _READ[name](text) for name, text in told.items()})
        except ValueError:
            raise DataError(
                f"{path}, line {number}: this is no prediction",
                hint="remove the file, and predict again",
            ) from None
