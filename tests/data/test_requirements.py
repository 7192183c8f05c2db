"""What a run refuses of its patients before anything is spent on them, and what it says instead."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from securefed.config import Settings
from securefed.data.identities import Doubles
from securefed.data.images import write_png
from securefed.data.load import FederatedData, HospitalData, Loaded
from securefed.data.requirements import require_both_labels, tell
from securefed.data.samples import Patient
from securefed.errors import DataError
from securefed.simulation.patients import load_data
from tests.scans import patient_of

Row = tuple[str, int, str, int]  # patient, label, site, picture


def manifest(folder: Path, rows: Sequence[Row]) -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["patient_id", "label", "site", "ct"])
        for line, (patient, label, site, picture) in enumerate(rows):
            if picture >= 0:
                coarse = np.random.default_rng(picture).integers(20, 235, (4, 4))
                image = np.kron(coarse, np.ones((4, 4))).astype(np.uint8)
                write_png(folder / f"{line}.png", image)
            table.writerow([patient, label, site, f"{line}.png"])
    return folder / "manifest.csv"


def people(count: int, **others: Any) -> list[Row]:
    """Different people of two sites, labels in turn."""
    return [(f"p{k}", k % 2, f"site {k // 2 % 2 + 1}", k) for k in range(count)]


def load(path: Path, *, dp: bool = True, **data: Any) -> FederatedData:
    return load_data(
        Settings.model_validate(
            {
                "data": {"manifest": path, **data},
                "model": {"image_size": 32},
                "privacy": {"dp": dp},
                "federation": {"clients": 2},
                "secure_aggregation": {"enabled": False},
            }
        )
    )


def test_sound_patients_pass_and_nothing_is_said(tmp_path: Path) -> None:
    path = manifest(tmp_path / "d", people(40))
    made, paired = load(path).named
    assert made.startswith(f"made a site key: {tmp_path / 'd.site-key'}")
    assert paired == "no slice has CT and MRI in 40 patients"
    data = load(path)
    assert data.named == (paired,)
    assert data.simulation == ""
    assert sum(len(h.train) + len(h.test) for h in data.hospitals) == 40


def test_a_run_that_cannot_start_leaves_no_key_and_one_that_has_begun_makes_none(
    tmp_path: Path,
) -> None:
    path = manifest(tmp_path / "d", [(p, 1, site, k) for p, _, site, k in people(40)])
    with pytest.raises(DataError, match="nothing can be learned"):
        load(path)
    assert [each.name for each in tmp_path.iterdir()] == ["d"]
    sound = manifest(tmp_path / "d", people(40))
    with pytest.raises(DataError, match=r"site key .*d.site-key is missing") as caught:
        load_data(Settings.model_validate({"data": {"manifest": sound}}), begun=True)
    assert "bring it back" in str(caught.value.hint)
    assert [each.name for each in tmp_path.iterdir()] == ["d"]


COPIES = [
    ("copy", 1, "site 1", 3),  # the picture of p3
    ("P3", 1, "site 1", 900),  # its name
]


@pytest.mark.parametrize("copy", COPIES)
def test_a_person_with_two_identifiers_is_refused_under_dp_unless_told(
    tmp_path: Path, copy: Row
) -> None:
    path = manifest(tmp_path / "d", [*people(40), copy])
    with pytest.raises(DataError, match=f"1 pair of .* 'p3' and '{copy[0]}'") as caught:
        load(path)
    assert "data.allow_duplicates" in str(caught.value.hint)
    for data in (load(path, allow_duplicates=True), load(path, dp=False)):
        told = [text for text in data.warnings if "seem to be one person's" in text]
        assert len(told) == 1
        # Warnings travel in run.json; who it is, is for the operator.
        assert not any("p3" in text for text in data.warnings)
        assert any(f"'p3' and '{copy[0]}'" in text for text in data.named)


def test_copies_across_the_split_are_counted(tmp_path: Path) -> None:
    rows = people(30)
    path = manifest(tmp_path / "d", [*rows, *((f"twin {k}", *rows[k][1:]) for k in range(30))])
    data = load(path, dp=False)
    side = {
        p.patient_id: s for h in data.hospitals for s in ("train", "test") for p in getattr(h, s)
    }
    across = sum(side[f"p{k}"] != side[f"twin {k}"] for k in range(30))
    assert across > 0
    assert any("held-out figures are too good" in text for text in data.warnings)
    (told,) = [text for text in data.named if "pairs" in text]
    assert told.startswith("30 pairs of patient ids seem to be one person each")
    assert f", {across} with one id trained on and one held out: patients 'p0' and" in told
    assert told.endswith("; and 27 more; securefed data check lists all")


def test_what_travels_names_nobody_and_counts_nobody(tmp_path: Path) -> None:
    rows = [*people(90), ("twin", 1, "site 1", 3), ("p91", 1, "site 2", -1)]
    data = load(manifest(tmp_path / "d", rows), dp=False)
    told = " ".join(data.warnings).replace("fewer than 100 patients", "").replace("2 sites", "")
    assert not any(character.isdigit() for character in told)
    assert "twin" in " ".join(data.named)
    assert "1 of 92 rows" in " ".join(data.named)


def test_too_many_unusable_rows_are_refused_with_the_first_ones_named(tmp_path: Path) -> None:
    rows = [
        (p, label, site, -1 if k >= 5 else k) for k, (p, label, site, _) in enumerate(people(16))
    ]
    path = manifest(tmp_path / "d", rows)
    with pytest.raises(
        DataError,
        match=r"11 of 16 rows cannot be used: manifest.csv, line 7: ct_path "
        r"'5.png': no such file; .*; and 8 more",
    ) as caught:
        load(path)
    assert "data check" in str(caught.value.hint)
    assert "data.max_unusable" in str(caught.value.hint)


def test_few_unusable_rows_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    rows = people(40)
    rows[7] = ("p7", 1, "site 2", -1)
    path = manifest(tmp_path / "d", rows)
    data = load(path)
    assert "not every row or file could be used" in data.warnings
    assert any("line 9: ct_path '7.png': no such file" in text for text in data.named)
    with pytest.raises(DataError, match="1 of 40 rows"):
        load(path, max_unusable=0.0)


def test_a_patient_left_out_whole_counts_with_all_its_rows(tmp_path: Path) -> None:
    rows = [*people(8), *(("torn", k % 2, "site 1", 100 + k) for k in range(8))]
    with pytest.raises(DataError, match="8 of 16 rows"):
        load(manifest(tmp_path / "d", rows))


@pytest.mark.parametrize("label", [0, 1])
def test_patients_of_one_label_are_refused(tmp_path: Path, label: int) -> None:
    rows = [(p, label, site, k) for p, _, site, k in people(40)]
    with pytest.raises(DataError, match=f"have label {label}: nothing can be learned"):
        load(manifest(tmp_path / "d", rows))


def test_patients_of_whom_only_one_label_trains_are_refused() -> None:
    def patient(name: str, label: int) -> Patient:
        image = np.zeros((1, 8, 8), dtype=np.uint8)
        return patient_of(name, "a", label, ct=image, mri=image)

    well, ill = [patient(f"p{k}", 0) for k in range(4)], patient("ill", 1)
    require_both_labels([HospitalData("a", well, []), HospitalData("b", [ill], [])])
    with pytest.raises(DataError, match="have label 0: nothing can be learned"):
        require_both_labels([HospitalData("a", well[:2], [ill]), HospitalData("b", well[2:], [])])


def test_held_out_patients_of_one_label_and_hospitals_that_train_on_one_are_told() -> None:
    def patient(name: str, label: int) -> Patient:
        image = np.zeros((1, 8, 8), dtype=np.uint8)
        return patient_of(name, "a", label, ct=image, mri=image)

    well, ill = [patient(f"p{k}", 0) for k in range(4)], [patient(f"q{k}", 1) for k in range(4)]
    loaded, none = Loaded([*well, *ill], [], [], rows=8), Doubles([], [], [])
    hospitals = [HospitalData("a", [*well[:2], ill[0]], well[2:]), HospitalData("b", ill[1:], [])]
    told = tell(loaded, none, hospitals)
    assert told.warnings == ["held-out patients are not of both labels: there is no AUC"]
    assert told.named == ["b trains on patients of one label only"]


def test_sites_that_look_like_one_are_refused_where_each_would_be_a_hospital(
    tmp_path: Path,
) -> None:
    rows = [(p, label, "Site 1" if k > 30 else site, k) for p, label, site, k in people(40)]
    path = manifest(tmp_path / "d", rows)
    with pytest.raises(DataError, match="sites 'site 1' and 'Site 1' look like one site"):
        load(path, partition="site")
    assert any("look like one site" in text for text in load(path).named)


def test_a_hospitals_name_is_the_name_of_a_folder(tmp_path: Path) -> None:
    image = np.zeros((1, 8, 8), dtype=np.uint8)
    patient = patient_of("p", "../up", 0, ct=image, mri=image)
    for name in ("../up", "/etc", "", ".."):
        with pytest.raises(DataError, match="site"):
            HospitalData(name, [dataclasses.replace(patient)], [])
