"""Whether two scans that claim one frame of reference show the head at one place.

An anonymiser may give a CT and an MRI one FrameOfReferenceUID although they come from two machines;
then the claim is false by centimetres and nothing else says so. The heads' outlines are compared:
what is not air in the CT, what is not background in the MRI, holes filled. This finds heads that
lie more than about 1.5 cm apart across the slices, or 2.5 along them; it proves nothing of the
rest. A PET or a SPECT shows what takes up its tracer, no outline: of them nothing is said.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from securefed.data.alignment import tissue
from securefed.data.dicom.volume import Series
from securefed.data.pieces import largest_piece
from securefed.data.resampling import pixels, sample

LEAST_OVERLAP = 0.9  # Dice of the outlines; a doubt costs a registration, no more
_OUTLINED = ("CT", "MR")
_EDGE = 128  # pixels
_MOST_SLICES = 24  # looked at
_SHARE = (0.05, 0.95)  # of a scan that a head can fill; else its outline is not known


def head_overlap(reference: Series, scan: Series) -> float | None:
    """Dice coefficient of the outlines of two heads where both scans look, 0..1.

    None where an outline cannot be told: no air around it, or nothing that both scans show.
    """
    if not {reference.modality, scan.modality} <= set(_OUTLINED):
        return None
    reference, scan = _coarse(reference), _coarse(scan)
    first, second = _outline(tissue(reference)), _outline(tissue(scan))
    if first is None or second is None:
        return None
    both = of_either = 0
    for index in range(0, len(first), len(first) // _MOST_SLICES + 1):
        values, shown = sample(second.astype(np.float32), scan, pixels(reference, index))
        here, there = first[index] & shown, (values > 0.5) & shown
        both += int((here & there).sum())
        of_either += int(here.sum()) + int(there.sum())
    return 2 * both / of_either if of_either else None


def _coarse(series: Series) -> Series:
    """Every n-th pixel, so that an edge has no more than twice _EDGE: outlines need no more."""
    each = max(1, min(series.values.shape[1:]) // _EDGE)
    grid = series.grid
    if each == 1 or grid.spacing is None:
        return series
    spacing = (grid.spacing[0] * each, grid.spacing[1] * each)
    return replace(
        series, values=series.values[:, ::each, ::each], grid=replace(grid, spacing=spacing)
    )


def _outline(tissue: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The largest piece of each slice with its holes filled; None if it is no outline."""
    filled = np.stack([largest_piece(ndimage.binary_fill_holes(plane)) for plane in tissue])
    return filled if _SHARE[0] < filled.mean() < _SHARE[1] else None
