"""Letters in pictures are seen wherever they stand apart, and heads hold none."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw, ImageFont

from securefed.cli.app import cli
from securefed.data.burned_in import burned_in, rows_looked_at, words
from securefed.data.folders import read
from securefed.data.phantom import generate
from securefed.data.phantom_files import write_phantoms
from securefed.data.phantom_settings import PhantomSpec, SiteProfile

SPEC = PhantomSpec(image_size=256, slices=(3, 3), missing_query=0.0, missing_context=0.0)


def written_on(picture: np.ndarray, text: str, place: tuple[int, int], size: int) -> np.ndarray:
    image = Image.fromarray(picture).copy()
    ImageDraw.Draw(image).text(place, text, font=ImageFont.load_default(size), fill=255)
    return np.asarray(image, np.float32)


def pictures() -> list[np.ndarray]:
    made = generate(SPEC, SiteProfile.draw(SPEC, 0, 0), 12, 0)
    return [one for each in made for images in each.patient.images for one in images]


def test_heads_hold_no_letters() -> None:
    assert not any(words(picture.astype(np.float32)) for picture in pictures())


@pytest.mark.parametrize("size", [10, 16, 24])
@pytest.mark.parametrize("place", [(4, 4), (4, 228)])
def test_letters_in_a_corner_are_seen(place: tuple[int, int], size: int) -> None:
    seen = [words(written_on(each, "DOE^JANE 1970", place, size)) for each in pictures()]
    assert np.mean(np.array(seen) > 0) > 0.95


def test_two_lines_are_two_and_three_letters_are_no_word() -> None:
    empty = np.zeros((256, 256), np.uint8)
    assert words(written_on(empty, "JANE DOE\n12345678", (10, 10), 16)) == 2
    assert words(written_on(empty, "JD 7", (10, 10), 16)) == 0
    assert words(np.zeros((8, 8), np.float32)) == 0


def test_deep_grey_is_looked_at_on_its_own_scale() -> None:
    deep = written_on(np.zeros((128, 128), np.uint8), "JANE DOE", (10, 10), 16) * 40 - 1024
    assert words(deep) == 1


def test_patients_are_named_by_their_first_and_middle_slice(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "set", SPEC, 1, 3, 0)
    manifest = read(tmp_path / "set")
    assert burned_in(manifest.rows) == []
    assert len(list(rows_looked_at(manifest.rows))) == 6  # two of three slices each
    second = sorted({row.patient_id for row in manifest.rows})[1]
    row = [row for row in manifest.rows if row.patient_id == second][1]
    path = row.images["mri"]
    marked = written_on(np.asarray(Image.open(path)), "JANE DOE", (10, 10), 16)
    Image.fromarray(marked.astype(np.uint8)).save(path)
    (line,) = burned_in(manifest.rows)
    assert second in line
    assert "1 patient" in line


def test_a_texture_of_small_pieces_is_no_page_of_text() -> None:
    texture = np.zeros((1024, 1024), np.float32)
    for row in range(5):  # an L in every cell of 8 x 8
        texture[row::8, ::8] = 255
    texture[4::8, 1::8] = 255
    assert words(texture) == 0
    assert words(texture[:64]) == 8  # so many are a page


def test_check_looks_at_patients_whose_slices_have_labels_of_their_own(tmp_path: Path) -> None:
    """As labels of patients these contradict each other, and no row would be left to look at."""
    write_phantoms(tmp_path / "set", SPEC, 1, 1, 0)
    manifest = tmp_path / "set" / "manifest.csv"
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row["label"] = str(number % 2)
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    path = manifest.parent / rows[0]["mri_path"]
    marked = written_on(np.asarray(Image.open(path)), "JANE DOE", (10, 10), 16)
    Image.fromarray(marked.astype(np.uint8)).save(path)
    words_of = ["data", "check", str(manifest), "--example", "slice", "--json"]
    said = json.loads(CliRunner().invoke(cli, words_of).stdout)
    assert any("letters seem to be burned in" in each for each in said["warnings"])
