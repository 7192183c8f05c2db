"""Reading stored pixels, one image at a time, from files that may be damaged or hold several."""

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from securefed.data.dicom.frames import flat_header
from securefed.data.dicom.header import Slice
from securefed.data.dicom.mosaics import mosaic_of
from securefed.errors import DataError

_WORDS = {"BitsAllocated": 16, "SamplesPerPixel": 1, "NumberOfFrames": 1}  # and values of these
Stored = NDArray[np.int64]  # (rows, columns) of any whole type


@contextmanager
def unwarned() -> Iterator[None]:
    """Without pydicom's warnings: it warns, when a value is looked at, of many that do no harm."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@unwarned()
def read_dataset(path: Path, *, pixels: bool) -> Dataset:
    """Read one file, with every way in which pydicom fails turned into DataError.

    Files without the 128 bytes before "DICM" are read as what they look like.
    """
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=not pixels, force=True)
    except Exception as error:  # noqa: BLE001 - a damaged file makes pydicom raise almost anything
        raise DataError(f"cannot be read ({type(error).__name__})") from None
    if "TransferSyntaxUID" not in dataset.file_meta:  # as old files are: pydicom found it out
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


@unwarned()
def stored_pixels(item: Slice) -> tuple[Stored, Dataset]:
    """(rows, columns) pixels of an image as they are stored, and its header.

    Raises:
        DataError: they cannot be decoded, or are not what the header says.
    """
    dataset = _last_file(item.path)
    try:
        stored = _stored(dataset, item.frame_number or 0)
    except Exception as error:  # noqa: BLE001 - decoders raise almost anything on damaged pixels
        raise DataError(f"the pixels cannot be decoded: {_why(dataset, error)}") from None
    if not np.issubdtype(stored.dtype, np.integer):
        raise DataError("has pixels of floating point, whose unit no rule knows")
    highest, bits = dataset.get("HighBit", None), dataset.get("BitsStored", None)
    if highest is None or bits is None or int(highest) != int(bits) - 1:
        raise DataError(f"has HighBit {highest} with BitsStored {bits}")
    if stored.shape != item.shape:
        raise DataError("the pixels do not match Rows and Columns")
    return stored, flat_header(dataset, item.frame_number)


def _stored(dataset: Dataset, number: int) -> Stored:
    mosaic = mosaic_of(dataset)
    whole = _plain(dataset) if number == 0 or mosaic is not None else None
    if whole is None:
        whole = pixel_array(dataset, index=number if mosaic is None else 0)
    return whole if mosaic is None else mosaic.cut(whole, number)


def _plain(dataset: Dataset) -> Stored | None:
    """Pixels that are 16-bit words as they lie, as most are; None for all others.

    What pydicom makes of them, in a fifth of the time that it takes to find out.
    """
    if dataset.file_meta.TransferSyntaxUID not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        return None
    if any(dataset.get(keyword, value) != value for keyword, value in _WORDS.items()):
        return None
    said = (dataset.get(word, None) for word in ("Rows", "Columns", "BitsStored"))
    rows, columns, bits = (each if isinstance(each, int) else 0 for each in said)
    signed = dataset.get("PixelRepresentation", None)
    data = dataset.get_item("PixelData").value if "PixelData" in dataset else b""
    if signed not in (0, 1) or not 1 <= bits <= 16 or len(data) != 2 * rows * columns or not data:
        return None
    pixels = np.frombuffer(data, "<i2" if signed else "<u2").reshape(rows, columns)
    spare = 16 - bits  # of which nothing is known: shifted out, the sign with them
    return pixels if not spare else (pixels << spare) >> spare


def digest(item: Slice) -> bytes:
    """The same for images that are the same pixel for pixel."""
    stored, _ = stored_pixels(item)
    # As 64-bit numbers: one image may be stored in two byte orders.
    return hashlib.sha256(stored.astype("<i8").tobytes()).digest()


@lru_cache(maxsize=1)  # images of one file follow each other
def _last_file(path: Path) -> Dataset:
    return read_dataset(path, pixels=True)


def _why(dataset: Dataset, error: Exception) -> str:
    """A decoder's words on one line, or what would decode them."""
    try:
        if not get_decoder(dataset.file_meta.TransferSyntaxUID).is_available:
            return "they are compressed; install securefed[dicom]"
    except NotImplementedError:
        return f"no decoder for the transfer syntax {dataset.file_meta.TransferSyntaxUID}"
    return " ".join(str(error).split())[:120]
