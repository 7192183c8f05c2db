"""`securefed predict` and `evaluate` as people type them."""

import csv
import json
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner, Result
from jsonschema import validate

from securefed.cli.app import cli
from securefed.data.pseudonyms import load_or_create_key
from securefed.errors import ConfigurationError, DataError, Interrupted
from securefed.prediction import table
from securefed.prediction.model import ReleasedModel
from securefed.record.evaluation import EvaluationFile
from tests.prediction.conftest import strangers, trained

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs" / "schemas" / "evaluation.schema.json").read_text()
)

__all__ = ["strangers", "trained"]  # fixtures


def securefed(*words: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open() as lines:
        return list(csv.DictReader(lines))


def test_every_patient_has_a_line_and_a_second_run_goes_on(
    trained: Path, strangers: Path, tmp_path: Path
) -> None:
    out = tmp_path / "predictions.csv"
    done = securefed("predict", trained, strangers, "--out", out)
    assert done.exit_code == 0, done.output
    assert "40 of 40 patients, 40 of them now" in done.stdout
    assert "NOT FOR USE ON PATIENTS: it was trained on made-up patients (phantom)" in done.stdout
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    whole = out.read_bytes()
    rows = rows_of(out)
    assert len({row["patient_id"] for row in rows}) == 40
    assert {row["missing"] for row in rows} >= {"", "mri"}
    assert all(0 < float(row["probability"]) < 1 for row in rows)
    # A crash between two lines, and in the middle of one.
    out.write_bytes(whole[: len(whole) * 2 // 3])
    kept = table.read(out)
    assert 20 < len(kept) < 40
    again = securefed("predict", trained, strangers, "--out", out)
    assert f"40 of 40 patients, {40 - len(kept)} of them now" in again.stdout
    assert out.read_bytes() == whole


def test_labels_are_neither_needed_nor_looked_at(
    trained: Path, strangers: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(strangers.parent, tmp_path / "unlabelled")
    rows = rows_of(strangers)
    with (folder / "manifest.csv").open("w") as out:
        writer = csv.DictWriter(out, [name for name in rows[0] if name != "label"])
        writer.writeheader()
        writer.writerows({k: v for k, v in row.items() if k != "label"} for row in rows)
    with_labels = json.loads(securefed("predict", trained, strangers, "--json").stdout)
    without = json.loads(securefed("predict", trained, folder, "--json").stdout)
    for told in (without, with_labels):
        for each in told["predictions"]:
            del each["data"]  # where the files are
    assert without["predictions"] == with_labels["predictions"]
    with pytest.raises(DataError, match="label"):
        securefed("evaluate", trained, folder)


def test_two_models_do_not_share_a_file(trained: Path, strangers: Path, tmp_path: Path) -> None:
    out = tmp_path / "predictions.csv"
    securefed("predict", trained, strangers, "--out", out)
    header, line, *_ = out.read_text().splitlines()
    out.write_text(f"{header}\n{line[:-16]}{'0' * 16}\n")
    with pytest.raises(DataError, match="predictions of another model, or of other patients"):
        securefed("predict", trained, strangers, "--out", out)
    out.write_text("patient,what\n")
    with pytest.raises(DataError, match="no table of predictions"):
        securefed("predict", trained, strangers, "--out", out)


@pytest.mark.parametrize(
    "content",
    [b"a key of a site", b"patient_id,site,prob\0", b"one\rtwo\nthree\n", b"patient,what\n"],
)
def test_a_file_that_is_no_table_is_refused_and_left(
    content: bytes, trained: Path, strangers: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    out.write_bytes(content)
    with pytest.raises(DataError, match="no table of predictions"):
        securefed("predict", trained, strangers, "--out", out)
    assert out.read_bytes() == content


def test_a_folder_or_a_pipe_is_refused_at_once(
    trained: Path, strangers: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for out in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(DataError, match="no table of predictions"):
            securefed("predict", trained, strangers, "--out", out)


def test_a_crash_within_the_first_line_is_gone_on_from(
    trained: Path, strangers: Path, tmp_path: Path
) -> None:
    out = tmp_path / "predictions.csv"
    out.write_bytes(b"patient_id,si")
    assert "40 of them now" in securefed("predict", trained, strangers, "--out", out).stdout
    assert len(table.read(out)) == 40


def test_an_evaluation_is_printed_and_written(
    trained: Path, strangers: Path, tmp_path: Path
) -> None:
    out = tmp_path / "evaluation"
    shown = securefed("evaluate", trained, strangers, "--out", out)
    assert shown.exit_code == 0, shown.output
    assert "expected calibration error" in shown.stdout
    assert "whether they trained the model cannot be told" in shown.stdout
    found = EvaluationFile.read(out)
    validate(json.loads((out / "evaluation.json").read_text()), SCHEMA)
    assert found.groups[0].patients == 40
    assert {each.column for each in found.groups} == {"all", "site", "modalities"}
    printed = json.loads(securefed("evaluate", trained, strangers, "--json").stdout)
    assert printed == json.loads((out / "evaluation.json").read_text())
    with pytest.raises(DataError, match="exists already"):
        securefed("evaluate", trained, strangers, "--out", out)
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(DataError, match="link exists already"):
        securefed("evaluate", trained, strangers, "--out", tmp_path / "link")
    with pytest.raises(DataError, match=r"evaluation\.json is no folder"):
        securefed("evaluate", trained, strangers, "--out", out / "evaluation.json" / "deeper")
    with pytest.raises(DataError, match="is to be a folder"):
        securefed("evaluate", trained, strangers, "--out", tmp_path / "other.json")


def test_groups_by_a_column_of_the_manifest(trained: Path, strangers: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(strangers.parent, tmp_path / "patients")
    rows = rows_of(strangers)
    patients = list(dict.fromkeys(row["patient_id"] for row in rows))
    with (folder / "manifest.csv").open("w") as out:
        writer = csv.DictWriter(out, [*rows[0], "sex"])
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "sex": "fm"[patients.index(row["patient_id"]) % 4 // 2]})
    found = json.loads(securefed("evaluate", trained, folder, "--by", "sex", "--json").stdout)
    sexes = {each["value"]: each for each in found["groups"] if each["column"] == "sex"}
    assert sexes.keys() == {"f", "m"}
    assert sum(each["patients"] for each in sexes.values()) == 40
    for column, why in (("age", "no further column 'age' (it has 'sex')"), ("site", "no further")):
        with pytest.raises(DataError, match=re.escape(why)):
            securefed("evaluate", trained, folder, "--by", column)


def rewritten(folder: Path, **cells: str) -> None:
    """Every line of a folder's manifest with other cells."""
    rows = [{**row, **cells} for row in rows_of(folder / "manifest.csv")]
    with (folder / "manifest.csv").open("w") as out:
        writer = csv.DictWriter(out, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)


def test_an_evaluation_of_nobody_says_what_is_wrong_with_the_lines(
    trained: Path, strangers: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(strangers.parent, tmp_path / "patients")
    rewritten(folder, ct_path="../away.png", mri_path="")
    with pytest.raises(DataError, match=r"nobody could be predicted: .*leads outside"):
        securefed("evaluate", trained, folder)
    (folder / "manifest.csv").write_text("patient_id,label,ct_path\n")
    with pytest.raises(DataError, match="nobody could be predicted: nobody is there"):
        securefed("evaluate", trained, folder)


@pytest.mark.parametrize("value", ["\x1b[31mred", "\x00", "a\nb", "x" * 101], ids=repr)
def test_a_group_that_would_act_on_a_terminal_costs_its_lines(
    trained: Path, strangers: Path, tmp_path: Path, value: str
) -> None:
    folder = shutil.copytree(strangers.parent, tmp_path / "patients")
    rewritten(folder, sex=value)
    with pytest.raises(DataError, match=r"'sex' .*(control characters|is longer)"):
        securefed("evaluate", trained, folder, "--by", "sex")


def test_predictions_of_other_images_under_the_same_names_are_not_gone_on_with(
    trained: Path, strangers: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(strangers.parent, tmp_path / "patients")
    out = tmp_path / "predictions.csv"
    assert securefed("predict", trained, folder, "--out", out).exit_code == 0
    whole = out.read_bytes()
    picture = next(folder.rglob("*.png"))
    picture.write_bytes(
        next(each for each in folder.rglob("*.png") if each != picture).read_bytes()
    )
    with pytest.raises(DataError, match="or of other patients"):
        securefed("predict", trained, folder, "--out", out)
    assert out.read_bytes() == whole


def test_patients_who_cannot_be_used_are_counted_and_make_the_exit_code_1(
    trained: Path, strangers: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(strangers.parent, tmp_path / "patients")
    first = rows_of(strangers)[0]["patient_id"]
    for path in folder.rglob(f"*{first}*.png"):
        path.write_bytes(b"not a picture")
    done = securefed("predict", trained, folder)
    assert done.exit_code == 1
    assert "39 of 40 patients, 39 of them now" in done.stdout
    assert securefed("predict", trained, folder, "--json").exit_code == 1
    assert securefed("evaluate", trained, folder, "--no-card").exit_code == 1


def test_what_is_about_single_patients_does_not_land_in_a_run(
    trained: Path, strangers: Path
) -> None:
    with pytest.raises(ConfigurationError, match="lies in the run"):
        securefed("predict", trained, strangers, "--out", trained / "predictions.csv")
    with pytest.raises(ConfigurationError, match="lies in the run"):
        securefed("data", "show", strangers, "--out", trained / "hospitals" / "look")
    assert not (trained / "predictions.csv").exists()
    assert not (trained / "hospitals" / "look").exists()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CT and an MR of two people, and a place of its own for temporary files."""
    samples = Path(pydicom.__path__[0]) / "data" / "test_files"
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("CT_small.dcm", "MR_small.dcm"):
        shutil.copy(samples / name, folder)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return folder


def test_a_dicom_tree_is_imported_without_labels_and_goes_again(
    trained: Path, tree: Path, tmp_path: Path
) -> None:
    key = tmp_path / "mine.site-key"
    names = [load_or_create_key(key).pseudonym(each) for each in ("1CT1", "4MR1")]
    done = securefed("predict", trained, tree, "--site-key", key, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert {each["patient_id"]: each["missing"] for each in told["predictions"]} == {
        names[0]: "mri",
        names[1]: "ct",
    }
    assert all(any(name in line for line in told["series"]) for name in names)
    assert not list((tmp_path / "temporary").iterdir())
    shown = securefed("predict", trained, tree, "--site-key", key)
    assert "series that were chosen" in shown.stdout
    assert "2 of 2 patients" in shown.stdout
    assert "1CT1" not in shown.stdout


def test_an_imported_tree_goes_when_a_prediction_is_stopped(
    trained: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def stop(*_: object) -> None:
        seen.extend((tmp_path / "temporary").rglob("*.png"))
        raise KeyboardInterrupt

    monkeypatch.setattr(ReleasedModel, "logits_of", stop)
    with pytest.raises(Interrupted):
        securefed("predict", trained, tree)
    assert seen
    assert not list((tmp_path / "temporary").iterdir())


def test_what_a_dicom_tree_cannot_do_is_said(
    trained: Path, strangers: Path, tree: Path, tmp_path: Path
) -> None:
    out = tmp_path / "predictions.csv"
    assert securefed("predict", trained, tree, "--out", out).exit_code == 0
    with pytest.raises(DataError, match="of a DICOM tree are not gone on with"):
        securefed("predict", trained, tree, "--out", out)
    with pytest.raises(ConfigurationError, match="there is no site key at"):
        securefed("predict", trained, tree, "--site-key", tmp_path / "none")
    with pytest.raises(ConfigurationError, match="--site-key is for a DICOM tree"):
        securefed("predict", trained, strangers, "--site-key", tmp_path / "none")
