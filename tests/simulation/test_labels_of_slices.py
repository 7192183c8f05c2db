"""A federation whose labels are of slices: trained, summed, predicted and measured."""

import csv
import json
import re
import stat
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from securefed.cli.app import cli
from securefed.data.export import new_dataset
from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.evidence import checks
from securefed.run_directory import Run
from securefed.simulation.execution import execute
from securefed.simulation.patients import load_data
from tests.tiny import finish, settings_with, start

settings = settings_with(
    task={"example": "slice"}, federation={"rounds": 2}, training={"max_slices": 6}
)
PLAIN = {"privacy": {"dp": False}, "secure_aggregation": {"enabled": False}}


def test_masks_change_no_figure_of_shared_out_patients(tmp_path: Path) -> None:
    plain = start(settings(**PLAIN), tmp_path / "plain")
    masked = start(settings(privacy={"dp": False}), tmp_path / "masked")
    for run in (plain, masked):
        finish(run)
    one, other = (run.evaluate() for run in (plain, masked))
    assert one.scores is not None
    assert np.array_equal(one.scores, other.scores)  # type: ignore[arg-type]
    assert one.metrics is not None
    assert one.metrics == other.metrics
    held_out = [p for each in load_data(settings(**PLAIN)).hospitals for p in each.test]
    assert one.metrics.patients == len(held_out)
    assert sum(len(patient.examples) for patient in held_out) > len(held_out)


def test_the_number_of_patients_stays_that_of_patients(tmp_path: Path) -> None:
    run = start(settings(**PLAIN), tmp_path / "run")
    (first, _) = finish(run)
    trained = [each.train for each in load_data(settings(**PLAIN)).hospitals]
    assert first.patients == sum(map(len, trained))


def test_a_private_run_adds_noise_for_one_patient_and_its_files_agree(tmp_path: Path) -> None:
    execute(settings(privacy={"dp": True, "evaluation_epsilon": 2.0}), tmp_path / "run")
    execute(settings(privacy={"dp": True, "evaluation_epsilon": 2.0}, task={"example": "patient"}),
            tmp_path / "patients")  # fmt: skip
    of_slices, of_patients = (Run.open(tmp_path / name) for name in ("run", "patients"))
    assert of_slices.held_out is not None
    assert of_patients.held_out is not None
    assert of_slices.held_out.noise == of_patients.held_out.noise
    assert of_slices.summary.epsilon == of_patients.summary.epsilon
    assert list(checks.mismatches(of_slices)) == []


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slices") / "run"
    execute(settings(**PLAIN), path)
    return path


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest with a label for each slice, of phantoms that the run has not seen."""
    spec = PhantomSpec(image_size=32, slices=(3, 5))
    folder = tmp_path_factory.mktemp("strangers") / "data"
    with new_dataset(folder) as writer:
        writer.simulation = "phantom"
        for made in generate(spec, SiteProfile.draw(spec, 0, 4), 12, 4):
            slices = [
                {name: images[k] for name, images, there in made.patient if there[k]}
                for k in range(made.patient.slices)
            ]
            labels = [("", int(shown)) for shown in made.tumour]
            writer.add(made.patient.patient_id, 0, "north", slices, examples=labels)
    return folder / "manifest.csv"


def call(*arguments: object) -> str:
    found = CliRunner().invoke(cli, list(map(str, arguments)))
    assert found.exit_code == 0, found.output
    return found.stdout


def test_exact_files_of_shared_out_patients_agree_with_each_other(trained: Path) -> None:
    run = Run.open(trained)
    assert list(checks.mismatches(run)) == []
    assert run.held_out is not None
    cells = run.held_out.confusion
    assert cells is not None
    assert cells.true_positive + cells.false_negative != round(
        cells.true_positive + cells.false_negative
    ), "tumour patients have slices without one"


def test_predictions_are_of_slices_and_are_taken_up_within_a_patient(
    trained: Path, strangers: Path, tmp_path: Path
) -> None:
    out = tmp_path / "predictions.csv"
    call("predict", trained, strangers, "--out", out)
    whole = out.read_text()
    with strangers.open() as file:
        rows = [(row["patient_id"], row["slice"]) for row in csv.DictReader(file)]
    with out.open() as file:
        found = [(row["patient_id"], row["example"]) for row in csv.DictReader(file)]
    assert found == rows
    # A crash in the middle of a patient: the rest of it is asked for, and nothing twice.
    lines = whole.splitlines(keepends=True)
    out.write_text("".join(lines[:3]) + lines[3][:5])
    call("predict", trained, strangers, "--out", out)
    assert out.read_text() == whole


def test_an_evaluation_counts_patients_and_weighs_slices(trained: Path, strangers: Path) -> None:
    found = json.loads(call("evaluate", trained, strangers, "--json"))
    group = found["groups"][0]
    assert group["column"] == "all"
    assert group["patients"] == 12
    assert 0 < group["positives"] < 12
    bins = group["figures"]["reliability"]
    assert sum(each["patients"] for each in bins) == pytest.approx(12, abs=1e-4)


def test_the_page_says_whose_say_the_figures_are_and_how_to_audit(trained: Path) -> None:
    call("report", trained)
    page = (trained / "report.html").read_text()
    assert "Labels are of slices: each patient counts one, shared out over them" in page
    assert "securefed audit" in page
    # Parts of patients are shown to a tenth.
    cells = re.findall(r'data-label="called (?:ill|healthy)">([^<]*)<', page)
    assert len(cells) == 4
    assert all(re.fullmatch(r"\d+(\.\d)?", cell) for cell in cells)


def test_a_hospitals_folder_with_exact_figures_is_its_owners_alone(trained: Path) -> None:
    for folder in (trained / "hospitals").iterdir():
        assert (folder / "summary.json").is_file()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
