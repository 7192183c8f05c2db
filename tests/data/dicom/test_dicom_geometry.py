"""Whatever way a patient lay, and whatever form pixels have, the picture is the same."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from securefed.data.dicom.geometry import Grid, plane_of, square, upright
from securefed.errors import DataError
from tests.data.dicom.trees import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    WriteSeries,
    edit,
    edit_all,
    only_series,
    ramp,
    run,
)

EDGE = 12


def point_values(places: NDArray[np.float64]) -> NDArray[np.int16]:
    """A number for each place (..., 3) in mm, another at each."""
    return (places @ np.array([1, 20, 400])).astype(np.int16)


def write_as_seen(
    write: WriteSeries, folder: Path, axes: Sequence[float], gap: float = 1.0
) -> None:
    """A cube of EDGE mm of `point_values`, stored along any axes (a scan in any position)."""
    across, down = np.array(axes[:3], float), np.array(axes[3:], float)
    normal = np.cross(across, down)
    first = np.full(3, (EDGE - 1) / 2) - (EDGE - 1) / 2 * (across + down + normal)
    n, r, k = np.meshgrid(np.arange(0, EDGE, gap), *[np.arange(EDGE)] * 2, indexing="ij")
    places = first + n[..., None] * normal + r[..., None] * down + k[..., None] * across
    files = write(folder, point_values(places), "MR")
    for number, path in enumerate(files):
        edit(
            path,
            ImagePositionPatient=(first + number * gap * normal).tolist(),
            ImageOrientationPatient=list(map(float, axes)),
        )


@pytest.mark.parametrize(
    "axes",
    [
        AXIAL,
        (-1, 0, 0, 0, -1, 0),  # prone
        (0, 1, 0, -1, 0, 0),  # on the left side
        (0, -1, 0, 1, 0, 0),  # on the right side
        (-1, 0, 0, 0, 1, 0),  # mirrored: feet first, seen from the feet
        (1, 0, 0, 0, -1, 0),
        (0, 1, 0, 1, 0, 0),
        # Fine slices of another plane, as 3D sequences have: cut into axial ones.
        CORONAL,
        (-1, 0, 0, 0, 0, 1),
        SAGITTAL,
        (0, 0, 1, 0, 1, 0),
    ],
)
def test_a_scan_in_any_position_is_the_same_volume(
    tmp_path: Path, write_series: WriteSeries, axes: Sequence[float]
) -> None:
    write_as_seen(write_series, tmp_path / "t", axes)
    series = only_series(tmp_path / "t")
    z, y, x = np.meshgrid(*[np.arange(EDGE, dtype=float)] * 3, indexing="ij")
    assert np.array_equal(series.values, point_values(np.stack([x, y, z], -1)))
    assert series.positions is not None
    assert np.allclose(series.positions, [[0, 0, height] for height in range(EDGE)])
    assert np.allclose(series.steps, [[1, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize(
    ("axes", "across", "down"),
    [
        (CORONAL, (1, 0, 0), (0, 0, -1)),
        ((-1, 0, 0, 0, 0, 1), (1, 0, 0), (0, 0, -1)),
        (SAGITTAL, (0, 1, 0), (0, 0, -1)),
        ((0, 0, 1, 0, 1, 0), (0, 1, 0), (0, 0, -1)),
    ],
)
def test_thick_coronal_and_sagittal_scans_have_the_head_up_and_are_named(
    tmp_path: Path,
    write_series: WriteSeries,
    axes: Sequence[float],
    across: Sequence[int],
    down: Sequence[int],
) -> None:
    write_as_seen(write_series, tmp_path / "t", axes, gap=3.0)
    series = only_series(tmp_path / "t")
    assert np.allclose(series.steps, [across, down])
    assert series.positions is not None
    place = series.positions[3] + 4 * np.array(down) + 5 * np.array(across)
    assert series.values[3, 4, 5] == point_values(place)
    plane = "coronal" if axes[1] == 0 and axes[4] == 0 else "sagittal"
    assert f"slices are {plane}, not axial" in series.notes


@pytest.mark.parametrize(("spacing", "shape"), [([2, 1], (10, 20)), ([1, 2], (20, 10))])
def test_pixels_become_square(
    tmp_path: Path, write_series: WriteSeries, spacing: list[float], shape: tuple[int, int]
) -> None:
    """A plane whose values are millimetres stays that plane."""
    rows, columns = np.indices(shape) * np.array(spacing)[:, None, None]
    write_series(tmp_path / "t", (rows * 3 + columns)[None].astype(np.int16), "MR")
    edit(tmp_path / "t/IM00000", PixelSpacing=spacing)
    series = only_series(tmp_path / "t")
    assert series.grid.spacing == (1, 1)
    wide, high = series.values.shape[2], series.values.shape[1]
    assert {wide, high} == {19, 20}
    y, x = np.indices((high, wide))
    assert np.allclose(series.values[0], y * 3 + x)


def test_an_aspect_without_spacing_makes_pixels_square_too() -> None:
    tall, grid = square(np.ones((1, 4, 4), dtype=np.float32), Grid(None, None, None, 2.0))
    assert tall.shape == (1, 7, 4)
    assert grid.spacing is None
    with pytest.raises(DataError, match="times as high as wide"):
        square(np.ones((1, 4, 4), dtype=np.float32), Grid(None, None, None, 11.0))


@pytest.mark.parametrize(
    ("missing", "note"),
    [
        ("PixelSpacing", "no PixelSpacing"),
        ("ImagePositionPatient", "no ImagePositionPatient"),
        ("ImageOrientationPatient", "no ImageOrientationPatient"),
    ],
)
def test_what_has_no_place_is_never_paired_and_nothing_is_assumed(
    tmp_path: Path, write_series: WriteSeries, missing: str, note: str
) -> None:
    frame = {"FrameOfReferenceUID": "1.2.3"}
    edit_all(write_series(tmp_path / "t/ct", ramp(), **frame), **{missing: None})
    write_series(tmp_path / "t/mr", ramp(), "MR", **frame)
    report = run(tmp_path / "t", tmp_path / "out")
    assert any(note in str(each) for each in report.notes)
    assert any("kept as separate slices" in each.reason for each in report.notes)


def test_planes_are_told_by_the_normal() -> None:
    for axes, plane in ((AXIAL, "axial"), (CORONAL, "coronal"), (SAGITTAL, "sagittal")):
        assert plane_of(np.array(axes, float).reshape(2, 3)) == plane
    corner = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])
    assert plane_of(corner) == "oblique"
    assert plane_of(None) == ""


def test_without_orientation_a_volume_stays_as_it_is() -> None:
    values = np.arange(8, dtype=np.float32).reshape(1, 2, 4)
    assert upright(values, Grid(None, (1, 1), None))[0] is values


def test_a_turn_in_the_plane_is_noted(tmp_path: Path, write_series: WriteSeries) -> None:
    sine, cosine = np.sin(np.radians(20)), np.cos(np.radians(20))
    edit_all(
        write_series(tmp_path / "t", ramp(), "MR"),
        ImageOrientationPatient=[cosine, sine, 0, -sine, cosine, 0],
    )
    assert "pictures are turned in their plane by 20.0 degrees" in only_series(tmp_path / "t").notes
