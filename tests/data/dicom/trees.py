"""Small DICOM trees, and what becomes of them: ramps of a few pixels, made by the test."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from securefed.data.dicom.files import scan_tree
from securefed.data.dicom.report import ImportReport
from securefed.data.dicom.stacks import stacks_of
from securefed.data.dicom.tree import import_dicom
from securefed.data.dicom.volume import Series, build_series
from securefed.data.export import new_dataset
from securefed.data.import_rules import ImportRules
from securefed.data.pseudonyms import SiteKey

WriteSeries = Callable[..., list[Path]]
KEY = SiteKey(b"0" * 32)
NAME = KEY.pseudonym("ORIGINAL-ID")
AXIAL = (1, 0, 0, 0, 1, 0)
CORONAL = (1, 0, 0, 0, 0, -1)
SAGITTAL = (0, 1, 0, 0, 0, -1)


def ramp(slices: int = 4, size: int = 20, start: int = 0) -> NDArray[np.int16]:
    """Stored values 0, 1, 2 ... in each slice, shifted by 10 from slice to slice."""
    plane = np.arange(size * size).reshape(size, size) % 60
    return np.stack([plane + start + 10 * index for index in range(slices)]).astype(np.int16)


def run(tree: Path, out: Path, labels: dict[str, int] | None = None, **rules: Any) -> ImportReport:
    """Import a tree with small pictures."""
    with new_dataset(out) as writer:
        chosen = ImportRules(image_size=rules.pop("image_size", 20), **rules)
        return import_dicom(tree, writer, labels or {"ORIGINAL-ID": 1}, KEY, chosen)


def rows(out: Path) -> list[dict[str, str]]:
    """The manifest's lines."""
    with (out / "manifest.csv").open() as file:
        return list(csv.DictReader(file))


def edit(path: Path, **header: object) -> None:
    """Change header values of a file; None takes one away."""
    dataset = pydicom.dcmread(path)
    for keyword, value in header.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)


def edit_all(paths: Sequence[Path], **header: object) -> None:
    """Change the same header values of many files."""
    for path in paths:
        edit(path, **header)


def only_series(tree: Path) -> Series:
    """The one volume of a tree."""
    stacks, refused = stacks_of(scan_tree(tree).slices)
    assert not refused
    assert len(stacks) == 1
    return build_series(stacks[0])


def reasons(report: ImportReport) -> list[str]:
    """Problems as lines."""
    return list(map(str, report.problems))
