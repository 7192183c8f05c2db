"""Metrics from counts against scikit-learn, and what summing histograms keeps."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle
from torch import Tensor
from torch.nn import functional as F

from securefed.errors import RunError
from securefed.model.patients import PatientTensors
from securefed.model.scores import (
    BINS,
    COUNTS,
    LARGEST_LOGIT,
    Confusion,
    Metrics,
    confusion,
    count_scores,
    metrics,
    roc,
    score,
)

BIN = 2 * LARGEST_LOGIT / BINS

ANY_LOGIT = st.floats(-12, 12, width=32)

Scores = tuple[Tensor, Tensor]  # logits, labels


@st.composite
def _scores(
    draw: st.DrawFn,
    both: bool = True,
    elements: st.SearchStrategy[float] = ANY_LOGIT,
) -> Scores:
    logits = draw(st.lists(elements, min_size=2, max_size=40))
    labels = draw(st.lists(st.integers(0, 1), min_size=len(logits), max_size=len(logits)))
    assume(not both or 0 < sum(labels) < len(labels))
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(labels, dtype=torch.float32)


def _of(logits: Tensor, labels: Tensor) -> Metrics:
    return metrics(count_scores(logits, labels))


def _interval(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Of scores of both labels."""
    interval = _of(logits, labels).auc_ci95
    assert interval is not None
    return interval


def _tied_pairs(logits: Tensor, labels: Tensor) -> float:
    """Share of (positive, negative) pairs within one bin's width or beyond the histogram's end."""
    positive = logits[labels == 1].double().clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
    negative = logits[labels == 0].double().clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
    return float(((positive[:, None] - negative[None]).abs() < BIN).double().mean())


@given(scores=_scores())
@settings(max_examples=40, deadline=None)
def test_auc_is_scikit_learns_up_to_pairs_that_share_a_bin(scores: Scores):
    logits, labels = scores
    error = abs(_of(logits, labels).auc - oracle.roc_auc_score(labels, logits))
    assert error <= 0.5 * _tied_pairs(logits, labels) + 1e-12


@given(scores=_scores(elements=st.integers(0, BINS - 1).map(lambda b: (b + 0.5) * BIN - 8.0)))
@settings(max_examples=40, deadline=None)
def test_auc_is_exact_where_equal_bins_are_equal_scores(scores: Scores):
    logits, labels = scores
    assert _of(logits, labels).auc == pytest.approx(oracle.roc_auc_score(labels, logits), abs=1e-12)


@given(scores=_scores(both=False, elements=st.floats(-12, 12, width=32) | st.floats(-1e-6, 1e-6)))
@settings(max_examples=40, deadline=None)
def test_the_confusion_matrix_is_exact_at_probability_one_half(scores: Scores):
    logits, labels = scores
    found, predicted = _of(logits, labels), (logits >= 0).int()
    truth = labels.int()
    matrix = oracle.confusion_matrix(truth, predicted, labels=[0, 1])
    (true_negative, false_alarm), (missed, true_positive) = matrix.tolist()
    assert found.patients == len(labels)
    assert found.accuracy == pytest.approx(oracle.accuracy_score(truth, predicted))
    if true_positive + missed:
        assert found.sensitivity == pytest.approx(true_positive / (true_positive + missed))
    if true_negative + false_alarm:
        assert found.specificity == pytest.approx(true_negative / (true_negative + false_alarm))
    if true_positive + missed + false_alarm:
        assert found.f1 == pytest.approx(oracle.f1_score(truth, predicted))


@given(scores=_scores(both=False, elements=st.floats(-12, 12, width=32) | st.floats(-1e-6, 1e-6)))
@settings(max_examples=40, deadline=None)
def test_the_confusion_matrix_counts_as_scikit_learn_does(scores: Scores):
    logits, labels = scores
    matrix = oracle.confusion_matrix(labels.int(), (logits >= 0).int(), labels=[0, 1])
    (true_negative, false_positive), (false_negative, true_positive) = matrix.tolist()
    expected = Confusion(true_positive, false_negative, false_positive, true_negative)
    assert confusion(count_scores(logits, labels)) == expected


@pytest.mark.parametrize("logit", [-1e-17, -1e-30, -1.4e-45])
def test_the_smallest_negative_logit_is_a_negative(logit: float):
    counts = count_scores(torch.tensor([logit]), torch.tensor([0.0]))
    assert np.flatnonzero(counts).tolist() == [BINS // 2 - 1]


@given(scores=_scores(both=False, elements=st.floats(-8, 8, width=32)))
@settings(max_examples=30, deadline=None)
def test_loss_is_the_cross_entropy_within_half_a_bin(scores: Scores):
    logits, labels = scores
    exact = float(F.binary_cross_entropy_with_logits(logits.double(), labels.double()))
    # The slope of the loss in a logit is at most one.
    loss = _of(logits, labels).loss
    assert loss is not None
    assert abs(loss - exact) <= BIN / 2 + 1e-9


@given(parts=st.lists(_scores(both=False), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_histograms_of_hospitals_add_up_to_that_of_all_their_patients(parts: list[Scores]):
    summed = np.sum([count_scores(*part) for part in parts], axis=0)
    union = count_scores(*(torch.cat([part[i] for part in parts]) for i in (0, 1)))
    assert np.array_equal(summed, union)
    assert summed.shape == (COUNTS,)
    assert summed.sum() == sum(len(labels) for _, labels in parts)


def _normal_scores(patients: int, seed: int = 0) -> Scores:
    rng = np.random.default_rng(seed)
    labels = (np.arange(patients) % 2).astype(np.float32)
    logits = rng.normal(labels, 1.0).astype(np.float32)
    return torch.from_numpy(logits), torch.from_numpy(labels)


@given(scores=_scores())
@settings(max_examples=30, deadline=None)
def test_the_interval_holds_the_point(scores: Scores):
    auc, (low, high) = _of(*scores).auc, _interval(*scores)
    assert auc is not None
    assert 0 <= low <= auc <= high <= 1


def test_the_interval_narrows_like_the_root_of_the_patients():
    widths = []
    for patients in (100, 400, 1600):
        low, high = _interval(*_normal_scores(patients))
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.25)
    assert widths[1] / widths[2] == pytest.approx(2, rel=0.25)


@given(scores=_scores())
@settings(max_examples=40, deadline=None)
def test_the_ends_are_the_true_areas_1_96_standard_errors_away(scores: Scores):
    """Hanley and McNeil's error at the true area, with the mean number per class, as published."""
    found = _of(*scores)
    positives = int(scores[1].sum())
    negatives = found.patients - positives
    mean = (positives + negatives) / 2
    assert found.auc is not None
    for end in _interval(*scores):
        q1, q2 = end / (2 - end), 2 * end**2 / (1 + end)
        variance = end * (1 - end) + (mean - 1) * (q1 - end**2) + (mean - 1) * (q2 - end**2)
        away = 1.959964 * np.sqrt(max(variance, 0) / (positives * negatives))
        assert abs(found.auc - end) == pytest.approx(away, abs=1e-4)


def test_the_interval_agrees_with_resampling_the_patients():
    logits, labels = _normal_scores(400)
    rng = np.random.default_rng(1)
    positive, negative = logits[labels == 1].numpy(), logits[labels == 0].numpy()
    drawn = []
    for _ in range(500):
        p, n = rng.choice(positive, len(positive)), rng.choice(negative, len(negative))
        drawn.append((p[:, None] > n[None]).mean() + 0.5 * (p[:, None] == n[None]).mean())
    expected = np.percentile(drawn, [2.5, 97.5])
    assert _of(logits, labels).auc_ci95 == pytest.approx(expected, abs=0.015)


def test_the_interval_covers_the_true_auc_about_as_often_as_it_says():
    """400 studies of 40 patients. At a coverage of 95% fewer than 362 have probability 1e-4."""
    true_auc, covered = 0.76025, 0  # Phi(1 / sqrt 2)
    for seed in range(400):
        low, high = _interval(*_normal_scores(40, seed))
        covered += low <= true_auc <= high
    assert covered >= 362


def test_three_patients_in_perfect_order_prove_little():
    low, high = _interval(torch.tensor([-1.0, -2.0, 3.0]), torch.tensor([0.0, 0.0, 1.0]))
    assert high == 1
    assert low == pytest.approx(0.283, abs=1e-3)


def test_the_interval_mirrors_when_labels_do():
    logits, labels = _normal_scores(40)
    low, high = _interval(logits, labels)
    assert _of(logits, 1 - labels).auc_ci95 == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_label_alone_has_no_auc(label: float):
    found = _of(torch.tensor([-1.0, 2.0, 3.0]), torch.full((3,), label))
    assert found.auc is None
    assert found.auc_ci95 is None
    assert (found.sensitivity is None) == (label == 0)
    assert (found.specificity is None) == (label == 1)
    assert found.accuracy == pytest.approx(2 / 3 if label else 1 / 3)


def test_the_roc_curve_is_scikit_learns():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 300)
    # In the middle of bins, so that the histogram loses nothing; with ties.
    logits = (rng.integers(-40, 40, 300) + 30 * labels + 0.5) * (2 * LARGEST_LOGIT / BINS)
    curve = roc(count_scores(torch.from_numpy(logits), torch.from_numpy(labels)))
    false, true, _ = oracle.roc_curve(labels, logits, drop_intermediate=False)
    assert curve is not None
    np.testing.assert_allclose(curve, np.column_stack([false, true]))


@pytest.mark.parametrize("labels", [[], [1, 1], [0]])
def test_one_label_alone_has_no_roc_curve(labels: list[int]):
    assert roc(count_scores(torch.zeros(len(labels)), torch.tensor(labels))) is None


def test_nobody_has_no_metrics():
    found = _of(torch.zeros(0), torch.zeros(0))
    assert found == Metrics(0, None, None, None, None, None, None, None)


def test_logits_beyond_the_histogram_fall_into_its_last_bins():
    counts = count_scores(torch.tensor([-torch.inf, -9.0, 9.0, torch.inf]), torch.zeros(4))
    assert counts[0] == counts[BINS - 1] == 2


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(RunError, match="not a number") as refused:
        count_scores(torch.tensor([0.0, torch.nan]), torch.zeros(2))
    assert refused.value.hint


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_scores_do_not_depend_on_the_chunk(chunk: int, make_network, phantoms: PatientTensors):
    network = make_network()
    with torch.no_grad():
        whole = network(phantoms.images, phantoms.present)
    parts = score(network, phantoms, encoded=False, chunk=chunk)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-4)
    assert not parts.requires_grad
    assert score(network, phantoms[:0], encoded=False).shape == (0,)
