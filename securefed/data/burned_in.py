"""Pictures with letters in them: what a header cannot take out, and a name may stand in.

A letter is a small bright piece that stands apart; a word is LETTERS of them in a row, of about one
height and close together. Words are looked for in a few whole pictures of each patient, as they are
stored: a device writes on all or on none. What lies on bright tissue is not apart and not seen, and
what is drawn thinner than a pixel is nothing here; a scan without words may still show a face.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from securefed.data.images import read_picture
from securefed.data.manifest import Row
from securefed.errors import DataError
from securefed.wording import counted, first_of

LETTERS = 4
BRIGHT = 0.6  # of the brightest pixel
HEIGHTS = (5, 64)  # pixels, of a letter
WIDEST = 1.6  # of its height
FILLED = (0.12, 0.9)  # of its box: strokes, neither a speck nor a block
ALIKE = 1.35  # of two heights in a word
APART = 1.2  # of its height, from one letter to the next
MOST_LETTERS = 5000  # of a page of text

Boxes = NDArray[np.int64]  # (n, 4): top, bottom, left, right


def burned_in(rows: Sequence[Row]) -> list[str]:
    """A line if patients have pictures that seem to hold letters; names patients."""
    suspects = list(dict.fromkeys(row.patient_id for row in rows_looked_at(rows) if _shows(row)))
    if not suspects:
        return []
    return [
        f"letters seem to be burned into pictures of {counted(len(suspects), 'patient')}: "
        f"{first_of(suspects, ', ')}; look at them, a name may stand there"
    ]


def rows_looked_at(rows: Sequence[Row]) -> Iterator[Row]:
    """Of each patient the first and the middle row."""
    by_patient: dict[str, list[Row]] = {}
    for row in rows:
        by_patient.setdefault(row.patient_id, []).append(row)
    for group in by_patient.values():
        yield group[0]
        if len(group) > 1:
            yield group[len(group) // 2]


def _shows(row: Row) -> bool:
    for path in row.images.values():
        try:
            picture = read_picture(path)
        except DataError:
            continue  # named elsewhere
        if words(np.asarray(picture, np.float32)):
            return True
    return False


def words(picture: NDArray[np.float32]) -> int:
    """How many rows of letters a picture (rows, columns) seems to hold."""
    boxes = _letters(picture)
    if len(boxes) > MOST_LETTERS:
        return 0  # a texture, and what follows looks at each piece for each line
    found = 0
    while len(boxes) >= LETTERS:
        line = _line_of(boxes, boxes[0])
        found += _longest_run(boxes[line]) >= LETTERS
        boxes = boxes[~line]
    return found


def _letters(picture: NDArray[np.float32]) -> Boxes:
    low, high = float(picture.min()), float(picture.max())
    pieces, _ = ndimage.label(picture > low + BRIGHT * (high - low), np.ones((3, 3)))
    boxes = []
    for number, place in enumerate(ndimage.find_objects(pieces), 1):
        down, across = place
        height, width = down.stop - down.start, across.stop - across.start
        if HEIGHTS[0] <= height <= HEIGHTS[1] and width <= WIDEST * height:
            filled = float((pieces[place] == number).mean())
            if FILLED[0] <= filled <= FILLED[1]:
                boxes.append((down.start, down.stop, across.start, across.stop))
    return np.array(sorted(boxes), np.int64).reshape(-1, 4)


def _line_of(boxes: Boxes, one: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which boxes stand on the same line as `one`, and are about as high."""
    heights, height = boxes[:, 1] - boxes[:, 0], one[1] - one[0]
    level = np.minimum(abs(boxes[:, 1] - one[1]), abs(boxes[:, 0] - one[0])) <= height * 0.15 + 1
    return np.asarray(level & (heights <= ALIKE * height) & (height <= ALIKE * heights))


def _longest_run(boxes: Boxes) -> int:
    """Letters of the longest word: each begins soon after the one before it ends."""
    ordered = boxes[np.argsort(boxes[:, 2])]
    longest = run = 1
    for before, after in pairwise(ordered):
        gap, height = after[2] - before[3], before[1] - before[0]
        run = run + 1 if 0 <= gap <= APART * height else 1
        longest = max(longest, run)
    return longest
