"""dcm2niix as an oracle: it makes NIfTI of the same files, and nibabel reads them.

A volume of ours is compared voxel by voxel: each of its centres, in millimetres by our geometry, is
looked up in the NIfTI by its own affine. So order, spacing, orientation and values are all in one
number. dcm2niix: Li et al. 2016, J Neurosci Methods 264.
"""

import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from securefed.data.dicom.volume import Series
from securefed.data.resampling import pixels

PROGRAM = shutil.which("dcm2niix")
needs_dcm2niix = pytest.mark.skipif(PROGRAM is None, reason="dcm2niix is not installed")


def converted(tree: Path, out: Path) -> list[Path]:
    """The volumes that dcm2niix makes of a tree."""
    out.mkdir()
    line = [str(PROGRAM), "-b", "n", "-z", "n", "-f", "%s_%j", "-o", str(out), str(tree)]
    subprocess.run(line, capture_output=True, check=False, timeout=60)
    return sorted(out.glob("*.nii"))


def looked_up(series: Series, path: Path) -> tuple[NDArray[np.float64], int]:
    """(slices, rows, columns) values of a NIfTI at our voxels, and how many voxels it has.

    Between its voxels the values are interpolated; beyond them they are nan.
    """
    image = nibabel.load(path)
    assert isinstance(image, nibabel.nifti1.Nifti1Image)
    values = np.squeeze(np.asarray(image.dataobj, dtype=np.float64))
    values = values[..., None] if values.ndim == 2 else values
    ours = np.stack([pixels(series, index) for index in range(len(series.values))])
    ras = ours * (-1, -1, 1)
    assert image.affine is not None
    back = np.linalg.inv(image.affine)
    voxels = np.moveaxis(ras @ back[:3, :3].T + back[:3, 3], -1, 0)
    near = np.abs(voxels - np.round(voxels)) < 0.02  # headers write places in few digits
    voxels = np.where(near, np.round(voxels), voxels)
    found = ndimage.map_coordinates(values, voxels, order=1, mode="constant", cval=np.nan)
    return np.asarray(found), values.size


def furthest(series: Series, path: Path) -> float:
    """The largest difference between a volume and a NIfTI; inf where they lie elsewhere."""
    theirs, voxels = looked_up(series, path)
    if series.modality == "CT":
        theirs = np.clip(theirs, -1024, 3071)
    if voxels != series.values.size or np.isnan(theirs).any():
        return float("inf")
    return float(np.abs(series.values - theirs).max())
