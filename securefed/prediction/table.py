"""predictions.csv: a line for each patient, appended as it is made, so that it can be gone on with.

Every line names the model and the patients' data by their digests: lines of two models, or of two
data sets that have names in common, never stand in one file.
"""

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from securefed.errors import DataError
from securefed.files import append_private, read_bounded

LARGEST_TABLE = 2**30  # bytes
DIGITS = 16  # of a digest, in a line
NOT_KNOWN = "not known"
ANSWERS = ("probability", "calibrated", "calibrated_low", "calibrated_high", "logit")


@dataclass(frozen=True)
class Prediction:
    """What a model says of one example: a patient, a study or a slice, as it was trained.

    Attributes:
        patient_id, site: as in the manifest.
        example: which of the patient's, by study and number of the slice; "" for the patient.
        unlike: how its scans are unlike those that the model was trained on, in words; "" where
            they are not, NOT_KNOWN where the model does not know what those look like.
        probability: of a tumour, 0 to 1, as the network gives it; of several classes, of the one
            that is called; None where it is withheld.
        calibrated, calibrated_low, calibrated_high: the same by the model's temperature, and its
            95% interval; None where it has none, or withheld.
        logit: whose sigmoid the probability is; None where that is withheld.
        slices: that were looked at.
        missing: modalities of the model that no slice of the example has, joined by "+".
        model: the first DIGITS hex digits of the model's digest, of its file and the personal one.
        data: the same of what the manifest, or the folder, says and which files it names.
        called: of several classes, the likeliest; "" where a tumour is asked for.
        probabilities, logits: of each class in their order; the first are the others' softmax.
    """

    patient_id: str
    site: str
    example: str
    unlike: str
    probability: float | None
    calibrated: float | None
    calibrated_low: float | None
    calibrated_high: float | None
    logit: float | None
    slices: int
    missing: str
    model: str
    data: str
    called: str = ""
    probabilities: tuple[float, ...] = ()
    logits: tuple[float, ...] = ()

    @property
    def strange(self) -> bool:
        """Whether its scans are known to be unlike."""
        return self.unlike not in ("", NOT_KNOWN)

    @property
    def withheld(self) -> "Prediction":
        """The same without any answer, where its scans are unlike: a number would be believed."""
        if not self.strange:
            return self
        nothing: dict[str, Any] = dict.fromkeys(ANSWERS)
        return replace(self, **nothing, called="", probabilities=(), logits=())


_OF_CLASSES = ("called", "probabilities", "logits")
COLUMNS = tuple(each.name for each in fields(Prediction) if each.name not in _OF_CLASSES)
_OF_EACH = {"probability": "probabilities", "logit": "logits"}  # columns, one a class

_READ: dict[str, Callable[[str], Any]] = dict.fromkeys((*COLUMNS, "called"), str) | {
    "slices": int,
    **dict.fromkeys(ANSWERS, lambda text: float(text) if text else None),
}


def columns(classes: Sequence[str] = ()) -> tuple[str, ...]:
    """Of a table of these classes, probability_NAME and logit_NAME for each; none: COLUMNS."""
    if not classes:
        return COLUMNS
    of_each = [f"{what}_{name}" for what in _OF_EACH for name in classes]
    return "patient_id", "site", "example", "unlike", "called", *of_each, *COLUMNS[-4:]


def told(each: Prediction, classes: Sequence[str] = ()) -> dict[str, Any]:
    """What a prediction has in each of these columns."""
    known = asdict(each)
    for what, kept in _OF_EACH.items() if classes else ():
        names = [f"{what}_{name}" for name in classes]
        known |= dict(zip(names, getattr(each, kept) or [None] * len(names), strict=True))
    return {name: known[name] for name in columns(classes)}


def append(path: Path, predictions: Iterable[Prediction], classes: Sequence[str] = ()) -> None:
    """Add lines behind the last whole one, below a header where the file is new.

    A new file is its owner's alone.

    Args:
        classes: of the model, which the columns follow.
    """
    if path.exists():
        content = read_bounded(path, LARGEST_TABLE)
        os.truncate(path, content.rfind(b"\n") + 1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not path.exists() or not path.stat().st_size:
        writer.writerow(columns(classes))
    writer.writerows(told(each, classes).values() for each in predictions)
    with append_private(path) as out:
        out.write(text.getvalue().encode())


def read(path: Path, classes: Sequence[str] = ()) -> list[Prediction]:
    """All whole lines of a file; one that a crash cut off is left out.

    Args:
        classes: as of `append`.

    Raises:
        DataError: it is no table of predictions, nor the beginning of one.
    """
    if not path.is_file():  # a pipe would be waited for
        raise _no_table(path)
    text = read_bounded(path, LARGEST_TABLE).decode("utf-8", "replace")
    whole = text[: text.rfind("\n") + 1]
    # `append` takes a line off that was cut off: it must be one of ours.
    if not whole and not ",".join(columns(classes)).startswith(text):
        raise _no_table(path)
    try:
        rows = list(csv.reader(io.StringIO(whole)))
    except csv.Error:
        raise _no_table(path) from None
    return list(_lines(path, rows, classes))


def _no_table(path: Path) -> DataError:
    return DataError(
        f"{path} is no table of predictions", hint="give --out a file that does not exist"
    )


def _lines(
    path: Path, rows: Sequence[Sequence[str]], classes: Sequence[str]
) -> Iterator[Prediction]:
    if rows and tuple(rows[0]) != columns(classes):
        if rows[0][:3] != list(COLUMNS[:3]):
            raise _no_table(path)
        raise DataError(
            f"{path} is a table of other columns than this version writes for this model",
            hint="give --out a file that does not exist, and keep or remove this one",
        )
    for number, row in enumerate(rows[1:], start=2):
        try:
            cells = dict(zip(columns(classes), row, strict=True))
            yield _of_classes(cells, classes) if classes else _of_cells(cells)
        except ValueError:
            raise DataError(
                f"{path}, line {number}: this is no prediction",
                hint="remove the file, and predict again",
            ) from None


def _of_cells(cells: dict[str, str]) -> Prediction:
    return Prediction(**{name: _READ[name](text) for name, text in cells.items()})


def _of_classes(cells: dict[str, str], classes: Sequence[str]) -> Prediction:
    texts = [[cells.pop(f"{what}_{name}") for name in classes] for what in _OF_EACH]
    nothing = dict.fromkeys(ANSWERS, "")
    if not any((cells["called"], *texts[0], *texts[1])):
        return _of_cells(cells | nothing)
    probabilities, logits = (tuple(map(float, each)) for each in texts)
    called = classes.index(cells["called"])  # ValueError where it is none
    own = {"probability": str(probabilities[called]), "logit": str(logits[called])}
    return replace(_of_cells(cells | nothing | own), probabilities=probabilities, logits=logits)
