"""A frame of reference that CT and MRI share is believed only where the heads lie at one place."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from securefed.data.head_overlap import LEAST_OVERLAP, head_overlap
from tests.data.dicom.trees import NAME, only_series, ramp, run

WriteSeries = Callable[..., list[Path]]


def ball(radius_mm: float, *, inside: int, outside: int) -> NDArray[np.int16]:
    """12 slices 10 mm apart of 30 x 30 pixels of 5 mm, with a ball in the middle."""
    z, y, x = np.meshgrid(
        10.0 * np.arange(12) - 55, *[5.0 * np.arange(30) - 72.5] * 2, indexing="ij"
    )
    ball = x**2 + y**2 + z**2 <= radius_mm**2
    return np.where(ball, inside, outside).astype(np.int16)


def write_pair(write: WriteSeries, folder: Path, aside_mm: float) -> None:
    """CT and MRI of one frame of reference, the MRI's head moved aside."""
    frame = {"FrameOfReferenceUID": "1.2.3", "spacing": 5.0, "gap": 10.0}
    write(folder / "ct", ball(60, inside=40, outside=-1000), **frame)
    mri = ball(60, inside=500, outside=10)
    write(folder / "mr", mri, "MR", origin=(0, aside_mm, 0), **frame)


@pytest.mark.parametrize(("aside_mm", "believed"), [(0, True), (5, True), (20, False), (40, False)])
def test_heads_that_lie_apart_overlap_less(
    tmp_path: Path, write_series: WriteSeries, aside_mm: float, believed: bool
) -> None:
    write_pair(write_series, tmp_path, aside_mm)
    overlap = head_overlap(only_series(tmp_path / "ct"), only_series(tmp_path / "mr"))
    assert overlap is not None
    assert (overlap >= LEAST_OVERLAP) == believed


def test_without_air_around_a_head_its_outline_is_not_known(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    write_series(tmp_path / "ct", ramp())
    write_series(tmp_path / "mr", ramp(), "MR")
    assert head_overlap(only_series(tmp_path / "ct"), only_series(tmp_path / "mr")) is None


def test_a_frame_that_the_images_contradict_is_not_believed(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    write_pair(write_series, tmp_path / "t", 40)
    notes = [str(note) for note in run(tmp_path / "t", tmp_path / "out").notes]
    assert any(
        note.startswith(f"{NAME}: CT and MRI share a frame of reference, but") for note in notes
    )
    manifest = (tmp_path / "out" / "manifest.csv").read_text()
    assert "same-frame" not in manifest
