"""Every series that dcm2niix converts is, voxel for voxel, the volume that we read.

Left out, because dcm2niix reads them otherwise and the standard is on our side: modality tables
(it applies none), signed pixels of fewer bits than they are allocated (it keeps the bits above),
uneven slices and tilted ones as they are (NIfTI has no place for either; it interpolates a copy).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRBigEndian, RLELossless

from securefed.data.dicom.files import scan_tree
from securefed.data.dicom.stacks import stacks_of
from securefed.data.dicom.volume import Series, build_series
from securefed.data.nifti.volume import read_volume
from securefed.data.resampling import positions
from tests.data.dicom.oracle import converted, furthest, looked_up, needs_dcm2niix
from tests.data.dicom.sheets import make_mosaic
from tests.data.dicom.test_frames import group, write_enhanced
from tests.data.dicom.trees import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    WriteSeries,
    edit,
    edit_all,
    only_series,
    ramp,
)

pytestmark = needs_dcm2niix

SHAPE = (6, 14, 17)
OBLIQUE = (0.96, 0.28, 0.0, -0.28 * 0.8, 0.96 * 0.8, 0.6)
EXACT = 1e-3


def noise(shape: Sequence[int] = SHAPE, low: int = -900, high: int = 3000) -> NDArray[np.int16]:
    """Numbers that no two places share, nearly."""
    return np.random.default_rng(3).integers(low, high, tuple(shape)).astype(np.int16)


def along(files: Sequence[Path], axes: Sequence[float], step: NDArray[np.float64]) -> None:
    """Turn a series that was written axially: its axes, and mm from a slice to the next."""
    for number, path in enumerate(files):
        place = (np.array([-31.0, 12.0, 40.0]) + number * step).round(6).tolist()
        edit(path, ImagePositionPatient=place, ImageOrientationPatient=list(map(float, axes)))


def agrees(series: Series, tree: Path, out: Path) -> None:
    """One NIfTI is this volume; and our reader of NIfTI makes the same of it."""
    made = converted(tree, out)
    assert [furthest(series, path) for path in made] == pytest.approx([0.0] * len(made), abs=EXACT)
    assert len(made) == 1
    again = read_volume(made[0], series.modality)
    assert np.allclose(again.values, series.values, atol=EXACT)
    assert np.allclose(positions(again), positions(series), atol=0.01)


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize(
    "axes",
    [
        AXIAL,
        (-1, 0, 0, 0, -1, 0),  # prone
        (-1, 0, 0, 0, 1, 0),  # feet first
        (0, 1, 0, -1, 0, 0),  # on a side
        CORONAL,
        SAGITTAL,
        OBLIQUE,
    ],
)
@pytest.mark.parametrize("down", [False, True])
def test_planes_positions_and_directions(
    tmp_path: Path, write_series: WriteSeries, modality: str, axes: Any, down: bool
) -> None:
    files = write_series(tmp_path / "t", noise(), modality, spacing=1.5)
    normal = np.cross(axes[:3], axes[3:])
    along(files, axes, normal * (-3.0 if down else 3.0))
    agrees(only_series(tmp_path / "t"), tmp_path / "t", tmp_path / "out")


@pytest.mark.parametrize("axes", [CORONAL, SAGITTAL])
def test_fine_volumes_that_are_cut_in_another_plane(
    tmp_path: Path, write_series: WriteSeries, axes: Any
) -> None:
    files = write_series(tmp_path / "t", noise(), "MR", spacing=1.0)
    along(files, axes, np.cross(axes[:3], axes[3:]) * 1.2)
    edit_all(files, PixelSpacing=[1.2, 1.2])
    agrees(only_series(tmp_path / "t"), tmp_path / "t", tmp_path / "out")


def test_pixels_that_are_not_square(tmp_path: Path, write_series: WriteSeries) -> None:
    write_series(tmp_path / "t", noise(), "MR", PixelSpacing=[2.0, 1.0])
    series = only_series(tmp_path / "t")
    (made,) = converted(tmp_path / "t", tmp_path / "out")
    theirs, voxels = looked_up(series, made)
    assert voxels == np.prod(SHAPE) < series.values.size
    assert np.abs(series.values - theirs).max() < EXACT * 1000  # interpolated twice


def _signs(path: Path, number: int) -> None:
    dataset = pydicom.dcmread(path)
    dataset.PixelRepresentation = 0
    dataset.PixelData = (dataset.pixel_array.astype(np.int32) + 1024).astype("<u2").tobytes()
    dataset.RescaleIntercept = -1024
    dataset.save_as(path)


def _own_scale(path: Path, number: int) -> None:
    edit(path, RescaleSlope=1 + number / 4, RescaleIntercept=-10 * number)


def _big(path: Path, number: int) -> None:
    dataset = pydicom.dcmread(path)
    dataset.PixelData = dataset.pixel_array.astype(">i2").tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=False)


def _packed(path: Path, number: int) -> None:
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)


@pytest.mark.parametrize(
    ("change", "modality"),
    [(_signs, "CT"), (_own_scale, "MR"), (_own_scale, "CT"), (_big, "CT"), (_packed, "MR")],
)
def test_numbers_as_scanners_and_archives_store_them(
    tmp_path: Path,
    write_series: WriteSeries,
    change: Callable[[Path, int], None],
    modality: str,
) -> None:
    for number, path in enumerate(write_series(tmp_path / "t", noise(high=900), modality)):
        change(path, number)
    agrees(only_series(tmp_path / "t"), tmp_path / "t", tmp_path / "out")


def test_files_in_any_order_under_any_names(tmp_path: Path, write_series: WriteSeries) -> None:
    files = write_series(tmp_path / "t", noise(), "MR")
    for number, path in enumerate(files):
        edit(path, InstanceNumber=len(files) - number)
        path.rename(path.with_name(f"{(number * 5) % 7}.dcm"))
    agrees(only_series(tmp_path / "t"), tmp_path / "t", tmp_path / "out")


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("down", [False, True])
def test_enhanced_objects_of_many_frames(
    tmp_path: Path, write_series: WriteSeries, modality: str, down: bool
) -> None:
    stored, heights = noise(), np.arange(SHAPE[0]) * (-4.0 if down else 4.0)
    scale = {} if modality == "MR" else {"RescaleType": "HU"}
    frames = [
        group(
            PlanePositionSequence=[group(ImagePositionPatient=[-20.0, 30.0, float(height)])],
            FrameContentSequence=[
                group(
                    StackID="1",
                    InStackPositionNumber=number + 1,
                    TemporalPositionIndex=1,
                    DimensionIndexValues=[1, number + 1],
                )
            ],
            PixelValueTransformationSequence=[
                group(RescaleSlope=2, RescaleIntercept=-100, **scale)
            ],
        )
        for number, height in enumerate(heights)
    ]
    (plain,) = write_series(tmp_path / "t", ramp(1), modality, SeriesNumber=3)
    write_enhanced(tmp_path / "t" / "all", plain, stored, frames)
    agrees(only_series(tmp_path / "t"), tmp_path / "t", tmp_path / "out")


@pytest.mark.parametrize("axes", [AXIAL, SAGITTAL, CORONAL, OBLIQUE])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("slices", [7, 9])
def test_mosaics(
    tmp_path: Path, write_series: WriteSeries, axes: Any, sign: int, slices: int
) -> None:
    (plain,) = write_series(tmp_path / "t", ramp(1), "MR")
    edit(plain, ImageOrientationPatient=list(map(float, axes)))
    normal = sign * np.cross(axes[:3], axes[3:])
    volume = noise((slices, 8, 8), 0)
    make_mosaic(plain, volume, np.array([3.0, -4.0, 5.0]), normal, gap=3.0)
    series = only_series(tmp_path / "t")
    assert len(series.values) == slices
    agrees(series, tmp_path / "t", tmp_path / "out")


@pytest.mark.parametrize(
    "name", ["CT_small", "MR_small", "MR_small_RLE", "MR_small_bigendian", "MR_small_jp2klossless"]
)
def test_files_of_real_scanners(tmp_path: Path, pydicom_files: Path, name: str) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "file").write_bytes((pydicom_files / f"{name}.dcm").read_bytes())
    agrees(only_series(tmp_path / "t"), tmp_path / "t", tmp_path / "out")


def tilted_head(tmp_path: Path, write: WriteSeries, degrees: float) -> Series:
    """A smooth CT of a gantry that leans: slices are tilted, and the table moves along the body."""
    angle = np.radians(degrees)
    axes = (1.0, 0.0, 0.0, 0.0, np.cos(angle), -np.sin(angle))
    number, row, column = np.meshgrid(*map(np.arange, (10, 40, 40)), indexing="ij")
    x, y = column * 1.5 - 30, row * 1.5 * np.cos(angle) - 30
    z = number * 4.0 - row * 1.5 * np.sin(angle)
    values = 300 * np.sin(x / 13) + 300 * np.cos(y / 11) + 200 * np.sin(z / 9)
    files = write(tmp_path / "t", values.astype(np.int16), GantryDetectorTilt=degrees)
    for index, path in enumerate(files):
        edit(
            path,
            ImagePositionPatient=[-30.0, -30.0, 4.0 * index],
            ImageOrientationPatient=list(axes),
            PixelSpacing=[1.5, 1.5],
            Manufacturer="GE MEDICAL SYSTEMS",
        )
    return only_series(tmp_path / "t")


def test_a_tilted_gantry_against_the_corrected_copy(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    series = tilted_head(tmp_path, write_series, 15.0)
    assert any("tilted by 15.0 degrees" in note for note in series.notes)
    converted(tmp_path / "t", tmp_path / "out")
    (corrected,) = (tmp_path / "out").glob("*_Tilt_1.nii")
    theirs, _ = looked_up(series, corrected)
    apart = np.abs(series.values - theirs)  # of 1600, interpolated twice; it fills open corners
    assert np.percentile(apart, 95) < 3
    assert np.median(np.abs(np.roll(series.values, 1, axis=0) - theirs)) > 20  # a slice off


def test_uneven_slices_are_in_its_order(tmp_path: Path, write_series: WriteSeries) -> None:
    for path, height in zip(
        write_series(tmp_path / "t", noise(), "MR"), (14, 0, 20, 3, 17, 6), strict=True
    ):
        edit(path, ImagePositionPatient=[0, 0, height])
    series = only_series(tmp_path / "t")
    converted(tmp_path / "t", tmp_path / "out")
    original = min((tmp_path / "out").glob("*.nii"), key=lambda path: len(path.name))
    theirs = np.asarray(nibabel.nifti1.load(original).dataobj).transpose(2, 1, 0)[:, ::-1]
    assert np.array_equal(series.values, theirs)


def test_the_even_series_of_pydicoms_own_tree(tmp_path: Path, pydicom_files: Path) -> None:
    tree = pydicom_files / "dicomdirtests"
    made = converted(tree, tmp_path / "out")
    stacks, _ = stacks_of(
        item for item in scan_tree(tree).slices if "SmartScore" in item.traits.description
    )
    (series,) = map(build_series, stacks)
    assert len(series.values) == 5
    assert min(furthest(series, path) for path in made) < EXACT
