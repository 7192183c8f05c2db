"""`securefed explain`: what it writes, for whom, and what it refuses."""

import csv
import json
import re
import shutil
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from securefed.cli.app import cli
from securefed.errors import ConfigurationError, DataError
from securefed.record.explanation import ExplanationFile
from tests.prediction.conftest import strangers, trained

__all__ = ["strangers", "trained"]  # fixtures


def securefed(*words: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)


@pytest.fixture(scope="module")
def predictions(trained: Path, strangers: Path) -> dict[str, dict[str, object]]:
    told = json.loads(securefed("predict", trained, strangers, "--json").stdout)
    return {each["patient_id"]: each for each in told["predictions"]}


def test_scans_unlike_those_of_the_training_are_said_to_be(
    trained: Path, strangers: Path, tmp_path: Path
) -> None:
    swapped = Path(shutil.copytree(strangers.parent, tmp_path / "swapped")) / strangers.name
    with strangers.open() as table:
        rows = list(csv.DictReader(table))
    whole = next(row["patient_id"] for row in rows if row["ct_path"] and row["mri_path"])
    for row in rows:
        row["ct_path"], row["mri_path"] = row["mri_path"], row["ct_path"]
    with swapped.open("w", newline="") as table:
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    told, abouts = [], []
    for number, manifest in enumerate((strangers, swapped)):
        out = tmp_path / str(number)
        done = securefed("explain", trained, manifest, "--patient", whole, "--out", out)
        assert done.exit_code == 0, done.output
        told.append("do not believe the answer" in done.stdout)
        abouts.append((ExplanationFile.read(out).unlike, (out / "index.html").read_text()))
    assert told == [False, True]
    assert [unlike for unlike, _ in abouts] == ["", "ct and mri look swapped"]
    assert ["do not believe the answer" in page for _, page in abouts] == [False, True]


@pytest.mark.parametrize("missing", ["", "mri", "ct"])
def test_a_page_with_pictures_and_the_same_as_json_for_their_owner_alone(
    missing: str,
    trained: Path,
    strangers: Path,
    predictions: dict[str, dict[str, object]],
    tmp_path: Path,
) -> None:
    patient = next(name for name, each in predictions.items() if each["missing"] == missing)
    out = tmp_path / "look"
    done = securefed("explain", trained, strangers, "--patient", patient, "--out", out)
    assert done.exit_code == 0, done.output
    assert "NOT FOR USE ON PATIENTS" in done.stdout
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in out.iterdir()} == {0o600}
    about = ExplanationFile.read(out)
    assert about.missing == tuple(filter(None, [missing]))
    assert about.logit == pytest.approx(predictions[patient]["logit"], abs=1e-5)
    for key in ("probability", "calibrated"):
        assert getattr(about, key) == pytest.approx(predictions[patient][key], abs=1e-5)
    added = [value for each in about.contributions for row in each for value in row]
    assert sum(added) == pytest.approx(about.logit, abs=1e-5)
    assert set(about.attention) == ({"mri"} if missing != "mri" else set())
    for each in about.pictures:
        with Image.open(out / each.file) as picture:
            assert "Software" not in picture.info
    page = (out / "index.html").read_text()
    assert len(re.findall('<img src="data:image/png;base64,', page)) == len(about.pictures)
    assert patient in page
    assert "://" not in page


def test_a_place_is_asked_for_by_row_and_column_from_1(
    trained: Path, strangers: Path, predictions: dict[str, object], tmp_path: Path
) -> None:
    patient = next(iter(predictions))
    asked = ("explain", trained, strangers, "--patient", patient, "--json")
    told = json.loads(securefed(*asked, "--out", tmp_path / "a", "--place", 2, 4).stdout)
    assert (told["place"]["row"], told["place"]["column"]) == (2, 4)
    first = told["slices"][0]
    again = securefed(*asked, "--out", tmp_path / "b", "--place", 2, 4, "--slice", first)
    assert json.loads(again.stdout)["place"] == {"slice": first, "row": 2, "column": 4}


def test_what_it_refuses_leaves_nothing(
    trained: Path, strangers: Path, predictions: dict[str, object], tmp_path: Path
) -> None:
    out = tmp_path / "look"
    with pytest.raises(DataError, match="no usable patient of that id"):
        securefed("explain", trained, strangers, "--patient", "nobody", "--out", out)
    patient = ("--patient", next(iter(predictions)))
    with pytest.raises(DataError, match="rows and columns go from 1 to 4"):
        securefed("explain", trained, strangers, *patient, "--out", out, "--place", 1, 5)
    with pytest.raises(ConfigurationError, match="lies in the run"):
        securefed("explain", trained, strangers, *patient, "--out", trained / "look")
    assert not out.exists()
    assert not (trained / "look").exists()


def test_fused_pictures_have_metrics_where_both_modalities_are_there(
    trained: Path, strangers: Path, predictions: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    for missing, ways in (("", ["attention", "Laplacian pyramid"]), ("ct", []), ("mri", [])):
        patient = next(name for name, each in predictions.items() if each["missing"] == missing)
        out = tmp_path / f"look-{missing}"
        securefed("explain", trained, strangers, "--patient", patient, "--out", out, "--fused")
        about = ExplanationFile.read(out)
        assert [each.way for each in about.fusions] == ways
        assert (out / "fused.png").exists() == bool(ways)
        assert ("Laplacian pyramid" in (out / "index.html").read_text()) == bool(ways)
