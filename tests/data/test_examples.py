"""A label is of the patient, a study or a slice, as the reader asks; a patient stays whole."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from securefed.data.export import new_dataset
from securefed.data.load import (
    fingerprint,
    inspect_manifest,
    load_manifest,
    manifest_hospitals,
    phantom_hospitals,
)
from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.data.picture_import import import_pictures
from securefed.data.pseudonyms import SiteKey
from securefed.data.requirements import one_label
from securefed.data.samples import Example, Patient
from securefed.data.summary import summarise
from securefed.errors import DataError

WriteManifest = Callable[[Sequence[Sequence[str]]], Path]
KEY = SiteKey(bytes(range(32)))
HEADER = ["patient_id", "label", "study", "slice", "ct_path"]
# Patient p has two studies whose slices are numbered alike, q has one.
ROWS = [
    ["p", "0", "2021", "1", "ct/0.png"],
    ["p", "1", "2023", "1", "ct/1.png"],
    ["p", "0", "2021", "2", "ct/2.png"],
    ["p", "1", "2023", "2", "ct/3.png"],
    ["q", "0", "first", "1", "ct/4.png"],
]


def parts(patient: Patient) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(each.name, each.label, each.slices) for each in patient.examples]


def test_labels_of_studies_are_kept_and_slices_go_study_by_study(
    write_manifest: WriteManifest,
) -> None:
    loaded = load_manifest(write_manifest([HEADER, *ROWS]), 16, example="study")
    assert loaded.problems == []
    assert [parts(each) for each in loaded.patients] == [
        [("2021", 0, (0, 1)), ("2023", 1, (2, 3))],
        [("first", 0, (0,))],
    ]
    assert [each.label for each in loaded.patients] == [1, 0], "whoever has any tumour"


def test_labels_of_slices_are_kept(write_manifest: WriteManifest) -> None:
    rows = [[*row] for row in ROWS]
    rows[2][1] = "1"  # within a study
    rows[4][3] = ""  # without a number
    loaded = load_manifest(write_manifest([HEADER, *rows]), 16, example="slice")
    assert loaded.problems == []
    assert [parts(each) for each in loaded.patients] == [
        [
            ("2021/1", 0, (0,)),
            ("2021/2", 1, (1,)),
            ("2023/1", 1, (2,)),
            ("2023/2", 1, (3,)),
        ],
        [("first/line 6", 0, (0,))],
    ]


@pytest.mark.parametrize(
    ("example", "left"), [("patient", ["q"]), ("study", ["p", "q"]), ("slice", ["p", "q"])]
)
def test_a_label_contradicts_itself_within_an_example_only(
    write_manifest: WriteManifest, example: str, left: list[str]
) -> None:
    loaded = inspect_manifest(write_manifest([HEADER, *ROWS]), 16, example=example)  # type: ignore[arg-type]
    assert [each.patient_id for each in loaded.patients] == left


def test_a_study_that_contradicts_itself_costs_the_patient(write_manifest: WriteManifest) -> None:
    rows = [[*row] for row in ROWS]
    rows[2][1] = "1"
    loaded = inspect_manifest(write_manifest([HEADER, *rows]), 16, example="study")
    assert [each.patient_id for each in loaded.patients] == ["q"]
    assert [str(each) for each in loaded.problems] == [
        "manifest.csv, line 4: label '1' contradicts '0' on line 2; patient left out"
    ]


def test_studies_without_a_column_or_a_name_are_refused(write_manifest: WriteManifest) -> None:
    path = write_manifest([[*HEADER[:2], *HEADER[3:]], ["p", "1", "1", "ct/0.png"]])
    with pytest.raises(DataError, match="has no column study"):
        load_manifest(path, 16, example="study")
    path = write_manifest([HEADER, *ROWS[:4], ["q", "0", "", "1", "ct/4.png"]])
    (problem,) = inspect_manifest(path, 16, example="study").problems
    assert problem.reason == "study is empty, and the label is of a study"


def test_a_folder_with_a_label_for_each_patient_has_none_for_slices(tmp_path: Path) -> None:
    (tmp_path / "ct").mkdir()
    (tmp_path / "mri").mkdir()
    with pytest.raises(DataError, match="not for each slice"):
        load_manifest(tmp_path, 16, example="slice")


def test_examples_must_divide_the_slices(write_manifest: WriteManifest) -> None:
    (patient, _) = load_manifest(write_manifest([HEADER, *ROWS]), 16, example="study").patients
    for wrong in (
        [Example("a", 0, (0, 1, 2))],
        [Example("a", 0, (0, 1)), Example("b", 1, (1, 2, 3))],
        [Example("a", 0, (0, 1, 2, 3)), Example("b", 1, ())],
    ):
        with pytest.raises(DataError, match="do not divide"):
            patient.with_examples(wrong)
    with pytest.raises(DataError, match="label must be 0 or 1"):
        patient.with_examples([Example("a", 256, (0, 1, 2, 3))])


def test_a_fingerprint_covers_labels_of_examples(write_manifest: WriteManifest) -> None:
    path = write_manifest([HEADER, *ROWS])
    of_studies = load_manifest(path, 16, example="study").patients
    of_slices = load_manifest(path, 16, example="slice").patients
    assert fingerprint(of_studies, KEY) != fingerprint(of_slices, KEY)


def test_patients_go_to_one_side_with_all_their_slices() -> None:
    spec = PhantomSpec(image_size=16, slices=(3, 6))
    made = [each.patient for each in generate(spec, SiteProfile.draw(spec, 0, 1), 40, 1)]
    (hospital,) = phantom_hospitals(spec, 1, 30, 10, 1, example="slice").hospitals
    for side in (hospital.train, hospital.test):
        for patient in side:
            assert len(patient.examples) == patient.slices
            assert patient.label == max(each.label for each in patient.examples)
    assert [p.patient_id for p in (*hospital.train, *hospital.test)] == [p.patient_id for p in made]
    # Some slices of a tumour patient show none.
    ill = [p for p in hospital.train if p.label]
    assert any(not each.label for p in ill for each in p.examples)


def test_checks_look_at_labels_of_examples(write_manifest: WriteManifest) -> None:
    rows = [["p", str(k % 2), "", str(k), f"ct/{k}.png"] for k in range(4)]
    patients = load_manifest(write_manifest([HEADER, *rows]), 16, example="slice").patients
    assert one_label(patients) == [], "one patient with both labels can be learned from"
    (site,) = summarise(patients)
    assert (site["patients"], site["tumour"], site["no_tumour"]) == (1, 1, 0)
    assert (site["examples"], site["tumour_examples"]) == (4, 2)


@pytest.mark.parametrize("example", ["study", "slice"])
def test_an_import_keeps_studies_and_their_labels(
    write_manifest: WriteManifest, tmp_path: Path, example: str
) -> None:
    path = write_manifest([HEADER, *ROWS])
    with new_dataset(tmp_path / "out") as writer:
        import_pictures(path, writer, KEY, 16, "clinic", example=example)  # type: ignore[arg-type]
    before = load_manifest(path, 16, example="study").patients
    after = load_manifest(tmp_path / "out", 16, example="study").patients
    assert [parts(each) for each in after] == [parts(each) for each in before]
    assert all(
        np.array_equal(one.images, other.images) for one, other in zip(before, after, strict=True)
    )
    assert not {"p", "q"} & {each.patient_id for each in after}


def test_splitting_goes_by_patient(write_manifest: WriteManifest) -> None:
    rows = [[f"p{k // 2}", str(k % 2), "", str(k), f"ct/{k}.png"] for k in range(10)]
    path = write_manifest([HEADER, *rows])
    loaded = load_manifest(path, 16, example="slice")
    data = manifest_hospitals(loaded, KEY, hospitals=2, test_share=0.4, seed=2, by="iid")
    groups = [side for each in data.hospitals for side in (each.train, each.test)]
    assert sorted(p.patient_id for side in groups for p in side) == [f"p{k}" for k in range(5)]
    assert all(len(p.examples) == 2 for side in groups for p in side)
