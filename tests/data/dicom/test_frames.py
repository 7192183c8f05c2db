"""Enhanced objects hold many images in one file, with geometry and rescale in functional groups."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from securefed.data.dicom.files import scan_tree
from securefed.data.dicom.frames import flat_header
from securefed.data.dicom.stacks import stacks_of
from tests.data.dicom.trees import WriteSeries, edit, only_series, ramp, reasons, run

EnhancedCT, EnhancedMR = "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.4.1"
PER_SLICE = ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")
RESCALE = ("RescaleSlope", "RescaleIntercept", "RescaleType")


def group(**values: object) -> Dataset:
    """An item of a sequence."""
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def write_enhanced(
    path: Path,
    source: Path,
    stored: NDArray[np.int16],
    frames: Sequence[Dataset],
    **shared: object,
) -> None:
    """One file from a plain slice, with given frames and shared groups."""
    dataset = pydicom.dcmread(source)
    for keyword in (*PER_SLICE, *RESCALE):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.SOPClassUID = EnhancedCT if dataset.Modality == "CT" else EnhancedMR
    dataset.NumberOfFrames = len(stored)
    dataset.Rows, dataset.Columns = stored.shape[1:]
    dataset.SharedFunctionalGroupsSequence = [
        group(
            PixelMeasuresSequence=[group(PixelSpacing=[1, 1])],
            PlaneOrientationSequence=[group(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            **shared,
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = list(frames)
    dataset.PixelData = stored.tobytes()
    dataset.save_as(path)
    source.unlink()


def frame(height: float, **groups: object) -> Dataset:
    """The groups of a frame at a height in mm."""
    return group(PlanePositionSequence=[group(ImagePositionPatient=[0, 0, height])], **groups)


@pytest.fixture
def plain(tmp_path: Path, write_series: WriteSeries) -> Callable[[str], Path]:
    """A plain slice to start from."""
    return lambda modality: write_series(tmp_path / "t", ramp(1), modality)[0]


def test_frames_are_slices_with_their_own_place_and_rescale(
    tmp_path: Path, plain: Callable[[str], Path]
) -> None:
    stored = ramp(4)
    frames = [
        frame(
            10.0 * height,
            PixelValueTransformationSequence=[
                group(RescaleSlope=1, RescaleIntercept=-100 * height, RescaleType="HU")
            ],
        )
        for height in (3, 1, 2, 0)
    ]
    write_enhanced(tmp_path / "t/all", plain("CT"), stored, frames)
    series = only_series(tmp_path / "t")
    assert series.positions is not None
    assert series.positions[:, 2].tolist() == [0, 10, 20, 30]
    for height, number in enumerate((3, 1, 2, 0)):
        expected = np.clip(stored[number] - 100.0 * height, -1024, 3071)
        assert np.array_equal(series.values[height], expected)


def test_an_enhanced_ct_without_rescale_is_refused_like_any_other(
    tmp_path: Path, plain: Callable[[str], Path], write_series: WriteSeries
) -> None:
    write_enhanced(tmp_path / "t/all", plain("CT"), ramp(2), [frame(0), frame(5)])
    write_series(tmp_path / "t/mr", ramp(), "MR")
    report = run(tmp_path / "t", tmp_path / "out")
    assert "no RescaleSlope and RescaleIntercept" in reasons(report)[0]


def test_echoes_and_phases_in_one_file_are_stacks_of_their_own(
    tmp_path: Path, plain: Callable[[str], Path]
) -> None:
    kinds = [
        {"MREchoSequence": [group(EffectiveEchoTime=10)]},
        {"MREchoSequence": [group(EffectiveEchoTime=90)]},
        {"MRImageFrameTypeSequence": [group(FrameType=["ORIGINAL", "PRIMARY", "PHASE MAP"])]},
    ]
    frames = [frame(height, **kind) for height in (0.0, 5.0) for kind in kinds]
    write_enhanced(tmp_path / "t/all", plain("MR"), ramp(6), frames)
    stacks, refused = stacks_of(scan_tree(tmp_path / "t").slices)
    assert not refused
    assert {(s.traits.times[0], s.traits.role, len(s.slices)) for s in stacks} == {
        ("10.0", "anatomy", 2),
        ("90.0", "anatomy", 2),
        ("", "phase image", 2),
    }


def test_one_frame_in_each_file_is_a_series_of_files(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    for number, source in enumerate(write_series(tmp_path / "t", ramp(3), "MR")):
        image = ramp(1, start=number)
        write_enhanced(tmp_path / f"t/enhanced{number}", source, image, [frame(5.0 * number)])
    series = only_series(tmp_path / "t")
    assert series.values[:, 0, 0].tolist() == [0, 1, 2]
    assert series.positions is not None


def test_frames_that_have_no_or_too_few_groups_are_refused(
    tmp_path: Path, plain: Callable[[str], Path]
) -> None:
    write_enhanced(tmp_path / "t/all", plain("MR"), ramp(3), [frame(0), frame(5)])
    edit(tmp_path / "t/all", NumberOfFrames=3)
    (problem,) = scan_tree(tmp_path / "t").problems
    assert problem.reason == "has functional groups for 2 of 3 frames"
    edit(
        tmp_path / "t/all",
        PerFrameFunctionalGroupsSequence=None,
        SharedFunctionalGroupsSequence=None,
    )
    (problem,) = scan_tree(tmp_path / "t").problems
    assert problem.reason.startswith("holds 3 frames without functional groups")


def test_the_header_of_a_frame_changes_nothing_in_that_of_its_file(
    tmp_path: Path, plain: Callable[[str], Path]
) -> None:
    frames = [
        frame(5.0 * number, MRImageFrameTypeSequence=[group(FrameType=["ORIGINAL", kind])])
        for number, kind in enumerate(("PRIMARY", "SECONDARY"))
    ]
    write_enhanced(tmp_path / "t/all", plain("MR"), ramp(2), frames)
    dataset = pydicom.dcmread(tmp_path / "t/all")
    dataset.ImageType = ["ORIGINAL", "MIXED"]
    before = dataset.to_json()
    assert flat_header(dataset, 1).ImageType == ["ORIGINAL", "SECONDARY"]
    assert dataset.to_json() == before
