"""From a NIfTI file to the same volume that the DICOM reader gives.

NIfTI counts millimetres to the right, anterior and superior, DICOM to the left, posterior and
superior, so two axes change their sign. Any of the array's three axes may be the slices: they are
those that the scanner took, seen by their distance, else those along the body. A file says neither
what it was taken with nor in which unit nor when: the modality is the operator's word, a CT is
taken as Hounsfield units, and two files show one place only if they lie on one grid.
"""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from securefed.data.dicom.geometry import FINE_MM, Grid
from securefed.data.dicom.grey_values import HIGHEST_HU, LOWEST_HU, MOST_HU
from securefed.data.dicom.volume import Series, turned_upright
from securefed.data.nifti.files import Header, read_header, read_voxels
from securefed.errors import DataError

_LONGEST = 1.2  # of the other edges: slices that the scanner took
_UPRIGHT = 0.01  # cosine between rows and columns, as in DICOM
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_volume(path: Path, modality: str) -> Series:
    """Read one file as the volume of a patient.

    Args:
        modality: as Modality (0008,0060): "CT" is in Hounsfield units, others have no unit.

    Raises:
        DataError: as `read_header` and `read_voxels`, or no volume that can be shown.
    """
    header = read_header(path)
    grid, order = grid_of(header)
    stored = read_voxels(path, header)
    values, notes = _finite(stored.transpose(order), modality)
    if modality == "CT":
        highest = float(values.max())
        if highest > MOST_HU:
            raise DataError(f"holds {highest:.0f}, which no tissue or metal has in HU")
        np.clip(values, LOWEST_HU, HIGHEST_HU, out=values)
    frame = _frame(header)
    return turned_upright(
        Series(modality, values, grid, frame, notes=(*header.notes, *notes)),
    )


def grid_of(header: Header) -> tuple[Grid, list[int]]:
    """Where the voxels lie, and the axes of the (k, j, i) array as slices, rows and columns."""
    affine = _TO_LPS @ header.affine
    steps, corner = affine[:3, :3].T, affine[:3, 3]  # of i, j and k
    edges = np.linalg.norm(steps, axis=1)
    directions = steps / edges[:, None]
    across = _slice_axis(edges, directions)
    column, row = (axis for axis in range(3) if axis != across)
    if abs(float(directions[row] @ directions[column])) > _UPRIGHT:
        raise DataError("has rows and columns that are not at right angles")
    positions = corner + np.arange(header.shape[across])[:, None] * steps[across]
    spacing = (float(edges[row]), float(edges[column]))
    grid = Grid(directions[[column, row]], spacing, positions, spacing[0] / spacing[1])
    return grid, [2 - axis for axis in (across, row, column)]


def _slice_axis(edges: NDArray[np.float64], directions: NDArray[np.float64]) -> int:
    longest, second = np.sort(edges)[::-1][:2]
    if longest > max(FINE_MM, _LONGEST * second):
        return int(edges.argmax())
    return int(np.abs(directions[:, 2]).argmax())


def _finite(values: NDArray[np.float32], modality: str) -> tuple[NDArray[np.float32], list[str]]:
    """Voxels without a number become air, or an MRI's lowest value; a note says how many."""
    values = np.ascontiguousarray(values)
    known = np.isfinite(values)
    if known.all():
        return values, []
    if not known.any():
        raise DataError("holds no voxel that is a number")
    values[~known] = LOWEST_HU if modality == "CT" else values[known].min()
    return values, [f"{(~known).mean():.1%} of its voxels are no numbers; taken as background"]


def _frame(header: Header) -> str:
    """The same for files on one grid: then one was resampled to the other, or both to a third."""
    place = np.round(header.affine, 3) + 0.0  # no -0
    told = repr(header.shape).encode() + place.astype("<f8").tobytes()
    return "grid " + hashlib.sha256(told).hexdigest()
