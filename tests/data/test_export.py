"""A data set appears whole or not at all, and comes back as what was written."""

import csv
from pathlib import Path

import numpy as np
import pytest

from securefed.data.export import new_dataset
from securefed.data.load import fingerprint, load_manifest
from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.data.phantom_files import write_phantoms
from securefed.data.pseudonyms import PHANTOM_KEY
from securefed.errors import ConfigurationError

SPEC = PhantomSpec(image_size=24, slices=(2, 4), missing_query=0.3, missing_context=0.3)
IMAGE = np.arange(256, dtype=np.uint8).reshape(16, 16)


def test_written_phantoms_load_as_the_phantoms_in_memory(tmp_path: Path) -> None:
    slices = write_phantoms(tmp_path / "out", SPEC, 2, 6, seed=3)
    made = [
        each.patient
        for index in range(2)
        for each in generate(SPEC, SiteProfile.draw(SPEC, index, 3), 6, 3)
    ]
    loaded = load_manifest(tmp_path / "out", 24)
    assert loaded.problems == []
    assert slices == sum(p.slices for p in made) == sum(p.slices for p in loaded.patients)
    assert fingerprint(loaded.patients, PHANTOM_KEY) == fingerprint(made, PHANTOM_KEY)


def test_truth_stands_beside_the_manifest_slice_by_slice(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "out", SPEC, 1, 8, seed=3)
    made = generate(SPEC, SiteProfile.draw(SPEC, 0, 3), 8, 3)
    with (tmp_path / "out" / "truth.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = [
        (
            p.patient.patient_id,
            p.kind,
            str(k),
            str(int(p.evidence_of("ct")[k])),
            str(int(p.tumour[k])),
        )
        for p in made
        for k in range(p.patient.slices)
    ]
    columns = ("patient_id", "kind", "slice", "ct_evidence", "tumour")
    assert [tuple(row[c] for c in columns) for row in rows] == expected


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> None:
        with new_dataset(tmp_path / "out") as writer:
            writer.add("p", 1, "a", [{"ct": IMAGE}])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_older_data_set_survives_a_failed_replacement(tmp_path: Path) -> None:
    def write(*, broken: bool) -> None:
        with new_dataset(tmp_path / "out", force=True) as writer:
            writer.add("new" if broken else "old", 1, "a", [{"ct": IMAGE, "mri": IMAGE}])
            if broken:
                raise RuntimeError

    write(broken=False)
    with pytest.raises(RuntimeError):
        write(broken=True)
    assert [p.patient_id for p in load_manifest(tmp_path / "out", 16).patients] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_replaces_a_data_set_and_nothing_else(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "out", SPEC, 1, 1, seed=1)
    with pytest.raises(ConfigurationError, match="out is already there"):
        write_phantoms(tmp_path / "out", SPEC, 1, 1, seed=2)
    write_phantoms(tmp_path / "out", SPEC, 1, 1, seed=2, force=True)
    assert load_manifest(tmp_path / "out", 24).patients[0].patient_id == "phantom-2-1-00000"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigurationError, match="is not a data set"):
        write_phantoms(tmp_path / "precious", SPEC, 1, 1, seed=2, force=True)
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(ConfigurationError, match="is not a data set"):
        write_phantoms(tmp_path / "link", SPEC, 1, 1, seed=2, force=True)
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "years of work"


def test_a_data_set_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "out", SPEC, 1, 1, seed=1)
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("hospitals", "patients"), [(0, 1), (1, 0), (-1, 5)])
def test_no_phantoms_are_refused(tmp_path: Path, hospitals: int, patients: int) -> None:
    with pytest.raises(ConfigurationError, match="must be at least 1"):
        write_phantoms(tmp_path / "out", SPEC, hospitals, patients, seed=1)


@pytest.mark.parametrize("source", ["", "manifest.csv", "ct"])
def test_what_a_data_set_is_made_from_is_never_replaced(tmp_path: Path, source: str) -> None:
    with new_dataset(tmp_path / "data") as writer:
        writer.add("p", 1, "a", [{"ct": IMAGE}])
    with (
        pytest.raises(ConfigurationError, match="holds what is imported"),
        new_dataset(tmp_path / "data", force=True, source=tmp_path / "data" / source),
    ):
        pass
    assert load_manifest(tmp_path / "data", 16).patients[0].patient_id == "p"


def test_a_data_set_can_be_made_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with new_dataset(Path()) as writer:
        writer.add("p", 1, "a", [{"ct": IMAGE}])
    assert (tmp_path / "here" / "manifest.csv").is_file()


def test_a_link_that_leads_nowhere_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigurationError, match="leads nowhere"), new_dataset(tmp_path / "loop"):
        pass
    assert len(list(tmp_path.iterdir())) == 1
