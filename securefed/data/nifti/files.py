"""A NIfTI file as numbers: its header first, then no more bytes than the header says.

nibabel says what a header means; the bytes are read here, because a file comes from outside. A
header may promise extensions of gigabytes or a volume that no memory holds, and a few kilobytes of
gzip may unpack to any size: what a scan of a head cannot be is refused before its voxels are read,
and they are unpacked plane by plane. NIfTI-1 and -2: nifti.nimh.nih.gov.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from securefed.errors import ConfigurationError, DataError

LARGEST_EDGE = 4096  # voxels
LARGEST_VOLUME = 2**28  # voxels: 1 GiB in memory
LARGEST_OFFSET = 2**24  # bytes of header and extensions
_HEADER_BYTES = 540  # of NIfTI-2, the longer one
_MAGIC = {348: b"n+1\0", 540: b"n+2\0\r\n\x1a\n"}
_PAIR = {b"ni1\0", b"ni2\0\r\n\x1a\n"}  # the voxels lie in another file
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # xyzt_units -> mm; 0 is not said
_SINGULAR = 1e-6  # mm3 of a voxel


@dataclass(frozen=True)
class Header:
    """What a NIfTI file says of its voxels.

    Attributes:
        shape: voxels along i, j and k; i is the fastest in the file.
        affine: (4, 4) from voxel (i, j, k, 1) to mm to the right, anterior and superior (RAS).
        scale: slope and intercept, from stored numbers to values.
        stored: type of the stored numbers.
        offset: bytes before them.
        notes: what is unusual.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64] = field(repr=False)
    scale: tuple[float, float]
    stored: np.dtype[Any]
    offset: int
    notes: tuple[str, ...] = ()


def read_header(path: Path) -> Header:
    """Read and check a header; no voxel is read.

    Raises:
        DataError: not one volume of real numbers with a known place, or larger than any scan.
        ConfigurationError: nibabel is not installed.
    """
    with _opened(path) as file:
        head = file.read(_HEADER_BYTES)
    found = _parsed(head)
    offset = float(found["vox_offset"])
    if not len(bytes(found.binaryblock)) <= offset <= LARGEST_OFFSET:
        raise DataError(f"has its voxels at byte {offset:.4g}, which no scan has")
    stored = _stored(found)
    shape = _shape(found)
    affine, notes = _affine(found)
    return Header(shape, affine, _scale(found), stored, int(offset), notes)


def read_voxels(path: Path, header: Header) -> NDArray[np.float32]:
    """(k, j, i) values in the file's own unit; numbers that are none stay so.

    Memory: the volume, and one plane of the file.

    Raises:
        DataError: the file ends before its last voxel, or is damaged.
    """
    columns, rows, planes = header.shape
    slope, intercept = header.scale
    size = rows * columns * header.stored.itemsize
    values = np.empty((planes, rows, columns), dtype=np.float32)
    with _opened(path) as file:
        _exactly(file, header.offset)
        for plane in values:
            stored = np.frombuffer(_exactly(file, size), dtype=header.stored)
            with np.errstate(over="ignore", invalid="ignore"):  # becomes inf or nan, told later
                plane[:] = stored.reshape(rows, columns) * slope + intercept
    return values


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            yield cast(IO[bytes], gzip.GzipFile(fileobj=file)) if packed else file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"cannot be unpacked ({' '.join(str(error).split())})") from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from None


def _exactly(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise DataError("ends before its last voxel; is it cut off?")
    return data


def _parsed(head: bytes) -> Any:  # of nibabel's header classes
    try:
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header
    except ImportError:
        raise ConfigurationError(
            "NIfTI files need nibabel, which is not installed",
            hint="pip install 'securefed[dicom]'",
        ) from None
    sizes = {int.from_bytes(head[:4], order) for order in ("little", "big")} & set(_MAGIC)
    if not sizes or len(head) < max(sizes):
        raise DataError("has no NIfTI header; is it cut off?")
    size = sizes.pop()
    magic = head[344:348] if size == 348 else head[4:12]
    if magic in _PAIR:
        raise DataError("is the header of a pair .hdr and .img; save both as one .nii file")
    if magic != _MAGIC[size]:
        raise DataError("has no NIfTI mark: Analyze, or damaged")
    kind: Any = Nifti1Header if size == 348 else Nifti2Header
    # Unchecked: nibabel's own check repairs what must be refused, a voxel size of 0 for instance.
    return kind(head[:size], "<" if int.from_bytes(head[:4], "little") == size else ">", False)


def _shape(found: Any) -> tuple[int, int, int]:
    dimensions = [int(each) for each in found["dim"]]
    count, edges = dimensions[0], dimensions[1:]
    if not 2 <= count <= 7 or min(edges[:count]) < 1:
        raise DataError(f"has dimensions {dimensions} that are no volume")
    edges = edges[:count]
    volumes = int(np.prod(edges[3:], dtype=object))
    if volumes > 1:
        raise DataError(
            f"holds {volumes} volumes (dimensions {' x '.join(map(str, edges))}): nothing says "
            "which one to use; save that one as a file of its own"
        )
    shape = (*edges[:3], 1)[:3]
    if max(shape) > LARGEST_EDGE or int(np.prod(shape, dtype=object)) > LARGEST_VOLUME:
        raise DataError(f"is larger than any scan of a head ({' x '.join(map(str, shape))} voxels)")
    return shape[0], shape[1], shape[2]


def _stored(found: Any) -> np.dtype[Any]:
    try:
        stored: np.dtype[Any] = np.dtype(found.get_data_dtype())
    except Exception:  # noqa: BLE001 - nibabel has its own error for a code that it does not know
        raise DataError(f"has voxels of unknown type {int(found['datatype'])}") from None
    if stored.kind not in "iuf" or stored.itemsize > 8:
        raise DataError(f"has voxels of type {stored.name}: colours or complex numbers, no scan")
    return stored


def _scale(found: Any) -> tuple[float, float]:
    """A slope of 0 or nan says that there is none (NIfTI-1, "Data scaling")."""
    slope, intercept = float(found["scl_slope"]), float(found["scl_inter"])
    if slope == 0 or np.isnan(slope):
        return 1.0, 0.0
    if not np.isfinite([slope, intercept]).all():
        raise DataError("has a scl_slope or scl_inter that is no number")
    return slope, intercept


def _affine(found: Any) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    unit = _MILLIMETRES.get(int(found["xyzt_units"]) & 7)
    if unit is None:
        raise DataError("has an unknown unit of length")
    ways = [found.get_sform] if int(found["sform_code"]) > 0 else []
    ways += [found.get_qform] if int(found["qform_code"]) > 0 else []
    if not ways:
        raise DataError(
            "has neither sform nor qform, so which side is left or up is not known; "
            "convert it again with its orientation"
        )
    try:
        both = [np.asarray(get(), dtype=np.float64) for get in ways]
    except Exception:  # noqa: BLE001 - nibabel has its own error for a rotation that is none
        both = [np.zeros((4, 4))]
    affine = both[0].copy()
    affine[:3] *= unit
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < _SINGULAR:
        raise DataError("has a place or a voxel size that is no volume")
    apart = float(np.abs(both[0] - both[-1]).max()) * unit
    notes = (f"its sform and qform differ (by up to {apart:.3g}); the sform is used",)
    return affine, notes if apart > 0.01 else ()
