"""Images are collected by content: identifiers repeat, are missing, or are one per slice."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from securefed.data.dicom.files import scan_tree
from securefed.data.dicom.stacks import Stack, stacks_of
from tests.data.dicom.trees import NAME, WriteSeries, edit, edit_all, ramp, rows, run

SAME = {"FrameOfReferenceUID": "1.2.3"}
TILTED = [1, 0, 0, 0, 0.96, 0.28]


def sizes(tree: Path) -> list[tuple[str, int]]:
    """Modality and images of each stack."""
    stacks, refused = stacks_of(scan_tree(tree).slices)
    assert not refused
    return [(stack.first.modality, len(stack.slices)) for stack in stacks]


def the_stack(tree: Path) -> Stack:
    (stack,), refused = stacks_of(scan_tree(tree).slices)
    assert not refused
    return stack


@pytest.mark.parametrize(
    "difference",
    [
        {"ImageOrientationPatient": TILTED},
        {"PixelSpacing": [2, 2]},
        {"FrameOfReferenceUID": "1.9"},
        {"StudyDate": "20230101"},
        {"StudyInstanceUID": "1.7"},
        {"EchoTime": 90},
        {"SeriesDescription": "T2"},
        {"SeriesNumber": 7},
        {"ImageType": ["ORIGINAL", "PRIMARY", "P"]},
        {"ConvolutionKernel": "H60s"},
    ],
)
def test_one_series_uid_for_all_is_told_apart_by_content(
    tmp_path: Path, write_series: WriteSeries, difference: dict[str, object]
) -> None:
    """Three images on other places than the four before, under one SeriesInstanceUID."""
    one = {"SeriesInstanceUID": "1.2.3.4", "StudyInstanceUID": "1.5", **SAME}
    write_series(tmp_path / "a", ramp(4), **one)
    write_series(tmp_path / "b", ramp(3), origin=(0, 0, 1), **{**one, **difference})
    assert sizes(tmp_path) == [("CT", 4), ("CT", 3)]


def test_ct_and_mri_under_one_series_uid_are_two_stacks(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    one = {"SeriesInstanceUID": "1.2.3.4", **SAME}
    write_series(tmp_path / "a", ramp(4), **one)
    write_series(tmp_path / "b", ramp(4), "MR", origin=(0, 0, 1), **one)
    assert sizes(tmp_path) == [("CT", 4), ("MR", 4)]


@pytest.mark.parametrize(
    "keyword", ["SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"]
)
def test_a_uid_for_each_slice_does_not_break_a_series(
    tmp_path: Path, write_series: WriteSeries, keyword: str
) -> None:
    for number, path in enumerate(write_series(tmp_path, ramp(6), SeriesNumber=4)):
        edit(path, **{keyword: f"1.2.{number}"})
    stack = the_stack(tmp_path)
    assert len(stack.slices) == 6
    assert (stack.first.frame == "") == (keyword == "FrameOfReferenceUID")


def test_one_sop_uid_for_all_drops_nothing_and_is_noted(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    write_series(tmp_path / "t/a", ramp(4), SOPInstanceUID="1.2.3")
    write_series(tmp_path / "t/b", ramp(4, start=5), PatientID="OTHER", SOPInstanceUID="1.2.3")
    report = run(tmp_path / "t", tmp_path / "out", {"ORIGINAL-ID": 1, "OTHER": 0})
    assert len(rows(tmp_path / "out")) == 8
    assert f"{NAME}: 4 different images share 1 SOPInstanceUID; all are kept" in str(
        report.notes[0]
    )


def test_a_slice_sent_twice_counts_once(tmp_path: Path, write_series: WriteSeries) -> None:
    files = write_series(tmp_path / "t", ramp(4))
    again = pydicom.dcmread(files[2])
    again.SOPInstanceUID = "1.2.3.9"
    again.save_as(tmp_path / "t" / "again")
    (tmp_path / "t" / "backup").mkdir()
    shutil.copy(files[0], tmp_path / "t" / "backup" / "IM00000")
    report = run(tmp_path / "t", tmp_path / "out")
    assert not report.problems
    assert report.skipped.counts == {"the same image again": 2}
    assert len(rows(tmp_path / "out")) == 4


def test_a_damaged_copy_gives_way_to_the_sound_one(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    files = write_series(tmp_path / "t", ramp(4))
    shutil.copy(files[1], tmp_path / "t" / "copy")
    edit(files[1], PixelData=b"\1\2")
    report = run(tmp_path / "t", tmp_path / "out")
    assert [problem.place for problem in report.problems] == ["IM00001"]
    assert len(rows(tmp_path / "out")) == 4


@pytest.mark.parametrize(
    "keyword",
    ["TemporalPositionIdentifier", "AcquisitionNumber", "AcquisitionTime", "RepetitionTime"],
)
def test_images_of_one_place_are_told_apart_by_their_moment(
    tmp_path: Path, write_series: WriteSeries, keyword: str
) -> None:
    one = {"SeriesInstanceUID": "1.2.3.4", **SAME}
    for number in range(4):
        write_series(tmp_path / str(number), ramp(3), "MR", **one, **{keyword: f"10150{number}"})
    stacks, _ = stacks_of(scan_tree(tmp_path).slices)
    assert [len(stack.slices) for stack in stacks] == [3] * 4
    assert {stack.traits.weighting for stack in stacks} == {"series in time"}
    assert stacks[0].notes == ("has 4 images at each place; this is number 1",)


def test_different_images_at_one_place_are_refused_where_nothing_tells_them_apart(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    files = write_series(tmp_path / "t/bad", ramp())
    edit(files[2], ImagePositionPatient=[0, 0, 0])
    write_series(tmp_path / "t/good", ramp(), "MR")
    (problem,) = run(tmp_path / "t", tmp_path / "out").problems
    assert problem.place == "bad/IM00000"
    assert "different images at one place (bad/IM00000 and bad/IM00002)" in problem.reason
    assert {row["ct_path"] for row in rows(tmp_path / "out")} == {""}


def test_a_head_in_two_series_is_one_volume(tmp_path: Path, write_series: WriteSeries) -> None:
    write_series(tmp_path / "a", ramp(5), gap=4.0, SeriesDescription="BASE", **SAME)
    write_series(
        tmp_path / "b", ramp(6), gap=8.0, origin=(0, 0, 20), SeriesDescription="VERTEX", **SAME
    )
    stack = the_stack(tmp_path)
    assert stack.heights is not None
    assert stack.heights.tolist() == [0, 4, 8, 12, 16, 20, 28, 36, 44, 52, 60]
    assert stack.notes == ("put together from series 'BASE' and series 'VERTEX'",)


@pytest.mark.parametrize(
    "difference",
    [
        {"origin": (0, 0, 60)},  # a gap
        {"origin": (0, 0, 10)},  # they overlap
        {"origin": (0, 80, 20)},  # aside
        {"origin": (0, 0, 20), "ConvolutionKernel": "H60s"},
        {"origin": (0, 0, 20), "FrameOfReferenceUID": "1.9"},
        {"origin": (0, 0, 20), "spacing": 2.0},
    ],
)
def test_series_that_do_not_continue_each_other_stay_apart(
    tmp_path: Path, write_series: WriteSeries, difference: dict[str, object]
) -> None:
    write_series(tmp_path / "a", ramp(5), gap=4.0, **SAME)
    write_series(tmp_path / "b", ramp(6), gap=4.0, **{**SAME, **difference})
    assert sizes(tmp_path) == [("CT", 5), ("CT", 6)]


def test_rounding_of_direction_and_spacing_does_not_break_a_series(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    for number, path in enumerate(write_series(tmp_path, ramp(6))):
        tilt = 0.00499 + number * 1e-5
        edit(
            path,
            ImageOrientationPatient=[1, 0, 0, 0, float(np.sqrt(1 - tilt**2)), tilt],
            PixelSpacing=[1 + number * 1e-5] * 2,
        )
    assert len(the_stack(tmp_path).slices) == 6


def test_without_geometry_the_instance_number_orders_and_must_be_unique(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    files = write_series(tmp_path, ramp(3))
    edit_all(files, ImagePositionPatient=None)
    for number, path in zip((3, 1, 2), files, strict=True):
        edit(path, InstanceNumber=number)
    assert [item.path.name[-1] for item in the_stack(tmp_path).slices] == ["1", "2", "0"]
    edit(files[0], InstanceNumber=1)
    _, refused = stacks_of(scan_tree(tmp_path).slices)
    assert "different images at one place" in refused[0][1]


def test_a_frame_shared_by_patients_is_not_believed(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    pytest.importorskip("SimpleITK", reason="the extra securefed[dicom] is not installed")
    for patient in ("A-1", "B-2"):
        for modality in ("CT", "MR"):
            folder = tmp_path / "t" / patient / modality
            write_series(folder, ramp(8), modality, PatientID=patient, **SAME)
    report = run(tmp_path / "t", tmp_path / "out", {"A-1": 1, "B-2": 0})
    assert "one FrameOfReferenceUID stands with 2 patients" in report.notes[0].reason
    assert "same-frame" not in {row["registration"] for row in rows(tmp_path / "out")}


def test_odd_and_even_slices_in_two_series_are_one_volume(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    write_series(tmp_path / "a", ramp(4), gap=8.0, SeriesNumber=1, **SAME)
    write_series(tmp_path / "b", ramp(4), gap=8.0, origin=(0, 0, 4), SeriesNumber=2, **SAME)
    stack = the_stack(tmp_path)
    assert stack.heights is not None
    assert stack.heights.tolist() == [0, 4, 8, 12, 16, 20, 24, 28]


def test_a_copy_in_another_encoding_is_a_copy(tmp_path: Path, pydicom_files: Path) -> None:
    for name in ("MR_small", "MR_small_bigendian", "MR_small_RLE", "MR_small_implicit"):
        shutil.copy(pydicom_files / f"{name}.dcm", tmp_path / name)
    stack = the_stack(tmp_path)
    assert (len(stack.slices), len(stack.copies)) == (1, 3)
