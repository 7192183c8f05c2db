"""Registration recovers a known displacement, and a pair that cannot be trusted is flagged."""

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from securefed.data import alignment
from securefed.data.alignment import Alignment, align, onto_ct
from securefed.data.dicom.files import scan_tree
from securefed.data.dicom.grey_values import scale_mri
from securefed.data.dicom.stacks import stacks_of
from securefed.data.dicom.volume import Series, build_series
from securefed.data.phantom import PhantomSpec, SiteProfile, generate

WriteSeries = Callable[..., list[Path]]
SHIFT = np.array([6.0, -9.0, 7.0])  # mm; the scanners disagree by this


def heads(slices: int = 24) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """CT in HU and MRI of one phantom, 64 x 64 pixels."""
    spec = PhantomSpec(
        slices=(slices, slices), misregistration=0.0, missing_ct=0.0, missing_mri=0.0, site_shift=0
    )
    patient = generate(spec, SiteProfile.draw(spec, 0, 0), 1, 0)[0].patient
    ct = patient.ct.astype(np.int16) * 80 // 255
    return np.where(patient.ct == 255, np.int16(300), ct), patient.mri.astype(np.int16)


def series(folder: Path) -> Series:
    (stack,), _ = stacks_of(scan_tree(folder).slices)
    return build_series(stack)


@pytest.fixture
def displaced(tmp_path: Path, write_series: WriteSeries) -> tuple[Series, Series]:
    """CT and MRI of one head in different frames: x_mri = x_ct + SHIFT."""
    ct, mri = heads()
    write_series(tmp_path / "ct", ct, spacing=3.0, gap=5.0)
    write_series(tmp_path / "mr", mri, "MR", origin=tuple(SHIFT), spacing=3.0, gap=5.0)
    return series(tmp_path / "ct"), series(tmp_path / "mr")


def test_registration_recovers_a_known_displacement(displaced: tuple[Series, Series]) -> None:
    pytest.importorskip("SimpleITK", reason="the extra securefed[dicom] is not installed")
    ct, mri = displaced
    found = align(ct, mri)
    assert found.status == "registered"
    assert found.metric is not None
    assert found.metric > 0.1
    centre = np.array([95.0, 95.0, 60.0])
    corners = centre + 60 * np.array([[1, 1, 0], [-1, 1, 0], [1, -1, 0.5], [0, 0, -1]])
    error = np.linalg.norm(found.apply(corners) - (corners + SHIFT), axis=1)
    assert error.max() < 3.0  # one pixel
    again = align(ct, mri)
    # Not to the bit: SimpleITK adds the metric up in an order of its own.
    assert np.abs(found.apply(corners) - again.apply(corners)).max() < 0.01


def test_without_simpleitk_the_pair_is_flagged(
    displaced: tuple[Series, Series], monkeypatch: pytest.MonkeyPatch
) -> None:
    real_import = builtins.__import__

    def no_simpleitk(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "SimpleITK":
            raise ImportError(name)
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", no_simpleitk)
    found = align(*displaced)
    assert (found.status, found.metric) == ("unregistered", None)
    assert np.array_equal(found.apply(SHIFT), SHIFT)


def test_a_displacement_too_large_to_believe_is_a_failure(
    displaced: tuple[Series, Series], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("SimpleITK", reason="the extra securefed[dicom] is not installed")
    monkeypatch.setattr(alignment, "LARGEST_SHIFT_MM", 5.0)
    found = align(*displaced)
    assert found.status == "failed"
    assert np.array_equal(found.shift, np.zeros(3))


def test_one_frame_needs_no_registration(tmp_path: Path, write_series: WriteSeries) -> None:
    ct, mri = heads(4)
    write_series(tmp_path / "ct", ct, FrameOfReferenceUID="1.2")
    write_series(tmp_path / "mr", mri, "MR", FrameOfReferenceUID="1.2")
    assert align(series(tmp_path / "ct"), series(tmp_path / "mr")).status == "same-frame"


def test_resampling_onto_its_own_grid_changes_nothing(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    _, mri = heads(5)
    write_series(tmp_path / "mr", mri, "MR", origin=(-20, 30, 11), spacing=0.7, gap=3.0)
    head = series(tmp_path / "mr")
    images = scale_mri(head.values)
    resampled, covered = onto_ct(images, head, head, Alignment("same-frame"))
    assert np.abs(resampled.astype(int) - images).max() <= 1
    # Rounding may put the outermost pixels a hair outside.
    assert (covered > 0.9).all()


def test_resampling_follows_tilted_and_uneven_slices(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    """A field that is linear in millimetres must come out as that field, whatever the slices."""
    tilt = np.deg2rad(20)
    down = np.array([0, np.cos(tilt), -np.sin(tilt)])
    heights = [0.0, 3.0, 4.0, 9.0, 16.0]
    files = write_series(
        tmp_path / "mr",
        np.zeros((5, 30, 30), dtype=np.int16),
        "MR",
        ImageOrientationPatient=[1, 0, 0, *down.tolist()],
    )

    def field(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(points @ np.array([1.0, 2.0, 3.0]) + 60)

    for path, height in zip(files, heights, strict=True):
        dataset = pydicom.dcmread(path)
        position = np.array([0.0, 0.0, height])
        rows, columns = np.mgrid[:30, :30]
        points = position + columns[..., None] * [1, 0, 0] + rows[..., None] * down
        dataset.ImagePositionPatient = position.tolist()
        dataset.PixelData = np.round(field(points)).astype("<i2").tobytes()
        dataset.save_as(path)
    write_series(
        tmp_path / "ct", np.zeros((3, 10, 10), dtype=np.int16), origin=(5, 8, 1.5), gap=2.0
    )
    mri, ct = series(tmp_path / "mr"), series(tmp_path / "ct")
    values, covered = onto_ct(mri.values.astype(np.uint8), mri, ct, Alignment("same-frame"))
    assert (covered > 0.3).any()
    for index, height in enumerate((1.5, 3.5, 5.5)):
        rows, columns = np.mgrid[:10, :10]
        points = np.stack([5 + columns, 8 + rows, np.full((10, 10), height)], axis=-1)
        shown = values[index] > 0
        assert np.abs(values[index][shown] - field(points)[shown]).max() <= 1.5
