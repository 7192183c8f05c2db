"""A run's page says of thresholds what the opened counts of held-out patients give, and no more."""

import numpy as np
import pytest
import torch

from securefed.model.noised_scores import NoisedScores, coarse
from securefed.model.scores import count_scores
from securefed.prediction.figures import operating_points
from securefed.prediction.levels import Levels
from securefed.record.summary import Confusion, HeldOut, ScoreBin
from securefed.reporting.thresholds import thresholds

NOBODY = Confusion(true_positive=0, false_negative=0, false_positive=0, true_negative=0)


def scored(patients: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of a model that is some good."""
    random = np.random.default_rng(4)
    label = random.random(patients) < 0.5
    return 2.0 * label - 1 + random.normal(size=patients), label


def counts() -> np.ndarray:
    logits, label = scored()
    return count_scores(torch.from_numpy(logits), torch.from_numpy(label))


def held_out(bins: tuple[ScoreBin, ...], noise: float | None) -> HeldOut:
    return HeldOut(patients=0, noise=noise, confusion=NOBODY, roc=None, bins=bins)


def test_exact_counts_give_the_figures_of_the_scores_to_a_bins_width() -> None:
    logits, label = scored()
    found = thresholds(held_out(ScoreBin.of(counts()), None))
    assert found
    of_scores = Levels.of_scores(1 / (1 + np.exp(-logits)), label, np.ones(len(label)))
    for one, other in zip(found.operating_points, list(operating_points(of_scores))[1:],
                          strict=True):  # fmt: skip
        assert one.rule == other.rule
        assert one.threshold == pytest.approx(other.threshold, abs=0.01)
        assert one.sensitivity.value == pytest.approx(other.sensitivity.value, abs=0.02)
        assert one.specificity.value == pytest.approx(other.specificity.value, abs=0.02)
    assert len(found.decision_curve) == 19
    for point in found.decision_curve:
        # On an edge of a bin nobody is on the wrong side of the threshold.
        at_least = logits >= np.log(point.threshold / (1 - point.threshold)) - 1e-9
        odds = point.threshold / (1 - point.threshold)
        benefit = (at_least & label).sum() - odds * (at_least & ~label).sum()
        assert point.model == pytest.approx(benefit / len(label))
    assert sum(each.patients for each in found.reliability) == len(label)


def test_noised_counts_give_as_much_as_their_edges_and_wider_intervals() -> None:
    exact = coarse(counts())
    noise = np.random.default_rng(1).normal(0, 3, exact.shape)
    found = thresholds(held_out(ScoreBin.of(NoisedScores(exact + noise, 3.0)), 3.0))
    clear = thresholds(held_out(ScoreBin.of(NoisedScores(exact + noise, 1e-9)), 1e-9))
    assert found
    assert clear
    assert [round(each.threshold, 3) for each in found.decision_curve] == [
        *(0.018, 0.119, 0.269, 0.5, 0.731, 0.881, 0.982)
    ]
    for one, other in zip(found.decision_curve, clear.decision_curve, strict=True):
        assert one.model == other.model
        assert one.ci95[1] - one.ci95[0] > other.ci95[1] - other.ci95[0]
    assert all(each.patients >= 5 for each in found.reliability)  # not of noise alone


def test_of_one_label_or_of_nobody_nothing_is_said() -> None:
    alike = count_scores(torch.zeros(5), torch.ones(5))
    assert thresholds(held_out(ScoreBin.of(alike), None)) is None
    assert thresholds(held_out((), None)) is None


@pytest.mark.parametrize("deviation", [0.0, 3.0])
def test_the_interval_of_net_benefit_holds_the_truth(deviation: float) -> None:
    """Nominal 0.95 of 300 draws, standard error 0.013: from the noised bins of a federation."""
    random = np.random.default_rng(8)
    share, threshold = 0.4, 0.5
    # Negatives and positives are normal around -1 and 1: half of the logit's scale.
    above = {0: 0.15866, 1: 0.84134}
    truth = share * above[1] - (1 - share) * above[0] * threshold / (1 - threshold)
    held = 0
    for _ in range(300):
        label = random.random(200) < share
        logits = torch.from_numpy(random.normal(np.where(label, 1, -1)))
        exact = coarse(count_scores(logits, torch.from_numpy(label)))
        noised = NoisedScores(exact + random.normal(0, deviation, exact.shape), deviation or 1e-9)
        found = thresholds(held_out(ScoreBin.of(noised), noised.deviation))
        assert found
        point = found.decision_curve[3]
        assert point.threshold == pytest.approx(threshold)
        held += point.ci95[0] <= truth <= point.ci95[1]
    assert held / 300 >= 0.92
