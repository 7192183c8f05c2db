"""Figures of an evaluation, by hand and against other libraries."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from securefed.errors import DataError
from securefed.prediction.evaluate import (
    Labelled,
    calibration_error,
    groups,
    operating_points,
    reliability,
)
from securefed.prediction.table import Prediction


def labelled(probabilities: list[float], labels: list[int], sites: str = "") -> Labelled:
    """Patients in order; `sites` has a letter for each."""
    predictions = [
        Prediction(f"p{number}", site, "", each, np.log(each / (1 - each)), 1, "", "", "")
        for number, (each, site) in enumerate(
            zip(probabilities, sites or "a" * len(labels), strict=True)
        )
    ]
    return Labelled.of(predictions, labels, ("ct", "mri"))


def drawn(patients: int) -> Labelled:
    random = np.random.default_rng(5)
    labels = random.integers(0, 2, patients)
    logits = 2.0 * labels - 1 + random.normal(size=patients)
    predictions = [
        Prediction(
            str(number), "ab"[number % 2], "", 1 / (1 + np.exp(-each)), each, 1, missing, "", ""
        )
        for number, (each, missing) in enumerate(
            zip(logits, ["mri" if number % 20 == 0 else "" for number in range(patients)],
                strict=True)
        )
    ]  # fmt: skip
    return Labelled.of(predictions, labels.tolist(), ("ct", "mri"))


def test_groups_are_everybody_then_sites_then_what_was_acquired() -> None:
    of = drawn(100)
    found = list(groups(of))
    assert [(each.column, each.value) for each in found] == [
        ("all", "all"),
        ("site", "a"),
        ("site", "b"),
        ("modalities", "ct"),
        ("modalities", "ct+mri"),
    ]
    everybody, few = found[0], found[3]
    auc = roc_auc_score(of.positive, of.logit)
    assert everybody.auc == pytest.approx(auc)
    assert everybody.auc_ci95
    assert everybody.auc_ci95[0] < auc < everybody.auc_ci95[1]
    # Five patients lack an MRI: of one label there are fewer than five, which would tell of a few.
    assert (few.withheld, few.patients, few.auc) == (True, None, None)


def test_of_one_site_and_one_kind_of_patient_there_is_one_group() -> None:
    assert len(list(groups(labelled([0.2, 0.8], [0, 1])))) == 1


def test_operating_points_reach_what_they_are_called_and_cost_the_least() -> None:
    of = labelled([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.35, 0.8, 0.9, 0.95], [0] * 5 + [1] * 5)
    half, specific, sensitive = operating_points(of)
    assert (half.threshold, half.sensitivity.value, half.specificity.value) == (0.5, 0.8, 0.8)
    assert half.sensitivity.ci95 == pytest.approx((0.376, 0.964), abs=1e-3)  # Wilson, 4 of 5
    assert (specific.threshold, specific.sensitivity.value) == (0.7, 0.8)
    assert specific.specificity.value == 1.0
    assert (sensitive.threshold, sensitive.specificity.value) == (0.35, 0.6)
    assert sensitive.sensitivity.value == 1.0


def test_calibration_is_the_mean_distance_from_what_was_observed() -> None:
    # Ten bins of two patients: predicted .3 everywhere, six of twenty are positive.
    of = labelled([0.3] * 20, [1, 1] * 3 + [0, 0] * 7)
    bins = reliability(of)
    assert [each.patients for each in bins] == [2] * 10
    assert calibration_error(bins) == pytest.approx((3 * 0.7 + 7 * 0.3) / 10)


def test_one_label_is_no_evaluation() -> None:
    with pytest.raises(DataError, match="needs both labels"):
        labelled([0.1, 0.2], [1, 1])
