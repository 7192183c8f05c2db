"""What an import is given: a tree of DICOM files, a folder of NIfTI volumes, or pictures."""

from enum import Enum
from pathlib import Path

from securefed.data.file_kinds import NIFTI, PICTURES, kind_of
from securefed.data.nifti.tree import LAYOUTS
from securefed.data.skipped import Skipped
from securefed.data.walk import files_below
from securefed.errors import ConfigurationError


class Source(Enum):
    """What decides which rules of reading hold, and which options say something."""

    DICOM = "DICOM"
    NIFTI = "NIfTI"
    PICTURES = "pictures"


def source_of(place: Path, *, labels: bool) -> Source:
    """What lies at a place, by the content of its files.

    A label list tells scans from pictures, whose labels lie in their own tables. Of scans, one
    DICOM file makes the tree DICOM, whatever lies beside it.

    Args:
        labels: whether a label list was named.
    """
    decided = Source.DICOM if labels else Source.PICTURES
    if not place.is_dir():
        return decided
    at_once = ("DICOM",) if labels else ("DICOM", *PICTURES)
    found = False
    for path in files_below(place, [], Skipped()):
        try:
            kind = kind_of(path) if path.is_file() else None
        except OSError:
            continue
        if kind in at_once:
            return decided
        found |= kind == NIFTI
    return Source.NIFTI if found else decided


def labels_of(place: Path, named: Path | None) -> Path:
    """The label list of scans: the one that was named, or labels.csv in their folder.

    Raises:
        ConfigurationError: there is neither.
    """
    inside = place / "labels.csv"
    if named is None and not inside.is_file():
        raise ConfigurationError(
            f"{place}: holds NIfTI volumes, and no labels.csv",
            hint=f"write one with patient_id,label, or name it by --labels; volumes are {LAYOUTS}",
        )
    return named or inside
