"""One image of a CT or MR series, and what of its header is needed to choose and to build volumes.

Of the header only what `Slice` lists is kept, and nothing of it is written to a data set. Geometry
that is absent stays absent: a millimetre, an orientation or a date is never assumed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from securefed.data.dicom.anatomy import part_of
from securefed.data.dicom.contrast import has_contrast, kernel_of, weighting_of
from securefed.data.dicom.frames import frame_headers
from securefed.data.dicom.identity import Person, person_of
from securefed.data.dicom.objects import modality_of
from securefed.data.dicom.roles import role_of
from securefed.data.dicom.words import values_of
from securefed.errors import DataError

P = ParamSpec("P")
T = TypeVar("T")

_REFORMATS = {"REFORMATTED", "MPR", "CSA MPR", "RESAMPLED", "CURVED_MPR", "THICK_SLICE"}
MOMENTS = (
    *("StackID", "TemporalPositionIndex", "TemporalPositionIdentifier"),
    *("SeriesTime", "AcquisitionNumber", "TriggerTime", "AcquisitionTime"),
    *("ConvolutionKernel", "ImageType", "ReconstructionDiameter", "SliceThickness"),
    *("SequenceName", "RepetitionTime", "FlipAngle", "ContentTime"),
)
_NO_DATES = {"19000101", "18000101", "19700101"}  # what tools write for "unknown"


@dataclass(frozen=True)
class Traits:
    """What a series is; the same for all of its images. Compared and shown, never written."""

    number: int | None  # SeriesNumber
    description: str = field(repr=False)
    role: str  # roles.py
    part: str  # anatomy.py
    weighting: str  # contrast.py
    kernel: str
    contrast: bool
    derived: bool  # secondary or reformatted
    times: tuple[str, ...]  # echo time, inversion time, b-value


@dataclass(frozen=True)
class Slice:
    """One stored slice. Millimetres in the patient coordinate system of PS3.3, C.7.6.2."""

    path: Path = field(repr=False)
    frame_number: int | None  # in a file of several images
    patient_id: str = field(repr=False)
    person: Person = field(repr=False)
    modality: str  # "CT" or "MR"
    study: str = field(repr=False)
    series: str = field(repr=False)
    instance: str = field(repr=False)
    number: int | None
    study_date: date | None = field(repr=False)
    frame: str = field(repr=False)
    position: NDArray[np.float64] | None  # (3,) centre of the first pixel
    axes: NDArray[np.float64] | None  # (2, 3) unit vectors along columns and rows
    spacing: tuple[float, float] | None  # row spacing, column spacing
    aspect: float  # height of a pixel by its width
    shape: tuple[int, int]
    traits: Traits
    moments: tuple[str, ...] = field(repr=False)  # when and how; tells images of one place apart
    image_type: tuple[str, ...] = ()
    thickness: float | None = None  # SliceThickness, mm
    label: str = field(default="", repr=False)  # as the header writes it, where it is asked for


def days_between(first: date | None, second: date | None) -> int | None:
    """Days between two studies; None if a date is missing."""
    return abs((first - second).days) if first and second else None


def one_line(read: Callable[P, T]) -> Callable[P, T]:
    """What pydicom and we raise at odd header values, as DataError."""

    @wraps(read)
    def reading(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return read(*arguments, **options)
        except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
            raise DataError(f"has a header value that cannot be used ({error})") from None

    return reading


@one_line
def slices_of(path: Path, header: Dataset, label_attribute: str = "") -> list[Slice]:
    """The images of one file.

    Args:
        label_attribute: keyword of the element that holds the label, "" where none does.

    Raises:
        DataError: a header value that cannot be used.
    """
    return [_slice(path, number, flat, label_attribute) for number, flat in frame_headers(header)]


def _slice(path: Path, frame_number: int | None, header: Dataset, label_attribute: str) -> Slice:
    spacing = numbers(header, "PixelSpacing", 2)
    if spacing is not None and not (spacing > 0).all():
        raise DataError("has a PixelSpacing that is not positive")
    aspect = numbers(header, "PixelAspectRatio", 2) if spacing is None else spacing
    return Slice(
        path=path,
        frame_number=frame_number,
        patient_id=str(header.PatientID).strip(),
        person=person_of(header),
        modality=modality_of(header),
        study=str(header.get("StudyInstanceUID", "") or ""),
        series=str(header.get("SeriesInstanceUID", "") or ""),
        instance=str(header.get("SOPInstanceUID", "") or ""),
        number=whole(header, "InstanceNumber"),
        study_date=_date(header),
        frame=str(header.get("FrameOfReferenceUID", "") or ""),
        position=numbers(header, "ImagePositionPatient", 3),
        axes=_axes(header),
        spacing=None if spacing is None else (float(spacing[0]), float(spacing[1])),
        aspect=1.0 if aspect is None else float(aspect[0] / aspect[1]),
        shape=(int(header.Rows), int(header.Columns)),
        traits=_traits(header),
        image_type=values_of(header, "ImageType"),
        thickness=_thickness(header),
        label=str(header.get(label_attribute, "") or "").strip() if label_attribute else "",
        moments=tuple(str(header.get(keyword, "") or "") for keyword in MOMENTS),
    )


def _traits(header: Dataset) -> Traits:
    modality, types = modality_of(header), values_of(header, "ImageType")
    return Traits(
        number=whole(header, "SeriesNumber"),
        description=str(header.get("SeriesDescription", "") or "").strip(),
        role=role_of(header),
        part=part_of(header),
        weighting=weighting_of(header, modality),
        kernel=kernel_of(header) if modality == "CT" else "",
        contrast=has_contrast(header),
        derived="SECONDARY" in types[1:2] or not _REFORMATS.isdisjoint(types),
        times=tuple(
            str(header.get(keyword, "") or "")
            for keyword in ("EchoTime", "InversionTime", "DiffusionBValue")
        ),
    )


def _axes(header: Dataset) -> NDArray[np.float64] | None:
    orientation = numbers(header, "ImageOrientationPatient", 6)
    if orientation is None:
        return None
    axes = orientation.reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(float(axes[0] @ axes[1])) > 0.01:
        raise DataError("has an ImageOrientationPatient that is not orthonormal")
    return axes


def numbers(header: Dataset, keyword: str, count: int) -> NDArray[np.float64] | None:
    """A field of `count` finite numbers, None where it is absent.

    Raises:
        DataError: anything else stands there.
    """
    value = header.get(keyword, None)
    if value is None or (hasattr(value, "__len__") and not len(value)):
        return None
    found = np.array([float(item) for item in value])
    if len(found) != count or not np.isfinite(found).all():
        raise DataError(f"has a {keyword} that is not {count} numbers")
    return found


def whole(header: Dataset, keyword: str) -> int | None:
    """A field of one whole number, None where it is absent."""
    value = header.get(keyword, None)
    return None if value is None or str(value) == "" else int(value)


def _thickness(header: Dataset) -> float | None:
    """As the header has it; only a rule of the operator looks at it, so a fault costs nothing."""
    try:
        return float(header.SliceThickness)
    except (AttributeError, TypeError, ValueError):
        return None


def _date(header: Dataset) -> date | None:
    for keyword in ("StudyDate", "AcquisitionDate", "SeriesDate", "ContentDate"):
        text = str(header.get(keyword, "") or "").replace(".", "").strip()
        if text in _NO_DATES:
            continue
        try:
            return date.fromisoformat(text)
        except ValueError:
            continue
    return None
