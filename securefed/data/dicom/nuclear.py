"""SPECT: a reconstructed volume in one file, without functional groups (PS3.3, C.8.4.15).

The detector's sequence has place and orientation of the first frame, SliceVector the number of each
frame's slice, and SpacingBetweenSlices the way from one to the next: behind the first one, along
the normal, where it is positive. Planar pictures and the raw projections of a camera are no
volumes.
"""

import numpy as np
from pydicom.dataset import Dataset

from securefed.data.dicom.mosaics import set_own
from securefed.data.dicom.words import values_of
from securefed.errors import DataError

_RECONSTRUCTED = "RECON TOMO"
_PLACES = ("ImagePositionPatient", "ImageOrientationPatient")


def is_reconstructed(header: Dataset) -> bool:
    """Whether a nuclear image is slices of a volume, by its ImageType."""
    of_nuclear = header.get("Modality", None) == "NM"
    return of_nuclear and _RECONSTRUCTED in values_of(header, "ImageType")[2:3]


def slice_header(header: Dataset, number: int) -> Dataset:
    """The header of one frame, as if it had a file of its own.

    Raises:
        DataError: SliceVector does not number the frames.
    """
    flat = Dataset()
    flat.update({e.tag: e for e in header if e.keyword != "PixelData"})
    count = int(header.get("NumberOfFrames", None) or 1)
    every = list(range(1, count + 1))
    vector = header.get("SliceVector", None)
    numbers = every if vector is None else [int(each) for each in np.atleast_1d(vector)]
    if sorted(numbers) != every:
        raise DataError(f"has a SliceVector that does not number its {count} frames")
    set_own(flat, InstanceNumber=numbers[number])
    detectors = header.get("DetectorInformationSequence", None) or [Dataset()]
    places = {word: detectors[0].get(word, None) or header.get(word, None) for word in _PLACES}
    step = header.get("SpacingBetweenSlices", None) or header.get("SliceThickness", None)
    if not all(places.values()) or not step:
        return flat
    corner, axes = (np.array([float(each) for each in value or ()]) for value in places.values())
    normal = np.cross(axes[:3], axes[3:])
    place = corner + (numbers[number] - 1) * float(step) * normal
    set_own(flat, ImagePositionPatient=place.tolist(), ImageOrientationPatient=axes.tolist())
    return flat
