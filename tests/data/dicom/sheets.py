"""Siemens mosaics, made by the test, with the maker's own header as scanners write it."""

import struct
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray


def maker_header(**tags: object) -> bytes:
    """A CSA header of format 2: names to decimal strings (nipy.org/nibabel, "CSA header")."""
    parts = [b"SV10\4\3\2\1", struct.pack("<2I", len(tags), 77)]
    for name, values in tags.items():
        items = [f"{value}".encode() + b"\0" for value in np.atleast_1d(np.asarray(values))]
        vr = b"US" if name == "NumberOfImagesInMosaic" else b"FD"
        head = (name.encode(), len(items), vr, 4, len(items) + 6, 77)
        parts.append(struct.pack("<64si4s3i", *head))
        for item in [*items, *[b""] * 6]:
            parts += [struct.pack("<4i", len(item), len(item), 77, len(item)), item]
            parts.append(bytes(-len(item) % 4))
    return b"".join(parts)


def make_mosaic(
    path: Path,
    volume: NDArray[np.int16],  # (slices, edge, edge)
    first: NDArray[np.float64],  # (3,) mm of the first pixel of the first slice
    normal: NDArray[np.float64] | None,
    *,
    gap: float,
) -> None:
    """Make a plain MR slice of 1 mm pixels a mosaic; without a normal, as anonymisers leave it."""
    dataset = pydicom.dcmread(path)
    slices, edge, _ = volume.shape
    side = int(np.ceil(np.sqrt(slices)))
    sheet = np.zeros((side * edge, side * edge), dtype="<i2")
    for number, plane in enumerate(volume):
        row, column = divmod(number, side)
        sheet[row * edge : (row + 1) * edge, column * edge : (column + 1) * edge] = plane
    across, down = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
    dataset.ImagePositionPatient = (first - (side - 1) * edge / 2 * (across + down)).tolist()
    dataset.Rows, dataset.Columns = sheet.shape
    dataset.Manufacturer, dataset.ImageType = "SIEMENS", ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
    dataset.SpacingBetweenSlices, dataset.SliceThickness = gap, gap - 0.5
    dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", slices)
    if normal is not None:
        tags = maker_header(NumberOfImagesInMosaic=slices, SliceNormalVector=normal)
        dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", tags)
    dataset.PixelData = sheet.tobytes()
    dataset.save_as(path)
