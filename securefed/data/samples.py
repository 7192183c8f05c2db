"""One patient's images: the record that every other part of the project passes around.

A label belongs to an *example*: by default the patient as a whole, else a study or a single slice.
A patient's examples are of one person and often alike, so they stay together on every way.

A patient is the privacy unit and the unit of every split, so slices never travel without their
patient. Images are 8-bit because that is what the importers write and the model reads: CT already
through the brain window (width 80, level 40 HU), the others already scaled per volume. A modality
is a name on the first axis; one that was not acquired is a block of zeros with its mask False; the
mask, not the zeros, says so.

This class holds data in memory and nothing more. It protects nothing: `repr` shows no image and
no identifier, but whoever holds the object holds the scan.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from securefed.errors import DataError

LABELS = 256  # a fingerprint has a byte for each
ExampleKind = Literal["patient", "study", "slice"]  # what a label is of
Images = NDArray[np.uint8]  # (slices, size, size)
Mask = NDArray[np.bool_]  # (slices,)


@dataclass(frozen=True)
class Example:
    """What has a label of its own.

    Attributes:
        name: within the patient; "" for the patient as a whole.
        label: 1 for tumour, 0 for no tumour; or the number of a class (settings: task.classes).
        slices: of the patient that it is, by their place.
    """

    name: str
    label: int
    slices: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Patient:
    """All slices of one patient, every modality, with a mask for what is missing.

    Attributes:
        patient_id: pseudonym, unique within its site; kept out of `repr`.
        site: name of the hospital that holds the patient.
        label: as of an example; with examples the largest of theirs.
        modalities: what the first axis is, in order; the same for all patients of a data set.
        images: (modalities, slices, size, size) uint8, row 0 anterior; zeros where the mask is
            False.
        present: (modalities, slices) bool.
        parts: what has labels of its own, every slice in one of them; empty where the label is of
            the patient as a whole.

    Raises:
        DataError: shapes, types, labels or mask do not fit together.
    """

    patient_id: str = field(repr=False)
    site: str
    label: int
    modalities: tuple[str, ...]
    images: NDArray[np.uint8] = field(repr=False)
    present: NDArray[np.bool_] = field(repr=False)
    parts: tuple[Example, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.patient_id:
            raise DataError("a patient has an empty id", hint="give every patient a pseudonym")
        for label in (self.label, *(part.label for part in self.parts)):
            if label not in range(LABELS):
                raise DataError(
                    f"label must be 0 or 1, or the number of a class, got {label!r} "
                    f"(site {self.site})",
                    hint="1 means tumour, 0 means no tumour",
                )
        self._check_shapes()
        self._check_parts()
        for name, images, present in self:
            if bool(images[~present].any()):
                raise DataError(
                    f"{name} has pixels in a slice that its mask calls missing (site {self.site})",
                    hint="set missing slices to zero",
                )
        if not bool(self.present.any(axis=0).all()):
            raise DataError(
                f"a slice has none of {', '.join(self.modalities)} (site {self.site})",
                hint="leave slices out that no modality shows",
            )

    def _check_shapes(self) -> None:
        images, present = self.images, self.present
        if images.dtype != np.uint8 or present.dtype != np.bool_:
            raise DataError(
                f"images must be uint8 with a bool mask, got {images.dtype} and {present.dtype}",
                hint="window or scale to 0..255 first",
            )
        square = images.ndim == 4 and images.shape[1] >= 1 and images.shape[2] == images.shape[3]
        if not square or len(images) != len(self.modalities):
            raise DataError(
                f"images of {', '.join(self.modalities)} must be (modalities, slices, size, size), "
                f"got {images.shape}",
                hint="all modalities need the same square slices; mask what is missing",
            )
        if len(set(self.modalities)) < len(self.modalities):
            raise DataError(
                f"one of the modalities {', '.join(self.modalities)} is named twice",
                hint="every modality has a name of its own",
            )
        if present.shape != images.shape[:2]:
            raise DataError(
                f"images of shape {images.shape} have a mask of shape {present.shape}",
                hint="one mask entry per modality and slice",
            )

    def _check_parts(self) -> None:
        if not self.parts:
            return
        slices = sorted(place for part in self.parts for place in part.slices)
        if slices != list(range(self.slices)) or not all(part.slices for part in self.parts):
            raise DataError(
                f"examples do not divide the slices of a patient (site {self.site})",
                hint="every slice is of one example, and every example has one",
            )
        if self.label != max(part.label for part in self.parts):
            raise DataError(
                f"label {self.label} is not the largest of the examples' (site {self.site})",
                hint="use Patient.with_examples",
            )

    def with_examples(self, parts: Sequence[Example]) -> "Patient":
        """The same scans with these examples.

        Raises:
            DataError: they do not divide the slices.
        """
        return replace(self, label=max(part.label for part in parts), parts=tuple(parts))

    @property
    def examples(self) -> tuple[Example, ...]:
        """What has a label: the parts, or the patient as a whole."""
        return self.parts or (Example("", self.label, tuple(range(self.slices))),)

    def __iter__(self) -> Iterator[tuple[str, Images, Mask]]:
        """Name, images and mask of each modality."""
        return zip(self.modalities, self.images, self.present, strict=True)

    def images_of(self, modality: str) -> Images:
        """(slices, size, size) of one modality."""
        images: Images = self.images[self.modalities.index(modality)]
        return images

    def present_of(self, modality: str) -> Mask:
        """(slices,) of one modality."""
        present: Mask = self.present[self.modalities.index(modality)]
        return present

    @property
    def slices(self) -> int:
        """Number of slices, at least 1."""
        return int(self.images.shape[1])

    @property
    def image_size(self) -> int:
        """Edge length of the square images, in pixels."""
        return int(self.images.shape[2])
