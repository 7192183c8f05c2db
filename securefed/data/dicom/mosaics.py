"""Siemens mosaics: many small slices side by side in one picture, each at its place.

The header has the corner of the whole sheet as if it were one large slice about the middle of the
first one, and one direction for all. The direction in which the slices follow each other stands in
the maker's own header only (SliceNormalVector of CSA), which anonymisers take out: without it the
order would be a guess, and the mosaic is left. nibabel reads that header. Layout: nipy.org/nibabel,
"Siemens mosaic format"; dcm2niix reads the same (tests/data/dicom/test_dicom_oracle.py).
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from securefed.data.dicom.words import private_value, values_of

_MOST_TILES = 400
_PARALLEL = 0.99  # cosine between the maker's direction and the normal of the picture


def set_own(header: Dataset, **values: object) -> None:
    """Set values of a header whose elements are another's too: pydicom changes those in place."""
    for keyword, value in values.items():
        if keyword in header:
            del header[keyword]
        setattr(header, keyword, value)


@dataclass(frozen=True)
class Mosaic:
    """A sheet of `tiles` slices, `side` to a row, each `shape` rows and columns."""

    tiles: int
    side: int
    shape: tuple[int, int]
    corner: NDArray[np.float64] = field(repr=False)  # (3,) mm, first pixel of the first slice
    step: NDArray[np.float64] = field(repr=False)  # (3,) mm from a slice to the next

    def header(self, sheet: Dataset, number: int) -> Dataset:
        """The header of one slice, as if it had a file of its own."""
        tile = Dataset()
        tile.update({e.tag: e for e in sheet if e.keyword != "PixelData" and not e.tag.is_private})
        types = [each for each in values_of(sheet, "ImageType") if each != "MOSAIC"]
        place = (self.corner + number * self.step).tolist()
        set_own(tile, ImageType=types, ImagePositionPatient=place)
        set_own(tile, Rows=self.shape[0], Columns=self.shape[1])
        return tile

    def cut(self, sheet: NDArray[Any], number: int) -> NDArray[Any]:
        """(rows, columns) of one slice out of the whole picture."""
        row, column = divmod(number, self.side)
        rows, columns = self.shape
        return sheet[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns]


def tiles_of(header: Dataset) -> int:
    """NumberOfImagesInMosaic, which stays where ImageType has been changed; 1 for no mosaic."""
    try:
        return int(private_value(header, 0x0019, "SIEMENS MR HEADER", 0x0A))
    except (TypeError, ValueError):
        pass
    tags = _maker_tags(header) if "MOSAIC" in values_of(header, "ImageType") else {}
    return int(next(iter(tags.get("NumberOfImagesInMosaic", ())), 1))


def mosaic_of(header: Dataset) -> Mosaic | None:
    """The sheet, if it is one and the places of its slices are known."""
    tiles = tiles_of(header)
    if not 1 < tiles <= _MOST_TILES:
        return None
    normal = np.array(_maker_tags(header).get("SliceNormalVector", ()), dtype=np.float64)
    places = [
        header.get(keyword, None)
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    ]
    distance = header.get("SpacingBetweenSlices", None) or header.get("SliceThickness", None)
    side = math.isqrt(tiles - 1) + 1
    rows, columns = int(header.Rows), int(header.Columns)
    if normal.shape != (3,) or not all(places) or not distance or rows % side or columns % side:
        return None
    corner, axes, spacing = (np.array([float(each) for each in place or ()]) for place in places)
    across, down = axes.reshape(2, 3)
    if abs(float(normal @ np.cross(across, down))) < _PARALLEL:
        return None
    shape = rows // side, columns // side
    # The corner of the sheet is off by half of what the sheet is larger than a slice.
    corner = corner + (rows - shape[0]) / 2 * spacing[0] * down
    corner = corner + (columns - shape[1]) / 2 * spacing[1] * across
    return Mosaic(tiles, side, shape, corner, normal * float(distance))


def _maker_tags(header: Dataset) -> dict[str, tuple[Any, ...]]:
    """Siemens' own image header, names to values; empty where it is absent or damaged."""
    try:
        from nibabel.nicom import csareader

        read: Any = csareader.read
        tags = read(bytes(private_value(header, 0x0029, "SIEMENS CSA HEADER", 0x10)))["tags"]
    except Exception:  # noqa: BLE001 - a damaged header makes its reader raise almost anything
        return {}
    return {name: tuple(tag["items"]) for name, tag in tags.items()}
