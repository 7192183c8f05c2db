"""Several classes in a comparison: figures of the counts, draws of patients, a line for each."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from securefed.cli.app import cli
from securefed.comparison.bootstrap import FIGURES, figures, intervals, replicates
from securefed.comparison.class_bootstrap import drawn
from securefed.comparison.comparison import compare
from securefed.comparison.plan import plan
from securefed.model.class_scores import count_group, metrics, parts
from securefed.model.patients import PatientTensors
from securefed.model.scores import Counts
from tests.comparison.test_comparison import Quiet
from tests.tiny import settings_with

CLASSES = ("healthy", "tumour", "calcification", "abscess")


def counted(patients: int, seed: int, classes: int = 4) -> Counts:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (patients,), generator=generator)
    logits = torch.randn(patients, classes, generator=generator)
    logits[torch.arange(patients), labels] += 1.5
    nothing = torch.zeros(patients, 1, 1)
    group = PatientTensors(("ct",), nothing, nothing.bool(), labels.float())
    return count_group(logits, group)


def test_figures_are_those_of_the_summed_counts() -> None:
    hospitals = [counted(80, 1), counted(120, 2)]
    found, expected = figures(hospitals), metrics(np.sum(hospitals, axis=0))
    assert found["auc"] == pytest.approx(expected.auc)
    assert found["accuracy"] == pytest.approx(expected.accuracy)
    assert found["recall"] == pytest.approx(expected.sensitivity)
    assert found["specificity"] == pytest.approx(expected.specificity)
    assert found["f1"] == pytest.approx(expected.f1)
    own = [metrics(each).auc for each in hospitals]
    assert found["mean_auc"] == pytest.approx(np.mean(own))  # type: ignore[arg-type]
    assert set(found) == set(FIGURES)


def test_as_many_patients_of_each_class_are_drawn_as_there_were() -> None:
    counts = counted(90, 3)
    again = drawn(counts, np.random.default_rng(1), 50)
    histograms, matrix = parts(counts)
    assert matrix is not None
    assert again.histograms.shape == (4, 50, 2, 512)
    assert (again.matrix.sum(axis=2) == matrix.sum(axis=1)).all()
    for c, histogram in enumerate(histograms):
        sizes = np.asarray(histogram).reshape(2, -1).sum(axis=1)
        assert (again.histograms[c].sum(axis=-1) == sizes).all()


def test_the_interval_of_a_mean_has_the_means_of_its_classes_ends() -> None:
    counts = counted(200, 4)
    whole = intervals(replicates([counts], np.random.default_rng(7)))
    histograms, _ = parts(counts)
    each = [
        intervals(replicates([np.asarray(one)], np.random.default_rng(c)))["auc"]
        for c, one in enumerate(histograms)
    ]
    ends = np.mean([interval for interval in each if interval], axis=0)
    assert whole["auc"] == pytest.approx(tuple(ends), abs=0.01)
    assert whole["auc"] is not None
    value = figures([counts])["auc"]
    assert value is not None
    assert whole["auc"][0] < value < whole["auc"][1]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = settings_with(
        task={"classes": CLASSES},
        data={"phantom": {"patients": 10, "test_patients": 12}},
        privacy={"seeded_noise": True},
        federation={"clients": 3, "rounds": 2, "evaluate_every": 2},
    )
    folder = tmp_path_factory.mktemp("compared") / "compare"
    wanted = plan(settings(), ["plain", "dp"], [4.0], 1, baselines="plain")
    compare(wanted, folder, Quiet())
    return folder


def rows_of(folder: Path) -> list[dict[str, Any]]:
    file = json.loads((folder / "compare.json").read_text())
    return [*file["configurations"], *file["baselines"]]


def test_every_row_has_a_line_for_each_class(compared: Path) -> None:
    rows = rows_of(compared)
    assert {row["name"] for row in rows} >= {"plain", "alone", "pooled", "ct only", "late fusion"}
    for row in rows:
        assert row["confusion"] is None
        assert [one["name"] for one in row["classes"]] == list(CLASSES)
        of_one_modality = " only" in row["name"]  # who has it not is left out
        assert (row["held_out_patients"] == [36]) != of_one_modality
        assert [sum(sum(one["called"]) for one in row["classes"])] == row["held_out_patients"]
    first = rows[0]
    each = [one["auc"]["value"] for one in first["classes"]]
    if None not in each:
        assert first["figures"]["auc"]["value"] == pytest.approx(np.mean(each))


def test_the_page_shows_the_classes(compared: Path) -> None:
    done = CliRunner().invoke(cli, ["report", str(compared)])
    assert done.exit_code == 0, done.output
    page = (compared / "report.html").read_text()
    assert "Each class against the rest, and what its held-out patients were called" in page
    assert "plain: abscess" in page
