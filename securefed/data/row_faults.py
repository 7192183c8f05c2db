"""Rows of a manifest that are sound by themselves, and not beside the others."""

from pathlib import Path
from typing import TYPE_CHECKING

from securefed.data.names import shown
from securefed.data.table import Problem
from securefed.wording import listed

if TYPE_CHECKING:
    from securefed.data.manifest import Row


def without_repeats(name: str, rows: list["Row"]) -> tuple[list["Row"], list[Problem]]:
    """Refuse images listed a second time, and slices numbered twice within a patient."""
    unique: list[Row] = []
    problems: list[Problem] = []
    images: dict[Path, Row] = {}
    slices: dict[tuple[str, str, float], int] = {}
    for row in rows:
        paths = list(row.images.values())
        first = next((images[path] for path in paths if path in images), None)
        number = None if row.slice is None else (row.patient_id, row.study, row.slice)
        if first is not None:
            whose = "this" if first.patient_id == row.patient_id else "another"
            reason = f"repeats an image of {whose} patient, first on line {first.line}"
        elif len(set(paths)) < len(paths):
            twice = [name.upper() for name, path in row.images.items() if paths.count(path) > 1]
            reason = f"names one image as both {listed(twice)}"
        elif number is not None and number in slices:
            reason = f"slice {row.slice:g} is already on line {slices[number]}"
        else:
            unique.append(row)
            images |= dict.fromkeys(paths, row)
            if number is not None:
                slices[number] = row.line
            continue
        problems.append(Problem(name, reason, row.line))
    return unique, problems


def without_contradictions(name: str, rows: list["Row"]) -> tuple[list["Row"], list[Problem]]:
    """Leave out whole patients who contradict themselves; one problem per deviating line."""
    of_patient: dict[str, Row] = {}
    of_example: dict[tuple[str, str], Row] = {}
    bad: set[str] = set()
    problems: list[Problem] = []
    for row in rows:
        labelled = of_example.setdefault((row.patient_id, row.example), row)
        other = of_patient.setdefault(row.patient_id, row)
        for what in ("label", "site", "person", "simulation"):
            first = labelled if what == "label" else other
            old, new = getattr(first, what), getattr(row, what)
            if old != new:
                bad.add(row.patient_id)
                told = shown(str(new)), shown(str(old))
                reason = f"{what} {told[0]} contradicts {told[1]} on line {first.line}"
                reason += "; patient left out"
                problems.append(Problem(name, reason, row.line))
    return [row for row in rows if row.patient_id not in bad], problems
