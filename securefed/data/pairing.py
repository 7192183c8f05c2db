"""From the CT and the MRI chosen for a patient to the slice pairs that are written.

A pair is one place in the head: the MRI is brought to the pixels of each CT slice (alignment). CT
and MRI that cannot be brought together are kept as separate slices, and the reason is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from securefed.data.alignment import align, onto_ct
from securefed.data.dicom.volume import Series, to_eight_bits
from securefed.data.images import fit_square

LEAST_COVERAGE = 0.25  # a CT slice of which the MRI shows less has no MRI

Images = NDArray[np.uint8]
SlicePair = tuple[Images | None, Images | None]


@dataclass(frozen=True)
class Pairing:
    """The slices of a patient as (CT, MRI) and how they were aligned ("" for one modality)."""

    slices: list[SlicePair]
    status: str
    notes: Sequence[str] = ()


def pair(
    ct: Series | None, mri: Series | None, *, window: str, size: int, max_gap_days: int
) -> Pairing:
    """Pair the slices of a patient as (size, size) images; at least one series is given.

    Raises:
        DataError: a series shows one constant value.
    """
    ct_images = None if ct is None else to_eight_bits(ct, ct.values, window)
    mri_images = None if mri is None else to_eight_bits(mri, mri.values, window)
    if ct is None or mri is None or ct_images is None or mri_images is None:
        return Pairing(_side_by_side(ct_images, mri_images, size), "")
    days = days_between(ct, mri)
    reason = _why_not_paired(ct, mri, days, max_gap_days)
    if reason:
        note = f"CT and MRI kept as separate slices: {reason}"
        return Pairing(_side_by_side(ct_images, mri_images, size), "unpaired", [note])
    notes = [] if days is not None else ["a study date is missing; the gap is unknown"]
    alignment = align(ct, mri)
    if alignment.status in ("failed", "unregistered"):
        notes.append(_doubt(alignment.status))
    elif alignment.metric is not None:
        notes.append(f"registered, mutual information {alignment.metric:.3f}")
    resampled, covered = onto_ct(mri_images, mri, ct, alignment)
    slices: list[SlicePair] = [
        (fit_square(a, size), fit_square(b, size) if share >= LEAST_COVERAGE else None)
        for a, b, share in zip(ct_images, resampled, covered, strict=True)
    ]
    if all(image is None for _, image in slices):
        notes.append("CT and MRI kept as separate slices: no overlap")
        return Pairing(_side_by_side(ct_images, mri_images, size), "unpaired", notes)
    return Pairing(slices, alignment.status, notes)


def days_between(ct: Series, mri: Series) -> int | None:
    """Days between the two studies; None if a date is missing."""
    first, second = ct.first.study_date, mri.first.study_date
    return abs((first - second).days) if first and second else None


def _doubt(status: str) -> str:
    if status == "failed":
        return "registration failed; paired in scanner coordinates, look at it"
    return (
        "SimpleITK is not installed; paired in scanner coordinates (pip install securefed[dicom])"
    )


def _why_not_paired(ct: Series, mri: Series, days: int | None, max_gap_days: int) -> str | None:
    if days is not None and days > max_gap_days:
        return f"{days} days lie between them, more than {max_gap_days}"
    if ct.positions is None or mri.positions is None:
        return "a series has no geometry"
    return None


def _side_by_side(ct: Images | None, mri: Images | None, size: int) -> list[SlicePair]:
    slices: list[SlicePair] = [
        (fit_square(image, size), None) for image in (ct if ct is not None else ())
    ]
    return slices + [(None, fit_square(image, size)) for image in (mri if mri is not None else ())]
