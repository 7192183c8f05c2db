"""Which images have the same plane and pixels, rounding apart."""

import numpy as np

from securefed.data.dicom.header import Slice

_SAME_DIRECTION = 0.01  # of a direction cosine: half a degree
_SAME_SIZE = 1e-3  # share of a pixel's edge


class Geometries:
    """Numbers planes and pixels that are the same but for rounding."""

    def __init__(self) -> None:
        self._known: list[Slice] = []

    def number(self, item: Slice) -> int:
        """The same for images that are alike."""
        for number, known in enumerate(self._known):
            if _same_geometry(item, known):
                return number
        self._known.append(item)
        return len(self._known) - 1


def _same_geometry(one: Slice, other: Slice) -> bool:
    if one.shape != other.shape or not np.isclose(one.aspect, other.aspect, rtol=_SAME_SIZE):
        return False
    if (one.axes is None) != (other.axes is None) or (one.spacing is None) != (
        other.spacing is None
    ):
        return False
    if (
        one.axes is not None
        and other.axes is not None
        and float(np.abs(one.axes - other.axes).max()) > _SAME_DIRECTION
    ):
        return False
    if one.spacing is None or other.spacing is None:
        return True
    return bool(np.allclose(one.spacing, other.spacing, rtol=_SAME_SIZE))
