"""The manifest: a CSV with one line per slice pair, which names images and labels.

Columns (any order, any case; others are named and not read):
  patient_id  pseudonym, unique over all sites   also: patient, case_id, subject_id
  label       1/0, tumour/healthy, yes/no        also: tumour, tumor, target
              With several classes one of their names, or its number from 0.
  NAME_path   image of the modality NAME, empty if there is none: ct_path, mri_path, pet_path, ...
              One column for each.               also: NAME_image, NAME_file; ct, mri, mr, pet, ...
  study       optional, which visit it is of     also: study_id, example_id, visit
  slice       optional number, orders slices     also: slice_index, slice_number
  site        optional hospital                  also: hospital, centre, center
  pair_id     optional, for messages only        also: pair
  person      optional, who is behind the id     a keyed pseudonym that import writes
  simulation  empty for real patients; else what they are, see SIMULATIONS
  registration, registration_mm   optional, how import brought the modalities together
Paths are relative to the manifest's folder and must stay inside it. A bad line is named with its
number and reason, and the others go on; a patient whose label or site contradicts itself is left
out whole, because a wrong guess would put a person on two sides of a split. A label is that of an
example (securefed/data/samples.py): of the patient, a study or a slice, as the reader asks; within
one it must not contradict itself. Header values are read as data, never evaluated. Identifiers that
stand for nobody, and site names that cannot be folders, cost their lines (securefed/data/names.py).
Real names in patient_id are not detected: pseudonymise before.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from securefed.data.modalities import DEFAULT, column
from securefed.data.names import (
    require_cell,
    require_patient,
    require_readable,
    require_site,
    shown,
)
from securefed.data.paths import Paths
from securefed.data.row_faults import without_contradictions, without_repeats
from securefed.data.samples import ExampleKind
from securefed.data.table import UNLABELLED, Problem, Table, parse_label, read_table
from securefed.errors import DataError

FIRST_COLUMNS = ("patient_id", "label", "site", "slice")  # before the images
LAST_COLUMNS = (
    "pair_id",
    "person",
    "simulation",
    "registration",
    "registration_mm",
)
DEFAULT_SITE = "site-1"
_TRIED = 20  # cells of a column that are tried as paths
_DECIMAL_COMMA = re.compile(r"^(-?\d+),(\d{1,2})$")  # three digits may be thousands
REQUIRED = (("patient_id",), ("label",))
# What a data set is, where its patients are not real people with scans of their own.
SIMULATIONS = {
    "phantom": "drawings, made by a program",
    "paired-by-class": "CT and MRI of different people, put together by their label",
    "made-up-patients": "real images, grouped into patients that nobody is",
}


@dataclass(frozen=True)
class Row:
    """One slice of one patient: an image of each modality that shows it.

    Attributes:
        images: modality -> file, at least one.
        study: which of the patient's, "" where the manifest does not say.
        example: the name of what its label is of, within the patient; "" for the patient itself.
        further: column -> cell, of the columns that were asked for by name.
    """

    line: int
    patient_id: str = field(repr=False)
    label: int
    site: str
    images: Mapping[str, Path]
    slice: float | None = None
    study: str = ""
    example: str = ""
    person: str = field(default="", repr=False)
    simulation: str = ""
    registration: str = ""
    registration_mm: str = ""
    further: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Manifest:
    """The usable rows, in the order of the file, and what was wrong with the others.

    Attributes:
        modalities: that were looked for, in order.
        notes: what was not read, and may have been meant.
        offered: lines of the file, usable or not.
    """

    modalities: tuple[str, ...]
    rows: list[Row]
    problems: list[Problem]
    notes: list[str]
    offered: int

    @property
    def simulation(self) -> str:
        """What the patients are if not real: keys of SIMULATIONS joined by "+"; "" if they are."""
        return "+".join(sorted({row.simulation for row in self.rows} - {""}))


def read_manifest(
    path: Path,
    modalities: Sequence[str] | None = None,
    *,
    labelled: bool = True,
    example: ExampleKind = "patient",
    further: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> Manifest:
    """Read and check a manifest; the images themselves are not opened.

    Args:
        modalities: whose columns are read, in this order; None for all that it has.
        labelled: whether labels are read; without, every label is UNLABELLED.
        example: what a label is of.
        further: columns that no rule reads, kept as they are; as the header writes them. A cell
            that cannot be shown costs its line.
        classes: names of several classes that labels are of; none for labels 0 and 1.

    Raises:
        DataError: the file cannot be read as a manifest at all, or has none of these columns.
    """
    of_example = (("study",),) if example == "study" else ()
    table = read_table(path, (*(REQUIRED if labelled else REQUIRED[:1]), *of_example))
    wanted = tuple(table.modalities if modalities is None else modalities)
    if not set(wanted) & set(table.modalities):
        columns = " or ".join(map(column, wanted or DEFAULT))
        named = f" (it has {', '.join(map(shown, table.unread[:8]))}, which no rule reads)"
        raise DataError(
            f"{path.name}: has no column {columns}" + (named if table.unread else ""),
            hint="images of the modality NAME stand in the column NAME_path; see docs/data.md",
        )
    for name in further:
        if name not in table.unread:
            there = f" (it has {', '.join(map(shown, table.unread[:8]))})" if table.unread else ""
            raise DataError(
                f"{path.name}: has no further column {shown(name)}{there}",
                hint="columns that securefed reads itself are no groups; see docs/predict.md",
            )
    reader = _Reader(path, table, wanted, labelled, example, tuple(further), classes)
    problems = [Problem(path.name, reason, 1) for reason in reader.unread_files()]
    rows: list[Row] = []
    for line, cells in table.lines:
        if isinstance(cells, str):
            problems.append(Problem(path.name, cells, line))
            continue
        try:
            rows.append(reader.row(line, cells))
        except DataError as error:
            problems.append(Problem(path.name, str(error), line))
    rows, repeats = without_repeats(path.name, rows)
    rows, contradictions = without_contradictions(path.name, rows)
    problems += [*repeats, *contradictions]
    problems.sort(key=lambda problem: problem.line or 0)
    unread = tuple(name for name in table.unread if name not in further)
    return Manifest(wanted, rows, problems, _unread(unread), len(table.lines))


def _unread(columns: tuple[str, ...]) -> list[str]:
    if not columns:
        return []
    named = ", ".join(map(shown, columns[:8])) + (", ..." if len(columns) > 8 else "")
    return [f"columns that no rule reads: {named}"]


class _Reader:
    def __init__(
        self,
        path: Path,
        table: Table,
        modalities: tuple[str, ...],
        labelled: bool,
        example: ExampleKind,
        further: tuple[str, ...],
        classes: Sequence[str],
    ) -> None:
        self.labelled = labelled
        self.example = example
        self.further = further
        self.classes = classes
        self.folder = path.parent.resolve()
        self.paths = Paths(self.folder)
        self.table = table
        self.modalities = modalities
        self.everybody = table.identifiers()
        cells = (row for _, row in table.lines if not isinstance(row, str))
        self.has_sites = any(row.get("site") for row in cells)

    def unread_files(self) -> Iterator[str]:
        """Where no line has an image of a modality: the unread columns that name files."""
        cells = [row for _, row in self.table.lines if not isinstance(row, str)]
        # With one modality in the header another was meant, most likely one of these.
        expected = self.modalities if len(self.modalities) > 1 else DEFAULT
        for lost in map(column, expected):
            if any(row.get(lost) for row in cells):
                continue
            for unread in self.table.unread:
                filled = [row[unread] for row in cells if row[unread]][:_TRIED]
                if any(map(self._names_a_file, filled)):
                    yield f"column {shown(unread)} names files, and no rule reads it: is it {lost}?"

    def _names_a_file(self, cell: str) -> bool:
        try:
            return self._image("", cell) is not None
        except DataError:
            return False

    def row(self, line: int, cells: dict[str, str]) -> Row:
        patient_id = require_patient(cells["patient_id"], self.everybody)
        found = {
            name: self._image(column(name), cells.get(column(name), "")) for name in self.modalities
        }
        images = {name: path for name, path in found.items() if path}
        if not images:
            raise DataError(f"no image is given ({', '.join(map(column, self.modalities))})")
        study, number = self._cell("study", cells), _slice(cells.get("slice", ""))
        if self.example == "study" and not study:
            raise DataError("study is empty, and the label is of a study")
        return Row(
            line=line,
            patient_id=patient_id,
            label=parse_label(cells["label"], self.classes) if self.labelled else UNLABELLED,
            # Beside named sites an empty cell would make a hospital of whoever has none.
            site=require_site(cells["site"]) if self.has_sites else DEFAULT_SITE,
            images=images,
            slice=number,
            study=study,
            example=_example(self.example, line, study, number),
            person=self._cell("person", cells),
            simulation=_simulation(cells.get("simulation", "")),
            registration=self._cell("registration", cells),
            registration_mm=cells.get("registration_mm", ""),
            further={name: require_readable(shown(name), cells[name]) for name in self.further},
        )

    def _cell(self, column: str, cells: dict[str, str]) -> str:
        return require_cell(column, cells.get(column, ""))

    def _image(self, where: str, text: str) -> Path | None:
        if not text:
            return None
        try:
            path = (self.folder / text).resolve()
            if "\\" in text and not path.exists():  # as Windows writes paths
                path = (self.folder / text.replace("\\", "/")).resolve()
            # Symbolic links are resolved first, so a link inside the folder cannot lead out of it.
            inside = path.is_relative_to(self.folder)
            exists = inside and path.is_file()
        except (OSError, RuntimeError, ValueError) as error:
            # A name that is too long, a circle of links, a zero byte.
            why = error.strerror if isinstance(error, OSError) else error
            raise DataError(f"{where} {shown(text)} cannot be opened ({why})") from None
        if not inside:
            raise DataError(f"{where} {shown(text)} leads outside the manifest's folder")
        if not exists:
            near = self.paths.like(text)
            there = f", but there is {shown(near)}" if near else ""
            raise DataError(f"{where} {shown(text)}: no such file{there}")
        return path


def _example(kind: ExampleKind, line: int, study: str, number: float | None) -> str:
    """What the label of a line is of: lines of a patient that give the same are one example."""
    if kind == "patient":
        return ""
    if kind == "study":
        return study
    of_study = f"{study}/" if study else ""
    return of_study + (f"line {line}" if number is None else f"{number:g}")


def _simulation(text: str) -> str:
    if text and text not in SIMULATIONS:
        raise DataError(f"simulation {text!r} is none of {', '.join(SIMULATIONS)}")
    return text


def _slice(text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(_DECIMAL_COMMA.sub(r"\1.\2", text))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"slice {text!r} is not a number")
    return value
