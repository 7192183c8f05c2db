"""Grey values that are what they say: from stored numbers to Hounsfield units and to 8 bits.

CT is read as Hounsfield units or not at all: without rescale, or with a rescale to something else
(electron density, effective atomic number, unspecified), its numbers mean nothing that is known.
MR has no unit; slope and intercept of each slice are applied where given, and the volume is scaled
by its own percentiles: no statistic of one patient ever touches another. MONOCHROME1 says how to
*show* numbers, so it inverts MR pictures, and never Hounsfield units. PS3.3, C.11.1, C.7.6.3.1.2.
"""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut

from securefed.data.dicom.header import Slice
from securefed.data.dicom.pixels import Stored, stored_pixels, unwarned
from securefed.errors import DataError

Plane = NDArray[np.float32]  # (rows, columns)
Volume = NDArray[np.float32]  # (slices, rows, columns)

LOWEST_HU, HIGHEST_HU = -1024.0, 3071.0
AIR_HU = -500.0  # a CT that nowhere goes below shows no air, or is not in Hounsfield units
MOST_HU = 31_743.0  # of scales extended for metal: 32,767 - 1,024
WINDOWS = {"brain": (80.0, 40.0), "subdural": (200.0, 75.0), "bone": (2500.0, 550.0)}
_HOUNSFIELD = ("", "HU")
_EXACT = 2.0**16  # with words of 16 bits float32 holds every sum


@unwarned()
def grey_values(item: Slice) -> tuple[Plane, bool]:
    """HU for CT, scanner units for MR; and whether low values are to be shown bright.

    Raises:
        DataError: the pixels cannot be decoded, or their values are not known.
    """
    stored, header = stored_pixels(item)
    if item.modality == "CT":
        _require_hounsfield(header)
    values = _modality_values(stored, header)
    padding = _padding(stored, header)
    if padding is not None and padding.any() and not padding.all():
        values[padding] = LOWEST_HU if item.modality == "CT" else values[~padding].min()
    if item.modality == "CT":
        highest = float(values.max())
        if highest > MOST_HU:
            raise DataError(f"holds {highest:.0f}, which no tissue or metal has: a lost sign?")
        return np.clip(values, LOWEST_HU, HIGHEST_HU, out=values), False
    return values, str(header.PhotometricInterpretation) == "MONOCHROME1"


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


def _require_hounsfield(header: Dataset) -> None:
    table = header.get("ModalityLUTSequence", None)
    if table:
        kind = str(table[0].get("ModalityLUTType", "") or "").strip().upper()
        if kind != "HU":
            raise DataError(f"has a modality table to {kind or 'an unnamed unit'}, not to HU")
        return
    if header.get("RescaleSlope", None) is None and header.get("RescaleIntercept", None) is None:
        raise DataError(
            "has no RescaleSlope and RescaleIntercept, so its Hounsfield units are not known"
        )
    kind = str(header.get("RescaleType", "") or "").strip().upper()
    if kind not in _HOUNSFIELD:
        raise DataError(f"has RescaleType {kind}, not HU: these are no Hounsfield units")


def _modality_values(stored: Stored, header: Dataset) -> Plane:
    """Values after the modality transform: the image's own table, or slope and intercept."""
    if header.get("ModalityLUTSequence", None):
        return np.asarray(apply_modality_lut(stored, header), dtype=np.float32)
    scale = [header.get(keyword, None) for keyword in ("RescaleSlope", "RescaleIntercept")]
    if scale == [None, None]:
        return stored.astype(np.float32)
    try:
        slope, intercept = (float(each) for each in scale)  # pydicom passes over a missing one
    except (TypeError, ValueError):
        slope = intercept = float("nan")
    if not np.isfinite([slope, intercept]).all() or not slope:
        raise DataError("RescaleSlope or RescaleIntercept is unusable")
    if stored.itemsize <= 2 and slope == 1 and intercept.is_integer() and abs(intercept) < _EXACT:
        values = stored.astype(np.float32)  # the same numbers, with less memory on the way
        values += np.float32(intercept)
        return values
    return np.asarray(stored * slope + intercept, dtype=np.float32)


def _padding(stored: Stored, header: Dataset) -> NDArray[np.bool_] | None:
    """Where the scanner stored "outside the field of view" (PS3.3, C.7.5.1.1.2)."""
    value = header.get("PixelPaddingValue", None)
    if value is None:
        return None
    limit = header.get("PixelPaddingRangeLimit", None)
    ends = [_as_stored(int(each), header) for each in (value, value if limit is None else limit)]
    return np.asarray((stored >= min(ends)) & (stored <= max(ends)), dtype=np.bool_)


def _as_stored(value: int, header: Dataset) -> int:
    """A padding value whose sign was lost, or found, in writing: 63,536 is -2,000 in 16 bits."""
    bits = int(header.BitsAllocated)
    value %= 1 << bits
    signed = int(header.get("PixelRepresentation", 0) or 0) == 1
    return value - (1 << bits) if signed and value >= 1 << (bits - 1) else value
