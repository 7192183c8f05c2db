"""`securefed data` as a user meets it: what it prints, writes, refuses, and its exit codes."""

import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from securefed.cli.data import command
from securefed.config import Settings
from securefed.data.images import write_png
from securefed.errors import ConfigurationError, SecureFedError
from securefed.simulation.patients import load_data
from tests.cli.processes import content, write_pictures

TWO = {"federation": {"clients": 2}, "secure_aggregation": {"enabled": False}}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def phantoms(out: Path, *more: object) -> Result:
    return run("phantom", "--out", out, "--hospitals", 2, "--patients", 3, "--size", 24, *more)


def securefed(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", "from securefed.cli.app import main; main()", "data"]
    return subprocess.run(
        [*line, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
    )


def test_phantom_then_check_is_all_usable(tmp_path: Path) -> None:
    made = phantoms(tmp_path / "p", "--seed", 5, "--contrast", 2, "--rho", 0.1, "--kappa", 0.5)
    assert made.exit_code == 0, made.output
    assert "6 patients of 2 hospitals" in made.output
    settings = (tmp_path / "p" / "phantom.csv").read_text()
    for line in ("contrast,2.0", "rho,0.1", "kappa,0.5", "seed,5", "image_size,24"):
        assert line in settings.splitlines()
    checked = run("check", tmp_path / "p" / "manifest.csv", "--size", 24)
    assert checked.exit_code == 0, checked.output
    assert "hospital-2" in checked.output
    assert checked.output.rstrip().endswith("all usable")


def test_distractors_are_drawn_into_the_pictures(tmp_path: Path) -> None:
    for place, more in (("bare", ()), ("more", ("--distractors", 16))):
        assert phantoms(tmp_path / place, *more).exit_code == 0
    pictures = [path.relative_to(tmp_path / "bare") for path in (tmp_path / "bare").rglob("*.png")]
    assert pictures
    changed = [
        each
        for each in pictures
        if (tmp_path / "bare" / each).read_bytes() != (tmp_path / "more" / each).read_bytes()
    ]
    assert len(changed) > len(pictures) / 2


def test_json_is_one_object_with_the_same_facts(tmp_path: Path) -> None:
    made = json.loads(phantoms(tmp_path / "p", "--json").output)
    assert made["patients"] == 6
    checked = json.loads(run("check", tmp_path / "p", "--size", 24, "--json").output)
    assert checked["problems"] == []
    assert [site["site"] for site in checked["sites"]] == ["hospital-1", "hospital-2", "all"]
    assert checked["sites"][2]["slices"] == made["slices"]
    assert checked["fingerprint"] is None  # nobody has made the site's key yet


@pytest.mark.usefixtures("real_site_keys")
def test_the_fingerprint_of_a_check_is_that_of_a_run_under_the_same_key(tmp_path: Path) -> None:
    phantoms(tmp_path / "p", "--patients", 12)
    chosen = {"data": {"manifest": tmp_path / "p", "partition": "site"}}
    settings = Settings.model_validate({**chosen, "model": {"image_size": 32}, **TWO})
    data = load_data(settings)
    assert stat.S_IMODE((tmp_path / "p.site-key").stat().st_mode) == 0o600
    checked = json.loads(run("check", tmp_path / "p", "--size", 32, "--json").output)
    assert checked["fingerprint"] == data.fingerprint
    assert load_data(settings).fingerprint == data.fingerprint
    own = Settings.model_validate(
        {"data": {**chosen["data"], "site_key": tmp_path / "own"}, **TWO}
        | {"model": {"image_size": 32}}
    )
    assert load_data(own).fingerprint != data.fingerprint


def test_check_names_bad_lines_and_exits_1(tmp_path: Path) -> None:
    phantoms(tmp_path / "p")
    manifest = tmp_path / "p" / "manifest.csv"
    lines = manifest.read_text().splitlines()
    lines[2] = lines[2].replace(",0,", ",7,", 1).replace(",1,", ",7,", 1)
    manifest.write_text("\n".join([*lines, "stranger,1,a,0,../../x.png,,,,,,"]) + "\n")
    result = run("check", manifest, "--size", 24)
    assert result.exit_code == 1
    assert "manifest.csv, line 3: label '7' is neither" in result.output
    assert f"line {len(lines) + 1}: ct_path '../../x.png' leads outside" in result.output
    assert "problems (2):" in result.output


def test_an_identical_image_under_two_patients_is_a_problem(tmp_path: Path) -> None:
    phantoms(tmp_path / "p")
    images = sorted((tmp_path / "p" / "ct").iterdir())
    first = images[0]
    other = next(path for path in images if path.name.split("_s")[0] != first.name.split("_s")[0])
    shutil.copy(first, other)
    result = run("check", tmp_path / "p", "--size", 24)
    assert result.exit_code == 1
    assert "show identical images (1 CT, the first: CT slice " in result.output


def test_check_says_what_would_stop_a_run(tmp_path: Path) -> None:
    rows = ["patient_id,label,site,ct"]
    for number, (patient, site) in enumerate(
        (("Pat01", "Site A"), ("PAT01", "site a"), ("P-3", "Site B"))
    ):
        image = np.random.default_rng(number).integers(0, 255, (16, 16), dtype=np.uint8)
        write_png(tmp_path / f"{number}.png", image)
        rows.append(f"{patient},1,{site},{number}.png")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    result = run("check", tmp_path, "--json")
    assert result.exit_code == 1
    told = "\n".join(json.loads(result.output)["problems"])
    assert "patients 'Pat01' and 'PAT01' are alike" in told
    assert "sites 'Site A' and 'site a' look like one site" in told
    assert "all 3 patients have label 1: nothing can be learned" in told


def test_check_of_a_manifest_without_a_usable_row_still_lists_why(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("patient_id,label,ct\np,1,gone.png\nnan,1,x.png\n")
    result = run("check", tmp_path, "--json")
    assert result.exit_code == 1
    facts = json.loads(result.output)
    assert facts["patients"] == 0
    assert [problem.split(": ")[0] for problem in facts["problems"]] == [
        "manifest.csv, line 2",
        "manifest.csv, line 3",
        tmp_path.name,
    ]
    told = run("check", tmp_path)
    assert (told.exit_code, "gone.png" in told.output) == (1, True)


@pytest.mark.usefixtures("real_site_keys")
def test_import_of_dicom_writes_a_data_set_and_a_private_key(tmp_path: Path) -> None:
    samples = Path(pydicom.__path__[0]) / "data" / "test_files"
    (tmp_path / "tree").mkdir()
    for name in ("CT_small.dcm", "MR_small.dcm"):
        shutil.copy(samples / name, tmp_path / "tree")
    (tmp_path / "labels.csv").write_text("patient_id,label\n1CT1,tumour\n4MR1,healthy\n")
    arguments = ("import", tmp_path / "tree", "--labels", tmp_path / "labels.csv", "--size", 64)
    result = run(*arguments, "--out", tmp_path / "out", "--site", "north")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out.site-key").stat().st_mode & 0o777 == 0o600
    first = (tmp_path / "out" / "manifest.csv").read_text()
    assert "1CT1" not in first
    assert "north" in first
    assert run("check", tmp_path / "out").exit_code == 0
    # The same key gives the same pseudonyms, another key others.
    again = run(*arguments, "--out", tmp_path / "out", "--site", "north", "--force")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "out" / "manifest.csv").read_text() == first
    other = ("--out", tmp_path / "two", "--site", "north")
    assert run(*arguments, *other).exit_code == 0
    assert (tmp_path / "two" / "manifest.csv").read_text() != first


def test_import_lists_what_it_could_not_use_and_exits_1(tmp_path: Path) -> None:
    samples = Path(pydicom.__path__[0]) / "data" / "test_files"
    (tmp_path / "tree").mkdir()
    for name in ("CT_small.dcm", "SC_rgb_rle_2frame.dcm"):
        shutil.copy(samples / name, tmp_path / "tree")
    (tmp_path / "labels.csv").write_text("patient_id,label\n1CT1,1\n,1\n")
    result = run(
        *("import", tmp_path / "tree", "--labels", tmp_path / "labels.csv"),
        *("--out", tmp_path / "out", "--json"),
    )
    assert result.exit_code == 1
    facts = json.loads(result.output)
    assert facts["patients"] == 1
    assert facts["problems"] == [
        "labels.csv, line 3: patient_id is empty",
        "SC_rgb_rle_2frame.dcm: is a secondary capture, which may show the patient's name",
    ]


def test_import_of_paired_folders_replaces_names(tmp_path: Path) -> None:
    for modality in ("ct", "mri"):
        (tmp_path / "in" / modality).mkdir(parents=True)
        for k, name in enumerate(("miller_s1", "miller_s2", "smith_s1")):
            image = np.random.default_rng(k).integers(0, 255, (20, 20), dtype=np.uint8)
            write_png(tmp_path / "in" / modality / f"{name}.png", image)
    (tmp_path / "in" / "labels.csv").write_text("patient_id,label\nmiller,1\nsmith,0\n")
    result = run("import", tmp_path / "in", "--out", tmp_path / "out", "--size", 20)
    assert result.exit_code == 0, result.output
    assert "2 patients, 3 slices" in result.output
    written = "".join(str(path) for path in (tmp_path / "out").rglob("*"))
    written += (tmp_path / "out" / "manifest.csv").read_text()
    assert "miller" not in written
    assert "smith" not in written


@pytest.mark.parametrize(
    "arguments",
    [
        ("import", "IN", "--out", "OUT", "--site-key", "OUT/key"),
        ("import", "IN", "--out", "OUT", "--site", "../up"),
        ("import", "IN", "--out", "OUT", "--site", "=1+1"),
        ("import", "IN", "--out", "OUT", "--window", "liver"),
        ("import", "IN", "--out", "OUT", "--size", "4"),
        ("phantom", "--out", "OUT", "--rho", "2"),
        ("phantom", "--out", "OUT", "--size", "9999"),
        ("phantom", "--out", "OUT", "--seed", "-1"),
        ("phantom", "--out", "OUT", "--hospitals", "0"),
        ("check", "IN", "--size", "2"),
    ],
)
def test_wrong_settings_are_refused_and_write_nothing(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "in").mkdir()
    places = {"IN": tmp_path / "in", "OUT": tmp_path / "out", "OUT/key": tmp_path / "out" / "key"}
    result = run(*[places.get(argument, argument) for argument in arguments])
    assert isinstance(result.exception, ConfigurationError)
    assert result.exception.hint
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_source_of_nothing_is_refused_and_leaves_neither_data_nor_key(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "labels.csv").write_text("patient_id,label\na,1\n")
    for more in ([], ["--labels", tmp_path / "labels.csv"]):
        result = run("import", tmp_path / "in", "--out", tmp_path / "out", *more)
        assert isinstance(result.exception, SecureFedError)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "labels.csv"]
    assert isinstance(run("check", tmp_path / "gone.csv").exception, SecureFedError)


@pytest.mark.parametrize("name", ["phantom", "import", "check"])
def test_help_teaches(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 12
    assert "--json" in result.output


def test_errors_are_two_lines_with_an_exit_code_in_a_real_process(tmp_path: Path) -> None:
    first = securefed("phantom", "--out", tmp_path / "p", "--patients", 1, "--size", 16)
    assert (first.returncode, first.stderr) == (0, "")
    second = securefed("phantom", "--out", tmp_path / "p", "--patients", 1, "--size", 16)
    assert second.returncode == 2
    assert second.stderr.splitlines() == [
        "securefed: p is already there",
        "hint: choose another --out, or --force to replace a data set",
    ]
    (tmp_path / "p" / "manifest.csv").write_text("nothing,useful\n")
    third = securefed("check", tmp_path / "p")
    assert third.returncode == 1
    assert third.stderr.startswith("securefed: manifest.csv: has no column patient_id, label")


def test_a_dicom_tree_without_labels_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "IM1").write_bytes(bytes(128) + b"DICM")
    done = securefed("import", tmp_path / "tree", "--out", tmp_path / "out")
    assert done.returncode == 1
    what, hint = done.stderr.strip().splitlines()
    assert "holds DICOM files, the first IM1" in what
    assert hint.startswith("hint: ")
    assert "--labels labels.csv" in hint
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_deep_grey_is_checked_hinted_and_imported(tmp_path: Path) -> None:
    lines = ["patient_id,label,ct"]
    for number in range(4):
        values = np.random.default_rng(number).integers(1000, 1200, (24, 24)).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / f"{number}.png")
        lines.append(f"p{number},{number % 2},{number}.png")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    manifest = tmp_path / "manifest.csv"
    checked = run("check", manifest, "--json")
    assert checked.exit_code == 1
    assert "securefed data import, with --levels" in json.loads(checked.output)["problems"][0]
    with pytest.raises(SecureFedError, match="--levels LOW HIGH"):
        raise run("import", manifest, "--out", tmp_path / "a").exception or AssertionError
    with pytest.raises(ConfigurationError, match="the smaller first"):
        raise (
            run("import", manifest, "--out", tmp_path / "b", "--levels", 9, 3).exception
            or AssertionError
        )
    assert run("import", manifest, "--out", tmp_path / "c", "--levels", 1024, 1104).exit_code == 0
    assert run("check", tmp_path / "c").exit_code == 0


@pytest.mark.parametrize(
    ("option", "labels", "of"),
    [
        (["--levels", 0, 100], True, "pictures"),
        (["--window", "bone"], False, "DICOM and NIfTI"),
        (["--max-gap-days", 3], False, "DICOM"),
        (["--allow-burned-in"], False, "DICOM"),
        (["--allow-unregistered"], False, "DICOM and NIfTI"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    tmp_path: Path, option: list[object], labels: bool, of: str
) -> None:
    with_labels = ["--labels", tmp_path / "labels.csv"] if labels else []
    result = run("import", tmp_path, "--out", tmp_path / "out", *option, *with_labels)
    assert isinstance(result.exception, ConfigurationError)
    assert str(result.exception).startswith(f"{option[0]} is for {of}, and ")


def test_pictures_with_labels_are_told_to_leave_them_out(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 2)
    labels = tmp_path / "in" / "labels.csv"
    result = run("import", tmp_path / "in", "--labels", labels, "--out", tmp_path / "out")
    assert isinstance(result.exception, SecureFedError)
    assert "4 files: PNG, not DICOM" in str(result.exception)
    assert (result.exception.hint or "").startswith("for pictures leave --labels out")
    done = run("import", tmp_path / "in", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output


def test_a_folder_is_never_imported_over_itself(tmp_path: Path) -> None:
    write_pictures(tmp_path / "mine", 2)
    (tmp_path / "mine/manifest.csv").write_text("patient_id,label,ct\np,1,ct/p0.png\n")
    before = content(tmp_path / "mine")
    result = run("import", tmp_path / "mine", "--out", tmp_path / "mine", "--force")
    assert isinstance(result.exception, ConfigurationError)
    assert "mine holds what is imported" in str(result.exception)
    assert content(tmp_path / "mine") == before


def test_three_modalities_are_counted_alone_together_and_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run(
        *("phantom", "--out", tmp_path / "three", "--modalities", "ct, mri,pet "),
        *("--hospitals", 1, "--patients", 40, "--size", 16),
    )
    assert made.exit_code == 0, made.output
    (site,) = json.loads(run("check", tmp_path / "three", "--size", 16, "--json").stdout)["sites"]
    assert site["all"] + site["some"] == site["patients"] == 40
    assert 0 < site["some"] < 40, "some phantoms lack a modality, and none lacks two"
    assert site["ct_only"] == site["mri_only"] == site["pet_only"] == 0
    assert max(site[f"{name}_slices"] for name in ("ct", "mri", "pet")) <= site["slices"]
    monkeypatch.setenv("COLUMNS", "80")
    shown = run("check", tmp_path / "three", "--size", 16)
    assert shown.exit_code == 0
    assert "left out, too narrow: pet slices, mri slices, ct slices" in " ".join(
        shown.output.split()
    )


def test_phantoms_of_an_unknown_modality_are_refused(tmp_path: Path) -> None:
    refused = run("phantom", "--out", tmp_path / "odd", "--modalities", "ct,x9")
    assert isinstance(refused.exception, ConfigurationError)
    assert "no phantoms of x9" in str(refused.exception)
