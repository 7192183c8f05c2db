"""A folder of NIfTI volumes becomes slice pairs under pseudonyms, by `securefed data import`."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from securefed.cli.data import command
from securefed.data.load import load_manifest
from securefed.errors import ConfigurationError, DataError
from tests.data.dicom.trees import rows
from tests.data.heads import Place, scan
from tests.data.nifti.volumes import numbered, save

HERE = np.diag([-5.0, -5.0, 8.0, 1.0])  # rows to the left and the back, as `scan` has them


def head(modality: str) -> NDArray[np.float32]:
    """(i, j, k) values of a head that fills the picture."""
    series = scan(modality, Place(), slices=20, gap=8.0, pixels=44, spacing=5.0)
    return series.values.transpose(2, 1, 0)


def patient(root: Path, layout: str, name: str, affine: NDArray[np.float64] = HERE) -> None:
    """A CT and an MRI of one head on one grid."""
    for folder, modality in (("ct", "CT"), ("mri", "MR")):
        save(root / layout.format(name=name, modality=folder), head(modality), affine)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, ["import", *map(str, arguments)])


def imported(root: Path, out: Path, *more: object) -> dict[str, Any]:
    result = run(root, "--out", out, "--size", 32, "--json", *more)
    assert result.exit_code in (0, 1), result.output
    facts: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == bool(facts["problems"])
    return facts


@pytest.mark.parametrize("layout", ["{modality}/{name}.nii.gz", "{name}/{modality}.nii"])
def test_two_layouts_name_patient_and_modality(tmp_path: Path, layout: str) -> None:
    root = tmp_path / "in"
    for name in ("anna", "berta"):
        patient(root, layout, name)
    (root / "labels.csv").write_text("patient_id,label\nanna,1\nberta,0\n")
    facts = imported(root, tmp_path / "out")
    assert (facts["patients"], facts["problems"]) == (2, [])
    lines = rows(tmp_path / "out")
    assert {line["registration"] for line in lines} == {"same-frame"}
    assert all(line["ct_path"] and line["mri_path"] for line in lines)
    assert "anna" not in (tmp_path / "out" / "manifest.csv").read_text()
    loaded = load_manifest(tmp_path / "out", 32).patients
    assert sorted(each.label for each in loaded) == [0, 1]
    # Anterior is up: the nose, of tissue, lies outside the skull in front.
    shown = loaded[0].images_of("ct").max(axis=0).max(axis=1).nonzero()[0]
    assert shown.min() < 32 - 1 - shown.max()


def test_labels_may_lie_elsewhere_and_what_is_not_used_is_named(tmp_path: Path) -> None:
    root = tmp_path / "in"
    patient(root, "{modality}/{name}.nii.gz", "anna")
    save(root / "ct" / "anna.nii", head("CT"), HERE)
    save(root / "ct" / "nobody.nii.gz", head("CT"), HERE)
    save(root / "mri" / "broken.nii.gz", numbered(3, 4, 5, 6))
    save(root / "masks" / "anna.nii.gz", head("CT"), HERE)
    (root / "notes.txt").write_text("x")
    (root / "mri" / "gone.nii.gz").touch()
    (root / "mri" / "words.nii").write_text("x")
    (tmp_path / "list.csv").write_text("patient_id,label\nanna,1\nbroken,0\ngone,1\n")
    facts = imported(root, tmp_path / "out", "--labels", tmp_path / "list.csv")
    assert facts["patients"] == 1
    told = "\n".join(facts["problems"])
    assert "mri/broken.nii.gz: holds 6 volumes" in told
    assert "mri/gone.nii.gz: is empty, not NIfTI" in told
    assert "mri/words.nii: is something else, not NIfTI" in told
    assert "ct/nobody.nii.gz: its patient has no usable line in the label list" in told
    assert facts["skipped"] == {
        "NIfTI whose name says no modality": 1,
        "other, not NIfTI": 1,
        "volume left: as good as the chosen one, which comes first": 1,
    }
    assert "label list: no scan here of 1 of 3 labelled patients: 'gone'" in facts["notes"]
    (chosen,) = facts["series"]
    assert chosen["used"]["ct"] == "ct/anna.nii (20 slices, axial)"
    assert chosen["why"]["ct"] == "the best of 2"
    why = "as good as the chosen one, which comes first"
    assert chosen["left"] == [f"ct/anna.nii.gz (20 slices, axial): {why}"]


def test_volumes_on_grids_of_their_own_are_registered(tmp_path: Path) -> None:
    root = tmp_path / "in"
    patient(root, "{name}/{modality}.nii.gz", "anna")
    moved = HERE.copy()
    moved[:3, 3] = (12, 0, 10)
    save(root / "anna" / "mri.nii.gz", head("MR"), moved)
    (root / "labels.csv").write_text("patient_id,label\nanna,1\n")
    imported(root, tmp_path / "out")
    assert {line["registration"] for line in rows(tmp_path / "out")} == {"registered"}


def test_without_labels_or_a_known_name_the_way_out_is_said(tmp_path: Path) -> None:
    root = tmp_path / "in"
    patient(root, "{modality}/{name}.nii.gz", "anna")
    asked = run(root, "--out", tmp_path / "out")
    assert isinstance(asked.exception, ConfigurationError)
    assert "holds NIfTI volumes, and no labels.csv" in str(asked.exception)
    (root / "labels.csv").write_text("patient_id,label\nanna,1\n")
    shutil.move(root / "ct", root / "first")
    shutil.move(root / "mri", root / "second")
    refused = run(root, "--out", tmp_path / "out")
    assert isinstance(refused.exception, DataError)
    assert "skipped 2 files: NIfTI whose name says no modality" in str(refused.exception)
    assert "ct/NAME.nii.gz" in str(refused.exception.hint)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--allow-burned-in", "--max-gap-days=3", "--levels 0 100"])
def test_options_that_say_nothing_of_nifti_are_refused(tmp_path: Path, option: str) -> None:
    save(tmp_path / "in" / "ct" / "a.nii", numbered(3, 4, 5))
    result = run(tmp_path / "in", "--out", tmp_path / "out", *option.split())
    assert isinstance(result.exception, ConfigurationError)
    assert "and this is NIfTI" in str(result.exception)


def test_pictures_with_a_volume_beside_them_stay_pictures(tmp_path: Path) -> None:
    root = tmp_path / "in"
    save(root / "ct" / "anna.nii.gz", numbered(3, 4, 5))
    (root / "mri").mkdir()
    (root / "mri" / "anna_s1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "labels.csv").write_text("patient_id,label\nanna,1\n")
    result = run(root, "--out", tmp_path / "out")
    assert "but NIfTI" in str(result.exception)
