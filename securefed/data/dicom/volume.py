"""From a stack of images to a volume in physical units, the right way up, with its places.

Slices are sorted by their position along the normal; spacing may vary and the gantry may tilt, both
are reported and kept, never assumed away. A slice that cannot be read is left out and named.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np
from numpy.typing import NDArray

from securefed.data.dicom.geometry import (
    Grid,
    ascending,
    axial,
    plane_of,
    square,
    tilt_degrees,
    upright,
)
from securefed.data.dicom.grey_values import (
    AIR_HU,
    Volume,
    grey_values,
    scale_mri,
    window_ct,
)
from securefed.data.dicom.header import Slice
from securefed.data.dicom.stacks import Stack
from securefed.errors import DataError

Points = NDArray[np.float64]

_TILTED_DEGREES = 0.5  # less is not worth a note


@dataclass(frozen=True)
class Series:
    """One series as a volume, with the geometry to place it.

    Attributes:
        values: HU for CT, scanner units for MR; an axial row 0 is anterior.
        grid: where they lie; without positions it cannot be paired.
        frame: what its coordinates refer to: series of one frame share them; "" if unknown.
        notes: what is unusual: gaps, tilt, missing geometry.
        unreadable: images that were left out, and why.
    """

    modality: str
    values: Volume = field(repr=False)
    grid: Grid = field(repr=False)
    frame: str = field(default="", repr=False)
    study_date: date | None = field(default=None, repr=False)
    inverted: bool = False  # MONOCHROME1: low values are to be shown bright
    notes: tuple[str, ...] = ()
    unreadable: tuple[tuple[Slice, str], ...] = field(default=(), repr=False)

    @property
    def positions(self) -> Points | None:
        """(slices, 3) centre of each slice's first pixel, mm; None if it cannot be placed."""
        return self.grid.positions

    @property
    def steps(self) -> tuple[Points, Points]:
        """(3,) steps in mm from one column to the next, and from one row to the next.

        Raises:
            DataError: orientation or pixel spacing is not known.
        """
        if self.grid.axes is None or self.grid.spacing is None:
            raise DataError("has no orientation or no pixel spacing")
        across, down = self.grid.axes
        return across * self.grid.spacing[1], down * self.grid.spacing[0]

    @property
    def normal(self) -> Points:
        """(3,) unit normal of the slices."""
        across, down = self.steps
        normal = np.cross(across, down)
        return np.asarray(normal / np.linalg.norm(normal))


def build_series(stack: Stack) -> Series:
    """Read the images of a stack as one volume.

    Raises:
        DataError: no image can be read, or MONOCHROME1 and MONOCHROME2 are mixed.
    """
    kept, values, inverted, unreadable = _read(stack)
    if len(inverted) > 1:
        raise DataError("mixes MONOCHROME1 and MONOCHROME2")
    grid, notes = _grid(kept)
    turned = turned_upright(Series(stack.first.modality, values, grid, notes=tuple(notes)))
    return replace(
        turned,
        frame=stack.first.frame,
        study_date=stack.first.study_date,
        inverted=inverted.pop(),
        notes=(*stack.notes, *turned.notes),
        unreadable=(*stack.unreadable, *unreadable),
    )


def turned_upright(series: Series) -> Series:
    """A volume the way up that every picture has, with notes of what is unusual about it.

    Raises:
        DataError: pixels that are far from square.
    """
    values, grid = series.values, series.grid
    stored = plane_of(grid.axes)
    for step in (upright, ascending, axial, square):
        values, grid = step(values, grid)
    cut = plane_of(grid.axes) != stored
    notes = [f"its fine {stored} slices were cut into axial ones"] if cut else []
    notes += _oddities(series.modality, values, grid)
    return replace(series, values=values, grid=grid, notes=(*series.notes, *notes))


def to_eight_bits(series: Series, values: Volume, window: str) -> NDArray[np.uint8]:
    """8-bit images of a series' values, which may have been resampled."""
    images = window_ct(values, window) if series.modality == "CT" else scale_mri(values)
    return 255 - images if series.inverted else images


def _read(
    stack: Stack,
) -> tuple[list[Slice], Volume, set[bool], list[tuple[Slice, str]]]:
    """The readable images, their values in one block, whether inverted, and the others."""
    kept: list[Slice] = []
    values = np.empty((len(stack.slices), *stack.first.shape), dtype=np.float32)
    inversions: set[bool] = set()
    unreadable: list[tuple[Slice, str]] = []
    for item in stack.slices:
        try:
            values[len(kept)], inverted = grey_values(item)
            inversions.add(inverted)
            kept.append(item)
        except DataError as error:
            unreadable.append((item, str(error)))
    if not kept:
        raise DataError(unreadable[0][1])
    return kept, values[: len(kept)], inversions, unreadable


def _grid(slices: Sequence[Slice]) -> tuple[Grid, list[str]]:
    first = slices[0]
    places = [item.position for item in slices if item.position is not None]
    if first.axes is None:
        note = "has no ImageOrientationPatient: shown as stored, and not pairable"
    elif len(places) < len(slices):
        note = "has no ImagePositionPatient: sorted by InstanceNumber, and not pairable"
    elif first.spacing is None:
        note = "has no PixelSpacing: its scale is not known, and it is not pairable"
    else:
        return Grid(first.axes, first.spacing, np.stack(places), first.aspect), []
    return Grid(first.axes, first.spacing, None, first.aspect), [note]


def _oddities(modality: str, values: Volume, grid: Grid) -> list[str]:
    notes = []
    if grid.axes is not None and grid.positions is not None:
        gaps = np.diff(grid.positions @ np.cross(*grid.axes))
        if len(gaps) and gaps.max() > 1.05 * gaps.min():
            notes.append(f"slice spacing varies from {gaps.min():.2f} to {gaps.max():.2f} mm")
    if grid.axes is not None:
        tilt = tilt_degrees(np.cross(*grid.axes))
        if tilt > _TILTED_DEGREES:
            notes.append(f"slices are tilted by {tilt:.1f} degrees")
        turn = min(map(tilt_degrees, grid.axes))
        if turn > _TILTED_DEGREES:
            notes.append(f"pictures are turned in their plane by {turn:.1f} degrees")
        if plane_of(grid.axes) != "axial":
            notes.append(f"slices are {plane_of(grid.axes)}, not axial")
    if modality == "CT":
        notes += _without_air(values)
    return notes


def _without_air(values: Volume) -> list[str]:
    """Doubts about a CT, or some of its slices, that show no air: a rescale may be wrong."""
    airless = int((values.min(axis=(1, 2)) > AIR_HU).sum())
    if airless == len(values):
        return [f"nowhere below {values.min():.0f} HU: is it in Hounsfield units?"]
    if airless:
        what = f"{airless} of {len(values)} slices nowhere below {AIR_HU:.0f} HU, unlike the others"
        return [f"{what}: is their rescale right?"]
    return []
