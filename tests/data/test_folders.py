"""Folder layouts are recognised, pairing by class is called a simulation, others are refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from securefed.data.export import new_dataset
from securefed.data.folders import read_folder
from securefed.data.images import write_png
from securefed.data.load import inspect_manifest, load_manifest
from securefed.data.manifest import Manifest
from securefed.data.picture_import import import_pictures
from securefed.data.pseudonyms import SiteKey
from securefed.errors import DataError


def put(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, np.random.default_rng(number).integers(0, 255, (16, 16), dtype=np.uint8))


def paired(root: Path) -> Path:
    for number, name in enumerate(["anna_s2", "anna_s10", "berta"]):
        put(root / "CT" / f"{name}.png", number)
        put(root / "mri" / f"{name}.png", 10 + number)
    put(root / "mri" / "clara.png", 30)
    (root / "labels.csv").write_text("patient_id,label\nanna,1\nberta,0\nclara,0\n")
    return root


def test_paired_folders_give_patients_by_stem(tmp_path: Path) -> None:
    loaded = load_manifest(paired(tmp_path), 16)
    shapes = {
        p.patient_id: (p.label, p.slices, int(p.present_of("ct").sum())) for p in loaded.patients
    }
    assert shapes == {"anna": (1, 2, 2), "berta": (0, 1, 1), "clara": (0, 1, 0)}
    assert loaded.problems == []
    assert any("images without a slice number" in warning for warning in loaded.warnings)


def test_numbered_stems_are_slices_in_numeric_order(tmp_path: Path) -> None:
    folder = read_folder(paired(tmp_path))
    assert [row.slice for row in folder.rows if row.patient_id == "anna"] == [10, 2]
    loaded = load_manifest(tmp_path, 16)
    anna = next(p for p in loaded.patients if p.patient_id == "anna")
    expected = np.random.default_rng(0).integers(0, 255, (16, 16), dtype=np.uint8)
    assert np.array_equal(anna.images_of("ct")[0], expected)


def test_strange_files_and_missing_labels_are_named(tmp_path: Path) -> None:
    root = paired(tmp_path)
    (root / "CT" / "notes.txt").write_text("x")
    (root / "CT" / ".DS_Store").write_text("x")
    put(root / "CT" / "berta.bmp", 5)
    put(root / "CT" / "dora.png", 6)
    (root / "CT" / "out.png").symlink_to(root / "labels.csv")
    reasons = {problem.place: problem.reason for problem in read_folder(root).problems}
    assert reasons == {
        "CT/notes.txt": "is not a PNG, JPEG, TIFF or BMP image",
        "CT/berta.png": "has the same name as berta.bmp",
        "CT/out.png": "is a link that leads outside its folder",
        "dora": "labels.csv has no label for patient 'dora'",
    }


def test_labels_without_images_and_other_spellings_are_named(tmp_path: Path) -> None:
    root = paired(tmp_path)
    (root / "labels.csv").write_text(
        "patient_id,label,age\nAnna,1,3\nberta,0,4\nclara,0,5\nemil,1,6\n"
    )
    folder = read_folder(root)
    told = {(problem.place, problem.reason) for problem in folder.problems}
    assert told == {
        ("anna_s10", "labels.csv has no label for patient 'anna', but one for 'Anna'"),
        ("anna_s2", "labels.csv has no label for patient 'anna', but one for 'Anna'"),
        ("labels.csv", "no image of 2 patients: 'Anna', 'emil'"),
    }
    assert "columns of labels.csv that no rule reads: 'age'" in folder.notes


def test_paired_folders_without_labels_are_refused(tmp_path: Path) -> None:
    (paired(tmp_path) / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"labels\.csv is not") as caught:
        read_folder(tmp_path)
    assert "patient_id,label" in str(caught.value.hint)


def test_class_folders_load_as_a_simulation(tmp_path: Path) -> None:
    for folder, tumours in (("Brain Tumor CT scan Images", 3), ("Brain Tumor MRI images", 2)):
        for number in range(tumours):
            put(tmp_path / folder / "Tumor" / f"a{number}.jpg", number + len(folder))
        put(tmp_path / folder / "Healthy" / "h.jpg", 50 + len(folder))
    loaded = load_manifest(tmp_path, 16)
    assert [
        (p.label, bool(p.present_of("ct")[0]), bool(p.present_of("mri")[0]))
        for p in loaded.patients
    ] == [
        (0, True, True),
        (1, True, True),
        (1, True, True),
        (1, True, False),
    ]
    assert loaded.warnings[0].startswith("SIMULATION")
    assert {p.site for p in loaded.patients} == {"simulated"}
    assert all(p.patient_id.startswith("simulated-") for p in loaded.patients)


def test_a_manifest_in_the_folder_comes_first(tmp_path: Path) -> None:
    paired(tmp_path)
    (tmp_path / "manifest.csv").write_text("patient_id,label,ct\nonly,1,CT/berta.png\n")
    assert [p.patient_id for p in load_manifest(tmp_path, 16).patients] == ["only"]


def test_unknown_layouts_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    with pytest.raises(DataError, match="layout is not known") as caught:
        read_folder(tmp_path)
    assert "Healthy/ and Tumor/" in str(caught.value.hint)
    with pytest.raises(DataError, match="no such file or folder"):
        read_folder(tmp_path / "gone")


def deep(path: Path, number: int, scale: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(number).integers(0, 2000, (16, 16)) * scale
    Image.fromarray(values.astype(np.uint16)).save(path)


def imported(root: Path, out: Path, levels: tuple[float, float] | None = None) -> Manifest:
    with new_dataset(out) as writer:
        return import_pictures(root, writer, SiteKey(bytes(32)), 16, "here", levels)


def test_deep_grey_is_imported_with_levels_for_ct_and_by_its_own_range_for_mri(
    tmp_path: Path,
) -> None:
    root = tmp_path / "in"
    for number in range(3):
        deep(root / "ct" / f"anna_s{number}.png", number)
        deep(root / "mri" / f"anna_s{number}.png", 10 + number, scale=20)
    (root / "labels.csv").write_text("patient_id,label\nanna,1\n")
    with pytest.raises(DataError, match="--levels LOW HIGH"):
        imported(root, tmp_path / "refused")
    with pytest.raises(DataError, match="shows one grey value, 255, on this scale"):
        imported(root, tmp_path / "refused", (-90, -10))
    assert imported(root, tmp_path / "out", (1024, 1104)).problems == []
    (patient,) = load_manifest(tmp_path / "out", 16).patients
    stored = np.random.default_rng(0).integers(0, 2000, (16, 16))
    expected = np.clip((stored - 1024) / 80, 0, 1) * 255
    assert np.abs(patient.images_of("ct")[0] - expected).max() <= 1
    assert (patient.images_of("mri").min(), patient.images_of("mri").max()) == (0, 255)


def test_a_blank_picture_costs_its_modality_alone_in_an_import(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for number in range(3):
        deep(root / "ct" / f"anna_s{number}.png", number)
        deep(root / "mri" / f"anna_s{number}.png", 10 + number, scale=0 if number == 1 else 20)
    (root / "labels.csv").write_text("patient_id,label\nanna,1\n")
    (problem,) = imported(root, tmp_path / "out", (1024, 1104)).problems
    assert "anna_s1.png: is blank" in problem.reason
    assert "the row's others are used" in problem.reason
    (patient,) = load_manifest(tmp_path / "out", 16).patients
    assert patient.present_of("ct").tolist() == [True] * 3
    assert patient.present_of("mri").tolist() == [True, False, True]


def test_one_scale_is_for_all_mri_of_a_patient(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for number, scale in enumerate((1, 4)):
        deep(root / "mri" / f"anna_s{number}.png", number, scale)
    put(root / "mri" / "berta_s1.png", 5)
    deep(root / "mri" / "berta_s2.png", 6)
    (root / "ct").mkdir()
    (root / "labels.csv").write_text("patient_id,label\nanna,1\nberta,0\n")
    folder = imported(root, tmp_path / "out")
    assert [problem.place for problem in folder.problems] == ["'berta'", "'berta'"]
    assert "mixes 8 bits and more" in folder.problems[0].reason
    (patient,) = load_manifest(tmp_path / "out", 16).patients
    assert patient.images_of("mri")[0].max() < 64  # a quarter of the other's range stays a quarter
    assert patient.images_of("mri")[1].max() == 255


def test_a_manifest_is_imported_with_its_sites(tmp_path: Path) -> None:
    root = tmp_path / "in"
    deep(root / "a.png", 1)
    put(root / "b.png", 2)
    (root / "manifest.csv").write_text(
        "patient_id,label,site,ct\nanna,1,north,a.png\nberta,0,north,b.png\n"
    )
    for source in (root, root / "manifest.csv"):
        out = tmp_path / f"out-{source.name}"
        imported(source, out, (0, 2000))
        patients = load_manifest(out, 16).patients
        assert {(p.site, p.label) for p in patients} == {("north", 1), ("north", 0)}
        assert not any(p.patient_id in ("anna", "berta") for p in patients)


def test_what_stands_beside_or_within_is_named(tmp_path: Path) -> None:
    root = paired(tmp_path)
    put(root / "dose" / "x.png", 1)
    (root / "export.zip").write_bytes(b"PK\x03\x04")
    put(root / "CT" / "more" / "x.png", 2)
    (root / "CT" / "scan.nii").write_bytes(bytes(344) + b"n+1\0")
    put(root / "CT" / "picture.dat.png", 3)
    (root / "CT" / "picture.dat.png").rename(root / "CT" / "picture.dat")
    folder = read_folder(root)
    assert "not read, beside CT/ and mri/: dose/, export.zip" in folder.notes
    reasons = {problem.place: problem.reason for problem in folder.problems}
    assert reasons == {
        "CT/more": "is a folder that is not read, of 1 file",
        "CT/scan.nii": "is not a PNG, JPEG, TIFF or BMP image but NIfTI",
        "CT/picture.dat": "is PNG inside, without one of the suffixes "
        ".png, .jpg, .jpeg, .tif, .tiff, .bmp",
    }


@pytest.mark.parametrize("inside", ["anna/IM1", "ct/IM1"])
def test_dicom_is_recognised_and_the_labels_asked_for(tmp_path: Path, inside: str) -> None:
    (tmp_path / inside).parent.mkdir()
    (tmp_path / "mr").mkdir()
    (tmp_path / inside).write_bytes(bytes(128) + b"DICM")
    with pytest.raises(DataError, match=f"holds DICOM files, the first {inside}") as caught:
        read_folder(tmp_path)
    assert "--labels labels.csv" in str(caught.value.hint)


def test_a_slice_that_two_names_number_is_read_once(tmp_path: Path) -> None:
    root = paired(tmp_path)
    put(root / "CT" / "anna_s02.png", 50)
    put(root / "CT" / "anna_slice10.png", 51)
    folder = read_folder(root)
    assert sorted(row.slice or 0 for row in folder.rows if row.patient_id == "anna") == [2, 10]
    reasons = {problem.place: problem.reason for problem in folder.problems}
    assert reasons == {
        "anna_s2": "is slice 2 of patient 'anna', as anna_s02 is",
        "anna_slice10": "is slice 10 of patient 'anna', as anna_s10 is",
    }


def test_what_systems_leave_in_folders_and_empty_ones_are_no_problems(tmp_path: Path) -> None:
    root = paired(tmp_path)
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._berta.png"):
        (root / "CT" / name).write_bytes(b"\0")
    (root / "CT" / "new").mkdir()
    assert read_folder(root).problems == []


def test_classes_that_are_not_read_are_named(tmp_path: Path) -> None:
    for modality in ("CT", "MRI"):
        for name in ("Healthy", "Tumor", "Unsure"):
            put(tmp_path / f"{modality} scans" / name / "a.png", len(modality + name))
    assert [text for text in read_folder(tmp_path).notes if "Unsure" in text] == [
        "not read, beside CT scans/Healthy/ and Tumor/: Unsure/",
        "not read, beside MRI scans/Healthy/ and Tumor/: Unsure/",
    ]


@pytest.mark.parametrize("patient", ["../../up", "/up", "a/b"])
@pytest.mark.parametrize("simulation", ["", "made-up-patients"])
def test_an_id_never_becomes_a_path(tmp_path: Path, patient: str, simulation: str) -> None:
    root = tmp_path / "in"
    put(root / "a.png", 1)
    (root / "manifest.csv").write_text(
        f"patient_id,label,ct,simulation\n{patient},1,a.png,{simulation}\n"
    )
    imported(root, tmp_path / "deep" / "out")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.is_relative_to(root) or "deep/out" in path.as_posix() for path in written)
    manifest = tmp_path / "deep/out/manifest.csv"
    assert patient not in manifest.read_text()
    assert load_manifest(manifest, 16).simulation == simulation


def test_what_an_import_said_of_a_patient_outlives_a_second_import(tmp_path: Path) -> None:
    """Else failed registrations are paired, and one person under two ids is two people."""
    root = tmp_path / "in"
    lines = ["patient_id,label,ct,mri,person,registration,registration_mm"]
    for number in range(3):
        put(root / f"{number}.png", number)
        put(root / f"m{number}.png", 10 + number)
        lines.append(f"p{number},{number % 2},{number}.png,m{number}.png,k{number // 2},failed,7.5")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    imported(root, tmp_path / "out")
    first, again = (inspect_manifest(path, 16) for path in (root, tmp_path / "out"))
    assert sorted(again.persons.values()) == sorted(first.persons.values()) == ["k0", "k0", "k1"]
    assert len(again.unregistered) == len(first.unregistered) == 3
    assert "7.5" in (tmp_path / "out" / "manifest.csv").read_text()


def test_folders_of_any_modalities_belong_together(tmp_path: Path) -> None:
    root = paired(tmp_path)
    put(root / "PET" / "anna_s2.png", 9)
    loaded = load_manifest(root, 16)
    anna = next(each for each in loaded.patients if each.patient_id == "anna")
    assert anna.modalities == ("ct", "mri", "pet")
    assert anna.present_of("pet").tolist() == [True, False]
    pair = load_manifest(root, 16, ("pet", "mri"))
    assert all(each.modalities == ("pet", "mri") for each in pair.patients)
