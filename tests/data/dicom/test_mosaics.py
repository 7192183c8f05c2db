"""Siemens mosaics: each slice at its place where the maker's header says the direction."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from securefed.data.dicom.files import scan_tree
from securefed.data.dicom.frames import flat_header
from securefed.data.dicom.mosaics import mosaic_of, tiles_of
from securefed.data.dicom.roles import ANATOMY
from securefed.data.resampling import positions
from tests.data.dicom.sheets import make_mosaic, maker_header
from tests.data.dicom.trees import WriteSeries, edit, only_series, ramp, run

FIRST = np.array([-4.0, 6.0, 10.0])
UP = np.array([0.0, 0.0, 1.0])


@pytest.fixture
def sheet(tmp_path: Path, write_series: WriteSeries) -> Callable[..., Path]:
    """A mosaic of five axial slices, 4 mm apart."""

    def make(normal: np.ndarray | None) -> Path:
        (path,) = write_series(tmp_path / "t", ramp(1), "MR")
        make_mosaic(path, ramp(5, 8), FIRST, normal, gap=4.0)
        return path

    return make


@pytest.mark.parametrize("sign", [1, -1])
def test_slices_lie_where_the_maker_says(sheet: Callable[..., Path], sign: int) -> None:
    tree = sheet(sign * UP).parent
    series = only_series(tree)
    in_order = ramp(5, 8)[::sign]
    assert np.array_equal(series.values, in_order)
    heights = 10 + sign * 4.0 * np.arange(5)[::sign]
    assert np.allclose(positions(series), [(-4, 6, height) for height in heights])
    assert {item.traits.role for item in scan_tree(tree).slices} == {ANATOMY}


def test_without_the_maker_s_header_the_mosaic_is_left_and_named(
    tmp_path: Path, sheet: Callable[..., Path], write_series: WriteSeries
) -> None:
    sheet(None)
    write_series(tmp_path / "t" / "ct", ramp(), "CT")
    report = run(tmp_path / "t", tmp_path / "out")
    why = "series left: mosaic whose slices' places are not known"
    assert report.skipped.counts == {why: 1}


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"SV10",
        b"\0" * 200,
        maker_header(SliceNormalVector=[0, 0, 1])[:-40],
        maker_header(SliceNormalVector=[0, 1]),
        maker_header(SliceNormalVector=[0, 1, 0]),  # in the picture's plane
        maker_header(SliceNormalVector=["x", "y", "z"]),
    ],
)
def test_a_maker_s_header_that_is_damaged_places_nothing(
    sheet: Callable[..., Path], header: bytes
) -> None:
    dataset = pydicom.dcmread(sheet(UP))
    dataset.private_block(0x0029, "SIEMENS CSA HEADER")[0x10].value = header
    assert tiles_of(dataset) == 5
    assert mosaic_of(dataset) is None


def test_a_sheet_that_does_not_divide_into_its_slices_is_no_mosaic(
    sheet: Callable[..., Path],
) -> None:
    path = sheet(UP)
    dataset = pydicom.dcmread(path)
    dataset.Rows = dataset.Rows - 1
    assert mosaic_of(dataset) is None
    edit(path, SpacingBetweenSlices=None, SliceThickness=None)
    assert mosaic_of(pydicom.dcmread(path)) is None


def test_the_number_of_slices_is_found_in_either_header(sheet: Callable[..., Path]) -> None:
    dataset = pydicom.dcmread(sheet(UP))
    del dataset[dataset.private_block(0x0019, "SIEMENS MR HEADER").get_tag(0x0A)]
    assert tiles_of(dataset) == 5


def test_the_header_of_a_slice_changes_nothing_in_that_of_the_sheet(
    sheet: Callable[..., Path],
) -> None:
    dataset = pydicom.dcmread(sheet(UP))
    before = dataset.to_json()
    first, last = (flat_header(dataset, number) for number in (0, 4))
    assert (first.Rows, first.ImagePositionPatient[2], last.ImagePositionPatient[2]) == (8, 10, 26)
    assert dataset.to_json() == before
