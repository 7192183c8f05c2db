"""Registration recovers a known displacement, and a pair that cannot be trusted is flagged."""

import builtins
import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from securefed.data import pairing
from securefed.data.alignment import LARGEST_ERROR_MM, Alignment, align, onto
from securefed.data.dicom.files import scan_tree
from securefed.data.dicom.grey_values import scale_mri
from securefed.data.dicom.stacks import stacks_of
from securefed.data.dicom.volume import Series, build_series
from securefed.data.pairing import PairingRules, pair
from securefed.data.resampling import Rigid, gaps
from tests.data.heads import Place, scan

WriteSeries = Callable[..., list[Path]]
needs_simpleitk = pytest.mark.skipif(
    importlib.util.find_spec("SimpleITK") is None,
    reason="the extra securefed[dicom] is not installed",
)
EVERYWHERE = np.array(
    [[x, y, z] for x in (-45.0, 45.0) for y in (-60.0, 60.0) for z in (-40.0, 40.0)]
)


def series(folder: Path) -> Series:
    (stack,), _ = stacks_of(scan_tree(folder).slices)
    return build_series(stack)


def apart_mm(found: Alignment, ct: Place, mri: Place) -> float:
    """How far at most a point of the head is from where the alignment says it lies."""
    error = found.transform.apply(ct.of(EVERYWHERE)) - mri.of(EVERYWHERE)
    return float(np.linalg.norm(error, axis=-1).max())


TURNED = Place((0, 0, 31))
NODDED = Place((-24, 6, 10), (4, 6, 3))
ELSEWHERE = Place(shift=(30, -150, -1200))


@needs_simpleitk
@pytest.mark.parametrize(
    ("ct", "mri"), [pytest.param(Place(), TURNED, marks=pytest.mark.slow), (ELSEWHERE, NODDED)]
)
def test_a_head_is_found_however_it_lies(ct: Place, mri: Place) -> None:
    found = align(scan("CT", ct, noise=5), scan("MR", mri, noise=5))
    assert found.status == "registered", found.reason
    assert found.error_mm is not None
    assert found.error_mm <= LARGEST_ERROR_MM
    assert apart_mm(found, ct, mri) < 3.0


@needs_simpleitk
@pytest.mark.slow
@pytest.mark.parametrize(
    ("ct", "mri"),
    [
        ({}, {"pixels": 40, "middle": (5, 8, 0)}),  # less of the head in each plane
        ({}, {"slices": 10, "middle": (0, 0, 30)}),
        ({}, {"slices": 6, "middle": (0, 0, -10)}),
        ({"slices": 15, "middle": (0, 0, 37)}, {}),
        ({"slices": 18, "middle": (0, 0, 22)}, {"slices": 18, "middle": (0, 0, -22)}),
        ({}, {"axes": np.array([[0.0, 1, 0], [0, 0, -1]]), "slices": 30}),
        ({"axes": np.array([[1, 0, 0], [0, np.cos(0.4), np.sin(0.4)]])}, {"slices": 10}),
    ],
)
def test_a_partly_covered_head_is_found_or_doubted(ct: dict[str, Any], mri: dict[str, Any]) -> None:
    """What must not happen is a wrong place called registered."""
    places = Place(shift=(0, -20, 150)), Place((4, -3, 6), (8, 5, 10))
    found = align(scan("CT", places[0], **ct), scan("MR", places[1], **mri))
    assert found.status == "failed" or apart_mm(found, *places) < 6.0


@needs_simpleitk
@pytest.mark.slow
def test_another_part_of_the_body_is_not_registered() -> None:
    knee = (
        ((0, 0, 0), (60, 60, 140), 30, 400),
        ((0, 5, 45), (24, 24, 42), 900, 900),
        ((0, 5, -45), (22, 22, 42), 900, 900),
    )
    found = align(scan("CT", Place()), scan("MR", Place(), parts=knee))
    assert found.status == "failed"
    assert np.array_equal(found.transform.shift, np.zeros(3))


@needs_simpleitk
def test_parts_of_a_head_that_do_not_meet_are_not_registered() -> None:
    top = scan("CT", Place(), slices=10, middle=(0, 0, 50))
    base = scan("MR", Place(), slices=10, middle=(0, 0, -50))
    assert align(top, base).status == "failed"


@needs_simpleitk
def test_an_empty_scan_is_not_registered() -> None:
    empty = dataclasses.replace(scan("MR", Place()), values=np.zeros((30, 64, 64), np.float32))
    found = align(scan("CT", Place()), empty)
    assert (found.status, found.reason) == ("failed", "the scans hold nothing to match")


@needs_simpleitk
@pytest.mark.parametrize(
    ("error_mm", "shared_mm", "reason"),
    [
        (3.1, 120.0, "two registrations differ by 3.1 mm"),
        (0.5, 79.0, "the scans share 79 mm of the head"),
    ],
)
def test_a_registration_is_doubted_for_its_figures(
    monkeypatch: pytest.MonkeyPatch, error_mm: float, shared_mm: float, reason: str
) -> None:
    from securefed.data import registration

    found = registration.Registration(Rigid(shift=np.ones(3)), 1.0, error_mm, shared_mm)
    monkeypatch.setattr(registration, "register", lambda *_: found)
    doubted = align(scan("CT", Place()), scan("MR", Place()))
    assert (doubted.status, doubted.error_mm) == ("failed", error_mm)
    assert doubted.reason.startswith(reason)
    assert np.array_equal(doubted.transform.shift, np.zeros(3))


def test_without_simpleitk_nothing_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def no_simpleitk(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name in ("SimpleITK", "securefed.data.registration"):
            raise ImportError(name)
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", no_simpleitk)
    found = align(scan("CT", Place()), scan("MR", Place()))
    assert (found.status, found.error_mm) == ("unregistered", None)
    assert "SimpleITK is not installed" in found.reason


def test_one_frame_needs_no_registration() -> None:
    found = align(scan("CT", Place(), frame="1.2"), scan("MR", Place(), frame="1.2"))
    assert (found.status, found.error_mm, found.reason) == ("same-frame", None, "")


@pytest.mark.parametrize("spacing", [3.0, 5.0, 10.0])
def test_no_picture_is_made_up_in_a_gap(spacing: float) -> None:
    slices = round(100 / spacing)
    missing = slice(slices // 2, slices // 2 + 3)
    ct = scan("CT", Place(), slices=slices, gap=spacing)
    mri = scan(
        "MR", Place(), gap=spacing, slices=slices, keep=np.delete(np.arange(slices), missing)
    )
    images = scale_mri(mri.values)
    _, covered = onto(ct, images, mri, Rigid())
    shown = np.ones(slices)
    shown[missing] = 0
    assert np.array_equal(covered > 0, shown > 0)


def test_one_missing_slice_is_a_gap_and_uneven_slices_are_none() -> None:
    head = scan("MR", Place())
    assert not gaps(head).any()
    one = scan("MR", Place(), keep=np.delete(np.arange(30), 12))
    assert np.flatnonzero(gaps(one)).tolist() == [11]
    positions = np.zeros((5, 3))
    positions[:, 2] = (0, 4, 8, 13, 18)
    grid = dataclasses.replace(head.grid, positions=positions)
    assert not gaps(dataclasses.replace(head, grid=grid, values=head.values[:5])).any()
    positions[:, 2] *= 5  # 20 to 25 mm apart throughout: nothing between them was ever seen
    assert gaps(dataclasses.replace(head, grid=grid, values=head.values[:5])).all()


def test_outside_the_field_of_view_a_slice_has_no_mri() -> None:
    ct = scan("CT", Place(), slices=30)
    mri = scan("MR", Place(), slices=10)
    made = pair({"ct": ct, "mri": mri}, PairingRules("brain", 64, 30, allow_unregistered=True))
    # The frames are not known, so it is registered, or paired in place: both leave it where it is.
    paired = [number for number, images in enumerate(made.slices) if "mri" in images]
    assert paired == list(range(10, 20))


def test_a_pair_that_could_not_be_registered_is_left_apart_unless_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed = Alignment("failed", 9.5, "two registrations differ by 9.5 mm")
    monkeypatch.setattr(pairing, "align", lambda *_: failed)
    scans = {"ct": scan("CT", Place()), "mri": scan("MR", Place())}
    rules = PairingRules("brain", 64, 30)
    apart = pair(scans, rules)
    assert set(apart.registrations) == {("failed", 9.5)}
    assert len(apart.registrations) == len(apart.slices)
    assert not any(len(images) == 2 for images in apart.slices)
    assert any("differ by 9.5 mm" in note for note in apart.notes)
    told = pair(scans, dataclasses.replace(rules, allow_unregistered=True))
    assert set(told.registrations) == {("failed", 9.5)}
    assert any(len(images) == 2 for images in told.slices)
    assert any("look at it" in note for note in told.notes)


def test_resampling_onto_its_own_grid_changes_nothing(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    mri = np.random.default_rng(1).integers(0, 900, (5, 64, 64)).astype(np.int16)
    write_series(tmp_path / "mr", mri, "MR", origin=(-20, 30, 11), spacing=0.7, gap=3.0)
    head = series(tmp_path / "mr")
    images = scale_mri(head.values)
    resampled, covered = onto(head, images, head, Rigid())
    assert np.abs(resampled.astype(int) - images).max() <= 1
    assert (covered == 1).all()


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
    values, covered = onto(ct, mri.values.astype(np.uint8), mri, Rigid())
    assert (covered > 0.3).any()
    for index, height in enumerate((1.5, 3.5, 5.5)):
        rows, columns = np.mgrid[:10, :10]
        points = np.stack([5 + columns, 8 + rows, np.full((10, 10), height)], axis=-1)
        shown = values[index] > 0
        assert np.abs(values[index][shown] - field(points)[shown]).max() <= 1.5
