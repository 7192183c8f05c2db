"""Operating points, calibration and net benefit, by hand and by their coverage."""

import numpy as np
import pytest
from scipy.stats import norm

from securefed.prediction.figures import (
    calibration_error,
    decision_curve,
    figures,
    operating_points,
    reliability,
)
from securefed.prediction.levels import Levels


def levels(probabilities: list[float], labels: list[int]) -> Levels:
    weight = np.ones(len(labels))
    return Levels.of_scores(np.array(probabilities), np.array(labels, np.bool_), weight)


TEN = levels([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.35, 0.8, 0.9, 0.95], [0] * 5 + [1] * 5)


def test_operating_points_reach_what_they_are_called_and_cost_the_least() -> None:
    half, specific, sensitive = operating_points(TEN)
    assert (half.threshold, half.sensitivity.value, half.specificity.value) == (0.5, 0.8, 0.8)
    assert half.sensitivity.ci95 == pytest.approx((0.376, 0.964), abs=1e-3)  # Wilson, 4 of 5
    assert (specific.threshold, specific.sensitivity.value) == (0.7, 0.8)
    assert specific.specificity.value == 1.0
    assert (sensitive.threshold, sensitive.specificity.value) == (0.35, 0.6)
    assert sensitive.sensitivity.value == 1.0


@pytest.mark.parametrize("label", [0, 1])
def test_the_interval_of_a_rate_at_a_chosen_threshold_holds_the_truth(label: int) -> None:
    """Nominal 0.95 of 400 draws, standard error 0.011; at a fixed threshold's width it is less."""
    rng = np.random.default_rng(3)
    shift, patients = 1.5, 60
    # At 90% of one rate the other is, of two normal distributions so far apart:
    truth = float(norm.cdf(shift - norm.ppf(0.9)))
    held, narrow = 0, 0
    for _ in range(400):
        score = np.concatenate([rng.normal(0, 1, patients), rng.normal(shift, 1, patients)])
        of = levels(norm.cdf(score).tolist(), [0] * patients + [1] * patients)
        point = list(operating_points(of))[1 + label]
        rate = point.specificity if label else point.sensitivity
        assert rate.ci95
        assert rate.value is not None
        held += rate.ci95[0] <= truth <= rate.ci95[1]
        wald = 1.96 * np.sqrt(rate.value * (1 - rate.value) / patients)
        narrow += abs(rate.value - truth) <= wald
    assert held / 400 >= 0.93
    assert narrow / 400 < 0.9


def test_calibration_is_the_mean_distance_from_what_was_observed() -> None:
    # Bins of five patients at least: .2 with one positive of five, .6 with two of five.
    of = levels([0.2] * 5 + [0.6] * 5, [1, 0, 0, 0, 0, 1, 1, 0, 0, 0])
    low, high = reliability(of)
    assert (low.patients, low.observed) == (5, 0.2)
    assert low.predicted == pytest.approx(0.2)
    assert low.ci95 == pytest.approx((0.036, 0.624), abs=1e-3)  # Wilson, 1 of 5
    assert high.observed == 0.4
    assert calibration_error([low, high]) == pytest.approx(0.1)


def test_patients_of_one_probability_are_one_bin_and_no_bin_has_fewer_than_five() -> None:
    assert len(list(reliability(levels([0.3] * 20, [1, 0] * 10)))) == 1
    rng = np.random.default_rng(1)
    for patients in (11, 23, 60, 300):
        probability = rng.random(patients).round(1)
        labels = [number % 2 for number in range(patients)]
        bins = list(reliability(levels(probability.tolist(), labels)))
        assert sum(each.patients for each in bins) == patients
        assert min(each.patients for each in bins) >= 5
        assert len(bins) <= 10


def test_net_benefit_is_that_of_the_paper() -> None:
    """Vickers and Elkin 2006: true positives / n - false positives / n * p / (1 - p)."""
    quarter, half = decision_curve(TEN, (0.25, 0.5))
    # From .25: five ill and the healthy at .3, .4 and .6; from .5: four ill and the one at .6.
    assert quarter.model == pytest.approx(5 / 10 - 3 / 10 / 3)
    assert quarter.treat_all == pytest.approx(5 / 10 - 5 / 10 / 3)
    assert half.model == pytest.approx(4 / 10 - 1 / 10)
    assert half.treat_all == pytest.approx(0.0)
    values = np.array([1.0] * 4 + [-1.0] + [0.0] * 5)
    spread = 1.959964 * values.std() / np.sqrt(10)
    assert half.ci95 == pytest.approx((0.3 - spread, 0.3 + spread))


def test_decision_curves_are_of_calibrated_probabilities() -> None:
    own = np.array([0.1, 0.3, 0.4, 0.6, 0.9])
    labels, once = np.array([False, True, False, True, True]), np.ones(5)
    calibrated = np.array([0.02, 0.2, 0.3, 0.7, 0.97])
    (found,) = decision_curve(Levels.of_scores(own, labels, once, calibrated), (0.25,))
    (expected,) = decision_curve(Levels.of_scores(calibrated, labels, once), (0.25,))
    assert found == expected
    assert found.model == pytest.approx(2 / 5 - 1 / 5 / 3)  # the ill patient of .3 is at .2 now


def test_patients_with_several_examples_have_one_say() -> None:
    twice = Levels.of_scores(
        np.repeat([0.1, 0.6, 0.4, 0.9], 2),
        np.repeat([False, False, True, True], 2),
        np.full(8, 0.5),
    )
    once = levels([0.1, 0.6, 0.4, 0.9], [0, 0, 1, 1])
    assert figures(twice) == figures(once)


def test_noise_in_counts_widens_intervals() -> None:
    edges = np.array([0.0, 0.12, 0.27, 0.5, 0.73, 0.88])
    counts = np.array([40.0, 30, 15, 8, 4, 3]), np.array([2.0, 5, 10, 20, 30, 33])
    exact = Levels(edges, edges + 0.1, *counts)
    noised = Levels(edges, edges + 0.1, *counts, deviation=4.0)
    for one, other in zip(operating_points(exact), operating_points(noised), strict=True):
        assert one.threshold == other.threshold
        for clear, wide in ((one.sensitivity, other.sensitivity),
                            (one.specificity, other.specificity)):  # fmt: skip
            assert clear.value == wide.value
            assert clear.ci95
            assert wide.ci95
            assert wide.ci95[0] < clear.ci95[0]
    (clear_point,), (wide_point,) = (list(decision_curve(each, (0.5,))) for each in (exact, noised))
    assert clear_point.model == wide_point.model
    assert wide_point.ci95[0] < clear_point.ci95[0]
