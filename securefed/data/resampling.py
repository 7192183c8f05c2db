"""Values of a series at points between its pixels, and which points it does not show.

Points are millimetres in the patient coordinate system of PS3.3, C.7.6.2. Interpolation is linear,
along the true positions of tilted or uneven slices. A series shows nothing beyond its field of
view, and nothing where slices are missing: between two slices further apart than LARGEST_STEP
times the usual distance, or than LARGEST_GAP_MM, a picture would be made up.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from securefed.data.dicom.volume import Series

Points = NDArray[np.float64]  # (..., 3) mm

LARGEST_STEP = 1.5
LARGEST_GAP_MM = 12.0  # thick slices are 5 to 8 mm apart, with their gaps; 10 mm is rare
SINGLE_SLICE_MM = 2.5  # half the thickness assumed for a series of one slice
_ROUNDING = 1e-3  # of a pixel or slice
_ROUNDING_MM = 0.1  # of positions, which headers write in few digits


@dataclass(frozen=True)
class Rigid:
    """y = rotation x + shift."""

    rotation: Points = field(default_factory=lambda: np.eye(3), repr=False)  # (3, 3)
    shift: Points = field(default_factory=lambda: np.zeros(3), repr=False)  # (3,) mm

    def apply(self, points: Points) -> Points:
        """(..., 3) points to where they go."""
        return np.asarray(points @ self.rotation.T + self.shift)


def positions(series: Series) -> Points:
    """(slices, 3) centre of each slice's first pixel.

    Raises:
        ValueError: the series has no geometry.
    """
    if series.positions is None:
        raise ValueError("the series has no geometry")
    return series.positions


def pixels(series: Series, index: int) -> Points:
    """(rows, columns, 3) centres of the pixels of one slice."""
    rows, columns = series.values.shape[1:]
    across, down = series.steps
    grid = np.arange(rows)[:, None, None] * down + np.arange(columns)[None, :, None] * across
    return np.asarray(grid + positions(series)[index])


def gaps(series: Series) -> NDArray[np.bool_]:
    """(slices - 1,) where slices are missing between one and the next."""
    distances = np.diff(positions(series) @ series.normal)
    if not len(distances):
        return np.zeros(0, dtype=np.bool_)
    return np.asarray(distances > min(LARGEST_STEP * float(np.median(distances)), LARGEST_GAP_MM))


def sample(
    values: NDArray[np.float32], series: Series, points: Points
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values of (slices, rows, columns) at points, and which points the series shows.

    Where it shows nothing the value is that of the nearest place where it does, or interpolated
    over a gap; mask it.
    """
    origins = positions(series)
    heights = origins @ series.normal
    height = points @ series.normal
    number = np.interp(height, heights, np.arange(len(heights)))
    # The first pixel of a slice between two slices lies between theirs: this follows a tilt.
    origin = np.stack(
        [np.interp(number, np.arange(len(heights)), origins[:, axis]) for axis in range(3)], -1
    )
    across, down = series.steps
    offset = points - origin
    column = offset @ across / (across @ across)
    row = offset @ down / (down @ down)
    rows, columns = series.values.shape[1:]
    shown = _between_slices(height, heights, number, gaps(series))
    for place, last in ((row, rows - 1), (column, columns - 1)):
        shown &= (place >= -_ROUNDING) & (place <= last + _ROUNDING)
    sampled = ndimage.map_coordinates(values, [number, row, column], order=1, mode="nearest")
    return sampled, shown


def _between_slices(
    height: NDArray[np.float64],
    heights: NDArray[np.float64],
    number: NDArray[np.float64],
    missing: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    if len(heights) == 1:
        return np.asarray(np.abs(height - heights[0]) <= SINGLE_SLICE_MM)
    shown = (height >= heights[0] - _ROUNDING_MM) & (height <= heights[-1] + _ROUNDING_MM)
    below = np.minimum(number.astype(np.intp), len(missing) - 1)
    on_a_slice = np.abs(number - np.round(number)) <= _ROUNDING
    return np.asarray(shown & (~missing[below] | on_a_slice))
