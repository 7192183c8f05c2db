"""CSV files with known columns, written by people and spreadsheets: manifests and label lists.

The header is matched without regard to case, under the aliases below; commas, semicolons and tabs
are all accepted as delimiters, since spreadsheets choose by locale. Cells are read as text and
never evaluated. A fault in one line is reported with its number and does not stop the others: a
quote that is never closed, or bytes that are no text, cost their own line. Columns that no rule
reads are named, since one of them may be the one that was meant.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from securefed.data import modalities
from securefed.data.file_kinds import kind_of_bytes, way_out
from securefed.data.names import require_patient, shown
from securefed.errors import DataError
from securefed.wording import first_of

LARGEST = 2**30  # bytes; manifests of a million images have some 200 MB
ALIASES = {
    "patient_id": ("patient_id", "patientid", "patient", "case_id", "subject_id"),
    "label": ("label", "tumour", "tumor", "target"),
    "study": ("study", "study_id", "example_id", "visit"),
    "slice": ("slice", "slice_index", "slice_number"),
    "site": ("site", "hospital", "centre", "center"),
    "pair_id": ("pair_id", "pair"),
    "person": ("person",),
    "simulation": ("simulation",),
    "registration": ("registration",),
    "registration_mm": ("registration_mm",),
}
POSITIVE = ("1", "1.0", "1,0", "tumour", "tumor", "yes", "y", "true", "positive")
NEGATIVE = (
    *("0", "0.0", "0,0", "healthy", "normal", "no", "n", "false", "negative"),
    *("no tumour", "no tumor"),
)
UNLABELLED = 0  # where labels are not looked at; nothing may be concluded from it
_WHOLE = re.compile(r"(\d{1,3})(?:[.,]0+)?")
_DELIMITERS = (",", ";", "\t")
_EXCEL = re.compile("sep=.", re.IGNORECASE)  # what Excel may write above the header
_LONGEST_RECORD = 100  # lines that one cell with line breaks may spread a record over


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
    """Label of each patient, the lines that could not be used, and the columns not read."""

    by_patient: dict[str, int] = field(repr=False)
    problems: list[Problem]
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A CSV file's lines that are not blank: number, then cells by column, or the line's fault.

    Attributes:
        unread: columns that no rule reads, as the header writes them; cells have them by that name.
        modalities: whose images it names, in the order of the columns.
    """

    unread: tuple[str, ...]
    modalities: tuple[str, ...]
    lines: list[tuple[int, dict[str, str] | str]] = field(repr=False)

    def identifiers(self) -> frozenset[str]:
        """Everything in the column patient_id."""
        return frozenset(
            cells["patient_id"] for _, cells in self.lines if not isinstance(cells, str)
        )


def read_labels(path: Path, classes: Sequence[str] = ()) -> Labels:
    """Read a CSV with the columns patient_id and label, one line per patient.

    A patient listed with two labels is left out, as a problem.

    Args:
        classes: as for `parse_label`.

    Raises:
        DataError: the file cannot be read as such a table at all, or has no usable line.
    """
    first: dict[str, tuple[int, int]] = {}  # patient -> label, line
    contradicted: set[str] = set()
    problems: list[Problem] = []
    table = read_table(path, (("patient_id",), ("label",)))
    everybody = table.identifiers()
    for line, cells in table.lines:
        try:
            if isinstance(cells, str):
                raise DataError(cells)
            require_patient(cells["patient_id"], everybody)
            label = parse_label(cells["label"], classes)
        except DataError as error:
            problems.append(Problem(path.name, str(error), line))
            continue
        earlier, its_line = first.setdefault(cells["patient_id"], (label, line))
        if earlier != label:
            contradicted.add(cells["patient_id"])
            reason = f"label {label} contradicts {earlier} on line {its_line}; patient left out"
            problems.append(Problem(path.name, reason, line))
    labels = {key: label for key, (label, _) in first.items() if key not in contradicted}
    if not labels:
        why = first_of(problems) if problems else "it has no line below the header"
        raise DataError(f"{path.name}: no usable label ({why})", hint="one line for each patient")
    return Labels(labels, problems, table.unread)


def parse_label(text: str, classes: Sequence[str] = ()) -> int:
    """1 for tumour, 0 for none, see POSITIVE and NEGATIVE for the words; or the number of a class.

    Args:
        classes: names of several classes, of which a label is one, or its number from 0.

    Raises:
        DataError: any other word.
    """
    word = text.strip().lower()
    if classes:
        number = _WHOLE.fullmatch(word)
        place = int(number[1]) if number else classes.index(word) if word in classes else None
        if place is None or place >= len(classes):
            known = ", ".join(f"{name} ({number})" for number, name in enumerate(classes))
            raise DataError(f"label {text!r} is none of the classes {known}")
        return place
    if word in POSITIVE:
        return 1
    if word in NEGATIVE:
        return 0
    raise DataError(f"label {text!r} is neither 0 (no tumour) nor 1 (tumour)")


def read_table(path: Path, required: Sequence[tuple[str, ...]]) -> Table:
    """Read a CSV file.

    Args:
        required: groups of canonical columns; the header must name one of each group.

    Raises:
        DataError: unreadable, or the header is not UTF-8 text, lacks or repeats a column.
    """
    try:
        with path.open("rb") as source:
            content = source.read(LARGEST + 1)
    except OSError as error:
        raise DataError(
            f"{path.name}: cannot be read ({error.strerror})",
            hint=f"it was looked for at {path.resolve()}: put it (back) there, or name another",
        ) from None
    if len(content) > LARGEST:
        raise DataError(
            f"{path.name}: is larger than {LARGEST:,} bytes, the most that is read of a table",
            hint="an image or an archive in its place? Divide a manifest that is so long",
        )
    text = content.decode("utf-8-sig", errors="surrogateescape")
    lines = list(io.StringIO(text, newline=""))
    if lines and _EXCEL.fullmatch(lines[0].strip()):
        lines[0] = "\n"  # kept as a line, so that numbers are those of the file
    at = next((place for place, line in enumerate(lines) if line.strip()), 0)
    first = lines[at] if lines else ""
    if not _is_text(first) or "\0" in first:
        raise _no_table(path.name, content)
    delimiter, names, unread = _header(path.name, first, required)
    shown_by = tuple(filter(None, map(_modality, names)))
    return Table(unread, shown_by, list(_records(lines, at + 1, delimiter, names)))


def _no_table(name: str, content: bytes) -> DataError:
    kind = kind_of_bytes(content, name)
    if kind is not None:
        return DataError(f"{name}: is not CSV but {kind}", hint=way_out(kind))
    what = "is UTF-16 text, not UTF-8" if b"\0" in content else "is not UTF-8 text"
    return DataError(f"{name}: {what}", hint="save the CSV as UTF-8")


def _records(
    lines: Sequence[str], at: int, delimiter: str, names: Sequence[str]
) -> Iterator[tuple[int, dict[str, str] | str]]:
    while at < len(lines):
        number, few = at + 1, lines[at : at + _LONGEST_RECORD]
        # Quotes behind a blank (`a, "b"`) are quotes.
        reader = csv.reader(few, delimiter=delimiter, strict=True, skipinitialspace=True)
        fault, cells = None, []
        try:
            cells = next(reader)
        except csv.Error as error:
            fault = f"is not CSV ({error}); quote cells that contain quotes or delimiters"
        # A record with a fault ends with its first line: what follows may be sound.
        taken = max(reader.line_num, 1)
        if fault is None and any(cell.strip() for cell in cells):
            while len(cells) > len(names) and not cells[-1].strip():
                cells.pop()  # spreadsheets write more commas than there are columns
            if len(cells) != len(names):
                fault = f"has {len(cells)} cells where the header has {len(names)}"
            elif not all(map(_is_text, cells)):
                fault = "is not UTF-8 text; save the CSV as UTF-8"
            else:
                pairs = zip(names, cells, strict=True)
                yield number, {name: cell.strip() for name, cell in pairs if name}
        if fault is not None:
            yield number, fault
            taken = 1
        at += taken


def _is_text(text: str) -> bool:
    """Whether all bytes were UTF-8: others were read as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _images(cell: str) -> str:
    """The canonical name of a column of images, "" if it is none."""
    modality = modalities.of_column(cell)
    return modalities.column(modality) if modality else ""


def _modality(name: str) -> str:
    """The modality of a canonical column, "" if it is of none."""
    modality = name.removesuffix("_path")
    return modality if name == _images(name) else ""


def _header(
    name: str, line: str, required: Sequence[tuple[str, ...]]
) -> tuple[str, list[str], tuple[str, ...]]:
    """The delimiter, each column's canonical name or its own, and the own names by themselves."""
    columns = {alias: column for column, aliases in ALIASES.items() for alias in aliases}
    best: tuple[str, list[str], tuple[str, ...]] = (",", [], ())
    most = -1
    for delimiter in _DELIMITERS:
        cells = [
            cell.strip()
            for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
        ]
        written = [re.sub(r"[\s-]+", "_", cell.lower()) for cell in cells]
        known = [columns.get(cell, "") or _images(cell) for cell in written]
        if sum(map(bool, known)) > most:
            most = sum(map(bool, known))
            names = [column or cell for column, cell in zip(known, cells, strict=True)]
            unread = tuple(
                cell for column, cell in zip(known, cells, strict=True) if cell and not column
            )
            best = (delimiter, names, unread)
    counts = Counter(name for name in best[1] if name in ALIASES or _modality(name))
    twice = [name for name, count in counts.items() if count > 1]
    missing = [" or ".join(group) for group in required if not any(counts[c] for c in group)]
    if missing or twice:
        what = f"has no column {', '.join(missing)}" if missing else f"names {twice[0]} twice"
        if missing and best[2]:
            what += f" (it has {', '.join(map(shown, best[2][:8]))}, which no rule reads)"
        raise DataError(
            f"{name}: {what}", hint="the first line must name the columns; see docs/data.md"
        )
    return best
