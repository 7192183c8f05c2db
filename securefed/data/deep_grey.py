"""Pictures of more than 8 bits of grey: what stored value is black, and what is white.

The file does not say. For a CT the operator does (`levels`), since a CT has a scale. An MRI has
none, so it is scaled by the patient's own pictures, as a DICOM series is: no statistic of one
patient ever touches another.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from securefed.data.dicom.grey_values import scale_mri
from securefed.data.images import BlankError, fit_square, is_blank, read_picture
from securefed.errors import ConfigurationError, DataError

Levels = tuple[float, float]


def require_levels(levels: Levels | None) -> None:
    """Refuse levels that are no range.

    Raises:
        ConfigurationError: the value shown black is not below the one shown white.
    """
    if levels is not None and not -math.inf < levels[0] < levels[1] < math.inf:
        raise ConfigurationError(
            f"--levels {levels[0]:g} {levels[1]:g}: must be two numbers, the smaller first",
            hint="stored values to show black and white: 1024 1104 for HU + 1024, brain window",
        )


def read_ct(path: Path, size: int, levels: Levels | None) -> NDArray[np.uint8]:
    """Read a CT picture as (size, size), deep grey through `levels`.

    Raises:
        DataError: not a readable picture, deep grey without levels, or nothing between them.
    """
    values = read_picture(path)
    if values.dtype == np.uint8:
        return fit_square(np.asarray(values, dtype=np.uint8), size)
    if levels is None:
        raise DataError(
            f"{path.name}: holds values from {values.min():g} to {values.max():g}: say with "
            "--levels LOW HIGH which to show black and white (HU + 1024, brain window: 1024 1104)"
        )
    low, high = levels
    share = np.clip((values - low) / (high - low), 0, 1)
    return _fitted(path, np.asarray(share * 255 + 0.5, dtype=np.uint8), size)


def read_mri(paths: Sequence[Path], size: int) -> list[NDArray[np.uint8] | DataError]:
    """Read the MRI pictures of one patient as (size, size), deep grey scaled over all of them.

    Returns:
        For each path the picture, or why it cannot be used.
    """
    read: list[NDArray[np.uint8] | NDArray[np.float32] | DataError] = []
    for path in paths:
        try:
            read.append(read_picture(path))
        except DataError as error:
            read.append(error)
    pictures = [each for each in read if not isinstance(each, DataError)]
    deep = [each for each in pictures if each.dtype != np.uint8]
    if deep and len(deep) < len(pictures):
        return [
            each
            if isinstance(each, DataError)
            else DataError(f"{path.name}: the patient's MRI mixes 8 bits and more: no one scale")
            for path, each in zip(paths, read, strict=True)
        ]
    if deep:
        scaled = iter(_scaled([np.asarray(each, dtype=np.float32) for each in deep]))
        read = [each if isinstance(each, DataError) else next(scaled) for each in read]
    fitted: list[NDArray[np.uint8] | DataError] = []
    for path, each in zip(paths, read, strict=True):
        try:
            if isinstance(each, DataError):
                raise each
            fitted.append(_fitted(path, np.asarray(each, dtype=np.uint8), size))
        except DataError as error:
            fitted.append(error)
    return fitted


def _fitted(path: Path, image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    if is_blank(image):
        raise BlankError(f"{path.name}: shows one grey value, {image.flat[0]}, on this scale")
    return fit_square(image, size)


def _scaled(pictures: Sequence[NDArray[np.float32]]) -> list[NDArray[np.uint8]]:
    """All through one scale; pictures of one patient may differ in size."""
    together = scale_mri(np.concatenate([each.ravel() for each in pictures])[None, None])
    ends = np.cumsum([each.size for each in pictures])[:-1]
    parts = np.split(together.ravel(), ends)
    return [part.reshape(each.shape) for part, each in zip(parts, pictures, strict=True)]
