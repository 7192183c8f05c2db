"""From the slices of one series to a volume in physical units, and from there to 8 bits.

Order of the grey-value steps as in PS3.3 and PS3.4: stored value, modality transform (slope and
intercept of each slice, or its table), window or scaling, MONOCHROME1 inversion last. Slices are
sorted by their position along the normal; spacing may vary and the gantry may tilt, both are
reported and kept, never assumed away. MRI has no unit, so it is scaled by its own volume: no
statistic of one patient ever touches another.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut

from securefed.data.dicom.files import Slice, read_dataset
from securefed.errors import DataError

Volume = NDArray[np.float32]  # (slices, rows, columns)

LOWEST_HU, HIGHEST_HU = -1024.0, 3071.0
WINDOWS = {"brain": (80.0, 40.0), "subdural": (200.0, 75.0), "bone": (2500.0, 550.0)}
_SAME_PLACE_MM = 0.01
_SAME_DIRECTION = 1e-3


@dataclass(frozen=True)
class Series:
    """One series as a volume, with the geometry to place it.

    Attributes:
        values: HU for CT, scanner units for MR.
        positions: (slices, 3) centre of each slice's first pixel, mm; None without geometry.
        notes: what is unusual: gaps, tilt, missing geometry.
    """

    modality: str
    first: Slice = field(repr=False)
    values: Volume = field(repr=False)
    inverted: bool  # MONOCHROME1: low values are to be shown bright
    positions: NDArray[np.float64] | None = field(repr=False)
    notes: tuple[str, ...]

    @property
    def frame(self) -> str:
        """What its coordinates refer to: series of one frame share them; "" if unknown."""
        return self.first.frame

    @property
    def steps(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(3,) steps in mm from one column to the next, and from one row to the next.

        Raises:
            DataError: the series has no orientation.
        """
        if self.first.axes is None:
            raise DataError("has no ImageOrientationPatient")
        across, down = self.first.axes
        return across * self.first.spacing[1], down * self.first.spacing[0]

    @property
    def normal(self) -> NDArray[np.float64]:
        """(3,) unit normal of the slices."""
        return slice_normal(self.first)


def slice_normal(item: Slice) -> NDArray[np.float64]:
    """(3,) unit normal of a slice: row direction times column direction.

    Raises:
        DataError: the slice has no orientation.
    """
    if item.axes is None:
        raise DataError("has no ImageOrientationPatient")
    return np.cross(item.axes[0], item.axes[1])


def build_series(slices: Sequence[Slice]) -> Series:
    """Check, sort and read the slices of one series.

    Raises:
        DataError: mixed orientation, spacing, size or frame; two images at one place; a pixel
            that cannot be decoded.
    """
    _require_uniform(slices)
    ordered, positions, notes = _sort(slices)
    decoded = [_decode(item) for item in ordered]
    if len({inverted for _, inverted in decoded}) > 1:
        raise DataError("mixes MONOCHROME1 and MONOCHROME2")
    return Series(
        modality=ordered[0].modality,
        first=ordered[0],
        values=np.stack([values for values, _ in decoded]),
        inverted=decoded[0][1],
        positions=positions,
        notes=tuple(notes),
    )


def window_ct(values: Volume, window: str) -> NDArray[np.uint8]:
    """HU to 8 bits through one of WINDOWS; below is 0, above 255."""
    width, level = WINDOWS[window]
    share = (values - (level - width / 2)) / width
    return np.asarray(np.clip(share, 0, 1) * 255 + 0.5, dtype=np.uint8)


def scale_mri(values: Volume) -> NDArray[np.uint8]:
    """Scale a volume to 8 bits between percentiles 0.5 and 99.5 of its foreground.

    The foreground is what exceeds a tenth of the way from the minimum to the 99th percentile.

    Raises:
        DataError: the volume is constant.
    """
    lowest = float(values.min())
    foreground = values[values > lowest + 0.1 * (float(np.percentile(values, 99)) - lowest)]
    if not foreground.size:
        raise DataError("shows one constant value")
    low, high = np.percentile(foreground, (0.5, 99.5))
    if high <= low:  # a uniform object: all contrast lies against the background
        low, high = lowest, float(values.max())
    return np.asarray(np.clip((values - low) / (high - low), 0, 1) * 255 + 0.5, dtype=np.uint8)


def to_eight_bits(series: Series, values: Volume, window: str) -> NDArray[np.uint8]:
    """8-bit images of a series' values, which may have been resampled."""
    images = window_ct(values, window) if series.modality == "CT" else scale_mri(values)
    return 255 - images if series.inverted else images


def _require_uniform(slices: Sequence[Slice]) -> None:
    first = slices[0]
    for item in slices[1:]:
        if item.shape != first.shape:
            raise DataError(f"mixes image sizes {first.shape} and {item.shape}")
        if not np.allclose(item.spacing, first.spacing, rtol=1e-3):
            raise DataError(f"mixes pixel spacings {first.spacing} and {item.spacing} mm")
        if item.frame != first.frame:
            raise DataError("mixes frames of reference")
        if (item.axes is None) != (first.axes is None) or (
            item.axes is not None
            and first.axes is not None
            and float(np.abs(item.axes - first.axes).max()) > _SAME_DIRECTION
        ):
            raise DataError("mixes orientations")


def _sort(
    slices: Sequence[Slice],
) -> tuple[list[Slice], NDArray[np.float64] | None, list[str]]:
    placed = [item.position for item in slices if item.position is not None]
    if len(placed) < len(slices) or slices[0].axes is None:
        ordered = sorted(slices, key=lambda item: item.number)
        return ordered, None, ["has no geometry; sorted by InstanceNumber and not pairable"]
    normal = slice_normal(slices[0])
    stack = np.stack(placed)
    heights = stack @ normal
    order = np.argsort(heights, kind="stable")
    gaps = np.diff(heights[order])
    if len(gaps) and gaps.min() < _SAME_PLACE_MM:
        raise DataError("has several images at one position (phases, echoes or b-values)")
    return [slices[index] for index in order], stack[order], _oddities(gaps, normal)


def _oddities(gaps: NDArray[np.float64], normal: NDArray[np.float64]) -> list[str]:
    notes = []
    if len(gaps) and gaps.max() > 1.05 * gaps.min():
        notes.append(f"slice spacing varies from {gaps.min():.2f} to {gaps.max():.2f} mm")
    tilt = float(np.degrees(np.arccos(min(1.0, float(np.abs(normal).max())))))
    if tilt > 0.5:
        notes.append(f"slices are tilted by {tilt:.1f} degrees")
    return notes


def _decode(item: Slice) -> tuple[Volume, bool]:
    """(rows, columns) values after the modality transform, and whether MONOCHROME1."""
    dataset = read_dataset(item.path, pixels=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = dataset.pixel_array
            values = _modality_values(dataset, stored)
            padding = _padding(dataset, stored)
    except Exception as error:  # noqa: BLE001 - decoders raise almost anything on damaged pixels
        advice = " (compressed: install securefed[dicom])" if _compressed(dataset) else ""
        raise DataError(
            f"{item.path.name}: the pixels cannot be decoded: {str(error)[:120]}{advice}"
        ) from None
    if stored.shape != item.shape:
        raise DataError(f"{item.path.name}: the pixels do not match Rows and Columns")
    if values is None:
        raise DataError(f"{item.path.name}: RescaleSlope or RescaleIntercept is unusable")
    if padding.any() and not padding.all():
        values[padding] = LOWEST_HU if item.modality == "CT" else values[~padding].min()
    if item.modality == "CT":
        values = np.clip(values, LOWEST_HU, HIGHEST_HU)
    return values, str(dataset.PhotometricInterpretation) == "MONOCHROME1"


def _modality_values(dataset: Dataset, stored: NDArray[np.int64]) -> Volume | None:
    """Values after the modality transform (PS3.3, C.11.1); None where it cannot be used."""
    if not dataset.get("ModalityLUTSequence"):
        scale = [dataset.get(keyword) for keyword in ("RescaleSlope", "RescaleIntercept")]
        if scale == [None, None]:
            return stored.astype(np.float32)
        # pydicom passes over one without the other.
        if None in scale or not np.isfinite([float(each) for each in scale]).all() or not scale[0]:
            return None
    return np.asarray(apply_modality_lut(stored, dataset), dtype=np.float32)


def _padding(dataset: Dataset, stored: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where the scanner stored "outside the field of view" (PS3.3, C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue", None)
    if value is None:
        return np.zeros(stored.shape, dtype=np.bool_)
    limit = dataset.get("PixelPaddingRangeLimit", None)
    low, high = sorted((int(value), int(value if limit is None else limit)))
    return np.asarray((stored >= low) & (stored <= high), dtype=np.bool_)


def _compressed(dataset: Dataset) -> bool:
    meta = getattr(dataset, "file_meta", None)
    syntax = getattr(meta, "TransferSyntaxUID", None)
    return bool(syntax is not None and syntax.is_compressed)
