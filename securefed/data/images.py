"""Reading and writing single 8-bit grey images, the only picture format of a manifest.

PNG, JPEG, TIFF and BMP are read by their content, never by their suffix. Colour becomes
grey. An image of another size is padded to a square (black) and resized with anti-aliasing.
Images of more than 8 bits are refused rather than guessed at: what maps 16 bits to grey is a
window, and that decision belongs to the import (securefed/data/dicom/volume.py).

A picture file comes from outside: the decoder's own errors and oversized images become DataError.
"""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from securefed.errors import DataError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
LARGEST_PIXELS = 4096 * 4096
_EIGHT_BIT_MODES = ("L", "LA", "P", "RGB", "RGBA", "1")


def read_image(path: Path, size: int) -> NDArray[np.uint8]:
    """Read one picture as (size, size) uint8.

    Raises:
        DataError: missing, not a picture, damaged, more than 8 bits, or over 16 megapixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pillow warns about sizes that are refused below
            with Image.open(path, formats=FORMATS) as picture:
                _check(path, picture)
                grey = picture.convert("L")
    except FileNotFoundError:
        raise DataError(
            f"{path.name}: no such image", hint="image paths are relative to the manifest"
        ) from None
    except UnidentifiedImageError:
        raise DataError(
            f"{path.name}: not a PNG, JPEG, TIFF or BMP image",
            hint="convert DICOM first: securefed data import",
        ) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow reports damage in all these types, SyntaxError for broken PNG chunks included.
        raise DataError(
            f"{path.name}: cannot be decoded ({error})", hint="export the image again"
        ) from None
    return fit_square(np.asarray(grey), size)


def fit_square(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Pad (rows, columns) with black to a square, then resize to (size, size), anti-aliased."""
    rows, columns = image.shape
    edge = max(rows, columns)
    if rows != columns:
        top, left = (edge - rows) // 2, (edge - columns) // 2
        image = np.pad(image, ((top, edge - rows - top), (left, edge - columns - left)))
    if edge == size:
        return np.array(image)
    # Bilinear resampling in pillow widens its support when it shrinks: that is the anti-aliasing.
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    return np.array(resized)


def is_blank(image: NDArray[np.uint8]) -> bool:
    """Whether a picture shows one grey value only, give or take one: no scan is so."""
    return bool(int(image.max()) - int(image.min()) <= 1)


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write (rows, columns) uint8 as a grey PNG without any metadata."""
    Image.fromarray(image).save(path, format="PNG", compress_level=6)


def _check(path: Path, picture: Image.Image) -> None:
    if picture.width * picture.height > LARGEST_PIXELS:
        raise DataError(
            f"{path.name}: {picture.width} x {picture.height} pixels are more than 16 million",
            hint="one file is one slice; reduce it first",
        )
    if picture.mode not in _EIGHT_BIT_MODES:
        raise DataError(
            f"{path.name}: has pixel type {picture.mode}, not 8-bit grey or colour",
            hint="window CT and scale MRI to 0..255 first; securefed data import does",
        )
