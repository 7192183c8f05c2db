"""The one AUC: scikit-learn's, for scores, histograms and weights alike."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from securefed.model.auc import area, area_of_scores


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=40))
def test_the_area_of_scores_is_scikit_learns_with_many_ties(drawn: list[tuple[int, bool]]) -> None:
    both_labels = [*drawn, (0, True), (1, False)]
    scores, positive = (np.array(each) for each in zip(*both_labels, strict=True))
    ours = area_of_scores(scores, positive)
    assert ours == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(2, 20))
def test_the_area_of_weights_is_scikit_learns(data: Any, levels: int) -> None:
    """Many rows at once, as a bootstrap has them; a level with no weight does not matter."""
    weights = st.lists(st.integers(0, 4), min_size=levels, max_size=levels)
    rows = np.array([[data.draw(weights), data.draw(weights)] for _ in range(3)], np.float64)
    rows[:, :, 0] += 1  # both labels are there
    ours = area(rows[:, 0], rows[:, 1])
    labels, scores = np.repeat([0, 1], levels), np.tile(np.arange(levels), 2)
    for row, found in zip(rows, ours, strict=True):
        exact = roc_auc_score(labels, scores, sample_weight=row.ravel())
        assert found == pytest.approx(exact, abs=1e-12)


def test_counts_are_as_good_as_weights_and_a_missing_label_has_no_area() -> None:
    counts = np.array([[[3, 0, 1], [0, 2, 2]], [[0, 0, 0], [1, 1, 1]], [[1, 1, 1], [0, 0, 0]]])
    found = area(counts[:, 0], counts[:, 1])
    assert found[0] == (2 * 3 + 2 * 3 + 2 * 0.5) / 16
    assert np.isnan(found[1:]).all()
    assert math.isnan(area_of_scores(np.array([1.0, 2.0]), np.array([True, True])))
