"""`securefed data show`: what it draws, for whom, and what it refuses."""

import json
import re
import stat
from contextlib import suppress
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from securefed.cli.data import command
from securefed.data.contact_sheet import contact_sheet
from securefed.data.phantom import PhantomSpec
from securefed.data.phantom_files import write_phantoms
from securefed.data.samples import Patient
from securefed.errors import DataError


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "patients"
    write_phantoms(folder, PhantomSpec(image_size=24), 2, 3, seed=1)
    return folder / "manifest.csv"


def show(*arguments: object) -> Result:
    return CliRunner().invoke(command, ["show", *map(str, arguments)], catch_exceptions=False)


def test_a_picture_of_each_patient_and_one_page_of_all_for_their_owner_alone(
    manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "look"
    shown = show(manifest, "--out", out, "--size", 32)
    assert shown.output.endswith(f"6 of 6 patients: {out / 'index.html'}\n")
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in out.iterdir()} == {0o600}
    pictures = sorted(out.glob("*.png"))
    assert len(pictures) == 6
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.mode == "RGB"
            assert picture.info == {}  # nothing but pixels
    page = (out / "index.html").read_text()
    assert len(re.findall('<img src="data:image/png;base64,', page)) == 6
    assert "://" not in page


def test_patients_are_chosen_or_spread_over_all(manifest: Path, tmp_path: Path) -> None:
    some = json.loads(show(manifest, "--out", tmp_path / "a", "--most", 2, "--json").output)
    assert [each["site"] for each in some["patients"]] == ["hospital-1", "hospital-2"]
    wanted = some["patients"][1]["patient"]
    one = json.loads(show(manifest, "--out", tmp_path / "b", "--patient", wanted, "--json").output)
    (patient,) = one["patients"]
    assert patient["patient"] == wanted
    assert patient["acquired"].keys() == {"ct", "mri"}
    assert Path(one["page"]).is_file()


def test_what_it_refuses_leaves_nothing(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "look"
    with pytest.raises(DataError, match="no usable patient of that id"):
        show(manifest, "--out", out, "--patient", "nobody")
    with pytest.raises(DataError, match="--most 0: at least one"):
        show(manifest, "--out", out, "--most", 0)
    assert not out.exists()
    with pytest.raises(DataError, match="exists already"):
        show(manifest, "--out", tmp_path)


@pytest.mark.parametrize("stop", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_stopped_on_the_way_no_picture_stays(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    out, drawn = tmp_path / "look", []

    def draw(patient: Patient) -> Image.Image:
        if (out / "0001.png").exists():
            drawn.append(patient.patient_id)
            raise stop
        return contact_sheet(patient)

    monkeypatch.setattr("securefed.data.contact_sheet.contact_sheet", draw)
    with suppress(OSError, KeyboardInterrupt, click.Abort):
        show(manifest, "--out", out)
    assert drawn
    assert not out.exists()
