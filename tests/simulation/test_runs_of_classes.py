"""A federation that tells several classes apart: trained, summed under masks, noised, recorded."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from protocols.discrete_gaussian import MAX_SIGMA
from securefed.cli.app import cli
from securefed.config import load
from securefed.errors import ConfigurationError
from securefed.evidence import checks
from securefed.model.class_scores import changed, exact_words, metrics, noised_words
from securefed.privacy.accounting import at_most
from securefed.privacy.accounting import epsilon as epsilon_of
from securefed.privacy.counts import CountNoise, count_noise
from securefed.reporting.claim import scored
from securefed.run_directory import Run
from securefed.simulation.execution import execute
from securefed.simulation.patients import load_data
from tests.tiny import finish, resume, settings_with, start

CLASSES = ("healthy", "tumour", "calcification", "abscess")
settings = settings_with(
    task={"classes": CLASSES},
    federation={"rounds": 2},
    data={"phantom": {"patients": 12, "test_patients": 12}},
)
PLAIN = {"privacy": {"dp": False}, "secure_aggregation": {"enabled": False}}


def test_phantoms_have_every_class_of_the_settings() -> None:
    labels = [
        patient.label
        for hospital in load_data(settings()).hospitals
        for patient in (*hospital.train, *hospital.test)
    ]
    assert set(labels) == set(range(len(CLASSES)))


def test_masks_change_no_figure_and_figures_are_the_exact_ones(tmp_path: Path) -> None:
    plain = start(settings(**PLAIN), tmp_path / "plain")
    masked = start(settings(privacy={"dp": False}), tmp_path / "masked")
    for run in (plain, masked):
        finish(run)
    one, other = (run.evaluate() for run in (plain, masked))
    exact = sum(each.trainer.evaluate() for each in plain.hospitals.values())
    assert np.array_equal(one.scores, exact)  # type: ignore[arg-type]
    assert np.array_equal(one.scores, other.scores)  # type: ignore[arg-type]
    assert one.metrics == other.metrics == metrics(exact)  # type: ignore[arg-type]
    assert one.metrics is not None
    assert len(one.metrics.classes) == len(CLASSES)
    assert one.metrics.patients == 48
    assert masked.job.layout.scores.words == exact_words(4)


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("classes") / "run"
    execute(settings(privacy={"dp": True, "evaluation_epsilon": 2.0}), path)
    return path


def test_noise_is_priced_for_every_class_and_for_the_answer(private: Path) -> None:
    run = Run.open(private)
    noise, privacy = run.job.score_noise, run.settings.privacy
    assert noise is not None
    assert noise.changed == changed(4) == 5
    once = count_noise(2.0, privacy.delta, privacy.accountant, changed=1, counted=noise.counted)
    assert noise.sigma > 2 * once.sigma  # the square root of five
    assert noise.sigma < MAX_SIGMA
    assert run.summary.evaluation_epsilon is not None
    assert 1.9 < run.summary.evaluation_epsilon <= 2.0
    assert {ledger.evaluations[0].event for ledger in run.ledgers.values()} == {noise.event}
    assert run.job.layout.scores.words == noised_words(4)


def test_a_coalition_is_left_with_the_cost_of_every_class(private: Path) -> None:
    """With one hospital's own noise all five groups of counts are paid for, not one."""
    run = Run.open(private)
    found, noise, privacy = scored(run), run.job.score_noise, run.settings.privacy
    assert found is not None
    assert noise is not None
    one, five = (
        epsilon_of([CountNoise(noise.sigma, changed=k).event], privacy.delta, privacy.accountant)
        for k in (1, 5)
    )
    assert found.alone == f"epsilon {at_most(five)}"
    assert five > 2 * one


def test_the_files_of_a_private_run_agree_and_a_changed_one_is_found(private: Path) -> None:
    run = Run.open(private)
    assert list(checks.mismatches(run)) == []
    assert run.held_out is not None
    assert [one.name for one in run.held_out.classes] == list(CLASSES)
    path, kept = private / "held_out.json", (private / "held_out.json").read_text()
    facts = json.loads(kept)
    facts["classes"][1]["called"][0] += 1
    facts["patients"] += 1
    path.write_text(json.dumps(facts))
    try:
        told = [each.told for each in checks.mismatches(Run.open(private))]
    finally:
        path.write_text(kept)
    assert any("accuracy" in each for each in told)
    assert any("of the classes" in each for each in told)


def test_rounds_have_a_figure_for_each_class(tmp_path: Path) -> None:
    execute(settings(privacy={"dp": False}, federation={"evaluate_every": 1}), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    scored = [line for line in run.metrics.rounds if line.auc is not None]
    assert len(scored) == 3
    for line in scored:
        assert line.auc_by_class is not None
        assert list(line.auc_by_class) == list(CLASSES)
        assert line.auc == pytest.approx(np.mean(list(line.auc_by_class.values())))
    assert list(checks.mismatches(run)) == []
    assert [one.name for one in run.summary.classes] == list(CLASSES)
    assert run.summary.auc == scored[-1].auc


def test_a_run_that_stopped_goes_on_to_the_same_model(tmp_path: Path) -> None:
    whole = start(settings(**PLAIN), tmp_path / "whole")
    finish(whole)
    broken = start(settings(**PLAIN), tmp_path / "broken")
    for _ in broken.rounds():
        break
    again = resume(tmp_path / "broken")
    finish(again)
    assert np.array_equal(whole.server.shared, again.server.shared)


@pytest.mark.parametrize(
    "sections",
    [
        {"task": {"classes": CLASSES, "example": "slice"}},
        {"privacy": {"dp": True, "unit": "image"}},
        {"federation": {"shared": "classifier", "strategy": "fedprox", "rounds": 2}},
        {"privacy": {"dp": True, "placement": "distributed", "evaluation_epsilon": 4.0}},
        {"canaries": {"count": 4}, "privacy": {"dp": True}},
        {"training": {"modality_dropout": 0.3}, "privacy": {"dp": False}},
    ],
    ids=["slices", "images", "personal", "shared noise", "canaries", "dropout"],
)
def test_other_settings_train_several_classes_too(
    tmp_path: Path, sections: dict[str, dict[str, object]]
) -> None:
    execute(settings(**sections), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert list(checks.mismatches(run)) == []
    assert len(run.summary.classes) == len(CLASSES)


def test_baselines_are_of_the_classes_too(tmp_path: Path) -> None:
    execute(settings(**PLAIN, evaluation={"baselines": True}), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert list(checks.mismatches(run)) == []


def test_the_network_ends_in_a_logit_for_each_class(private: Path) -> None:
    from safetensors.torch import load_file

    weights = load_file(private / "model.safetensors")
    assert weights["classifier.output.weight"].shape[0] == len(CLASSES)
    assert all(bool(torch.isfinite(each).all()) for each in weights.values())


def test_the_screen_and_the_page_have_a_line_for_each_class(private: Path) -> None:
    done = CliRunner().invoke(cli, ["report", str(private)])
    assert done.exit_code == 0, done.output
    page = (private / "report.html").read_text()
    for name in CLASSES:
        assert f'<th scope="row">{name}</th>' in page
        assert f"called {name}" in page
    assert "each class against the rest" in page.lower()


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        (["a", "b"], "with two labels it is left out"),
        (["a", "b", "a"], "one is named twice"),
        (["a", "b", "all"], "what all classes together are called"),
        (["a", "b", "c", "d", "e", "f"], "phantoms of ct and mri have 5 classes, and 6"),
    ],
)
def test_classes_that_cannot_be_are_refused_by_name(
    tmp_path: Path, classes: list[str], told: str
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(json.dumps({"task": {"classes": classes}}))
    with pytest.raises(ConfigurationError, match=told) as refused:
        load_data(load(path, {}))
    assert refused.value.hint


def test_the_model_card_says_what_is_told_apart(private: Path) -> None:
    card = (private / "model-card.md").read_text()
    assert "how probable each of healthy, tumour, calcification and abscess is" in card
    assert "each a mean over the classes" in card
    assert "abscess against the rest: AUC" in card
