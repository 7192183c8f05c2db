"""Bring the MRI of a patient onto the slices of the CT.

Slices of one frame of reference share coordinates. Otherwise the MRI is registered to the CT twice
(registration), and the result is believed where the two agree within LARGEST_ERROR_MM and at least
LEAST_SHARED_MM of the head is in both scans. What is believed may still be wrong: look at some.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from securefed.data.dicom.volume import Series
from securefed.data.resampling import Rigid, pixels, sample

LARGEST_ERROR_MM = 3.0  # less than a thick slice
LEAST_SHARED_MM = 80.0  # of the head in both scans; in thinner slabs an error goes unnoticed
HEAD_HU = -300.0  # and above: head, or couch
PAIRED = ("same-frame", "registered")


@dataclass(frozen=True)
class Alignment:
    """How the points of a CT map to those of an MRI.

    Attributes:
        status: "same-frame", "registered", "failed" or "unregistered" (SimpleITK absent).
        error_mm: by how much the two registrations disagree over the head; None without one.
        reason: why it is not to be believed, "" where it is.
        transform: from CT to MRI coordinates; those of the scanner where there is no belief.
    """

    status: str
    error_mm: float | None = None
    reason: str = ""
    transform: Rigid = field(default_factory=Rigid)


def align(ct: Series, mri: Series) -> Alignment:
    """Find where the points of a CT lie in the MRI of the same patient; both need geometry."""
    if ct.frame and ct.frame == mri.frame:
        return Alignment("same-frame")
    try:
        from securefed.data.registration import register
    except ImportError:
        why = "SimpleITK is not installed (pip install 'securefed[dicom]')"
        return Alignment("unregistered", reason=why)
    found = register(ct, mri)
    if found is None:
        return Alignment("failed", reason="the scans hold nothing to match")
    if found.error_mm > LARGEST_ERROR_MM:
        why = f"two registrations differ by {found.error_mm:.1f} mm"
    elif found.shared_mm < LEAST_SHARED_MM:
        why = f"the scans share {found.shared_mm:.0f} mm of the head, too little to check"
    else:
        return Alignment("registered", found.error_mm, "", found.transform)
    return Alignment("failed", found.error_mm, why)


def onto_ct(
    images: NDArray[np.uint8], mri: Series, ct: Series, transform: Rigid
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Resample 8-bit MRI images at the pixels of the CT.

    Returns:
        (CT slices, CT rows, CT columns) images, black where the MRI shows nothing, and
        (CT slices,) the share of each slice's head that the MRI shows; of the whole slice where
        there is no head.
    """
    volume = images.astype(np.float32)
    resampled = np.zeros(ct.values.shape, dtype=np.uint8)
    covered = np.zeros(len(resampled))
    for index in range(len(resampled)):
        values, shown = sample(volume, mri, transform.apply(pixels(ct, index)))
        resampled[index] = np.where(shown, values + 0.5, 0).astype(np.uint8)
        head = ct.values[index] > HEAD_HU
        covered[index] = shown[head].mean() if head.any() else shown.mean()
    return resampled, covered
