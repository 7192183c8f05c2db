"""From the scans chosen for a patient to the slices that are written.

Slices that are written together show one place in the head: the other modalities are brought to the
pixels of each slice of the reference (alignment), which is the first modality that there is. A
slice that another scan does not cover, or that falls into a gap of it, lacks that modality. Scans
that cannot be brought to the reference are kept as slices of their own, and the reason is given;
what is left so may have a reference among itself. A picture of one grey value is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from securefed.data.alignment import PAIRED, Alignment, align, onto
from securefed.data.dicom.header import days_between
from securefed.data.dicom.volume import Series, to_eight_bits
from securefed.data.head_overlap import LEAST_OVERLAP, head_overlap
from securefed.data.images import fit_square, is_blank
from securefed.data.resampling import gaps
from securefed.errors import DataError

LEAST_COVERAGE = 0.25  # of a slice's head in the reference: where a scan shows less, there is none
_WORST = ("", *PAIRED[:1], "registered", "unregistered", "failed", "unpaired")  # the worst last

Images = NDArray[np.uint8]
Slice = dict[str, Images]  # modality -> image
Registration = tuple[str, float | None]  # status as in `Alignment`, and error in mm


@dataclass(frozen=True)
class PairingRules:
    """How scans are put together.

    Attributes:
        size: edge of the images, pixels.
        max_gap_days: between two studies that are put together; None where no scan has a date.
        allow_unregistered: pair in scanner coordinates what could not be registered.
    """

    window: str
    size: int
    max_gap_days: int | None
    allow_unregistered: bool = False


@dataclass(frozen=True)
class Pairing:
    """The slices of a patient by modality, and how those of each were brought together.

    Attributes:
        registrations: of each slice; "unpaired" where no alignment was tried, or nothing of the
            reference is covered; "" where the patient has one modality.
    """

    slices: list[Slice] = field(repr=False)
    registrations: list[Registration]
    notes: Sequence[str] = ()


def pair(scans: Mapping[str, Series], rules: PairingRules) -> Pairing:
    """Put the slices of a patient together as (size, size) images; at least one scan is given.

    Args:
        scans: by modality, the preferred reference first.

    Raises:
        DataError: a scan, or every slice in the window, shows one grey value.
    """
    images = {name: to_eight_bits(each, each.values, rules.window) for name, each in scans.items()}
    if all(is_blank(image) for each in images.values() for image in each):
        raise DataError("every slice is of one grey value: nothing to see in this window")
    notes = [note for name, each in images.items() for note in _blank_slices(each, name.upper())]
    tried: dict[str, list[Registration]] = {name: [] for name in scans}
    made = Pairing([], [], notes)
    rest = list(scans)
    while rest:
        first, *others = rest
        together: dict[str, Sequence[Images | None]] = {}
        found: list[Registration] = []
        for name in others:
            two = _Two(first, name, scans[first], scans[name], rules, notes)
            status, error_mm, brought = two.together(images[name])
            if brought is None:
                for each in (first, name):
                    tried[each].append((status, error_mm))
            else:
                together[name] = brought
                found.append((status, error_mm))
        slices = [
            _slice(rules.size, {first: image} | {name: each[k] for name, each in together.items()})
            for k, image in enumerate(images[first])
        ]
        # Numbers of slices that others could show stay free; a scan by itself has none of them.
        made.slices.extend(each for each in slices if each or together)
        worst = _worst(found or tried[first])
        made.registrations.extend([worst] * (len(made.slices) - len(made.registrations)))
        rest = [name for name in others if name not in together]
    return made


@dataclass(frozen=True)
class _Two:
    """A reference and another scan of its patient, and what is told of them."""

    name: str
    other: str
    reference: Series
    scan: Series
    rules: PairingRules
    notes: list[str]

    def together(self, images: Images) -> tuple[str, float | None, Sequence[Images | None] | None]:
        """Status, error and the other's image at each slice of the reference, None where it shows
        none; no images at all where the two stay apart."""
        reason = self._why_apart()
        if reason:
            self.notes.append(f"{self._apart}: {reason}")
            return "unpaired", None, None
        alignment = align(self.reference, self._with_believed_frame())
        status, error_mm = alignment.status, alignment.error_mm
        self.notes.extend(self._said(alignment))
        if status not in PAIRED and not self.rules.allow_unregistered:
            return status, error_mm, None
        if gaps(self.scan).any():
            one, other = self._names
            self.notes.append(
                f"slices of the {other} are missing; {one} slices in the gap have no {other}"
            )
        resampled, covered = onto(self.reference, images, self.scan, alignment.transform)
        brought = [
            image if share >= LEAST_COVERAGE and not is_blank(image) else None
            for image, share in zip(resampled, covered, strict=True)
        ]
        if all(image is None for image in brought):
            self.notes.append(f"{self._apart}: no overlap")
            return "unpaired", error_mm, None
        return status, error_mm, brought

    @property
    def _names(self) -> tuple[str, str]:
        return self.name.upper(), self.other.upper()

    @property
    def _apart(self) -> str:
        return f"{' and '.join(self._names)} kept as separate slices"

    def _why_apart(self) -> str | None:
        days = days_between(self.reference.study_date, self.scan.study_date)
        most = self.rules.max_gap_days
        if days is not None and most is not None and days > most:
            return f"{days} days lie between them, more than {most}"
        if self.reference.positions is None or self.scan.positions is None:
            return "a series has no geometry"
        if days is None and most is not None:
            self.notes.append(
                f"{' and '.join(self._names)}: a study date is missing; the gap is unknown"
            )
        return None

    def _with_believed_frame(self) -> Series:
        """The scan, without a frame of reference that it shares and does not keep.

        What one machine scanned in one study is believed.
        """
        reference, scan = self.reference, self.scan
        one_study = (reference.modality, reference.study_date) == (scan.modality, scan.study_date)
        if not reference.frame or reference.frame != scan.frame or one_study:
            return scan
        overlap = head_overlap(reference, scan)
        if overlap is None or overlap >= LEAST_OVERLAP:
            return scan
        self.notes.append(
            f"{' and '.join(self._names)} share a frame of reference, but their heads overlap by "
            f"{overlap:.0%} only; it is not believed"
        )
        return replace(scan, frame="")

    def _said(self, alignment: Alignment) -> list[str]:
        one, other = self._names
        if alignment.status == "same-frame":
            return []
        if alignment.status == "registered":
            error = f"{alignment.error_mm:.1f} mm"
            return [f"{other} registered to the {one}; two registrations agree within {error}"]
        what = f"{other}: registration {alignment.status}: {alignment.reason}"
        if self.rules.allow_unregistered:
            return [f"{what}; paired in scanner coordinates all the same: look at it"]
        return [f"{what}; {self._apart} (--allow-unregistered pairs them in scanner coordinates)"]


def _slice(size: int, images: Mapping[str, Images | None]) -> Slice:
    """What there is to see in a slice."""
    return {
        name: fit_square(image, size)
        for name, image in images.items()
        if image is not None and not is_blank(image)
    }


def _blank_slices(images: Images, modality: str) -> list[str]:
    blank = sum(map(is_blank, images))
    if not blank:
        return []
    return [f"{blank} of {len(images)} {modality} slices show one grey value and are left out"]


def _worst(found: Sequence[Registration]) -> Registration:
    """The worst status, and the largest error; none where nothing was tried."""
    status = max((status for status, _ in found), key=_WORST.index, default="")
    return status, max((error for _, error in found if error is not None), default=None)
