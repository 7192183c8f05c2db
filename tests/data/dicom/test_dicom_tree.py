"""A DICOM tree becomes slice pairs under pseudonyms; what cannot be used is named, not guessed."""

import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import SecondaryCaptureImageStorage

from securefed.data.dicom.grey_values import scale_mri
from securefed.data.identities import find_doubles
from securefed.data.import_rules import ImportRules
from securefed.data.load import load_manifest
from securefed.errors import ConfigurationError, DataError
from tests.data.dicom.trees import NAME, WriteSeries, edit, only_series, ramp, run


def test_slices_are_sorted_by_position_and_not_by_number_or_name(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    files = write_series(tmp_path / "t", ramp(), origin=(0, 0, 100), gap=-5.0)
    for number, path in enumerate(files):
        edit(path, InstanceNumber=number + 1)
    series = only_series(tmp_path / "t")
    assert series.values[:, 0, 0].tolist() == [30, 20, 10, 0]
    assert series.positions is not None
    assert series.positions[:, 2].tolist() == [85, 90, 95, 100]


def test_only_what_the_manifest_lists_survives(tmp_path: Path, write_series: WriteSeries) -> None:
    write_series(tmp_path / "t", ramp(), InstitutionName="General-Hospital")
    run(tmp_path / "t", tmp_path / "out", site="north")
    with (tmp_path / "out" / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["patient_id"], row["label"], row["site"]) for row in rows} == {
        (NAME, "1", "north")
    }
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            content = path.read_bytes() + path.name.encode()
            for secret in (b"ORIGINAL", b"Doe", b"Jane", b"General", b"20240101"):
                assert secret not in content


def test_same_frame_pairs_lie_on_the_same_anatomy(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    """The MRI has other origin, pixels, and slices; a bright cube stands at one place in mm."""
    ct = np.zeros((10, 40, 40), dtype=np.int16)
    ct[4:7, 10:20, 22:32] = 70  # z 20..30 mm, y 10..20, x 22..32
    mri = np.full((20, 30, 30), 300, dtype=np.int16)
    mri += np.random.default_rng(0).integers(0, 20, mri.shape, dtype=np.int16)
    mri[10:16, 5:11, 11:17] = 900  # z 20..30 from -5 by 2.5, y and x from 0 by 2
    write_series(tmp_path / "t/ct", ct, FrameOfReferenceUID="1.2.3")
    write_series(
        tmp_path / "t/mr",
        mri,
        "MR",
        origin=(0, 0, -5),
        spacing=2.0,
        gap=2.5,
        FrameOfReferenceUID="1.2.3",
    )
    report = run(tmp_path / "t", tmp_path / "out", image_size=40)
    assert report.problems == []
    (patient,) = load_manifest(tmp_path / "out", 40).patients
    assert patient.slices == 9  # the MRI ends at 42.5 mm, below the last CT slice, which is empty
    assert patient.present_of("ct").sum() == 3  # the others are of one value
    assert patient.present_of("mri").all()
    dense, bright = patient.images_of("ct") > 150, patient.images_of("mri") > 150
    overlap = (dense & bright).sum() / (dense | bright).sum()
    assert overlap > 0.7
    with (tmp_path / "out" / "manifest.csv").open() as file:
        assert {row["registration"] for row in csv.DictReader(file)} == {"same-frame"}


@pytest.mark.parametrize(("gap_days", "paired"), [("20240131", True), ("20240201", False)])
def test_studies_too_far_apart_stay_separate_slices(
    tmp_path: Path, write_series: WriteSeries, gap_days: str, paired: bool
) -> None:
    write_series(tmp_path / "t/ct", ramp(), FrameOfReferenceUID="1.2.3")
    write_series(tmp_path / "t/mr", ramp(), "MR", FrameOfReferenceUID="1.2.3", StudyDate=gap_days)
    report = run(tmp_path / "t", tmp_path / "out", max_gap_days=30)
    (patient,) = load_manifest(tmp_path / "out", 20).patients
    assert bool((patient.present_of("ct") & patient.present_of("mri")).all()) == paired
    assert patient.slices == (4 if paired else 8)
    assert any("31 days" in note.reason for note in report.notes) != paired


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned-in annotation"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "secondary capture"),
        ({"PatientID": ""}, "has no PatientID"),
        ({"NumberOfFrames": 2}, "holds 2 frames without functional groups"),
        ({"PhotometricInterpretation": "RGB"}, "not a grey image"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "not orthonormal"),
        ({"ImagePositionPatient": [0, 0]}, "is not 3 numbers"),
        ({"PixelSpacing": [0, 1]}, "not positive"),
        ({"Rows": 60000}, "larger than"),
    ],
)
def test_a_file_that_may_not_be_used_is_listed_and_the_rest_goes_on(
    tmp_path: Path, write_series: WriteSeries, header: dict[str, object], reason: str
) -> None:
    edit(write_series(tmp_path / "t", ramp())[1], **header)
    report = run(tmp_path / "t", tmp_path / "out")
    assert [(p.place, reason in p.reason) for p in report.problems] == [("IM00001", True)]
    assert load_manifest(tmp_path / "out", 20).patients[0].slices == 3
    assert any("spacing varies from 5.00 to 10.00" in note.reason for note in report.notes)


def test_burned_in_images_pass_when_told(tmp_path: Path, write_series: WriteSeries) -> None:
    write_series(tmp_path / "t", ramp(), BurnedInAnnotation="YES")
    with pytest.raises(DataError, match="not one patient"):
        run(tmp_path / "t", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert run(tmp_path / "t", tmp_path / "out", allow_burned_in=True).problems == []


def test_a_patient_without_label_is_a_problem(tmp_path: Path, write_series: WriteSeries) -> None:
    write_series(tmp_path / "t/a", ramp())
    write_series(tmp_path / "t/b", ramp(), PatientID="OTHER")
    report = run(tmp_path / "t", tmp_path / "out")
    assert [(p.place, p.reason) for p in report.problems] == [
        ("b/IM00000", "its patient has no usable line in the label list")
    ]


def test_labels_without_scans_and_other_spellings_are_named(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    write_series(tmp_path / "t/a", ramp())
    write_series(tmp_path / "t/b", ramp(), PatientID="OTHER")
    labels = {"ORIGINAL-ID": 1, "Other": 0, "GONE-7": 1}
    report = run(tmp_path / "t", tmp_path / "out", labels)
    (problem,) = report.problems
    assert problem.reason.endswith("which has 'Other' where the scan has 'OTHER'")
    told = [str(note) for note in report.notes if note.place == "label list"]
    assert told == ["label list: no scan here of 2 of 3 labelled patients: 'Other', 'GONE-7'"]


def test_pydicoms_own_mixed_tree_gives_patients_and_named_problems(
    tmp_path: Path, pydicom_files: Path
) -> None:
    """Files without suffix, localisers (one in three planes), CR, projections."""
    labels = {"98890234": 1, "77654033": 0}
    report = run(pydicom_files / "dicomdirtests", tmp_path / "out", labels, image_size=16)
    patients = load_manifest(tmp_path / "out", 16).patients
    assert {(p.label, p.slices) for p in patients} == {(0, 2)}  # two are of one grey value
    skipped = report.skipped.counts
    assert skipped["series left: localiser"] + skipped["series left: projection"] == 13
    assert skipped["series left: localiser (a few images in several planes)"] == 6
    assert skipped["series left: shows the heart"] == 5
    assert skipped["modality CR"] == 3
    assert skipped["no image: Media Storage Directory Storage"] > 3
    assert any(
        "has no usable series (localiser" in problem.reason and "shows the heart" in problem.reason
        for problem in report.problems
    )


@pytest.mark.parametrize("name", ["MR_small", "MR_small_RLE", "MR_small_implicit"])
def test_encodings_of_one_slice_give_the_same_picture(
    tmp_path: Path, pydicom_files: Path, name: str
) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/noname").write_bytes((pydicom_files / f"{name}.dcm").read_bytes())
    run(tmp_path / "t", tmp_path / "out", {"4MR1": 1}, image_size=64)
    (patient,) = load_manifest(tmp_path / "out", 64).patients
    reference = pydicom.dcmread(pydicom_files / "MR_small.dcm").pixel_array.astype(np.float32)
    assert np.array_equal(patient.images_of("mri"), scale_mri(reference[None]))


@pytest.mark.parametrize("name", ["MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"])
def test_compressed_slices_decode_with_the_dicom_extra(
    tmp_path: Path, pydicom_files: Path, name: str
) -> None:
    pytest.importorskip("pylibjpeg", reason="the extra securefed[dicom] is not installed")
    if "jpeg_ls" in name:
        pytest.importorskip("libjpeg", reason="pylibjpeg-libjpeg is not installed")
    test_encodings_of_one_slice_give_the_same_picture(tmp_path, pydicom_files, name)


def test_a_truncated_file_fails_cleanly(tmp_path: Path, pydicom_files: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/a").write_bytes((pydicom_files / "MR_truncated.dcm").read_bytes())
    (tmp_path / "t/b.dcm").write_bytes(b"not DICOM at all")
    (tmp_path / "t/CT_small.dcm").write_bytes((pydicom_files / "CT_small.dcm").read_bytes())
    report = run(tmp_path / "t", tmp_path / "out", {"4MR1": 1, "1CT1": 0}, image_size=64)
    reasons = [problem.reason for problem in report.problems]
    assert reasons[0] == "is something else, not DICOM"
    assert "the pixels cannot be decoded" in reasons[1]
    assert len(load_manifest(tmp_path / "out", 64).patients) == 1


def test_rules_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="unknown CT window 'liver'"):
        ImportRules(window="liver")
    with pytest.raises(ConfigurationError, match="image size must be"):
        ImportRules(image_size=4)
    with pytest.raises(ConfigurationError, match="max gap must be"):
        ImportRules(max_gap_days=-1)


def test_a_tilted_uneven_head_ct_is_imported_with_notes(tmp_path: Path) -> None:
    tree = Path(__file__).resolve().parents[4] / "shared" / "data" / "dicom_ge_headct"
    if not tree.is_dir():
        pytest.skip("the real head CT is not beside the repository (../shared/data)")
    report = run(tree, tmp_path / "out", {"QMNx85rKkkg": 0}, image_size=64)
    assert report.problems == []
    assert [note.reason for note in report.notes] == [
        "slice spacing varies from 1.08 to 7.00 mm",
        "slices are tilted by 18.5 degrees",
    ]
    assert load_manifest(tmp_path / "out", 64).patients[0].slices == 28


# One person under two ids


def head(number: int) -> NDArray[np.int16]:
    """Slices that no other number gives."""
    values = np.random.default_rng(number).integers(0, 80, (3, 20, 20))
    return values.astype(np.int16)


def persons(out: Path) -> list[str]:
    """The manifest's `person` of each patient, in order of pseudonyms."""
    with (out / "manifest.csv").open() as file:
        return [
            one for _, one in sorted({(r["patient_id"], r["person"]) for r in csv.DictReader(file)})
        ]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({}, {"PatientName": "DOE^JANE"}, True),  # one name, no birth date in either
        ({}, {"PatientName": "Jane Doe"}, True),
        ({"PatientBirthDate": "19610203"}, {"PatientBirthDate": "19610203"}, True),
        ({"PatientBirthDate": "19610203"}, {"PatientBirthDate": "19720304"}, False),
        ({}, {"PatientName": "Roe^Jane"}, False),
        ({"PatientName": "ANON"}, {"PatientName": "ANON"}, False),
        ({"PatientName": ""}, {"PatientName": ""}, False),
        ({"PatientName": "PHANTOM"}, {"PatientName": "PHANTOM"}, False),
    ],
)
def test_one_name_in_two_headers_is_found_after_import(
    tmp_path: Path,
    write_series: WriteSeries,
    first: dict[str, str],
    second: dict[str, str],
    same: bool,
) -> None:
    write_series(tmp_path / "t/a", head(1), **first)
    write_series(tmp_path / "t/b", head(2), PatientID="OTHER", **second)
    run(tmp_path / "t", tmp_path / "out", {"ORIGINAL-ID": 1, "OTHER": 1})
    one, two = persons(tmp_path / "out")
    assert (one == two != "") == same
    loaded = load_manifest(tmp_path / "out", 20)
    doubles = find_doubles(loaded.patients, loaded.persons).pairs
    assert ["one name" in pair.reason for pair in doubles] == [True] * same


def test_a_name_that_an_anonymiser_gave_to_everybody_is_no_trace(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    labels = {f"ID-{k}": 1 for k in range(4)}
    for k, patient in enumerate(labels):
        write_series(tmp_path / f"t/{k}", head(k), PatientID=patient)
    run(tmp_path / "t", tmp_path / "out", labels)
    assert set(persons(tmp_path / "out")) == {""}
