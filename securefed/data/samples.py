"""One patient's images: the record that every other part of the project passes around.

A patient is the privacy unit and the unit of every split, so slices never travel without their
patient. Images are 8-bit because that is what the importers write and the model reads: CT already
through the brain window (width 80, level 40 HU), MRI already scaled per volume. A modality that
was not acquired is a block of zeros with its mask False; the mask, not the zeros, says so.

This class holds data in memory and nothing more. It protects nothing: `repr` shows no image and
no identifier, but whoever holds the object holds the scan.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from securefed.errors import DataError

Images = NDArray[np.uint8]  # (slices, size, size)
Mask = NDArray[np.bool_]  # (slices,)


@dataclass(frozen=True, eq=False)
class Patient:
    """All slices of one patient, both modalities, with masks for what is missing.

    Attributes:
        patient_id: pseudonym, unique within its site; kept out of `repr`.
        site: name of the hospital that holds the patient.
        label: 1 for tumour, 0 for no tumour.
        ct, mri: (slices, size, size) uint8, row 0 anterior; zeros where the mask is False.
        has_ct, has_mri: (slices,) bool.

    Raises:
        DataError: shapes, types, label or masks do not fit together.
    """

    patient_id: str = field(repr=False)
    site: str
    label: int
    ct: Images = field(repr=False)
    mri: Images = field(repr=False)
    has_ct: Mask = field(repr=False)
    has_mri: Mask = field(repr=False)

    def __post_init__(self) -> None:
        if not self.patient_id:
            raise DataError("a patient has an empty id", hint="give every patient a pseudonym")
        if self.label not in (0, 1):
            raise DataError(
                f"label must be 0 or 1, got {self.label!r} (site {self.site})",
                hint="1 means tumour, 0 means no tumour",
            )
        _check_images("ct", self.ct, self.has_ct)
        _check_images("mri", self.mri, self.has_mri)
        if self.ct.shape != self.mri.shape:
            raise DataError(
                f"ct is {self.ct.shape} but mri is {self.mri.shape} (site {self.site})",
                hint="both modalities need the same slices and size; mask what is missing",
            )
        if not bool((self.has_ct | self.has_mri).all()):
            raise DataError(
                f"a slice has neither CT nor MRI (site {self.site})",
                hint="leave slices out that no modality shows",
            )

    @property
    def slices(self) -> int:
        """Number of slices, at least 1."""
        return int(self.ct.shape[0])

    @property
    def image_size(self) -> int:
        """Edge length of the square images, in pixels."""
        return int(self.ct.shape[1])


def _check_images(name: str, images: Images, present: Mask) -> None:
    if images.dtype != np.uint8 or present.dtype != np.bool_:
        raise DataError(
            f"{name} must be uint8 with a bool mask, got {images.dtype} and {present.dtype}",
            hint="window or scale to 0..255 first",
        )
    if images.ndim != 3 or images.shape[0] < 1 or images.shape[1] != images.shape[2]:
        raise DataError(
            f"{name} must be (slices, size, size), got {images.shape}",
            hint="stack square slices along the first axis",
        )
    if present.shape != images.shape[:1]:
        raise DataError(
            f"{name} has {images.shape[0]} slices but a mask of shape {present.shape}",
            hint="one mask entry per slice",
        )
    if bool(images[~present].any()):
        raise DataError(
            f"{name} has pixels in a slice that its mask calls missing",
            hint="set missing slices to zero",
        )
