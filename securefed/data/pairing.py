"""From the CT and the MRI chosen for a patient to the slice pairs that are written.

A pair is one place in the head: the MRI is brought to the pixels of each CT slice (alignment). A
CT slice that the MRI does not cover, or that falls into a gap of it, has no MRI. CT and MRI that
cannot be brought together are kept as separate slices, and the reason is given. A picture of one
grey value is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from securefed.data.alignment import PAIRED, Alignment, align, onto_ct
from securefed.data.dicom.header import days_between
from securefed.data.dicom.volume import Series, to_eight_bits
from securefed.data.images import fit_square, is_blank
from securefed.data.resampling import gaps
from securefed.errors import DataError

LEAST_COVERAGE = 0.25  # of a CT slice's head: where the MRI shows less, there is none

_APART = "CT and MRI kept as separate slices"

Images = NDArray[np.uint8]
Slice = dict[str, Images]  # modality -> image


@dataclass(frozen=True)
class Pairing:
    """The slices of a patient by modality, and how they were brought together.

    Attributes:
        status: as in `Alignment`; "unpaired" where no alignment was tried, or none of the CT is
            covered; "" for one modality.
        error_mm: of the registration, where there was one.
    """

    slices: list[Slice]
    status: str
    error_mm: float | None = None
    notes: Sequence[str] = ()


def pair(
    ct: Series | None,
    mri: Series | None,
    *,
    window: str,
    size: int,
    max_gap_days: int,
    allow_unregistered: bool = False,
) -> Pairing:
    """Pair the slices of a patient as (size, size) images; at least one series is given.

    Args:
        allow_unregistered: pair in scanner coordinates what could not be registered.

    Raises:
        DataError: a series, or every slice in the window, shows one grey value.
    """
    ct_images = None if ct is None else to_eight_bits(ct, ct.values, window)
    mri_images = None if mri is None else to_eight_bits(mri, mri.values, window)
    apart = _side_by_side(ct_images, mri_images, size)
    if not apart:
        raise DataError("every slice is of one grey value: nothing to see in this window")
    notes = _blank_slices(ct_images, "CT") + _blank_slices(mri_images, "MRI")
    if ct is None or mri is None or ct_images is None or mri_images is None:
        return Pairing(apart, "", None, notes)
    days = days_between(ct.study_date, mri.study_date)
    reason = _why_not_paired(ct, mri, days, max_gap_days)
    if reason:
        return Pairing(apart, "unpaired", None, [*notes, f"{_APART}: {reason}"])
    if days is None:
        notes.append("a study date is missing; the gap is unknown")
    alignment = align(ct, mri)
    notes += _said(alignment, allow_unregistered)
    status, error_mm = alignment.status, alignment.error_mm
    if status not in PAIRED and not allow_unregistered:
        return Pairing(apart, status, error_mm, notes)
    if gaps(mri).any():
        notes.append("slices of the MRI are missing; CT slices in the gap have no MRI")
    resampled, covered = onto_ct(mri_images, mri, ct, alignment.transform)
    slices = [
        _slice(size, ct=a, mri=b if share >= LEAST_COVERAGE else None)
        for a, b, share in zip(ct_images, resampled, covered, strict=True)
    ]
    if not any("mri" in each for each in slices):
        return Pairing(apart, "unpaired", error_mm, [*notes, f"{_APART}: no overlap"])
    return Pairing(slices, status, error_mm, notes)


def _slice(size: int, **images: Images | None) -> Slice:
    """What there is to see in a slice."""
    return {
        name: fit_square(image, size)
        for name, image in images.items()
        if image is not None and not is_blank(image)
    }


def _blank_slices(images: Images | None, modality: str) -> list[str]:
    if images is None:
        return []
    blank = sum(map(is_blank, images))
    if not blank:
        return []
    return [f"{blank} of {len(images)} {modality} slices show one grey value and are left out"]


def _said(alignment: Alignment, allow_unregistered: bool) -> list[str]:
    if alignment.status == "same-frame":
        return []
    if alignment.status == "registered":
        return [f"registered; two registrations agree within {alignment.error_mm:.1f} mm"]
    what = f"registration {alignment.status}: {alignment.reason}"
    if allow_unregistered:
        return [f"{what}; paired in scanner coordinates all the same: look at it"]
    return [f"{what}; {_APART} (--allow-unregistered pairs them in scanner coordinates)"]


def _why_not_paired(ct: Series, mri: Series, days: int | None, max_gap_days: int) -> str | None:
    if days is not None and days > max_gap_days:
        return f"{days} days lie between them, more than {max_gap_days}"
    if ct.positions is None or mri.positions is None:
        return "a series has no geometry"
    return None


def _side_by_side(ct: Images | None, mri: Images | None, size: int) -> list[Slice]:
    slices = [_slice(size, ct=image) for image in (ct if ct is not None else ())]
    slices += [_slice(size, mri=image) for image in (mri if mri is not None else ())]
    return [each for each in slices if each]
