"""Grey values are what they say: Hounsfield units, or refused by name; MR scaled by itself."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from securefed.data.dicom.grey_values import scale_mri, window_ct
from securefed.data.load import load_manifest
from securefed.errors import DataError
from tests.data.dicom.trees import WriteSeries, edit, edit_all, only_series, ramp, reasons, run


def test_hounsfield_units_follow_each_slice_and_padding_becomes_air(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    volume = np.full((2, 4, 4), 1000, dtype=np.int16)
    volume[:, 0, 0] = -2000
    volume[:, 0, 1] = 9000
    files = write_series(
        tmp_path / "t", volume, RescaleSlope=1, RescaleIntercept=-1024, PixelPaddingValue=-2000
    )
    edit(files[1], RescaleSlope=2, RescaleIntercept=-1990)
    values = only_series(tmp_path / "t").values
    assert values[0, 0].tolist() == [-1024, 3071, -24, -24]
    assert values[1, 3].tolist() == [10, 10, 10, 10]
    assert values[1, 0, 0] == -1024


def test_a_modality_table_is_looked_up(tmp_path: Path, write_series: WriteSeries) -> None:
    files = write_series(tmp_path / "t", ramp(2, 4), "MR")
    table = pydicom.Dataset()
    table.LUTDescriptor = [4, 10, 16]  # entries, first value mapped, bits
    table.LUTData = [100, 200, 300, 400]
    table["LUTData"].VR = "US"
    edit(files[1], ModalityLUTSequence=[table])
    values = only_series(tmp_path / "t").values
    assert values[0, 0].tolist() == [0, 1, 2, 3]  # the other slice has none
    assert values[1, 0].tolist() == [100, 200, 300, 400]
    assert values[1, 3].tolist() == [400] * 4  # beyond the last entry


def test_windows_map_their_edges_to_black_and_white() -> None:
    hu = np.array([-50, 0, 40, 80, 500], dtype=np.float32).reshape(1, 1, 5)
    assert window_ct(hu, "brain")[0, 0].tolist() == [0, 0, 128, 255, 255]
    for window, edges in (("subdural", [-25, 75, 175]), ("bone", [-700, 550, 1800])):
        hu = np.array(edges, dtype=np.float32).reshape(1, 1, 3)
        assert window_ct(hu, window)[0, 0].tolist() == [0, 128, 255]


def test_mri_scaling_ignores_units_and_background() -> None:
    rng = np.random.default_rng(0)
    head = np.zeros((3, 40, 40), dtype=np.float32)
    head[:, 10:30, 10:30] = rng.normal(100, 10, (3, 20, 20))
    images = scale_mri(head)
    assert np.abs(images.astype(int) - scale_mri(head * 37 + 5)).max() <= 1
    inside = head[:, 10:30, 10:30].ravel()
    low, high = np.sort(inside)[[6, -6]]  # 0.5% of 1,200
    shown = images[:, 10:30, 10:30].ravel()
    assert (shown[inside < low * 0.98] == 0).all()
    assert (shown[inside > high * 1.02] == 255).all()
    uniform = np.where(head > 0, np.float32(50), np.float32(0))
    assert np.array_equal(scale_mri(uniform), np.where(head > 0, 255, 0))
    with pytest.raises(DataError, match="constant"):
        scale_mri(np.full((1, 4, 4), 7, dtype=np.float32))


@pytest.mark.parametrize(("modality", "inverted"), [("CT", False), ("MR", True)])
def test_monochrome1_inverts_mr_pictures_and_never_hounsfield_units(
    tmp_path: Path, write_series: WriteSeries, modality: str, inverted: bool
) -> None:
    write_series(tmp_path / "a", ramp(), modality)
    write_series(tmp_path / "b", ramp(), modality, PhotometricInterpretation="MONOCHROME1")
    for name in "ab":
        run(tmp_path / name, tmp_path / f"out-{name}")
    patients = [load_manifest(tmp_path / f"out-{name}", 20).patients[0] for name in "ab"]
    plain, marked = (
        p.images_of("ct") if modality == "CT" else p.images_of("mri") for p in patients
    )
    assert plain.std() > 10
    assert np.array_equal(marked, 255 - plain if inverted else plain)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"RescaleSlope": None, "RescaleIntercept": None}, "no RescaleSlope and RescaleIntercept"),
        ({"RescaleSlope": 0}, "RescaleSlope or RescaleIntercept is unusable"),
        ({"RescaleSlope": None}, "RescaleSlope or RescaleIntercept is unusable"),
        ({"RescaleIntercept": None}, "RescaleSlope or RescaleIntercept is unusable"),
        ({"RescaleType": "US"}, "has RescaleType US, not HU"),
        ({"RescaleType": "ED"}, "has RescaleType ED, not HU"),
        ({"RescaleType": "HU_MOD"}, "has RescaleType HU_MOD, not HU"),
    ],
)
def test_a_ct_that_is_not_in_hounsfield_units_is_refused_by_name(
    tmp_path: Path, write_series: WriteSeries, header: dict[str, object], reason: str
) -> None:
    edit_all(write_series(tmp_path / "t/ct", ramp()), **header)
    write_series(tmp_path / "t/mr", ramp(), "MR")
    report = run(tmp_path / "t", tmp_path / "out")
    (problem,) = reasons(report)
    assert problem.startswith("ct/IM00000: series refused: ")
    assert reason in problem
    assert not load_manifest(tmp_path / "out", 20).patients[0].present_of("ct").any()


@pytest.mark.parametrize(("kind", "known"), [("HU", True), ("US", False), (None, False)])
def test_a_ct_table_must_lead_to_hounsfield_units(
    tmp_path: Path, write_series: WriteSeries, kind: str | None, known: bool
) -> None:
    table = pydicom.Dataset()
    table.LUTDescriptor = [60, 0, 16]
    table.LUTData = list(range(100, 160))
    table["LUTData"].VR = "US"
    if kind is not None:
        table.ModalityLUTType = kind
    edit_all(write_series(tmp_path / "t", ramp(1)), ModalityLUTSequence=[table])
    if known:
        assert only_series(tmp_path / "t").values[0, 0, 0] == 100
        return
    with pytest.raises(DataError, match="has a modality table to"):
        only_series(tmp_path / "t")


def test_signed_twelve_bit_pixels_keep_their_sign(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    """Twelve bits stored, the four above them used for something else (as old overlays were)."""
    (path,) = write_series(tmp_path / "t", np.zeros((1, 2, 2), dtype=np.int16))
    stored = np.array([-1000, -1, 5, 2000]).astype("<u2") & 0x0FFF
    edit(
        path,
        BitsStored=12,
        HighBit=11,
        PixelData=(stored | np.array([0, 0x3000, 0xF000, 0x1000], "<u2")).tobytes(),
    )
    assert only_series(tmp_path / "t").values.ravel().tolist() == [-1000, -1, 5, 2000]


@pytest.mark.parametrize("written", [-2000, 63536])
def test_padding_is_found_whatever_sign_it_was_written_with(
    tmp_path: Path, write_series: WriteSeries, written: int
) -> None:
    volume = np.full((1, 4, 4), 40, dtype=np.int16)
    volume[:, 0, 0] = -2000
    (path,) = write_series(tmp_path / "t", volume)
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "SS" if written < 0 else "US", written)
    dataset.save_as(path)
    values = only_series(tmp_path / "t").values
    assert values[0, 0, :2].tolist() == [-1024, 40]


def test_a_ct_without_air_is_doubted(tmp_path: Path, write_series: WriteSeries) -> None:
    write_series(tmp_path / "t", ramp())
    report = run(tmp_path / "t", tmp_path / "out")
    assert any("is it in Hounsfield units" in note.reason for note in report.notes)


@pytest.mark.parametrize(("modality", "value"), [("MR", 0), ("CT", 2000), ("CT", -1000)])
def test_a_series_of_one_grey_is_refused_and_costs_no_other(
    tmp_path: Path, write_series: WriteSeries, modality: str, value: int
) -> None:
    blank = np.full((4, 20, 20), value, dtype=np.int16)
    write_series(tmp_path / "t/blank", blank, modality)
    write_series(tmp_path / "t/good", ramp(), "CT" if modality == "MR" else "MR")
    report = run(tmp_path / "t", tmp_path / "out")
    (problem,) = reasons(report)
    assert problem.startswith("blank/IM00000: series refused: shows one ")
    assert load_manifest(tmp_path / "out", 20).patients[0].slices == 4


def test_a_ct_whose_sign_was_lost_is_refused(tmp_path: Path, write_series: WriteSeries) -> None:
    """Air would be the whitest of all."""
    volume = ramp(2)
    volume[:, :4] = -1000
    edit_all(write_series(tmp_path / "t/ct", volume), PixelRepresentation=0)
    write_series(tmp_path / "t/mr", ramp(), "MR")
    (problem,) = reasons(run(tmp_path / "t", tmp_path / "out"))
    assert problem.endswith("holds 64536, which no tissue or metal has: a lost sign?")


def test_slices_without_air_are_doubted_where_the_others_show_some(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    """As where an archive wrote another intercept into one slice."""
    volume = ramp(5)
    volume[:, :3] = -1000
    files = write_series(tmp_path / "t", volume)
    edit(files[2], RescaleIntercept=1024)
    notes = [note.reason for note in run(tmp_path / "t", tmp_path / "out").notes]
    told = "1 of 5 slices nowhere below -500 HU, unlike the others: is their rescale right?"
    assert told in notes
