"""Counts of several classes: what they hold, what they give, and what one patient moves of them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, log_loss, roc_auc_score
from torch import Tensor

from securefed.model.class_scores import (
    against_rest,
    changed,
    classes_of,
    coarse,
    count_group,
    exact_words,
    metrics,
    noised_words,
    parts,
)
from securefed.model.noised_scores import NOISED_COUNTS, NoisedScores
from securefed.model.patients import PatientTensors
from securefed.model.scores import COUNTS, Counts, count_scores

WIDEST = 16


def grouped(labels: Tensor, owner: Tensor | None = None) -> PatientTensors:
    nothing = torch.zeros(len(labels), 1, 1)
    return PatientTensors(("ct",), nothing, nothing.bool(), labels.float(), owner)


def drawn(patients: int, classes: int, seed: int, strength: float = 1.5) -> tuple[Tensor, Tensor]:
    """Logits that know the labels a little."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (patients,), generator=generator)
    logits = torch.randn(patients, classes, generator=generator, dtype=torch.float64)
    logits[torch.arange(patients), labels] += strength
    return logits, labels


@pytest.mark.parametrize("classes", range(3, WIDEST + 1))
def test_a_length_says_how_many_classes_it_is_of(classes: int) -> None:
    assert classes_of(exact_words(classes), COUNTS) == classes
    assert classes_of(noised_words(classes), NOISED_COUNTS) == classes
    with pytest.raises(ValueError, match="no number of classes"):
        classes_of(exact_words(classes) + 1, COUNTS)


def test_two_labels_are_counted_as_ever() -> None:
    logits, labels = torch.randn(50, generator=torch.Generator().manual_seed(1)), torch.arange(50)
    group = grouped(labels % 2)
    assert np.array_equal(count_group(logits, group), count_scores(logits, group.label))
    assert (exact_words(0), noised_words(0), changed(0)) == (COUNTS, NOISED_COUNTS, 1)
    assert parts(count_group(logits, group))[1] is None


@pytest.mark.parametrize("classes", [3, 4, 7])
def test_figures_are_those_of_the_single_scores(classes: int) -> None:
    """Against scikit-learn, from the raw probabilities; bins move an AUC by less than .002."""
    logits, labels = drawn(600, classes, seed=classes)
    found = metrics(count_group(logits, grouped(labels)))
    probabilities, truth = logits.softmax(dim=1).numpy(), labels.numpy()
    exact = [roc_auc_score(truth == c, probabilities[:, c]) for c in range(classes)]
    for one, expected in zip(found.classes, exact, strict=True):
        assert one.auc == pytest.approx(expected, abs=2e-3)
        assert one.auc_ci95 is not None
        assert one.auc_ci95[0] < expected < one.auc_ci95[1]
    assert found.auc == pytest.approx(np.mean(exact), abs=2e-3)
    matrix = confusion_matrix(truth, probabilities.argmax(axis=1))
    assert found.accuracy == matrix.trace() / matrix.sum()
    assert found.sensitivity == pytest.approx((np.diag(matrix) / matrix.sum(axis=1)).mean())
    assert found.loss == pytest.approx(log_loss(truth, probabilities), abs=2e-3)
    assert found.patients == 600


def test_the_order_of_the_classes_is_that_of_the_logits() -> None:
    logits, _ = drawn(200, 5, seed=9)
    assert torch.equal(against_rest(logits).argmax(dim=1), logits.argmax(dim=1))
    assert torch.allclose(against_rest(logits).sigmoid(), logits.softmax(dim=1))


def test_histograms_of_hospitals_add_up_to_that_of_all() -> None:
    logits, labels = drawn(90, 4, seed=2)
    whole = count_group(logits, grouped(labels))
    halves = [count_group(logits[part::2], grouped(labels[part::2])) for part in (0, 1)]
    assert np.array_equal(sum(halves), whole)


EXAMPLES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=200
)  # patient, label


@given(examples=EXAMPLES, seed=st.integers(0, 2**20))
@settings(max_examples=60, deadline=None)
def test_a_patient_more_moves_each_group_of_counts_by_no_more_than_one(
    examples: list[tuple[int, int]], seed: int
) -> None:
    """What noise is calibrated to: `changed` groups, each by one in Euclidean norm."""
    owner, labels = torch.tensor(examples).T
    logits = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(seed))
    gone = owner != owner[0]

    def groups_of(counts: Counts) -> list[Counts]:
        histograms, matrix = parts(counts)
        assert matrix is not None
        return [*histograms, matrix.reshape(-1)]

    def counted(rows: Tensor) -> Counts:
        return count_group(logits[rows], grouped(labels[rows], owner[rows]))

    more, less = counted(torch.ones_like(gone)), counted(gone)
    differences = [a - b for a, b in zip(groups_of(more), groups_of(less), strict=True)]
    assert len(differences) == changed(4)
    for difference in differences:
        assert difference.min() >= 0
        assert difference.sum() == 1
    wide = coarse(more) - coarse(less)
    assert len(wide) == noised_words(4)
    assert np.square(wide).sum() <= changed(4)


def test_noise_is_in_the_figures_and_in_their_intervals() -> None:
    """100 draws of noise: the truth is in the interval of each class in 95 per cent of them."""
    logits, labels = drawn(400, 4, seed=3)
    exact = count_group(logits, grouped(labels))
    bare = metrics(NoisedScores(coarse(exact).astype(np.float64), 0.0))
    assert bare.accuracy == metrics(exact).accuracy
    random, inside, wider = np.random.default_rng(5), 0, True
    for _ in range(100):
        noised = coarse(exact) + random.normal(0, 3.0, noised_words(4))
        found = metrics(NoisedScores(noised, 3.0))
        assert found.loss is None
        for one, true in zip(found.classes, bare.classes, strict=True):
            assert one.auc_ci95 is not None
            assert true.auc is not None
            assert true.auc_ci95 is not None
            inside += one.auc_ci95[0] <= true.auc <= one.auc_ci95[1]
            wider &= np.diff(one.auc_ci95)[0] > 0.8 * np.diff(true.auc_ci95)[0]
        assert found.accuracy == pytest.approx(bare.accuracy, abs=0.12)
    assert inside >= 0.95 * 400
    assert wider


def test_a_class_that_nobody_has_leaves_no_mean() -> None:
    logits, labels = drawn(60, 4, seed=4)
    found = metrics(count_group(logits, grouped(labels.clamp(max=2))))
    assert found.classes[3].auc is None
    assert found.classes[3].sensitivity is None
    assert (found.auc, found.auc_ci95, found.sensitivity) == (None, None, None)
    assert found.classes[0].auc is not None
    assert found.accuracy is not None


def test_the_interval_of_the_mean_is_no_narrower_than_drawn_patients_move_it() -> None:
    """Patients drawn 200 times: their mean AUC spreads less than the interval says."""
    draws = [metrics(count_group(*grouped_draw(seed))) for seed in range(200)]
    means = np.array([each.auc for each in draws])
    inside = [each.auc_ci95[0] <= means.mean() <= each.auc_ci95[1] for each in draws]  # type: ignore[index]
    assert np.mean(inside) >= 0.95


def grouped_draw(seed: int) -> tuple[Tensor, PatientTensors]:
    logits, labels = drawn(80, 3, seed=1000 + seed)
    return logits, grouped(labels)
