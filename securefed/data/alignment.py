"""Bring a scan of a patient onto the slices of another, the reference.

Slices of one frame of reference share coordinates. Otherwise the scan is registered to the
reference twice (registration), and the result is believed where the two agree within
LARGEST_ERROR_MM and at least LEAST_SHARED_MM of the head is in both. What is believed may still be
wrong: look at some.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from securefed.data.dicom.volume import Series
from securefed.data.resampling import Rigid, pixels, sample

LARGEST_ERROR_MM = 3.0  # less than a thick slice
LEAST_SHARED_MM = 80.0  # of the head in both scans; in thinner slabs an error goes unnoticed
HEAD_HU = -300.0  # and above: head, or couch
_FOREGROUND = 0.12  # of the brightest tissue, where there is no unit
PAIRED = ("same-frame", "registered")


@dataclass(frozen=True)
class Alignment:
    """How the points of a reference map to those of another scan.

    Attributes:
        status: "same-frame", "registered", "failed" or "unregistered" (SimpleITK absent).
        error_mm: by how much the two registrations disagree over the head; None without one.
        reason: why it is not to be believed, "" where it is.
        transform: from the coordinates of the reference; those of the scanner where there is no
            belief.
    """

    status: str
    error_mm: float | None = None
    reason: str = ""
    transform: Rigid = field(default_factory=Rigid)


def align(reference: Series, scan: Series) -> Alignment:
    """Find where the points of a reference lie in another scan of its patient; both need geometry.

    Where the two are of one frame of reference, that is where they lie.
    """
    if reference.frame and reference.frame == scan.frame:
        return Alignment("same-frame")
    try:
        from securefed.data.registration import register
    except ImportError:
        why = "SimpleITK is not installed (pip install 'securefed[dicom]')"
        return Alignment("unregistered", reason=why)
    found = register(reference, scan)
    if found is None:
        return Alignment("failed", reason="the scans hold nothing to match")
    if found.error_mm > LARGEST_ERROR_MM:
        why = f"two registrations differ by {found.error_mm:.1f} mm"
    elif found.shared_mm < LEAST_SHARED_MM:
        why = f"the scans share {found.shared_mm:.0f} mm of the head, too little to check"
    else:
        return Alignment("registered", found.error_mm, "", found.transform)
    return Alignment("failed", found.error_mm, why)


def tissue(series: Series) -> NDArray[np.bool_]:
    """(slices, rows, columns) where a scan shows more than air, or than background."""
    if series.modality == "CT":
        return np.asarray(series.values > HEAD_HU)
    return np.asarray(series.values > _FOREGROUND * float(np.percentile(series.values, 99)))


def onto(
    reference: Series, images: NDArray[np.uint8], scan: Series, transform: Rigid
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Resample the 8-bit images of a scan at the pixels of the reference.

    Returns:
        (slices, rows, columns) images of the reference's shape, black where the scan shows nothing,
        and (slices,) the share of each slice's head that it shows; of the whole slice where there
        is no head.
    """
    volume = images.astype(np.float32)
    heads = tissue(reference)
    resampled = np.zeros(reference.values.shape, dtype=np.uint8)
    covered = np.zeros(len(resampled))
    for index, head in enumerate(heads):
        values, shown = sample(volume, scan, transform.apply(pixels(reference, index)))
        resampled[index] = np.where(shown, values + 0.5, 0).astype(np.uint8)
        covered[index] = shown[head].mean() if head.any() else shown.mean()
    return resampled, covered
