"""A NIfTI file becomes the volume that the DICOM reader gives of the same scan."""

import gzip
import itertools
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from securefed.data.nifti.files import read_header, read_voxels
from securefed.data.nifti.volume import read_volume
from securefed.data.resampling import positions
from securefed.errors import ConfigurationError, DataError
from tests.data.dicom.trees import WriteSeries, only_series, ramp
from tests.data.nifti.volumes import RAS, edit, numbered, save

SQUARE = np.diag([2.0, 2.0, 5.0, 1.0])
SIDES = [
    codes
    for sides in itertools.product("LR", "PA", "IS")
    for codes in itertools.permutations(sides)
]


@pytest.mark.parametrize("codes", SIDES, ids="".join)
def test_each_of_the_48_orientations_gives_one_volume(tmp_path: Path, codes: Any) -> None:
    affine = RAS.copy()
    tilt = np.radians(6)
    affine[1:3, 1:3] = [[3 * np.cos(tilt), -5 * np.sin(tilt)], [3 * np.sin(tilt), 5 * np.cos(tilt)]]
    image = nibabel.Nifti1Image(numbered(4, 5, 6), affine)
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    nibabel.save(image.as_reoriented(turn), tmp_path / "turned.nii")
    nibabel.save(image, tmp_path / "plain.nii")
    expected = read_volume(tmp_path / "plain.nii", "MR")
    found = read_volume(tmp_path / "turned.nii", "MR")
    assert np.array_equal(found.values, expected.values)
    assert np.allclose(positions(found), positions(expected))
    assert np.allclose(found.steps, expected.steps)
    assert found.notes == expected.notes


def test_a_volume_is_that_of_the_same_scan_in_dicom(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    stored = ramp(6, 12)
    write_series(tmp_path / "tree", stored, origin=(-10.0, -20.0, 30.0), spacing=1.5, gap=4.0)
    affine = np.diag([-1.5, -1.5, 4.0, 1.0])  # rows and columns to the left and the back
    affine[:3, 3] = (10.0, 20.0, 30.0)
    save(tmp_path / "same.nii.gz", stored.transpose(2, 1, 0), affine)
    one, other = only_series(tmp_path / "tree"), read_volume(tmp_path / "same.nii.gz", "CT")
    assert np.array_equal(one.values, other.values)
    assert np.allclose(positions(one), positions(other))
    assert np.allclose(one.steps, other.steps)
    assert one.notes == other.notes


def test_thick_slices_stay_those_of_the_scanner_and_fine_ones_become_axial(tmp_path: Path) -> None:
    thick = np.diag([6.0, 1.0, 1.0, 1.0])
    sagittal = read_volume(save(tmp_path / "thick.nii", numbered(3, 8, 9), thick), "MR")
    assert sagittal.values.shape == (3, 9, 8)
    assert "slices are sagittal, not axial" in sagittal.notes
    fine = read_volume(save(tmp_path / "fine.nii", numbered(4, 8, 9), np.eye(4)), "MR")
    assert fine.values.shape == (9, 8, 4)
    assert fine.notes == ()


def test_stored_numbers_are_scaled_and_metres_are_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", numbered(2, 2, 2), SQUARE / [[1000], [1000], [1000], [1]])
    # What nibabel's own writer does not keep.
    edit(path, scl_slope=2.0, scl_inter=-100.0, xyzt_units=1)
    series = read_volume(path, "CT")
    assert sorted(series.values.ravel()) == [2.0 * number - 100 for number in range(8)]
    assert series.grid.spacing == pytest.approx((2.0, 2.0))
    edit(path, scl_slope=0.0)
    assert read_volume(path, "CT").values.min() == 0


def test_numbers_that_are_none_are_background_and_said(tmp_path: Path) -> None:
    values = numbered(4, 4, 4).astype(np.float32) - 5
    values[0, 0] = np.nan
    path = save(tmp_path / "a.nii", values, SQUARE)
    series = read_volume(path, "CT")
    assert series.values.min() == -1024
    assert "6.2% of its voxels are no numbers; taken as background" in series.notes
    assert read_volume(path, "MR").values.min() == -1  # the lowest number
    with pytest.raises(DataError, match="holds no voxel that is a number"):
        read_volume(save(tmp_path / "b.nii", np.full((3, 3, 3), np.nan, np.float32)), "MR")


def test_a_trailing_dimension_of_one_is_no_series_in_time(tmp_path: Path) -> None:
    assert read_header(save(tmp_path / "a.nii", numbered(3, 4, 5, 1))).shape == (3, 4, 5)
    assert read_header(save(tmp_path / "b.nii", numbered(3, 4))).shape == (3, 4, 1)


def test_a_pair_of_files_on_one_grid_shares_a_frame(tmp_path: Path) -> None:
    ct = read_volume(save(tmp_path / "ct.nii.gz", numbered(4, 5, 6)), "CT")
    assert ct.frame == read_volume(save(tmp_path / "m.nii", numbered(4, 5, 6) * 2), "MR").frame
    shifted = RAS.copy()
    shifted[0, 3] += 0.1
    other = read_volume(save(tmp_path / "n.nii", numbered(4, 5, 6), shifted), "MR")
    assert ct.frame != other.frame


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "in time": (lambda p: save(p, numbered(2, 3, 4, 5)), "5 volumes .dimensions 2 x 3 x 4 x 5"),
    "complex": (lambda p: save(p, numbered(2, 3, 4).astype(np.complex64)), "type complex64"),
    "colour": (
        lambda p: save(p, np.zeros((2, 3, 4), [(c, "u1") for c in "RGB"])),
        "colours or complex",
    ),
    "type": (lambda p: edit(save(p, numbered(2, 3, 4)), datatype=7), "unknown type 7"),
    "no place": (
        lambda p: edit(save(p, numbered(2, 3, 4)), sform_code=0, qform_code=0),
        "neither sform nor qform",
    ),
    "flat": (lambda p: edit(save(p, numbered(2, 3, 4)), srow_x=[0, 0, 0, 0]), "no volume"),
    "no number": (lambda p: edit(save(p, numbered(2, 3, 4)), srow_x=[np.nan] * 4), "no volume"),
    "sheared": (lambda p: edit(save(p, numbered(2, 3, 4)), srow_x=[2, 1, 0, 0]), "right angles"),
    "rotation": (
        lambda p: edit(save(p, numbered(2, 3, 4)), sform_code=0, qform_code=1, quatern_b=3.0),
        "no volume",
    ),
    "slope": (lambda p: edit(save(p, numbered(2, 3, 4)), scl_slope=np.inf), "scl_slope"),
    "large": (
        lambda p: edit(save(p, numbered(2, 3, 4)), dim=[3, 4096, 4096, 4096, 1, 1, 1, 1]),
        "larger than any scan",
    ),
    "negative": (
        lambda p: edit(save(p, numbered(2, 3, 4)), dim=[3, 2, -3, 4, 1, 1, 1, 1]),
        "no volume",
    ),
    "extensions": (lambda p: edit(save(p, numbered(2, 3, 4)), vox_offset=2e9), "byte 2e.09"),
    "inside": (lambda p: edit(save(p, numbered(2, 3, 4)), vox_offset=8), "byte 8"),
    "unit": (lambda p: edit(save(p, numbered(2, 3, 4)), xyzt_units=7), "unit of length"),
    "pair": (lambda p: edit(save(p, numbered(2, 3, 4)), magic=b"ni1"), "pair .hdr and .img"),
    "mark": (lambda p: edit(save(p, numbered(2, 3, 4)), magic=b"x"), "no NIfTI mark"),
    "cut": (
        lambda p: save(p, numbered(9, 9, 9)) and p.write_bytes(p.read_bytes()[:900]),
        "cut off",
    ),
    "header": (lambda p: save(p, numbered(9, 9, 9)) and p.write_bytes(p.read_bytes()[:99]), "cut"),
    "metal": (lambda p: save(p, np.full((3, 3, 3), 32000.0)), "holds 32000, which no tissue"),
    "packed": (lambda p: p.write_bytes(b"\x1f\x8b" + bytes(50)), "cannot be unpacked"),
    "half packed": (
        lambda p: p.write_bytes(gzip.compress(save(p, numbered(9, 9, 9)).read_bytes())[:-40]),
        "cannot be unpacked",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_scan_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    make, words = REFUSED[name]
    make(tmp_path / "a.nii")
    with pytest.raises(DataError, match=words) as caught:
        read_volume(tmp_path / "a.nii", "CT")
    assert "\n" not in str(caught.value)


def test_a_small_file_that_unpacks_to_much_costs_what_its_header_says(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.nii", numbered(8, 8, 8)).read_bytes()
    bomb = tmp_path / "bomb.nii.gz"
    bomb.write_bytes(gzip.compress(plain + bytes(1 << 26)))
    assert bomb.stat().st_size < 1 << 20
    read_header(bomb)  # imports nibabel
    tracemalloc.start()
    try:
        values = read_voxels(bomb, read_header(bomb))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert values.shape == (8, 8, 8)
    assert peak < 1 << 22


def test_two_places_in_one_file_are_said(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", numbered(4, 4, 4))
    edit(path, qform_code=1, qoffset_x=3.0, pixdim=[1, 2, 3, 5, 1, 1, 1, 1])
    series = read_volume(path, "MR")
    assert "its sform and qform differ (by up to 14); the sform is used" in series.notes


def test_nifti_2_is_read(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(numbered(3, 4, 5), RAS), tmp_path / "a.nii")
    save(tmp_path / "b.nii", numbered(3, 4, 5))
    one, other = (read_volume(tmp_path / name, "MR") for name in ("a.nii", "b.nii"))
    assert np.array_equal(one.values, other.values)


def test_both_byte_orders_are_read(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.dtype(">i2"))
    nibabel.save(nibabel.Nifti1Image(numbered(3, 4, 5), RAS, header), tmp_path / "a.nii")
    assert read_header(tmp_path / "a.nii").stored == np.dtype(">i2")
    save(tmp_path / "b.nii", numbered(3, 4, 5))
    one, other = (read_volume(tmp_path / name, "MR") for name in ("a.nii", "b.nii"))
    assert np.array_equal(one.values, other.values)


def test_without_nibabel_the_way_out_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.nii", numbered(3, 4, 5))
    monkeypatch.setitem(__import__("sys").modules, "nibabel.nifti1", None)
    with pytest.raises(ConfigurationError) as caught:
        read_header(tmp_path / "a.nii")
    assert caught.value.hint == "pip install 'securefed[dicom]'"
