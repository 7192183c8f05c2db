"""Every volume the same way up, with square pixels: what a picture needs to be comparable.

A patient may lie on the back, the face or a side, and come head or feet first; the orientation in
the header says how the stored rows and columns lie in the patient. Here axes are swapped and
reversed so that in an axial picture row 0 is anterior and column 0 the patient's right; coronal and
sagittal pictures have row 0 at the top of the head, sagittal ones column 0 anterior. A fine coronal
or sagittal volume (3D sequences are stored so) is cut into axial slices. Only whole turns: nothing
is interpolated but pixels that are not square. Axes: PS3.3, C.7.6.2.1.1 (x to the
left, y to the back, z to the head).
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from securefed.errors import DataError

Volume = NDArray[np.float32]  # (slices, rows, columns)
Points = NDArray[np.float64]

LARGEST_ASPECT = 10.0
FINE_MM = 2.0  # slices closer than this can be cut in another plane
_EVEN = 0.05  # share by which slice distances of a fine volume may differ
_ASIDE_MM = 0.5  # and a slice may lie aside of the one before
_SQUARE = 0.01  # pixels that differ less are square
_OBLIQUE = 0.7  # a normal further than 45 degrees from each axis has no plane
# Plane -> the direction of columns from left to right, and of rows from top to bottom.
_UPRIGHT = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
}
_NORMALS = ("sagittal", "coronal", "axial")  # of x, y and z


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a volume lie.

    axes: (2, 3) unit vectors along columns and rows. spacing: row and column spacing, mm.
    positions: (slices, 3) centre of each slice's first pixel, mm. None: not known.
    aspect: height of a pixel by its width, known also where the spacing is not.
    """

    axes: Points | None = field(repr=False)
    spacing: tuple[float, float] | None
    positions: Points | None = field(repr=False)
    aspect: float = 1.0


def plane_of(axes: Points | None) -> str:
    """axial, coronal or sagittal by the nearest axis; oblique; "" without orientation."""
    if axes is None:
        return ""
    normal = np.abs(np.cross(axes[0], axes[1]))
    return _NORMALS[int(normal.argmax())] if normal.max() > _OBLIQUE else "oblique"


def tilt_degrees(direction: Points) -> float:
    """The angle between a unit vector and the nearest axis of the patient."""
    return float(np.degrees(np.arccos(min(1.0, float(np.abs(direction).max())))))


def upright(values: Volume, grid: Grid) -> tuple[Volume, Grid]:
    """The same volume with rows and columns as every picture has them.

    Slices keep their order here; reversed axes can turn the normal round (see `ascending`).
    """
    if grid.axes is None:
        return values, grid
    across, down = grid.axes
    target = _UPRIGHT.get(plane_of(grid.axes), _UPRIGHT["axial"])
    if abs(across @ target[0]) + abs(down @ target[1]) < abs(across @ target[1]) + abs(
        down @ target[0]
    ):
        values, grid = _transposed(values, grid)
    for axis, wanted in enumerate(target):
        if grid.axes is not None and grid.axes[axis] @ wanted < 0:
            values, grid = _reversed(values, grid, axis)
    return values, grid


def ascending(values: Volume, grid: Grid) -> tuple[Volume, Grid]:
    """The slices in the order of their heights along the normal."""
    if grid.axes is None or grid.positions is None:
        return values, grid
    order = np.argsort(grid.positions @ np.cross(*grid.axes), kind="stable")
    if (np.diff(order) > 0).all():
        return values, grid
    return values[order], Grid(grid.axes, grid.spacing, grid.positions[order], grid.aspect)


def is_fine(steps_mm: Points, spacing: tuple[float, float] | None) -> bool:
    """Whether slices (mm between them) are so even and close that any plane can be cut."""
    if len(steps_mm) < 2 or spacing is None:
        return False
    even = float(steps_mm.max() - steps_mm.min()) <= _EVEN * float(steps_mm.mean())
    return even and float(steps_mm.max()) <= FINE_MM


def axial(values: Volume, grid: Grid) -> tuple[Volume, Grid]:
    """A fine coronal or sagittal volume as axial slices: another order of the same voxels."""
    if grid.axes is None or grid.positions is None or grid.spacing is None:
        return values, grid
    across, down = grid.axes
    normal = np.cross(across, down)
    between = np.diff(grid.positions, axis=0)
    if plane_of(grid.axes) not in ("coronal", "sagittal") or not is_fine(
        between @ normal, grid.spacing
    ):
        return values, grid
    directions = np.stack([normal, down, across])  # of the array's axes
    steps = np.array([float((between @ normal).mean()), *grid.spacing])
    order = [int(np.abs(directions[:, patient]).argmax()) for patient in (2, 1, 0)]
    aside = np.linalg.norm(between - np.outer(between @ normal, normal), axis=1).max()
    if len(set(order)) < 3 or aside > _ASIDE_MM:
        return values, grid
    directions, steps = directions[order], steps[order]
    values, corner = values.transpose(order), grid.positions[0].copy()
    for axis, patient in enumerate((2, 1, 0)):
        if directions[axis, patient] < 0:
            corner += (values.shape[axis] - 1) * steps[axis] * directions[axis]
            directions[axis] = -directions[axis]
            values = np.flip(values, axis)
    positions = corner + np.outer(np.arange(len(values)) * steps[0], directions[0])
    edges = (float(steps[1]), float(steps[2]))
    cut = Grid(directions[[2, 1]], edges, positions, edges[0] / edges[1])
    return np.ascontiguousarray(values), cut


def square(values: Volume, grid: Grid) -> tuple[Volume, Grid]:
    """Pixels as wide as high, by linear interpolation along the coarser edge.

    Raises:
        DataError: one edge is more than LARGEST_ASPECT times the other.
    """
    if abs(grid.aspect - 1) < _SQUARE:
        return values, grid
    if not 1 / LARGEST_ASPECT <= grid.aspect <= LARGEST_ASPECT:
        raise DataError(f"has pixels {grid.aspect:.2g} times as high as wide")
    axis, factor = (1, grid.aspect) if grid.aspect > 1 else (2, 1 / grid.aspect)
    count = int((values.shape[axis] - 1) * factor) + 1
    places = [np.arange(edge, dtype=float) for edge in values.shape[1:]]
    places[axis - 1] = np.arange(count) / factor
    rows, columns = np.meshgrid(*places, indexing="ij")
    finer = np.stack([ndimage.map_coordinates(image, [rows, columns], order=1) for image in values])
    edge = None if grid.spacing is None else min(grid.spacing)
    spacing = None if edge is None else (edge, edge)
    return finer, Grid(grid.axes, spacing, grid.positions)


def _transposed(values: Volume, grid: Grid) -> tuple[Volume, Grid]:
    axes = None if grid.axes is None else grid.axes[::-1]
    spacing = None if grid.spacing is None else grid.spacing[::-1]
    swapped = Grid(axes, spacing, grid.positions, 1 / grid.aspect)
    return np.ascontiguousarray(values.transpose(0, 2, 1)), swapped


def _reversed(values: Volume, grid: Grid, axis: int) -> tuple[Volume, Grid]:
    """Reverse the columns (axis 0) or the rows (axis 1)."""
    if grid.axes is None:
        return values, grid
    edge = values.shape[2 - axis]
    axes, positions = grid.axes.copy(), grid.positions
    if positions is not None:
        step = grid.spacing[1 - axis] if grid.spacing is not None else 0.0
        positions = positions + (edge - 1) * step * axes[axis]
    axes[axis] = -axes[axis]
    flipped = np.ascontiguousarray(np.flip(values, 2 - axis))
    return flipped, Grid(axes, grid.spacing, positions, grid.aspect)
