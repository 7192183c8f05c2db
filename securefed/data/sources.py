"""What an import is given: DICOM files or a service that has them, NIfTI volumes, or pictures."""

from enum import Enum
from pathlib import Path

from securefed.data.file_kinds import NIFTI, PICTURES, kind_of
from securefed.data.nifti.names import LAYOUTS
from securefed.data.skipped import Skipped
from securefed.data.walk import files_below
from securefed.errors import ConfigurationError


class Source(Enum):
    """What decides which rules of reading hold, and which options say something."""

    DICOM = "DICOM"
    DICOMWEB = "DICOMweb"
    NIFTI = "NIfTI"
    PICTURES = "pictures"


def source_of(source: str, *, labels: bool) -> Source:
    """What lies at a place, by the content of its files; an address is that of a service.

    A label list tells scans from pictures, whose labels lie in their own tables. Of scans, one
    DICOM file makes the tree DICOM, whatever lies beside it.

    Args:
        labels: whether a label list was named, or an attribute or report that holds labels.
    """
    if "://" in source:
        return Source.DICOMWEB
    place = Path(source)
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


def labels_of(source: str, kind: Source, named: Path | None) -> Path:
    """The label list of scans: the one that was named, or labels.csv in a folder of NIfTI.

    Raises:
        ConfigurationError: there is neither.
    """
    if named is not None:
        return named
    if kind is not Source.NIFTI:
        raise ConfigurationError(
            f"{kind.value} needs labels",
            hint="--labels labels.csv, or --label-attribute or --label-report NAME",
        )
    inside = Path(source) / "labels.csv"
    if not inside.is_file():
        raise ConfigurationError(
            f"{source}: holds NIfTI volumes, and no labels.csv",
            hint=f"write one with patient_id,label, or name it by --labels; volumes are {LAYOUTS}",
        )
    return inside
