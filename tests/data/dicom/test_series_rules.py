"""Which series are used is the operator's to say: by rules, by hand, and shown before anything."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from securefed.cli.data import command
from securefed.data.choice import by_hand
from securefed.data.dicom.choice import choose
from securefed.data.dicom.files import scan_tree
from securefed.data.dicom.stacks import Stack, stacks_of
from securefed.data.series_rule import SeriesRule
from securefed.data.series_rules import SeriesRules, read_rules
from securefed.errors import ConfigurationError
from tests.data.dicom.trees import NAME, SAGITTAL, WriteSeries, edit_all, ramp, rows, run

NAMES = {"T1 post": (1, 4), "T1 pre": (2, 4), "FLAIR": (3, 6), "T1 sag": (4, 4)}


@pytest.fixture
def tree(tmp_path: Path, write_series: WriteSeries) -> Path:
    """One CT, and four MRIs that differ in name, contrast, thickness and plane."""
    folder = tmp_path / "tree"
    write_series(folder / "ct", ramp(), "CT", SeriesNumber=9, SeriesDescription="CT HEAD")
    for name, (number, thickness) in NAMES.items():
        files = write_series(
            folder / f"mr{number}",
            ramp(start=number),
            "MR",
            SeriesNumber=number,
            SeriesDescription=name,
            SliceThickness=thickness,
            ImageType=["ORIGINAL", "PRIMARY", "DIS2D" if number == 2 else "ND"],
        )
        if name == "T1 sag":
            edit_all(files, ImageOrientationPatient=list(map(float, SAGITTAL)))
            for index, path in enumerate(files):
                edit_all([path], ImagePositionPatient=[-5.0 * index, 0, 0])
    return folder


def chosen(tree: Path, *rules: dict[str, Any]) -> tuple[str | None, dict[str, str]]:
    """The name of the MRI that rules choose, and why the others are left."""
    stacks, _ = stacks_of(scan_tree(tree).slices)
    choice = choose(
        stacks,
        window="brain",
        max_gap_days=30,
        rules=SeriesRules(mri=[SeriesRule(**rule) for rule in rules]),
    )
    left = {stack.traits.description: why for stack, why in choice.left}
    mri = choice.used.get("mri")
    return mri.traits.description if mri else None, left


@pytest.mark.parametrize(
    ("rules", "name"),
    [
        ([], "T1 post"),
        ([{"description": "flair"}], "FLAIR"),
        ([{"description": ["fl?ir", "no such"]}], "FLAIR"),
        ([{"description": ["T1", "!post", "!sag"]}], "T1 pre"),
        ([{"image_type": ["original", "DIS2D"]}], "T1 pre"),
        ([{"image_type": "!nd"}], "T1 pre"),
        ([{"contrast": False}], "T1 pre"),
        ([{"contrast": True}], "T1 post"),
        ([{"plane": "sagittal"}], "T1 sag"),
        ([{"thickness_mm": [5, 7]}], "FLAIR"),
        ([{"description": "no such"}, {"description": "FLAIR"}], "FLAIR"),
        ([{"description": "FLAIR"}, {}], "FLAIR"),
        ([{"description": "no such"}], None),
        ([{"description": "T1 [p]ost"}], None),  # no other signs than * and ? stand for anything
    ],
)
def test_a_series_is_taken_by_the_first_rule_that_it_keeps(
    tree: Path, rules: Sequence[dict[str, Any]], name: str | None
) -> None:
    assert chosen(tree, *rules)[0] == name


def test_what_no_rule_takes_is_left_with_the_reason_of_each_rule(tree: Path) -> None:
    name, left = chosen(tree, {"plane": "axial", "contrast": True}, {"thickness_mm": [5, 7]})
    assert name == "T1 post"
    assert left["T1 pre"] == "no rule takes it (mri 1: without contrast medium, mri 2: 4 mm thick)"
    assert left["T1 sag"] == "no rule takes it (mri 1: without contrast medium, mri 2: 4 mm thick)"
    assert left["FLAIR"] == "taken by rule 2, the chosen one by rule 1"


def test_rules_do_not_let_in_what_is_never_used(tree: Path, write_series: WriteSeries) -> None:
    write_series(tree / "scout", ramp(), "MR", SeriesDescription="Localizer", SeriesNumber=20)
    assert chosen(tree, {"description": "localizer"})[0] is None


def test_each_patient_s_choice_is_listed_with_its_reason(tmp_path: Path, tree: Path) -> None:
    rules = SeriesRules(mri=[SeriesRule(description=["T1"])])
    (listed,) = run(tree, tmp_path / "out", series=rules).series
    assert listed.why == {"ct": "the only one", "mri": "rule 1 of --rules, the best of 3"}
    assert len(listed.left) == 3
    assert all(": " in each for each in listed.left)
    assert listed.lines()[1].startswith(f"{NAME} MRI: series 1 'T1 post' (")
    assert listed.lines()[1].endswith("rule 1 of --rules, the best of 3")


def test_by_hand_says_so_and_why_the_other_is_left(tree: Path) -> None:
    stacks, _ = stacks_of(scan_tree(tree).slices)
    choice = choose(stacks, window="brain", max_gap_days=30)

    def names(left: list[tuple[Stack, str]]) -> dict[str, str]:
        return {stack.traits.description: why for stack, why in left}

    flair = next(stack for stack in choice.able["mri"] if stack.traits.description == "FLAIR")
    other = by_hand(choice, "mri", flair)
    assert dict(other.used) == {"ct": choice.used["ct"], "mri": flair}
    assert other.reasons == {"ct": "the only one", "mri": "chosen by hand"}
    assert names(other.left)["T1 post"] == "another was chosen by hand"
    assert "FLAIR" not in names(other.left)
    none = by_hand(choice, "mri", None)
    assert list(none.used) == ["ct"]
    assert names(none.left)["T1 post"] == "left by hand"
    assert none.reasons == {"ct": "the only one"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mri: [{planes: axial}]", "mri.1.planes: no rule knows this key"),
        ("pet: []", "pet: no modality that is imported (ct, mri)"),
        ("modalities: [t1]\nmri: []", "mri: no modality that is imported (t1)"),
        ("modalities: [ct, mr, mri]", "modalities: must name one modality or more, each once"),
        ("modalities: []", "modalities: must name one modality or more, each once"),
        ("modalities: [T1]", "modalities: 'T1' is no name of a modality"),
        ("modalities: t1", "modalities: input should be a valid list"),
        ("mri: [{modality: CT}]", "mri.1.modality: mri is MR"),
        ("mri: [{sequence: t1}]", "mri.1.sequence: input should be"),
        ("mri: [{plane: axia}]", "mri.1.plane: input should be"),
        ("mri: [{contrast: perhaps}]", "mri.1.contrast: input should be"),
        ("ct: [{}, {thickness_mm: [6, 2]}]", "ct.2.thickness_mm: must be two numbers"),
        ("mri: axial", "mri: input should be"),
        ("mri: [", "is not valid YAML"),
        ("mri: []\nmri: []", "the key mri stands there twice"),
    ],
)
def test_a_rule_that_nobody_knows_is_refused_by_its_place(
    tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "import.yaml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_rules(tmp_path / "import.yaml")
    assert words in str(caught.value)


def imported(tree: Path, *more: object, answers: str = "") -> Result:
    labels = tree.parent / "labels.csv"
    labels.write_text("patient_id,label\nORIGINAL-ID,1\n")
    out = tree.parent / "out"
    line = ["import", tree, "--labels", labels, "--out", out, "--size", 32, *more]
    return CliRunner().invoke(command, [str(word) for word in line], input=answers)


def test_a_dry_run_shows_every_choice_and_writes_nothing(tmp_path: Path, tree: Path) -> None:
    (tmp_path / "import.yaml").write_text("mri:\n  - {description: FLAIR}\n")
    before = sorted(tmp_path.rglob("*"))
    shown = imported(tree, "--rules", tmp_path / "import.yaml", "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "MRI: series 3 'FLAIR' (4 images, axial, FLAIR; in mr3): rule 1 of --rules" in (
        shown.output
    )
    assert "left: MR series 1 'T1 post'" in shown.output
    assert "no rule takes it (mri: its description)" in shown.output
    assert "1 patient would be imported; nothing was written" in shown.output
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "labels.csv"])
    facts = json.loads(imported(tree, "--dry-run", "--json").output)
    assert (facts["dry_run"], facts["patients"], "manifest" in facts) == (True, 1, False)


def test_a_dry_run_chooses_what_the_import_then_uses(tmp_path: Path, tree: Path) -> None:
    real = json.loads(imported(tree, "--json").output)
    dry = json.loads(imported(tree, "--dry-run", "--json").output)  # under the key there is now
    assert dry["series"] == real["series"]


@pytest.mark.parametrize(
    ("answer", "mri", "why"),
    [("\n", "T1 post", "the best of 4"), ("3\n", "FLAIR", "chosen by hand"), ("0\n", None, None)],
)
def test_a_person_is_asked_where_there_are_several(
    tmp_path: Path, tree: Path, answer: str, mri: str | None, why: str | None
) -> None:
    result = imported(tree, "--interactive", "--json", answers=answer)
    assert result.exit_code == 0, result.output
    assert f"{NAME[:1]}" in result.stderr
    assert "has 4 MRI series:" in result.stderr
    assert "CT series" not in result.stderr  # there is one
    assert "by the rules" in result.stderr
    (series,) = json.loads(result.stdout)["series"]
    assert series["why"].get("mri") == why
    assert (mri is None) == ("mri" not in series["used"])
    assert mri is None or mri in series["used"]["mri"]
    assert any(row["mri_path"] for row in rows(tmp_path / "out")) == (mri is not None)


def test_nobody_to_answer_leaves_nothing_behind(tmp_path: Path, tree: Path) -> None:
    assert imported(tree, "--interactive").exit_code == 1
    assert not list(tmp_path.glob("out*"))


def test_an_answer_that_is_no_series_is_asked_again(tree: Path) -> None:
    result = imported(tree, "--interactive", "--json", answers="9\n2\n")
    (series,) = json.loads(result.stdout)["series"]
    assert "T1 pre" in series["used"]["mri"]
