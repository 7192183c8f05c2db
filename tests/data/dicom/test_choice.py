"""The series that becomes the CT or the MRI shows the right thing; slices are not counted."""

from pathlib import Path
from typing import Any

import pytest

from securefed.data.choice import Choice
from securefed.data.dicom.choice import choose
from securefed.data.dicom.files import scan_tree
from securefed.data.dicom.stacks import Stack, stacks_of
from tests.data.dicom.trees import (
    CORONAL,
    NAME,
    SAGITTAL,
    WriteSeries,
    edit,
    edit_all,
    ramp,
    rows,
    run,
)

SAME = {"FrameOfReferenceUID": "1.2.3"}
GOOD = "the right one"


def chosen(tree: Path, window: str = "brain", max_gap_days: int = 30) -> Choice[Stack]:
    stacks, refused = stacks_of(scan_tree(tree).slices)
    assert not refused
    return choose(stacks, window=window, max_gap_days=max_gap_days)


def description(stack: Stack | None) -> str | None:
    return None if stack is None else stack.traits.description


def write_head(
    write: WriteSeries,
    folder: Path,
    modality: str,
    slices: int = 6,
    gap: float = 20.0,
    **header: Any,
) -> None:
    """A series of empty pictures: the choice reads headers only."""
    axes = header.pop("axes", None)
    files = write(folder, ramp(slices, 4), modality, gap=gap, **header)
    if axes is not None:
        for number, path in enumerate(files):
            normal = [0, 1, 0] if axes is CORONAL else [1, 0, 0]
            edit(
                path,
                ImageOrientationPatient=list(map(float, axes)),
                ImagePositionPatient=[number * gap * each for each in normal],
            )


MORE = {"SeriesNumber": 9, "slices": 12, "gap": 10.0}  # more slices, closer to each other
REFORMAT = {"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED"]}


@pytest.mark.parametrize(
    ("worse", "why"),
    [
        ({"axes": CORONAL, **REFORMAT}, "coronal"),
        ({"axes": SAGITTAL}, "sagittal"),
        ({"ConvolutionKernel": "Hr69h"}, "sharp kernel"),
        ({"SeriesDescription": "HEAD BONE"}, "sharp kernel"),
        ({"ContrastBolusAgent": "OMNIPAQUE"}, "its kernel is not known"),
        ({"ContrastBolusAgent": "X", "ConvolutionKernel": "Hc40f"}, "with contrast medium"),
        ({"ConvolutionKernel": "Hc40f", **REFORMAT}, "reformatted"),
        ({"SeriesDescription": "CTA COW"}, "angiography"),
        ({"SeriesDescription": "CT PERFUSION 4D"}, "perfusion"),
        ({"SeriesDescription": "Mono 60 keV"}, "virtual"),
        ({"SeriesDescription": "SINUS"}, "a part of the head"),
        ({"BodyPartExamined": "CHEST"}, "shows the chest"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "projection"),
        ({"ConvolutionKernel": "Hc40f", "gap": 0.5}, "covers 6 mm only"),
        ({"ConvolutionKernel": "Hc40f", "slices": 3, "gap": 50.0}, "3 images only"),
        ({"ConvolutionKernel": "Hc40f", "gap": 4.0}, "covers 48 mm"),
        ({"ConvolutionKernel": "Hc40f", "slices": 4, "gap": 30.0}, "slices 30.0 mm apart"),
        (
            {"ConvolutionKernel": "Hc40f", "slices": 6, "gap": 20.0},
            "as good as the chosen one, which comes first",
        ),
    ],
)
def test_the_plain_soft_axial_head_is_the_ct_however_few_its_slices(
    tmp_path: Path, write_series: WriteSeries, worse: dict[str, Any], why: str
) -> None:
    good: dict[str, Any] = {"SeriesDescription": GOOD, "ConvolutionKernel": "Hc40f"}
    write_head(write_series, tmp_path / "z", "CT", SeriesNumber=1, **good)
    write_head(write_series, tmp_path / "a", "CT", **{**MORE, **worse})
    choice = chosen(tmp_path)
    assert description(choice.used.get("ct")) == GOOD
    assert [reason for _, reason in choice.left] == [why]


def test_the_bone_window_wants_the_sharp_kernel(tmp_path: Path, write_series: WriteSeries) -> None:
    for kernel in ("H31s", "H60s"):
        write_head(
            write_series,
            tmp_path / kernel,
            "CT",
            ConvolutionKernel=kernel,
            SeriesDescription=kernel,
        )
    assert description(chosen(tmp_path).used["ct"]) == "H31s"
    assert description(chosen(tmp_path, "bone").used["ct"]) == "H60s"


@pytest.mark.parametrize(
    ("worse", "why"),
    [
        ({"SeriesDescription": "AAHead_Scout_64ch"}, "localiser"),
        ({"SeriesDescription": "t1_haste_loc"}, "perhaps a localiser"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "phase image"),
        (
            {"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]},
            "mosaic whose slices' places are not known",
        ),
        ({"SeriesDescription": "ep2d_diff_ADC"}, "map"),
        ({"SeriesDescription": "T1 SUB"}, "subtraction"),
        ({"SeriesDescription": "DWI b1000"}, "diffusion"),
        ({"SeriesDescription": "T1 KNEE"}, "shows the knee"),
        ({"StudyDescription": "MRT Wirbels\u00e4ule"}, "shows the spine"),
        ({"SeriesDescription": "T1 POST", "axes": SAGITTAL}, "sagittal"),
        ({"SeriesDescription": "FLAIR"}, "FLAIR"),
        ({"SeriesDescription": "T2 TSE"}, "T2"),
        ({"SeriesDescription": "T1 PRE"}, "without contrast medium"),
        ({"SeriesDescription": "nothing said"}, "its weighting is not known"),
        (
            {"SeriesDescription": "T1 POST", "StudyDate": "20240120"},
            "19 days from the other modality, the chosen one 2",
        ),
        ({"SeriesDescription": "T1 POST", "StudyDate": ""}, "has no study date"),
    ],
)
def test_the_mri_is_t1_of_the_head_at_the_visit(
    tmp_path: Path, write_series: WriteSeries, worse: dict[str, Any], why: str
) -> None:
    write_head(write_series, tmp_path / "ct", "CT", 3)
    good: dict[str, Any] = {"SeriesDescription": f"T1 POST {GOOD}", "StudyDate": "20240103"}
    write_head(write_series, tmp_path / "z", "MR", SeriesNumber=9, **good)
    bad: dict[str, Any] = {"StudyDate": "20240103", "gap": 10.0, **worse}
    write_head(write_series, tmp_path / "a", "MR", 12, SeriesNumber=1, **bad)
    choice = chosen(tmp_path)
    assert description(choice.used.get("mri")) == f"T1 POST {GOOD}"
    assert [reason for _, reason in choice.left] == [why]


def test_a_fine_sagittal_mri_is_as_good_as_an_axial_one_and_a_ct_is_not(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    """3D sequences are stored sagittal; reformats of a CT are what is left when it is chosen."""
    for modality in ("CT", "MR"):
        for name, axes in (("T1 post fine", SAGITTAL), ("T2", None)):
            gap = 20.0 if axes is None else 2.0
            slices = 6 if axes is None else 22
            header: dict[str, Any] = {"SeriesDescription": name, "axes": axes, "gap": gap}
            write_head(write_series, tmp_path / modality / name, modality, slices, **header)
    choice = chosen(tmp_path)
    assert description(choice.used.get("mri")) == "T1 post fine"
    assert description(choice.used.get("ct")) == "T2"


def test_of_two_visits_ct_and_mri_come_from_the_closer_pair(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    for modality, dates in (("CT", ("20230101", "20240110")), ("MR", ("20230301", "20240112"))):
        for day in dates:
            folder = tmp_path / modality / day
            write_head(write_series, folder, modality, StudyDate=day, SeriesDescription=day)
    choice = chosen(tmp_path)
    assert (description(choice.used.get("ct")), description(choice.used.get("mri"))) == (
        "20240110",
        "20240112",
    )
    assert len(choice.left) == 2


def test_a_few_images_in_several_planes_are_a_localiser_without_any_word(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    one: dict[str, Any] = {"SeriesInstanceUID": "1.2.3.4", **SAME}
    for name, axes in (("a", None), ("b", CORONAL), ("c", SAGITTAL)):
        write_head(write_series, tmp_path / name, "MR", 5, axes=axes, **one)
    write_head(write_series, tmp_path / "real", "MR", SeriesDescription=GOOD)
    choice = chosen(tmp_path)
    assert description(choice.used.get("mri")) == GOOD
    assert {why for _, why in choice.left} == {"localiser (a few images in several planes)"}


def test_a_series_that_may_be_a_localiser_is_used_where_there_is_no_other(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    name = "T1 MPRAGE stereotaxy, frame LOC"
    write_series(tmp_path / "t", ramp(10), "MR", SeriesDescription=name)
    report = run(tmp_path / "t", tmp_path / "out")
    assert len(rows(tmp_path / "out")) == 10
    assert any("perhaps a localiser" in note.reason for note in report.notes)


def test_what_is_never_used_leaves_a_patient_without_that_modality_by_name(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    write_series(tmp_path / "t/ct", ramp())
    write_series(tmp_path / "t/mr", ramp(), "MR", SeriesDescription="T1 KNEE", SeriesNumber=3)
    write_series(tmp_path / "t/p2", ramp(), "MR", PatientID="P-2", SeriesDescription="Survey")
    report = run(tmp_path / "t", tmp_path / "out", {"ORIGINAL-ID": 1, "P-2": 0})
    first, _ = sorted(report.series, key=lambda each: each.patient != NAME)
    assert first.used.keys() == {"ct"}
    assert first.left == ["MR series 3 'T1 KNEE' (4 images, axial, T1; in mr): shows the knee"]
    assert f"{NAME} left: {first.left[0]}" in first.lines()
    assert "has no usable series (localiser)" in report.problems[0].reason


def test_a_series_that_cannot_be_read_gives_way_to_the_next(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    edit_all(write_series(tmp_path / "t/a", ramp(4), SeriesNumber=1), PixelData=b"\1\2")
    write_series(tmp_path / "t/b", ramp(5), SeriesNumber=2)
    report = run(tmp_path / "t", tmp_path / "out")
    (problem,) = report.problems
    assert problem.place == "a/IM00000"
    assert "series refused: the pixels cannot be decoded" in problem.reason
    assert len(rows(tmp_path / "out")) == 5


def test_patients_whose_mris_differ_in_weighting_are_counted(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    for patient, name in (("A-1", "T1 AX"), ("B-2", "T1 SE"), ("C-3", "FLAIR")):
        folder = tmp_path / "t" / patient
        write_series(folder, ramp(), "MR", PatientID=patient, SeriesDescription=name)
    report = run(tmp_path / "t", tmp_path / "out", {"A-1": 1, "B-2": 0, "C-3": 0})
    assert "t: the weighting of the MRI differs, by patients: T1 (2), FLAIR (1)" in map(
        str, report.notes
    )
