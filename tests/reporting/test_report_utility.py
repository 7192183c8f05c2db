"""Figures of few patients are not put forward, and none is put where another belies it."""

import numpy as np
import pytest

from securefed.model.rates import rate_interval
from securefed.record.summary import Confusion
from securefed.reporting.rates import too_wide
from securefed.reporting.utility import answers_alike, cautions
from tests.reporting.conftest import COUNTS

DRAWS = 2000


@pytest.mark.parametrize("patients", [5, 20, 50, 200])
@pytest.mark.parametrize("rate", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("deviation", [0.0, 4.9])
def test_the_interval_of_a_rate_holds_the_truth(
    patients: int, rate: float, deviation: float
) -> None:
    """Nominal 0.95, standard error 0.005. Wilson's dips to 0.93 where patients are few."""
    rng = np.random.default_rng([patients, round(100 * rate), round(deviation)])
    right = rng.binomial(patients, rate, DRAWS)
    noise = rng.normal(0, deviation, (2, DRAWS))
    counted = np.maximum(0, np.rint(np.stack([right, patients - right]) + noise)).astype(int)
    held = [
        interval is None or interval[0] <= rate <= interval[1]
        for one, other in counted.T
        for interval in (rate_interval(int(one), int(other), (deviation,) * 2),)
    ]
    assert np.mean(held) >= 0.92


def test_the_interval_of_a_rate_is_wilsons_without_noise() -> None:
    """Newcombe (1998), Statistics in Medicine 17, table I, method 3."""
    for right, patients, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert rate_interval(right, patients - right) == pytest.approx((low, high), abs=5e-5)
    assert rate_interval(0, 0) is None


def said(one: Confusion, auc: float | None = None, interval: object = None) -> str:
    return " ".join(cautions(auc, interval, one, noised=False))  # type: ignore[arg-type]


def counts(found: int, missed: int, alarms: int, rightly: int) -> Confusion:
    return Confusion(
        true_positive=found, false_negative=missed, false_positive=alarms, true_negative=rightly
    )


def test_a_perfect_auc_of_three_patients_is_too_unsure_and_says_why() -> None:
    told = said(counts(2, 0, 0, 1), 1.0, (0.28, 1.0))
    assert "3 held-out patients are too few to say how good the model is" in told
    assert "anywhere from 0.280 to 1" in told
    assert too_wide((0.28, 1.0))
    assert not too_wide((0.83, 0.95))
    assert too_wide(None)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (counts(20, 0, 20, 0), "calls nearly everybody ill"),
        (counts(19, 1, 20, 0), "calls nearly everybody ill"),
        (counts(0, 20, 0, 20), "calls nearly everybody healthy"),
        (counts(10, 10, 11, 9), "do not follow the truth"),
        (counts(2, 18, 15, 5), "do not follow the truth"),
    ],
)
def test_answers_that_do_not_follow_the_truth_are_called_that(one: Confusion, words: str) -> None:
    assert words in said(one)


def test_a_large_auc_beside_one_answer_for_everybody_points_to_the_threshold() -> None:
    assert "another threshold" in answers_alike(counts(20, 0, 20, 0), 0.9)
    assert "another threshold" not in answers_alike(counts(20, 0, 20, 0), 0.55)


def test_a_model_that_tells_patients_apart_has_nothing_to_be_read_with() -> None:
    assert said(COUNTS, 0.9, (0.83, 0.95)) == ""


def test_an_auc_that_may_be_guessing_or_worse_says_so() -> None:
    assert "Not shown to be better than guessing" in said(COUNTS, 0.6, (0.48, 0.7))
    assert "worse than guessing" in said(COUNTS, 0.3, (0.2, 0.4))


def test_patients_of_one_label_show_nothing() -> None:
    assert "All held-out patients are ill" in said(counts(4, 1, 0, 0))
    assert "All held-out patients are healthy" in said(counts(0, 0, 1, 4))
