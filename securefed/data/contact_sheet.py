"""One picture of a patient: what every modality shows, and whether they lie on each other.

Columns are slices, evenly spaced from the lowest to the highest. Rows are the modalities, then, for
each after the first, two that compare it with the first: an overlay (the first in green, the other
in magenta: where both are bright alike it is grey, and a shifted outline has a coloured rim), and a
checkerboard of both (edges run on across its fields where the two are registered).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from securefed.data.samples import Patient

COLUMNS = 8  # slices at most
FIELDS = 6  # of the checkerboard, along an edge
GAP = 2  # pixels between pictures
MARGIN = 110  # pixels left of the pictures, for the rows' names
TOP = 16  # pixels above them, for the slices' numbers
INK = (150, 150, 150)

Pictures = NDArray[np.uint8]  # (columns, size, size, 3)


def contact_sheet(patient: Patient) -> Image.Image:
    """The sheet, in colour; a slice that a modality or a pair of them lacks is left black."""
    slices = evenly_spaced(patient.slices)
    size, rows = patient.image_size, list(_rows(patient, slices))
    step = size + GAP
    sheet = Image.new("RGB", (MARGIN + step * len(slices), TOP + step * len(rows)))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for column, number in enumerate(slices):
        pen.text((MARGIN + column * step, 2), f"{number + 1}", INK, font)
    for row, (name, pictures) in enumerate(rows):
        top = TOP + row * step
        pen.text((2, top + size // 2 - 6), name, INK, font)
        for column, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (MARGIN + column * step, top))
    return sheet


def evenly_spaced(count: int) -> NDArray[np.int64]:
    """Which of so many slices are shown: COLUMNS at most, both ends among them."""
    shown: NDArray[np.int64] = np.linspace(0, count - 1, min(count, COLUMNS)).round().astype(int)
    return shown


def _rows(patient: Patient, slices: NDArray[np.int64]) -> Iterator[tuple[str, Pictures]]:
    """What each row is called, and its pictures."""
    for name, images, _ in patient:
        yield name.upper(), np.repeat(images[slices][..., None], 3, axis=-1)
    first, *others = patient.modalities
    for other in others:
        both = (patient.present_of(first) & patient.present_of(other))[slices, None, None]
        here, there = (
            patient.images_of(first)[slices] * both,
            patient.images_of(other)[slices] * both,
        )
        yield f"{first.upper()} + {other.upper()}", np.stack([there, here, there], axis=-1)
        fields = _checkerboard(patient.image_size)
        mixed = np.where(fields, here, there)
        yield f"{first.upper()} | {other.upper()}", np.repeat(mixed[..., None], 3, axis=-1)


def _checkerboard(size: int) -> NDArray[np.bool_]:
    """(size, size), True in every other field."""
    place = np.arange(size) * FIELDS // size
    fields: NDArray[np.bool_] = (place[:, None] + place) % 2 == 0
    return fields
