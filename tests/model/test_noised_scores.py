"""Eight bins with noise for each label: what the figures lose, and what they must never say."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from securefed.model.auc import area_of_scores
from securefed.model.noised_scores import COARSE, EDGES, NOISED_COUNTS, NoisedScores, coarse
from securefed.model.scores import BINS, Counts, confusion, count_scores, metrics

DEVIATION = 2.3  # patients: four hospitals whose noise costs epsilon 2 of three


def scores(patients: int = 400, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Of a model that tells two normal groups apart with an area of .96 or so."""
    rng = np.random.default_rng(seed)
    ill = rng.random(patients) < 0.5
    return rng.normal(np.where(ill, 3.0, -3.0), 2.4), ill


def histogram(logits: NDArray[np.float64], ill: NDArray[np.bool_]) -> Counts:
    return count_scores(torch.from_numpy(logits), torch.from_numpy(ill))


def noised(counts: Counts, seed: int, deviation: float = DEVIATION) -> NoisedScores:
    noise = np.random.default_rng([seed, 1]).normal(0, deviation, NOISED_COUNTS)
    return NoisedScores(coarse(counts) + noise, deviation)


def test_wide_bins_are_fine_ones_added_up_and_their_edges_are_edges() -> None:
    logits = np.array([-9.0, -4.0, -4.01, -0.001, 0.0, 3.99, 4.0, 9.0])
    counts = coarse(histogram(logits, np.ones(8, bool)))
    assert counts[:COARSE].sum() == 0
    assert counts[COARSE:].tolist() == [2, 1, 0, 1, 1, 0, 1, 2]
    assert all((edge * BINS / 16).is_integer() for edge in EDGES)


def test_without_noise_only_the_area_is_coarser() -> None:
    counts = histogram(*scores())
    exact, wide = metrics(counts), NoisedScores(coarse(counts).astype(float), 0.0)
    assert wide.confusion == confusion(counts)
    seen = wide.metrics
    assert (seen.patients, seen.accuracy, seen.f1) == (400, exact.accuracy, exact.f1)
    assert seen.auc == pytest.approx(exact.auc, abs=0.01)
    assert seen.auc_ci95 == pytest.approx(exact.auc_ci95, abs=0.015)
    assert seen.loss is None


def test_the_interval_covers_the_area_of_all_patients_as_often_as_it_says() -> None:
    """600 draws of patients and noise; of 95 per cent, 91.5 or less has a chance of 1e-4."""
    truth = area_of_scores(*scores(200_000, seed=1))
    covered = wider = 0
    for draw in range(600):
        counts = histogram(*scores(seed=draw + 2))
        interval, exact = noised(counts, draw).metrics.auc_ci95, metrics(counts).auc_ci95
        assert interval is not None
        assert exact is not None
        covered += interval[0] <= truth <= interval[1]
        wider += interval[1] - interval[0] > exact[1] - exact[0]
    assert covered / 600 > 0.915
    assert wider > 570


@pytest.mark.parametrize("seed", range(30))
def test_noise_that_drowns_the_patients_leaves_figures_that_can_be(seed: int) -> None:
    few = noised(histogram(*scores(6, seed)), seed, deviation=30.0)
    seen, cells = few.metrics, few.confusion
    assert min(vars(cells).values()) >= 0
    assert seen.patients == sum(vars(cells).values())
    for figure in (seen.auc, seen.accuracy, seen.sensitivity, seen.specificity, seen.f1):
        assert figure is None or 0 <= figure <= 1
    if seen.auc_ci95 is not None:
        assert 0 <= seen.auc_ci95[0] <= seen.auc_ci95[1] <= 1
    if few.roc is not None:
        assert (np.diff(few.roc, axis=0) >= 0).all()
        assert few.roc[-1].tolist() == [1.0, 1.0]


def test_nobody_gives_no_figures() -> None:
    seen = NoisedScores(np.full(NOISED_COUNTS, -1.0), DEVIATION)
    assert (seen.metrics.auc, seen.metrics.accuracy, seen.roc) == (None, None, None)
