"""A head in millimetres, and scans of it from any place: what registration is tested on.

Ellipsoids: scalp, skull, brain with white matter, two ventricles, a nose, and one lesion that CT
and MRI both show. The head's own coordinates have x to the left, y to the back, z to the top.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from securefed.data.dicom.geometry import Grid
from securefed.data.dicom.volume import Series

Points = NDArray[np.float64]
AXIAL = np.array([[1.0, 0, 0], [0, 1, 0]])
LESION = np.array([22.0, -42.0, 15.0])
# centre, radii, HU, MR signal; the later ones lie above
_PARTS = (
    ((0, 0, 0), (72, 92, 80), 30, 260),
    ((0, -90, -25), (11, 16, 15), 25, 240),
    ((0, 0, 0), (68, 88, 76), 900, 40),
    ((0, 0, 0), (63, 83, 71), 38, 300),
    ((4, 0, 2), (46, 62, 50), 28, 420),
    ((14, -10, 8), (7, 25, 11), 6, 80),
    ((-12, -6, 6), (6, 22, 10), 6, 80),
    ((0, 48, -36), (32, 18, 17), 42, 350),
    (LESION, (13, 13, 13), 66, 900),
)


@dataclass(frozen=True)
class Place:
    """Where a head lies in a scanner: turned by degrees about x, y and z, then shifted by mm."""

    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def rotation(self) -> Points:
        return np.asarray(Rotation.from_euler("xyz", self.turn, degrees=True).as_matrix())

    def of(self, points: Points) -> Points:
        """Scanner coordinates of points of the head."""
        return np.asarray(points @ self.rotation.T + self.shift)


def scan(
    modality: str,
    place: Place,
    *,
    slices: int = 30,
    gap: float = 5.0,
    pixels: int = 64,
    spacing: float = 3.2,
    middle: tuple[float, float, float] = (0.0, 0.0, 0.0),
    axes: Points = AXIAL,
    noise: float = 0.0,
    keep: NDArray[np.int64] | None = None,
    frame: str = "",
    parts: Any = _PARTS,
) -> Series:
    """A stack of slices about `middle`, mm from where the head lies."""
    across, down = axes
    normal = np.cross(across, down)
    centre = np.array(place.shift) + middle
    numbers = np.arange(slices) if keep is None else keep
    heights = (numbers - (slices - 1) / 2) * gap
    offset = (np.arange(pixels) - (pixels - 1) / 2) * spacing
    plane = offset[:, None, None] * down + offset[None, :, None] * across
    points = centre + heights[:, None, None, None] * normal + plane
    values = _values((points - place.shift) @ place.rotation, modality, parts)
    values += np.random.default_rng(7).normal(0, noise, values.shape)
    grid = Grid(axes, (spacing, spacing), points[:, 0, 0])
    return Series(modality, values.astype(np.float32), grid, frame)


def _values(points: Points, modality: str, parts: Any) -> Points:
    values = np.full(points.shape[:-1], -1000.0 if modality == "CT" else 0.0)
    for centre, radii, hounsfield, signal in parts:
        inside = (((points - centre) / radii) ** 2).sum(axis=-1) <= 1
        values[inside] = hounsfield if modality == "CT" else signal
    return values
