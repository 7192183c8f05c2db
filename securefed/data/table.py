"""CSV files with known columns, written by people and spreadsheets: manifests and label lists.

The header is matched without regard to case, under the aliases below; commas, semicolons and tabs
are all accepted as delimiters, since spreadsheets choose by locale. Cells are read as text and
never evaluated. A fault in one line is reported with its number and does not stop the others.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from securefed.errors import DataError

ALIASES = {
    "patient_id": ("patient_id", "patient", "case_id", "subject_id"),
    "label": ("label", "tumour", "tumor", "target"),
    "ct_path": ("ct_path", "ct", "ct_image"),
    "mri_path": ("mri_path", "mri", "mr_path", "mri_image"),
    "slice": ("slice", "slice_index", "slice_number"),
    "site": ("site", "hospital", "centre", "center"),
    "pair_id": ("pair_id", "pair"),
}
POSITIVE = ("1", "1.0", "tumour", "tumor", "yes", "true", "positive")
NEGATIVE = ("0", "0.0", "healthy", "normal", "no", "false", "negative", "no tumour", "no tumor")
_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Problem:
    """Something that could not be used, where it stands, and why."""

    place: str  # file, relative to what was asked for
    reason: str
    line: int | None = None

    def __str__(self) -> str:
        where = self.place if self.line is None else f"{self.place}, line {self.line}"
        return f"{where}: {self.reason}"


@dataclass(frozen=True)
class Labels:
    """Label of each patient, and the lines that could not be used."""

    by_patient: dict[str, int] = field(repr=False)
    problems: list[Problem]


def read_labels(path: Path) -> Labels:
    """Read a CSV with the columns patient_id and label, one line per patient.

    A patient listed with both labels is left out, as a problem.

    Raises:
        DataError: the file cannot be read as such a table at all.
    """
    first: dict[str, tuple[int, int]] = {}  # patient -> label, line
    contradicted: set[str] = set()
    problems: list[Problem] = []
    for line, cells in read_table(path, (("patient_id",), ("label",))):
        try:
            if isinstance(cells, str):
                raise DataError(cells)
            label = parse_label(cells["label"])
            if not cells["patient_id"]:
                raise DataError("patient_id is empty")
        except DataError as error:
            problems.append(Problem(path.name, str(error), line))
            continue
        earlier, its_line = first.setdefault(cells["patient_id"], (label, line))
        if earlier != label:
            contradicted.add(cells["patient_id"])
            reason = f"label {label} contradicts {earlier} on line {its_line}; patient left out"
            problems.append(Problem(path.name, reason, line))
    labels = {key: label for key, (label, _) in first.items() if key not in contradicted}
    return Labels(labels, problems)


def parse_label(text: str) -> int:
    """1 for tumour, 0 for none; see POSITIVE and NEGATIVE for the words.

    Raises:
        DataError: any other word.
    """
    word = text.strip().lower()
    if word in POSITIVE:
        return 1
    if word in NEGATIVE:
        return 0
    raise DataError(f"label {text!r} is neither 0 (no tumour) nor 1 (tumour)")


def read_table(
    path: Path, required: Sequence[tuple[str, ...]]
) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Yield each line that is not blank: its number, then its cells by column, or its fault.

    Args:
        required: groups of canonical columns; the header must name one of each group.

    Raises:
        DataError: unreadable, not UTF-8, not CSV, or the header lacks or repeats a column.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{path.name}: cannot be read ({error.strerror})", hint="give the path of a CSV file"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name}: is not UTF-8 text (byte {error.start})", hint="save the CSV as UTF-8"
        ) from None
    lines = io.StringIO(text, newline="")
    delimiter, names = _header(path.name, lines.readline(), required)
    lines.seek(0)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        next(reader)
        start = reader.line_num + 1
        for cells in reader:
            line, start = start, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(names):
                yield line, f"has {len(cells)} cells where the header has {len(names)}"
                continue
            pairs = zip(names, cells, strict=True)
            yield line, {name: cell.strip() for name, cell in pairs if name}
    except csv.Error as error:
        raise DataError(
            f"{path.name}, line {reader.line_num}: is not CSV ({error})",
            hint="quote cells that contain quotes or delimiters",
        ) from None


def _header(name: str, line: str, required: Sequence[tuple[str, ...]]) -> tuple[str, list[str]]:
    """Find the delimiter, and the canonical name of each column ("" for an unknown one)."""
    columns = {alias: column for column, aliases in ALIASES.items() for alias in aliases}
    best: tuple[str, list[str]] = (",", [])
    for delimiter in _DELIMITERS:
        cells = next(csv.reader([line], delimiter=delimiter), [])
        names = [columns.get(re.sub(r"[\s-]+", "_", cell.strip().lower()), "") for cell in cells]
        if sum(map(bool, names)) > sum(map(bool, best[1])):
            best = (delimiter, names)
    counts = Counter(column for column in best[1] if column)
    twice = [column for column, count in counts.items() if count > 1]
    missing = [" or ".join(group) for group in required if not any(counts[c] for c in group)]
    if missing or twice:
        what = f"has no column {', '.join(missing)}" if missing else f"names {twice[0]} twice"
        raise DataError(
            f"{name}: {what}", hint="the first line must name the columns; see docs/data.md"
        )
    return best
