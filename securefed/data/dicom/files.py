"""Finding the usable CT and MR slices in a folder tree, by content and file by file.

Suffixes mean nothing: a file is DICOM if "DICM" stands at byte 128 (PS3.10, section 7.1). Files
that are fine but not wanted (localisers, other modalities, DICOMDIR) are skipped and counted;
files that ought to work and do not are problems with their path and reason. Images that may show
the patient's name in the pixels (BurnedInAnnotation YES, secondary captures) are refused, because
no import rule can remove it; a file that does not declare its burned-in text passes.

Of the header only what `Slice` lists is kept. Paths in problems are shown to the operator only;
hospital paths may contain names.
"""

import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from securefed.data.file_kinds import kind_of
from securefed.data.skipped import Skipped
from securefed.data.table import Problem
from securefed.errors import DataError

LARGEST_EDGE = 4096
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame children .1 to .4
_SCOUT_TYPES = {"LOCALIZER", "SCOUT", "PROJECTION IMAGE"}
_SCOUT_NAMES = re.compile(r"\b(scout|locali[sz]er|loc|survey|topogram|3-?plane)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Slice:
    """One stored slice, with what of its header is needed to build a volume.

    Geometry is in millimetres in the patient coordinate system of PS3.3, C.7.6.2.
    """

    path: Path = field(repr=False)
    patient_id: str = field(repr=False)
    modality: str  # "CT" or "MR"
    series: str = field(repr=False)
    instance: str = field(repr=False)
    number: int
    study_date: date | None = field(repr=False)
    frame: str = field(repr=False)
    position: NDArray[np.float64] | None  # (3,) centre of the first pixel
    axes: NDArray[np.float64] | None  # (2, 3) unit vectors along columns and rows
    spacing: tuple[float, float]  # row spacing, column spacing
    shape: tuple[int, int]


@dataclass(frozen=True)
class Scan:
    """What a folder tree holds."""

    slices: list[Slice]
    problems: list[Problem]
    skipped: Skipped


class _UnwantedError(Exception):
    """A sound file that is not wanted; its text is the reason."""


def scan_tree(root: Path, *, allow_burned_in: bool = False) -> Scan:
    """Read the headers of all DICOM files below a folder, in the order of their paths.

    Symbolic links to folders are not followed.

    Raises:
        DataError: no such folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder", hint="give the top of the DICOM tree")
    slices: list[Slice] = []
    problems: list[Problem] = []
    skipped = Skipped()
    instances: set[str] = set()
    for path in _files(root):
        try:
            item = _read_header(path, allow_burned_in)
            if item.instance in instances:
                raise _UnwantedError("the same object again (SOPInstanceUID)")
            instances.add(item.instance)
            slices.append(item)
        except _UnwantedError as reason:
            skipped.add(str(reason), str(path.relative_to(root)))
        except DataError as error:
            problems.append(Problem(str(path.relative_to(root)), str(error)))
    return Scan(slices, problems, skipped)


def read_dataset(path: Path, *, pixels: bool) -> Dataset:
    """Read one file, with every way in which pydicom fails turned into DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities of values that are not used here
            return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except InvalidDicomError:
        raise DataError("is not DICOM inside") from None
    except Exception as error:  # noqa: BLE001 - a damaged file makes pydicom raise almost anything
        raise DataError(f"cannot be read ({type(error).__name__})") from None


def _files(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        names.sort()  # os.walk descends in this order
        yield from (Path(folder) / name for name in sorted(files))


def _read_header(path: Path, allow_burned_in: bool) -> Slice:
    try:
        kind = kind_of(path)
    except OSError as error:
        raise DataError(f"cannot be opened ({error.strerror})") from None
    if kind != "DICOM":
        if path.suffix.lower() in (".dcm", ".dicom"):
            raise DataError("is not DICOM inside")
        raise _UnwantedError(f"{kind}, not DICOM" if kind else "not a DICOM file")
    dataset = read_dataset(path, pixels=False)
    try:
        _refuse(dataset, allow_burned_in)
        return _slice(path, dataset)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise DataError(f"has a header value that cannot be used ({error})") from None


def _refuse(dataset: Dataset, allow_burned_in: bool) -> None:
    kind = str(dataset.get("SOPClassUID", ""))
    modality = str(dataset.get("Modality", ""))
    if kind.startswith(_SECONDARY_CAPTURE) and not allow_burned_in:
        raise DataError("is a secondary capture, which may show the patient's name")
    if str(dataset.get("BurnedInAnnotation", "")).upper() == "YES" and not allow_burned_in:
        raise DataError("declares burned-in annotation, which may show the patient's name")
    if modality not in ("CT", "MR"):
        raise _UnwantedError(f"modality {modality or 'unknown'}")
    types = {str(value).strip().upper() for value in dataset.get("ImageType", None) or ()}
    if types & _SCOUT_TYPES or _SCOUT_NAMES.search(str(dataset.get("SeriesDescription", ""))):
        raise _UnwantedError("localiser or projection")
    if int(dataset.get("NumberOfFrames", None) or 1) > 1:
        raise DataError("holds several frames; enhanced multi-frame objects are not supported")
    if str(dataset.get("PhotometricInterpretation", "")) not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError("is not a grey image (PhotometricInterpretation)")
    if not str(dataset.get("PatientID", "") or "").strip():
        raise DataError("has no PatientID, so its patient is unknown")
    if max(int(dataset.Rows), int(dataset.Columns)) > LARGEST_EDGE:
        raise DataError(f"is larger than {LARGEST_EDGE} pixels")


def _slice(path: Path, dataset: Dataset) -> Slice:
    position = _numbers(dataset, "ImagePositionPatient", 3)
    axes = None
    orientation = _numbers(dataset, "ImageOrientationPatient", 6)
    if orientation is not None:
        axes = orientation.reshape(2, 3)
        lengths = np.linalg.norm(axes, axis=1)
        if np.abs(lengths - 1).max() > 0.01 or abs(float(axes[0] @ axes[1])) > 0.01:
            raise DataError("has an ImageOrientationPatient that is not orthonormal")
    spacing = _numbers(dataset, "PixelSpacing", 2)
    if spacing is not None and not (spacing > 0).all():
        raise DataError("has a PixelSpacing that is not positive")
    return Slice(
        path=path,
        patient_id=str(dataset.PatientID).strip(),
        modality=str(dataset.Modality),
        series=str(dataset.SeriesInstanceUID),
        instance=str(dataset.SOPInstanceUID),
        number=int(dataset.get("InstanceNumber", None) or 0),
        study_date=_date(str(dataset.get("StudyDate", "") or "")),
        frame=str(dataset.get("FrameOfReferenceUID", "") or ""),
        position=position,
        axes=axes,
        spacing=(float(spacing[0]), float(spacing[1])) if spacing is not None else (1.0, 1.0),
        shape=(int(dataset.Rows), int(dataset.Columns)),
    )


def _numbers(dataset: Dataset, keyword: str, count: int) -> NDArray[np.float64] | None:
    value = dataset.get(keyword, None)
    if not value:
        return None
    numbers = np.array([float(item) for item in value])
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise DataError(f"has a {keyword} that is not {count} numbers")
    return numbers


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text.replace(".", ""))
    except ValueError:
        return None
