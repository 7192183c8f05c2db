"""Which volume of a tree of NIfTI is whose, of what, and used: by names, rules, and by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from securefed.cli.data import command
from securefed.data.nifti.names import FileName, name_of
from securefed.errors import DataError
from tests.data.dicom.trees import rows
from tests.data.nifti.volumes import save

HERE = np.diag([-5.0, -5.0, 8.0, 1.0])
VALUES = np.random.default_rng(2).integers(0, 900, (20, 20, 8)).astype(np.int16)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("ct/anna.nii.gz", ("anna", "ct")),
        ("anna/mri.nii", ("anna", "mri")),
        ("MR/anna_t1.nii", ("anna_t1", "mri")),
        ("T2/anna.nii", ("anna", "t2")),
        ("anna/first/FLAIR.nii", ("anna", "flair", "first")),
        ("anna_t1.nii.gz", ("anna", "t1")),
        ("BraTS20_001/BraTS20_001_t1ce.nii.gz", ("BraTS20_001", "t1c")),
        ("BraTS20_001/BraTS20_001_seg.nii.gz", ("BraTS20_001", "")),
        ("BraTS-GLI-01/BraTS-GLI-01-t2f.nii.gz", ("BraTS-GLI-01", "flair")),
        ("sub-01/anat/sub-01_T1w.nii.gz", ("sub-01", "t1")),
        ("sub-01/ses-b/anat/sub-01_ses-b_ce-gad_T1w.nii.gz", ("sub-01", "t1c", "ses-b")),
        ("sub-01/ses-b/anat/sub-01_ses-b_ce-none_T1w.nii.gz", ("sub-01", "t1", "ses-b")),
        ("sub-01/ses-b/pet/sub-01_ses-b_trc-fdg_pet.nii.gz", ("sub-01", "pet", "ses-b")),
        ("rawdata/sub-01/anat/sub-01_T2w.nii", ("sub-01", "t2")),
        ("sub-01_PDw.nii", ("sub-01", "pd")),
        ("anna/qsm.nii", ("anna", "qsm")),
        ("anna/scan.nii", ("anna", "")),
        ("masks/anna.nii", ("masks", "")),
        ("anna.nii", ("", "")),
        ("t1.nii", ("", "t1")),
        ("anna/t1.txt", ("", "")),
    ],
)
def test_names_say_patient_modality_and_session(path: str, name: tuple[str, ...]) -> None:
    assert name_of(Path(path), ("t1", "qsm")) == FileName(*name)


def volume(path: Path, **more: Any) -> None:
    save(path, more.pop("values", VALUES), more.pop("affine", HERE))


def run(root: Path, out: Path, *more: object, answers: str = "") -> Result:
    (root / "labels.csv").write_text("patient_id,label\nsub-01,1\nsub-02,0\nanna,1\n")
    line = ["import", root, "--out", out, "--size", 32, *more]
    return CliRunner().invoke(command, [str(word) for word in line], input=answers)


def facts(result: Result) -> dict[str, Any]:
    assert result.exit_code in (0, 1), result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    """Two patients, one with two sessions; and what is not to be taken."""
    root = tmp_path / "in"
    for session, names in (("ses-a", ("T1w",)), ("ses-b", ("T1w", "T2w", "FLAIR"))):
        for name in names:
            volume(root / f"sub-01/{session}/anat/sub-01_{session}_{name}.nii.gz")
    volume(root / "sub-01/ses-b/anat/sub-01_ses-b_run-2_T2w.nii.gz")
    volume(root / "sub-02/anat/sub-02_FLAIR.nii.gz")
    volume(root / "sub-02/pet/sub-02_pet.nii.gz")
    volume(root / "derivatives/prep/sub-01/anat/sub-01_T1w.nii.gz")
    return root


def test_bids_becomes_columns_of_one_session(tmp_path: Path, bids: Path) -> None:
    found = facts(run(bids, tmp_path / "out", "--modalities", "t1,t2,flair", "--json"))
    assert found["problems"] == []
    assert found["skipped"] == {
        "derivatives of BIDS, which a program has worked on": 1,
        "NIfTI of PET, which is not imported (--modalities)": 1,
        "volume left: its session has fewer of the modalities": 1,
        "volume left: as good as the chosen one, which comes first": 1,
    }
    one = next(each for each in found["series"] if len(each["used"]) == 3)
    assert all("ses-b" in each for each in one["used"].values())
    assert one["why"] == {"t1": "the best of 2", "t2": "the best of 2", "flair": "the only one"}
    lines = rows(tmp_path / "out")
    kinds = {tuple(bool(row[f"{name}_path"]) for name in ("t1", "t2", "flair")) for row in lines}
    assert kinds == {(True, True, True), (False, False, True)}
    assert {row["registration"] for row in lines} == {"same-frame", ""}


def test_a_file_has_no_date_and_nothing_is_said_of_it(tmp_path: Path, bids: Path) -> None:
    found = facts(run(bids, tmp_path / "out", "--modalities", "t1,t2,flair", "--json"))
    assert not [note for note in found["notes"] if "date" in note]


def test_rules_choose_by_place_plane_and_thickness(tmp_path: Path, bids: Path) -> None:
    rules = tmp_path / "import.yaml"
    rules.write_text(
        "modalities: [t1, t2, flair]\n"
        "t1: [{description: ses-a, plane: axial}, {}]\n"
        "t2: [{description: run-2, thickness_mm: [7, 9]}]\n"
        "flair: [{plane: sagittal}, {thickness_mm: [1, 2]}]\n"
    )
    found = facts(run(bids, tmp_path / "out", "--rules", rules, "--json"))
    (series,) = found["series"]
    assert "ses-a" in series["used"]["t1"]
    assert series["why"] == {
        "t1": "rule 1 of --rules, the best of 2",
        "t2": "rule 1 of --rules, the only one",
    }
    left = "\n".join(series["left"])
    assert "_FLAIR.nii.gz (8 slices, axial): no rule takes it (t1: its description" in left
    assert "flair 1: axial, flair 2: 8 mm thick)" in left
    assert "taken by rule 2, the chosen one by rule 1" in left
    assert [note for note in found["notes"] if "--rules" in note] == [
        "in: rule 1 of flair of --rules: no series here keeps it",
        "in: rule 2 of flair of --rules: no series here keeps it",
    ]
    assert found["problems"][0].endswith("has no usable volume")  # sub-02 has a FLAIR alone


def test_a_rule_with_a_pattern_takes_files_whose_names_say_nothing(tmp_path: Path) -> None:
    root = tmp_path / "in"
    volume(root / "anna" / "Ax_Schwer_nativ.nii.gz")
    volume(root / "anna" / "ct.nii.gz")
    rules = tmp_path / "import.yaml"
    rules.write_text("mri: [{description: schwer}, {plane: axial}]\n")
    found = facts(run(root, tmp_path / "out", "--rules", rules, "--json"))
    assert found["series"][0]["used"] == {
        "ct": "anna/ct.nii.gz (8 slices, axial)",
        "mri": "anna/Ax_Schwer_nativ.nii.gz (8 slices, axial)",
    }


def test_a_dry_run_shows_every_choice_and_writes_nothing(tmp_path: Path, bids: Path) -> None:
    shown = run(bids, tmp_path / "out", "--modalities", "t1,t2,flair", "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "T1: sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz (8 slices, axial): the best of 2" in (
        shown.output
    )
    assert "left: sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz" in shown.output
    assert "2 patients would be imported; nothing was written" in shown.output
    assert not list(tmp_path.glob("out*"))
    dry = facts(run(bids, tmp_path / "out", "--modalities", "t1,t2,flair", "--dry-run", "--json"))
    real = facts(run(bids, tmp_path / "out", "--modalities", "t1,t2,flair", "--json"))
    assert [each["used"] for each in dry["series"]] == [each["used"] for each in real["series"]]


@pytest.mark.parametrize(("answers", "session"), [("\n\n", "ses-b"), ("1\n0\n", "ses-a")])
def test_a_person_is_asked_where_there_are_several(
    tmp_path: Path, bids: Path, answers: str, session: str
) -> None:
    more = ("--modalities", "t1,t2,flair", "--interactive", "--json")
    result = run(bids, tmp_path / "out", *more, answers=answers)
    one = next(each for each in facts(result)["series"] if "t1" in each["used"])
    assert "has 2 T1 series:" in result.stderr
    assert "has 2 T2 series:" in result.stderr
    assert "FLAIR series:" not in result.stderr
    assert session in one["used"]["t1"]
    assert ("t2" in one["used"]) == (session == "ses-b")


def test_a_volume_that_cannot_be_read_gives_way_to_the_next(tmp_path: Path, bids: Path) -> None:
    broken = bids / "sub-01/ses-b/anat/sub-01_ses-b_T2w.nii.gz"
    volume(broken, values=np.full((20, 20, 8), 7, dtype=np.int16))
    found = facts(run(bids, tmp_path / "out", "--modalities", "t1,t2,flair", "--json"))
    (problem,) = found["problems"]
    assert problem.startswith("sub-01/ses-b/anat/sub-01_ses-b_T2w.nii.gz: shows one")
    one = next(each for each in found["series"] if "t1" in each["used"])
    assert "run-2" in one["used"]["t2"]


def test_a_file_of_nobody_is_a_problem(tmp_path: Path) -> None:
    volume(tmp_path / "in" / "t1.nii.gz")
    result = run(tmp_path / "in", tmp_path / "out", "--modalities", "t1")
    assert isinstance(result.exception, DataError)
    assert "t1.nii.gz: its name says no patient" in str(result.exception)


def test_labels_may_be_of_several_classes(tmp_path: Path) -> None:
    root = tmp_path / "in"
    volume(root / "anna" / "ct.nii.gz")
    (root / "labels.csv").write_text("patient_id,label\nanna,glioma\n")
    line = ["import", root, "--out", tmp_path / "out", "--classes", "healthy,glioma,pituitary"]
    result = CliRunner().invoke(command, [str(word) for word in line])
    assert result.exit_code == 0, result.output
    assert {row["label"] for row in rows(tmp_path / "out")} == {"glioma"}
