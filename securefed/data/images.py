"""Reading and writing single 8-bit grey images, the only picture format of a manifest.

PNG, JPEG, TIFF and BMP are read by their content, never by their suffix, and turned as their
orientation mark says. What is transparent becomes black. An image of another size is padded to a
square (black) and resized with anti-aliasing. What no rule can make right is refused by name:
several pages, real colours (a map of values; an outline, which may give the label away; sequences
as channels), colour of 16 bits, inks (CMYK), and a picture of one grey value. Grey of more than 8
bits has no scale of its own: what maps it to 0..255 is a window, and that decision belongs to the
import (`read_picture`).

A picture file comes from outside: the decoder's own errors and oversized images become DataError.
"""

import struct
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from securefed.data.file_kinds import kind_of
from securefed.errors import DataError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
LARGEST_PIXELS = 4096 * 4096
_EIGHT_BIT_MODES = ("L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "1", "YCbCr")
_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_DARKEST = 16  # the brightest pixel of a scan is above this
_LEAST_GREY = 0.1  # of what is not black lies between black and white in a scan
_TINT = 60  # by how much the channels of a grey pixel may differ, of 255: JPEG adds some
_MOST_COLOURED = 0.001  # of the pixels: a letter, less than an outline
_ODD = (struct.error, EOFError, IndexError, KeyError, TypeError)  # broken marks and tags
_IMPORT_HINT = "securefed data import, with --levels LOW HIGH for CT, scales it"


def read_image(path: Path, size: int) -> NDArray[np.uint8]:
    """Read one picture as (size, size) uint8.

    Raises:
        DataError: missing, not a picture, damaged, several pages, in colour, more than 8 bits, one
            grey value, or over 16 megapixels.
    """
    picture = read_picture(path)
    if picture.dtype != np.uint8:
        raise DataError(
            f"{path.name}: holds grey of more than 8 bits ({_IMPORT_HINT})", hint=_IMPORT_HINT
        )
    return fit_square(np.asarray(picture, dtype=np.uint8), size)


def read_picture(path: Path) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Read one picture as (rows, columns): uint8, or float32 as stored if it is of deeper grey.

    Raises:
        DataError: as `read_image`, but for the depth.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pillow warns about sizes that are refused below
            with Image.open(path, formats=FORMATS) as picture:
                _check(path, picture)
                values = _grey(path, picture)
    except FileNotFoundError:
        raise DataError(
            f"{path.name}: no such image", hint="image paths are relative to the manifest"
        ) from None
    except UnidentifiedImageError:
        raise DataError(
            f"{path.name}: not a PNG, JPEG, TIFF or BMP image{_but(path)}",
            hint="convert DICOM first: securefed data import",
        ) from None
    except PermissionError as error:
        raise DataError(f"{path.name}: cannot be opened ({error.strerror})") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, *_ODD) as error:
        # Pillow reports damage in all these types, SyntaxError for broken PNG chunks included.
        raise DataError(
            f"{path.name}: cannot be decoded ({error})", hint="export the image again"
        ) from None
    if not np.isfinite(values).all():
        raise DataError(f"{path.name}: holds values that are no numbers")
    if is_blank(values):
        raise BlankError(
            f"{path.name}: is blank, every pixel has the value {values.flat[0]:g}",
            hint="leave it out: it holds no scan",
        )
    return values


def doubt_about(image: NDArray[np.uint8]) -> str | None:
    """Why a picture may not be a scan in a fitting window, None if nothing is odd."""
    if int(image.max()) < _DARKEST:
        return f"nearly black, nothing above {_DARKEST} of 255: was it of more than 8 bits?"
    seen = image[image > _DARKEST // 2]
    if float((seen < 255 - _DARKEST // 2).mean()) < _LEAST_GREY:
        return "nearly all black or white: saturated, or a mask?"
    return None


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


class BlankError(DataError):
    """A picture of one grey value: nothing is seen in it, and nothing is wrong with its row."""


def is_blank(image: NDArray[np.uint8] | NDArray[np.float32]) -> bool:
    """Whether a picture shows one grey value only, give or take one: no scan is so."""
    within = 1 if image.dtype == np.uint8 else 0
    return bool(float(image.max()) - float(image.min()) <= within)


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write (rows, columns) uint8 as a grey PNG without any metadata."""
    Image.fromarray(image).save(path, format="PNG", compress_level=6)


def _check(path: Path, picture: Image.Image) -> None:
    if picture.width * picture.height > LARGEST_PIXELS:
        raise DataError(
            f"{path.name}: {picture.width} x {picture.height} pixels are more than 16 million",
            hint="one file is one slice; reduce it first",
        )
    pages = getattr(picture, "n_frames", 1)
    if pages > 1:
        raise DataError(
            f"{path.name}: holds {pages} pages or frames, and one file is one slice",
            hint="save each page as a file of its own, NAME_s1, NAME_s2, ...",
        )
    if picture.mode not in (*_EIGHT_BIT_MODES, *_DEEP_MODES):
        raise DataError(
            f"{path.name}: has pixel type {picture.mode}, not grey or RGB colour",
            hint="export the image again as grey",
        )
    if picture.mode not in _DEEP_MODES and _is_deep(picture):
        raise DataError(
            f"{path.name}: has 16 bits in each colour, of which the lower 8 would be lost",
            hint="export it as grey, of 16 bits too: " + _IMPORT_HINT,
        )


def _is_deep(picture: Image.Image) -> bool:
    """Whether pillow would cut 16 bits to 8: it does so silently, and says it in the raw mode."""
    tiles = picture.tile if isinstance(picture, ImageFile) else ()
    for tile in tiles:
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if any(isinstance(each, str) and ";16" in each for each in arguments):
            return True
    return False


def _grey(path: Path, picture: Image.Image) -> NDArray[np.uint8] | NDArray[np.float32]:
    turned = ImageOps.exif_transpose(picture)
    if turned.mode in _DEEP_MODES:
        return np.asarray(turned, dtype=np.float32)
    if turned.has_transparency_data:
        colours = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", turned.size, (0, 0, 0, 255)), colours)
    if turned.mode not in ("L", "LA", "1"):
        turned = turned.convert("RGB")
        channels = np.asarray(turned)  # (rows, columns, 3)
        coloured = float((np.ptp(channels, axis=2) > _TINT).mean())
        if coloured > _MOST_COLOURED:
            raise DataError(
                f"{path.name}: is in colour, {coloured:.1%} of it: a map, something drawn on it, "
                "or sequences as channels?",
                hint="export the scan itself as grey",
            )
    return np.asarray(turned.convert("L"))


def _but(path: Path) -> str:
    kind = kind_of(path)
    if kind == "empty":
        return ": it is empty"
    return "" if kind is None else f" but {kind}"
