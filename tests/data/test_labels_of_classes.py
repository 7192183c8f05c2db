"""Labels of several classes: by name or number, refused by their line, dealt out, counted, made."""

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from securefed.data.folders import read
from securefed.data.identities import Doubles
from securefed.data.load import inspect_manifest, load_manifest, manifest_hospitals
from securefed.data.phantom import PhantomPatient, PhantomSpec, SiteProfile, generate
from securefed.data.phantom_files import write_phantoms
from securefed.data.pseudonyms import SiteKey
from securefed.data.requirements import tell
from securefed.data.summary import summarise
from securefed.data.table import parse_label, read_labels
from securefed.errors import ConfigurationError, DataError

WriteManifest = Callable[[Sequence[Sequence[str]]], Path]
KEY = SiteKey(bytes(range(32)))
CLASSES = ("healthy", "glioma", "meningioma", "pituitary")
HEADER = ["patient_id", "label", "ct_path"]


@pytest.mark.parametrize(
    ("text", "label"),
    [("glioma", 1), (" Pituitary ", 3), ("HEALTHY", 0), ("2", 2), ("2.0", 2), ("3,0", 3), ("0", 0)],
)
def test_a_label_is_a_name_or_a_number(text: str, label: int) -> None:
    assert parse_label(text, CLASSES) == label


@pytest.mark.parametrize("text", ["4", "-1", "1.5", "tumour", "yes", "", "gliomas", "1e0", "²"])
def test_another_label_is_refused_with_the_names(text: str) -> None:
    with pytest.raises(DataError, match=r"none of the classes healthy \(0\), glioma \(1\)"):
        parse_label(text, CLASSES)


def test_two_labels_know_no_class() -> None:
    assert [parse_label(word) for word in ("tumour", "no")] == [1, 0]
    with pytest.raises(DataError, match="neither 0"):
        parse_label("2")


def test_a_wrong_label_costs_its_line_alone(write_manifest: WriteManifest) -> None:
    words = ["healthy", "1", "menigioma", "pituitary", "7"]
    rows = [[f"p{k}", word, f"ct/{k}.png"] for k, word in enumerate(words)]
    loaded = inspect_manifest(write_manifest([HEADER, *rows]), 16, classes=CLASSES)
    assert [patient.label for patient in loaded.patients] == [0, 1, 3]
    first, second = map(str, loaded.problems)
    assert first.startswith("manifest.csv, line 4: label 'menigioma' is none of the classes")
    assert second.startswith("manifest.csv, line 6: label '7'")
    assert "pituitary (3)" in first


def test_a_patient_of_two_classes_is_left_out_and_of_slices_is_the_highest(
    write_manifest: WriteManifest,
) -> None:
    rows = [["p", "glioma", "ct/0.png"], ["p", "pituitary", "ct/1.png"], ["q", "0", "ct/2.png"]]
    path = write_manifest([HEADER, *rows])
    assert [each.patient_id for each in load_manifest(path, 16, classes=CLASSES).patients] == ["q"]
    first, _ = load_manifest(path, 16, example="slice", classes=CLASSES).patients
    assert [each.label for each in first.examples] == [1, 3]
    assert first.label == 3


def test_a_label_list_has_classes_too(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("patient_id,label\np,glioma\nq,9\nr,0\n")
    labels = read_labels(path, CLASSES)
    assert labels.by_patient == {"p": 1, "r": 0}
    assert [problem.line for problem in labels.problems] == [3]


def test_folders_of_two_labels_are_refused(tmp_path: Path) -> None:
    for scan in ("ct", "mri"):
        for name in ("Healthy", "Tumor"):
            (tmp_path / f"Brain {scan} images" / name).mkdir(parents=True)
    with pytest.raises(DataError, match="two labels, and 4 classes are asked for"):
        read(tmp_path, classes=CLASSES)


def test_classes_are_dealt_out_and_two_labels_as_before(write_manifest: WriteManifest) -> None:
    rows = [[f"p{k}", CLASSES[k % 4], f"ct/{k}.png"] for k in range(10)]
    loaded = load_manifest(write_manifest([HEADER, *rows]), 16, classes=CLASSES)
    for by in ("iid", "dirichlet"):
        divided = manifest_hospitals(loaded, KEY, hospitals=1, test_share=0.2, seed=1, by=by)
        (hospital,) = divided.hospitals
        assert len(hospital.train) + len(hospital.test) == 10
    told = tell(loaded, Doubles([], [], []), divided.hospitals)
    labels = {patient.label for patient in hospital.test}
    lacking = [name for number, name in enumerate(CLASSES) if number not in labels]
    assert lacking, "so few held out have not every class"
    assert any(f"not of every class (none is {lacking[0]}" in each for each in told.warnings)


def test_patients_are_counted_by_class(write_manifest: WriteManifest) -> None:
    rows = [[f"p{k}", CLASSES[k % 3], f"ct/{k}.png"] for k in range(7)]
    loaded = load_manifest(write_manifest([HEADER, *rows]), 16, classes=CLASSES)
    (site,) = summarise(loaded.patients, CLASSES)
    assert [site[name] for name in CLASSES] == [3, 2, 2, 0]
    assert "tumour" not in site


def made(modalities: tuple[str, ...], classes: int, count: int = 200) -> list[PhantomPatient]:
    spec = PhantomSpec(modalities, image_size=16, classes=classes, site_shift=0.0)
    return generate(spec, SiteProfile.draw(spec, 0, 3), count, 3)


def test_a_class_of_phantoms_is_a_kind_of_patient() -> None:
    kinds: dict[int, set[str]] = {}
    patients = made(("ct", "mri"), 5)
    for each in patients:
        kinds.setdefault(each.patient.label, set()).add(each.kind)
    assert kinds == {
        0: {"clean"},
        1: {"glioma", "calcified tumour"},
        2: {"haemorrhage", "calcification"},
        3: {"infarct", "abscess"},
        4: {"dissociated"},
    }
    counts = Counter(each.patient.label for each in patients)
    assert min(counts.values()) > 25, "equal parts of 200"


def test_no_modality_alone_tells_all_classes_apart() -> None:
    """A CT of class 1 is that of class 2, an MRI that of class 3: what each shows is alike."""
    shown = {
        each.patient.label: (
            bool(each.evidence_of("ct").any()),
            bool(each.evidence_of("mri").any()),
        )
        for each in made(("ct", "mri"), 4)
    }
    assert shown == {0: (False, False), 1: (True, True), 2: (True, False), 3: (False, True)}


def test_a_slice_has_its_patients_class_where_it_shows_why() -> None:
    for each in made(("ct", "mri"), 5, 60):
        there = each.evidence.all(axis=0)
        if each.patient.label in (2, 3):
            there = each.evidence.any(axis=0)
        assert list(each.labels) == (each.patient.label * there).tolist()


def test_more_classes_than_phantoms_have_are_refused_and_what_says_nothing_too() -> None:
    assert PhantomSpec(("ct", "mri", "pet"), classes=6).classes == 6
    with pytest.raises(ConfigurationError, match="phantoms of ct and mri have 5 classes, and 6"):
        PhantomSpec(classes=6)
    with pytest.raises(ConfigurationError, match="rho, kappa and scattered"):
        PhantomSpec(classes=4, rho=0.5)


@pytest.mark.parametrize("example", ["patient", "study", "slice"])
def test_phantoms_are_written_as_they_are_made(tmp_path: Path, example: str) -> None:
    """The labels of the files are those that a run on the same phantoms in memory has."""
    spec = PhantomSpec(image_size=16, classes=4, missing_query=0.0, missing_context=0.0)
    out = tmp_path / "out"
    write_phantoms(out, spec, 1, 12, 5, example=example, classes=CLASSES)  # type: ignore[arg-type]
    with (out / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == set(CLASSES)
    loaded = load_manifest(out, 16, example=example, classes=CLASSES)  # type: ignore[arg-type]
    patients = generate(spec, SiteProfile.draw(spec, 0, 5), 12, 5)
    for read_again, original in zip(loaded.patients, patients, strict=True):
        labels = [each.label for each in read_again.examples]
        if example == "slice":
            assert labels == list(original.labels)
        else:
            assert labels == [original.patient.label]
        assert np.array_equal(read_again.images, original.patient.images)


def test_two_labels_of_slices_are_written_too(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "out", PhantomSpec(image_size=16), 1, 8, 5, example="slice")
    loaded = load_manifest(tmp_path / "out", 16, example="slice")
    spec = PhantomSpec(image_size=16)
    tumours = [each.tumour for each in generate(spec, SiteProfile.draw(spec, 0, 5), 8, 5)]
    labels = [[part.label for part in each.examples] for each in loaded.patients]
    assert labels == [each.astype(int).tolist() for each in tumours]
