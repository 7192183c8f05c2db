"""Figures of histograms against scikit-learn, and what redrawing patients can and cannot say."""

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle

from securefed.comparison.bootstrap import FIGURES, figures, intervals, replicates
from securefed.model.scores import BINS, COUNTS, Counts, count_scores, metrics
from securefed.privacy.counts import STEPS


def scores(patients: int, seed: int, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Binormal logits and labels; two of five patients have a tumour."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(patients) % 5 < 2).astype(np.float32)
    # Rounded to bin centres, so that the histogram loses nothing that scikit-learn sees.
    logits = rng.normal(shift * (labels - 0.5), 1.0)
    return (np.floor(logits * BINS / 16) + 0.5) * 16 / BINS, labels


def histogram(logits: np.ndarray, labels: np.ndarray) -> Counts:
    return count_scores(torch.from_numpy(logits), torch.from_numpy(labels))


def test_figures_of_several_hospitals_are_scikit_learns_of_all_their_patients() -> None:
    parts = [scores(60, seed) for seed in range(3)]
    found = figures([histogram(*part) for part in parts])
    logits, labels = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    answers = logits >= 0
    expected = {
        "auc": oracle.roc_auc_score(labels, logits),
        "mean_auc": np.mean([oracle.roc_auc_score(part[1], part[0]) for part in parts]),
        "accuracy": oracle.accuracy_score(labels, answers),
        "precision": oracle.precision_score(labels, answers),
        "recall": oracle.recall_score(labels, answers),
        "specificity": oracle.recall_score(1 - labels, ~answers),
        "f1": oracle.f1_score(labels, answers),
    }
    assert tuple(found) == FIGURES
    assert found == pytest.approx(expected, abs=1e-12)


def test_figures_agree_with_the_metrics_a_run_reports() -> None:
    counts = histogram(*scores(80, 4))
    found, reported = figures([counts]), metrics(counts)
    for ours, theirs in (("auc", "auc"), ("recall", "sensitivity"), ("f1", "f1")):
        assert found[ours] == pytest.approx(getattr(reported, theirs), abs=1e-12)


def test_every_draw_has_as_many_patients_of_each_label_as_there_were() -> None:
    """Recall times the tumour patients is then a whole number in every draw."""
    counts = histogram(*scores(50, 1))
    drawn = replicates([counts], np.random.default_rng(0), 200)
    found = drawn["recall"] * 20
    assert np.allclose(found, found.round())
    assert np.unique(found).size > 3, "patients must be drawn anew in every draw"


def test_the_same_generator_gives_the_same_intervals() -> None:
    groups = [histogram(*scores(40, seed)) for seed in (0, 1)]
    first, second = (intervals(replicates(groups, np.random.default_rng(5))) for _ in range(2))
    assert first == second
    assert first != intervals(replicates(groups, np.random.default_rng(6)))


def test_intervals_hold_the_figure_they_are_of() -> None:
    groups = [histogram(*scores(60, seed)) for seed in range(3)]
    found, limits = figures(groups), intervals(replicates(groups, np.random.default_rng(0)))
    for name in FIGURES:
        limit, figure = limits[name], found[name]
        assert limit is not None
        assert figure is not None
        assert limit[0] < figure < limit[1]


def test_the_auc_interval_is_that_of_a_bootstrap_over_single_scores() -> None:
    """A naive oracle on the scores themselves; the difference is the noise of two bootstraps."""
    logits, labels = scores(200, 2)
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(400):
        rows = [rng.choice(np.flatnonzero(labels == y), (labels == y).sum()) for y in (0, 1)]
        chosen = np.concatenate(rows)
        drawn.append(oracle.roc_auc_score(labels[chosen], logits[chosen]))
    ours = intervals(replicates([histogram(logits, labels)], np.random.default_rng(2)))["auc"]
    assert ours == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=0.015)


def test_of_many_patients_the_bootstrap_and_newcombe_agree() -> None:
    counts = histogram(*scores(1000, 3, shift=1.5))
    bootstrap = intervals(replicates([counts], np.random.default_rng(0)))["auc"]
    assert bootstrap == pytest.approx(metrics(counts).auc_ci95, abs=0.01)


def test_of_a_perfect_ranking_the_bootstrap_knows_no_doubt_and_newcombe_does() -> None:
    counts = histogram(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert intervals(replicates([counts], np.random.default_rng(0)))["auc"] == (1.0, 1.0)
    newcombe = metrics(counts).auc_ci95
    assert newcombe is not None
    assert newcombe[1] == 1.0
    assert newcombe[0] < 0.5


def test_the_interval_of_a_proportion_covers_as_often_as_it_says() -> None:
    """200 studies of 100 patients: at 92% coverage fewer than 170 have probability below 1e-3."""
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = np.repeat([0.0, 1.0], 50)
        logits = np.where(rng.random(100) < 0.7, 1.0, -1.0) * np.where(labels == 1, 1.0, -1.0)
        drawn = replicates([histogram(logits, labels)], rng, 300)
        interval = intervals(drawn)["accuracy"]
        assert interval is not None
        covered += interval[0] <= 0.7 <= interval[1]
    assert covered >= 170


def test_a_hospital_with_one_label_counts_in_sums_and_not_in_the_mean_auc() -> None:
    both, healthy = histogram(*scores(40, 0)), histogram(np.array([-3.0]), np.array([0.0]))
    assert figures([both, healthy])["mean_auc"] == figures([both])["auc"]
    more, fewer = figures([both, healthy])["accuracy"], figures([both])["accuracy"]
    assert more is not None
    assert fewer is not None
    assert more > fewer


def test_what_is_undefined_is_none_with_and_without_draws() -> None:
    healthy = histogram(np.array([-1.0, -2.0]), np.array([0.0, 0.0]))
    found = figures([healthy])
    limits = intervals(replicates([healthy], np.random.default_rng(0), 50))
    for name in ("auc", "mean_auc", "precision", "recall", "f1"):
        assert found[name] is None
        assert limits[name] is None
    assert found["specificity"] == 1.0
    assert limits["specificity"] == (1.0, 1.0)
    assert set(figures([np.zeros(COUNTS, np.int64)]).values()) == {None}


def shared_out(rng: np.random.Generator, patients: int) -> tuple[torch.Tensor, ...]:
    """Logits, labels and shares of slices: a tumour shows in some, and a patient's are alike."""
    logits, labels, shares = [], [], []
    for _ in range(patients):
        slices = int(rng.integers(4, 13))
        label = np.zeros(slices)
        if rng.random() < 0.5:
            first = int(rng.integers(0, slices // 2))
            label[first : first + int(rng.integers(1, slices // 2 + 1))] = 1
        labels.append(label)
        logits.append(1.2 * label - 0.5 + rng.normal(0, 0.9) + rng.normal(0, 0.5, slices))
        shares.append(np.full(slices, STEPS // slices) + (np.arange(slices) < STEPS % slices))
    return tuple(torch.from_numpy(np.concatenate(each)) for each in (logits, labels, shares))


def test_intervals_of_slices_hold_the_truth_because_patients_are_drawn() -> None:
    """60 sets of 30 patients: 95% of them is 57, and slices taken for patients are far below."""
    truth = figures([count_scores(*shared_out(np.random.default_rng(1), 6_000))])
    rng, held = np.random.default_rng(2), {"auc": [0, 0], "recall": [0, 0]}
    for number in range(60):
        logits, labels, shares = shared_out(rng, 30)
        several = (count_scores(logits, labels, shares), count_scores(logits, labels))
        for place, counts in enumerate(several):
            found = intervals(replicates([counts], np.random.default_rng(number), 200))
            for name in held:
                limits, value = found[name], truth[name]
                assert limits is not None
                assert value is not None
                held[name][place] += limits[0] <= value <= limits[1]
    for of_patients, of_slices in held.values():
        assert of_patients >= 57
        assert of_slices < 54
