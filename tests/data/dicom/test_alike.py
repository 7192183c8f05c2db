"""What is read quickly, of headers and of pixels, is what reading in full gives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.pixels import pixel_array
from pydicom.uid import ImplicitVRLittleEndian

from securefed.data.dicom.alike import OF_AN_IMAGE, AlikeHeaders
from securefed.data.dicom.files import scan_tree
from securefed.data.dicom.header import Slice, slices_of
from securefed.data.dicom.pixels import _plain, read_dataset, stored_pixels
from securefed.errors import DataError
from tests.data.dicom.trees import WriteSeries, edit, ramp

OTHERS: dict[str, Any] = {
    "DS": "7.5",
    "IS": "7",
    "UI": "1.2.7",
    "TM": "070707",
    "DA": "20070707",
    "US": 7,
    "FD": 7.5,
    "LO": "seven",
    "LT": "seven",
    "CS": "SEVEN",
}


def same(one: Slice, other: Slice) -> None:
    """Field by field, arrays too."""
    for name, value in vars(one).items():
        theirs = getattr(other, name)
        assert np.array_equal(value, theirs) if isinstance(value, np.ndarray) else value == theirs


def in_full(path: Path) -> Slice:
    return slices_of(path, read_dataset(path, pixels=False))[0]


def changed(path: Path, folder: Path, keyword: str) -> Path:
    """A copy in which an element has another value."""
    dataset = pydicom.dcmread(path)
    value = OTHERS[dictionary_VR(keyword).split(" or ")[0]]
    setattr(dataset, keyword, [1.5, 2.5, 3.5] if keyword == "ImagePositionPatient" else value)
    dataset[keyword].VR = dataset[keyword].VR.split(" or ")[0]
    dataset.save_as(folder / "b")
    return folder / "b"


@pytest.mark.parametrize("keyword", sorted(map(keyword_for_tag, OF_AN_IMAGE)))
@pytest.mark.parametrize("name", ["CT_small", "MR_small"])
def test_an_image_that_differs_in_what_images_differ_in_is_read_as_in_full(
    tmp_path: Path, pydicom_files: Path, name: str, keyword: str
) -> None:
    path = pydicom_files / f"{name}.dcm"
    other = changed(path, tmp_path, keyword)
    headers = AlikeHeaders(kinds={"CT", "MR"}, allow_burned_in=False, label_attribute="")
    headers.images(path, read_dataset(path, pixels=False))
    (quick,) = headers.images(other, read_dataset(other, pixels=False))
    same(quick, in_full(other))


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("SeriesDescription", "Localizer"),
        ("ImageType", ["DERIVED", "SECONDARY"]),
        ("PixelSpacing", [2, 2]),
        ("PatientID", "OTHER"),
        ("EchoTime", 90),
        ("Rows", 7),
        ("StudyDate", "20250101"),
    ],
)
def test_any_other_difference_is_looked_at(
    tmp_path: Path, write_series: WriteSeries, keyword: str, value: Any
) -> None:
    first, second = write_series(tmp_path / "t", ramp(2), "MR")
    edit(second, **{keyword: value})
    one, other = scan_tree(tmp_path / "t").slices
    same(other, in_full(second))
    same(one, in_full(first))
    assert one.traits is not other.traits  # as it is where nothing differs


def test_images_of_a_series_share_what_is_the_same(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    write_series(tmp_path / "t", ramp(5), SpecificCharacterSet="ISO_IR 100")
    slices = scan_tree(tmp_path / "t").slices
    assert len({id(item.traits) for item in slices}) == 1  # memory, and time
    assert [item.number for item in slices] == [1, 2, 3, 4, 5]


def test_a_bad_value_costs_its_own_file_and_a_label_is_read_from_each(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    files = write_series(tmp_path / "t", ramp(3))
    edit(files[1], ImagePositionPatient=[1, 2])
    for number, path in enumerate(files):
        edit(path, ImageComments=f"word {number}")
    scan = scan_tree(tmp_path / "t", label_attribute="ImageComments")
    assert [item.label for item in scan.slices] == ["word 0", "word 2"]
    assert "ImagePositionPatient that is not 3 numbers" in scan.problems[0].reason


def _bits(dataset: Any, bits: int, signed: int) -> None:
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, signed


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("bits", [1, 8, 12, 15, 16])
@pytest.mark.parametrize("implicit", [False, True])
def test_words_as_they_lie_are_what_pydicom_makes_of_them(
    tmp_path: Path, write_series: WriteSeries, bits: int, signed: int, implicit: bool
) -> None:
    words = np.random.default_rng(bits).integers(-(2**15), 2**15, (1, 9, 7)).astype(np.int16)
    (path,) = write_series(tmp_path / "t", words, "MR")
    dataset = pydicom.dcmread(path)
    _bits(dataset, bits, signed)
    if implicit:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.save_as(path)
    again = pydicom.dcmread(path)
    ours = _plain(again)
    assert ours is not None
    assert np.array_equal(ours, pixel_array(again))


@pytest.mark.parametrize(
    "change",
    [
        lambda dataset: setattr(dataset, "BitsAllocated", 8),
        lambda dataset: setattr(dataset, "SamplesPerPixel", 3),
        lambda dataset: setattr(dataset, "NumberOfFrames", 2),
        lambda dataset: setattr(dataset, "PixelData", dataset.PixelData[:-2]),
        lambda dataset: setattr(dataset, "PixelData", dataset.PixelData + b"\0\0"),
        lambda dataset: setattr(dataset, "PixelRepresentation", 2),
        lambda dataset: setattr(dataset, "BitsStored", 0),
    ],
)
def test_other_words_are_pydicoms_to_read_or_to_refuse(
    tmp_path: Path, write_series: WriteSeries, change: Callable[[Any], None]
) -> None:
    (path,) = write_series(tmp_path / "t", ramp(1), "MR")
    dataset = pydicom.dcmread(path)
    change(dataset)
    assert _plain(dataset) is None


def test_a_file_without_pixels_is_refused_in_words(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    (path,) = write_series(tmp_path / "t", ramp(1), "MR")
    (item,) = scan_tree(tmp_path / "t").slices
    edit(path, PixelData=None)
    with pytest.raises(DataError, match="cannot be decoded"):
        stored_pixels(item)
