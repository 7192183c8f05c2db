"""Small NIfTI files, made by the test with nibabel."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

RAS = np.diag([2.0, 3.0, 5.0, 1.0])
RAS[:3, 3] = (-11.0, 7.0, 30.0)


def numbered(*shape: int) -> NDArray[np.int16]:
    """Another number in every voxel."""
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def save(
    path: Path, values: NDArray[Any], affine: NDArray[np.float64] | None = RAS, **header: Any
) -> Path:
    """Write values (i, j, k); keywords set fields of the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, affine)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def edit(path: Path, **header: Any) -> Path:
    """Change fields of the header of a plain .nii where they stand, whatever they are then."""
    data = bytearray(path.read_bytes())
    found = nibabel.Nifti1Header(bytes(data[:348]), check=False)
    for name, value in header.items():
        found[name] = value
    data[:348] = found.binaryblock
    path.write_bytes(data)
    return path
