"""Membership scores: equal to their naive forms, right where the truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import stats

from attacks.errors import InvalidScores, TooFewTargets
from attacks.membership.scores import (
    gradient_cosine,
    lira_offline,
    lira_online,
    logit_confidence,
    loss_threshold,
    rmia_log_ratio,
    rmia_scores,
)
from attacks.statistics.roc import auc
from attacks.statistics.targets import ScoredTargets

# --- confidences --------------------------------------------------------------------------------


@given(st.floats(1e-6, 1 - 1e-6))
def test_logit_confidence_is_the_logit_of_the_probability(p):
    ours = logit_confidence([-math.log(p)])[0]
    assert ours == pytest.approx(math.log(p / (1 - p)), rel=1e-6, abs=1e-9)


def test_logit_confidence_stays_finite_where_the_probability_rounds_to_one_or_zero():
    values = logit_confidence([0.0, 1e-300, 800.0])
    assert np.isfinite(values).all()
    assert values[0] == values[1] == pytest.approx(-math.log(1e-12))
    assert values[2] == pytest.approx(-800.0)


def test_a_negative_cross_entropy_is_refused():
    with pytest.raises(InvalidScores, match="never negative"):
        logit_confidence([0.1, -0.1])


def test_a_smaller_loss_is_more_suspicious():
    assert loss_threshold([0.1, 2.0]).tolist() == [-0.1, -2.0]


# --- LiRA ---------------------------------------------------------------------------------------


def gaussian_world(shadows, targets, gap, seed=0, spread=0.0):
    """Each target's confidence is N(difficulty, s^2) out and N(difficulty + gap, s^2) in."""
    rng = np.random.default_rng(seed)
    difficulty = 3 * rng.normal(size=targets)
    deviation = np.exp(spread * rng.normal(size=targets))
    inside = rng.integers(0, 2, (shadows + 1, targets)).astype(bool)
    values = difficulty + gap * inside + deviation * rng.normal(size=inside.shape)
    truth = (gap * (values[0] - difficulty) - gap**2 / 2) / deviation**2
    return values[0], inside[0], values[1:], inside[1:], truth


def test_lira_with_many_shadows_is_the_true_log_likelihood_ratio():
    target, _, shadow, inside, truth = gaussian_world(20_000, 40, 1.5, spread=0.3)
    for pooled in (None, False):
        assert lira_online(target, shadow, inside, pooled=pooled) == pytest.approx(truth, abs=0.25)


def test_lira_reaches_the_best_possible_area():
    # No attack on N(0, 1) against N(1.5, 1) does better than Phi(1.5 / sqrt 2) = .856.
    target, member, shadow, inside, _ = gaussian_world(64, 4000, 1.5)
    area = auc(ScoredTargets.of(lira_online(target, shadow, inside), member))
    assert area == pytest.approx(stats.norm.cdf(1.5 / math.sqrt(2)), abs=0.02)
    # The confidence itself mixes easy and hard patients: what calibration is for.
    assert auc(ScoredTargets.of(target, member)) < 0.65


def test_offline_lira_needs_no_shadow_that_saw_the_target():
    target, member, shadow, _, _ = gaussian_world(64, 4000, 1.5)
    out_only = shadow - 1.5 * gaussian_world(64, 4000, 1.5)[3]
    area = auc(ScoredTargets.of(lira_offline(target, out_only), member))
    assert area == pytest.approx(stats.norm.cdf(1.5 / math.sqrt(2)), abs=0.02)


def test_lira_on_a_hand_example():
    # Out 0 and 2: mean 1, variance 2. In 4 and 8: mean 6, variance 8. Confidence 5.
    score = lira_online(
        [5.0],
        np.array([[0.0], [2.0], [4.0], [8.0]]),
        np.array([[False], [False], [True], [True]]),
        pooled=False,
    )
    exact = stats.norm.logpdf(5, 6, math.sqrt(8)) - stats.norm.logpdf(5, 1, math.sqrt(2))
    assert score[0] == pytest.approx(exact)
    assert lira_offline([5.0], [[0.0], [2.0]], pooled=False)[0] == pytest.approx(4 / math.sqrt(2))


def test_pooled_variance_on_a_hand_example():
    # Squares about the means: 2 from the first target, 18 from the second; 2 degrees of freedom.
    scores = lira_offline([5.0, 5.0], [[0.0, 0.0], [2.0, 6.0]], pooled=True)
    assert scores == pytest.approx([4 / math.sqrt(10), 2 / math.sqrt(10)])


def test_pooling_wins_with_few_shadows_and_is_chosen_there():
    target, member, shadow, inside, _ = gaussian_world(8, 3000, 1.5, seed=2)
    keep = (inside.sum(axis=0) >= 2) & ((~inside).sum(axis=0) >= 2)
    case = (target[keep], shadow[:, keep], inside[:, keep])
    own, shared, chosen = (lira_online(*case, pooled=p) for p in (False, True, None))
    area = {n: auc(ScoredTargets.of(s, member[keep])) for n, s in (("own", own), ("all", shared))}
    assert area["all"] > area["own"] + 0.02
    assert (chosen == shared).all()


def test_each_target_has_its_own_variance_where_shadows_are_many():
    target, _, shadow, inside, _ = gaussian_world(200, 20, 1.5, spread=1.0)
    assert (
        lira_online(target, shadow, inside) == lira_online(target, shadow, inside, pooled=False)
    ).all()


def test_a_target_that_every_shadow_saw_is_refused():
    target, _, shadow, inside, _ = gaussian_world(16, 5, 1.0)
    inside[:, 3] = True
    with pytest.raises(TooFewTargets, match="out of 0 of 16 shadow models"):
        lira_online(target, shadow, inside)
    inside[:, 3] = False
    with pytest.raises(TooFewTargets, match="in 0 of 16 shadow models"):
        lira_online(target, shadow, inside)
    inside[0, 3] = True
    with pytest.raises(TooFewTargets, match="no variance of its own"):
        lira_online(target, shadow, inside, pooled=False)


def test_shadows_that_all_say_the_same_are_refused():
    with pytest.raises(InvalidScores, match="all equal"):
        lira_offline([1.0, 2.0], np.ones((40, 2)))


@pytest.mark.parametrize(
    ("shadow", "inside", "message"),
    [
        (np.zeros((4, 3)), np.ones((4, 2), bool), "must be \\(models, 2\\)"),
        (np.zeros(2), np.ones((4, 2), bool), "must be \\(models, 2\\)"),
        (np.zeros((0, 2)), np.ones((0, 2), bool), "must be \\(models, 2\\)"),
        (np.full((4, 2), np.nan), np.ones((4, 2), bool), "not finite"),
        (np.zeros((4, 2)), np.ones((4, 2), int), "booleans of shape"),
        (np.zeros((4, 2)), np.ones((3, 2), bool), "booleans of shape"),
    ],
)
def test_shadows_of_the_wrong_shape_or_kind_are_refused(shadow, inside, message):
    with pytest.raises(InvalidScores, match=message):
        lira_online([1.0, 2.0], shadow, inside)


# --- RMIA ---------------------------------------------------------------------------------------


def naive_rmia(targets, population, gamma):
    """Every target with every z: (targets, population)."""
    wins = np.asarray(targets)[:, None] >= np.asarray(population)[None, :] + np.log(gamma)
    return wins.mean(axis=1)


ratios = npst.arrays(
    np.float64,
    st.integers(1, 60),
    elements=st.one_of(st.floats(-50, 50), st.integers(-3, 3).map(float)),
)


@given(ratios, ratios, st.sampled_from([1.0, 1.5, 2.0, math.e, 10.0]))
def test_sorted_rmia_equals_the_naive_matrix_bit_for_bit(targets, population, gamma):
    assert (rmia_scores(targets, population, gamma) == naive_rmia(targets, population, gamma)).all()


@given(ratios)
def test_a_tie_at_the_bar_counts_as_passed(targets):
    ours = rmia_scores(targets, targets - np.log(2.0), 2.0)
    assert (ours == naive_rmia(targets, targets - np.log(2.0), 2.0)).all()
    assert (rmia_scores(targets, targets, 1.0) > 0).all()  # each passes at least its own bar


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_rmia_from_probabilities_equals_the_papers_division(seed):
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.01, 1, (5, 30))  # rows: the target model and four references
    z = rng.uniform(0.01, 1, (5, 40))
    for a in (None, 0.0, 0.3, 1.0):
        scale, offset = (1.0, 0.0) if a is None else ((1 + a) / 2, (1 - a) / 2)
        ratio_x = p[0] / (scale * p[1:].mean(axis=0) + offset)
        ratio_z = z[0] / (scale * z[1:].mean(axis=0) + offset)
        wanted = (ratio_x[:, None] / ratio_z[None, :] >= 2).mean(axis=1)
        ours = rmia_scores(
            rmia_log_ratio(np.log(p[0]), np.log(p[1:]), offline_a=a),
            rmia_log_ratio(np.log(z[0]), np.log(z[1:]), offline_a=a),
        )
        # Continuous draws: a ratio within rounding of 2 does not happen.
        assert ours == pytest.approx(wanted, abs=1e-12)


def test_rmia_separates_members_that_the_target_model_favours():
    rng = np.random.default_rng(1)
    hard = rng.uniform(0.5, 3, 400)  # loss of a model that did not see the record
    member = np.arange(400) < 200
    reference = -(hard + 0.2 * rng.random((8, 400)))
    ratio = rmia_log_ratio(-(hard - 0.45 * member + 0.2 * rng.random(400)), reference)
    population = rmia_log_ratio(-hard, -(hard + 0.2 * rng.random((8, 400))))
    area = auc(ScoredTargets.of(rmia_scores(ratio, population, 1.2), member))
    assert area > 0.9
    assert auc(ScoredTargets.of(loss_threshold(hard - 0.45 * member), member)) < 0.75


def test_log_ratios_of_tiny_probabilities_do_not_underflow():
    ratio = rmia_log_ratio([-1000.0], [[-1002.0], [-1002.0]])
    assert ratio[0] == pytest.approx(2.0)
    assert rmia_log_ratio([-1000.0], [[-1002.0]], offline_a=1.0)[0] == pytest.approx(2.0)


@pytest.mark.parametrize("gamma", [0.5, 0.0, -1.0, math.nan, math.inf])
def test_a_gamma_below_one_is_refused(gamma):
    with pytest.raises(InvalidScores, match="gamma"):
        rmia_scores([0.0], [0.0], gamma)


def test_probabilities_above_one_and_corrections_out_of_range_are_refused():
    with pytest.raises(InvalidScores, match="never positive"):
        rmia_log_ratio([0.1], [[-1.0]])
    with pytest.raises(InvalidScores, match="never positive"):
        rmia_log_ratio([-0.1], [[1.0]])
    with pytest.raises(InvalidScores, match="offline_a"):
        rmia_log_ratio([-0.1], [[-1.0]], offline_a=1.5)


# --- gradient cosine ----------------------------------------------------------------------------


def test_gradient_cosine_is_the_mean_over_rounds():
    rounds = [
        ([-1.0, 0.0], [[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]),  # 1, 0, -1
        ([0.0, -5.0], [[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]),  # 1/sqrt 2, 1, 0 (no direction)
        ([0.0, 0.0], [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]),  # an update without direction
    ]
    expected = [(1 + 1 / math.sqrt(2)) / 3, 1 / 3, -1 / 3]
    assert gradient_cosine(rounds) == pytest.approx(expected)


def test_gradient_cosine_finds_who_trained_a_logistic_model():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(60, 300)), rng.integers(0, 2, 60)
    member = np.arange(60) < 30
    weights, rounds = np.zeros(300), []
    for _ in range(5):
        gradients = (1 / (1 + np.exp(-x @ weights)) - y)[:, None] * x
        update = -0.5 * gradients[member].mean(axis=0)
        rounds.append((update, gradients))
        weights = weights + update
    assert auc(ScoredTargets.of(gradient_cosine(iter(rounds)), member)) > 0.9


def test_without_a_visible_update_the_attack_does_not_apply():
    with pytest.raises(InvalidScores, match="no round with a visible update"):
        gradient_cosine([])


@pytest.mark.parametrize(
    ("rounds", "message"),
    [
        ([([1.0, np.nan], np.ones((2, 2)))], "update 1 holds 1 values that are not finite"),
        ([([1.0, 2.0], np.ones((2, 3)))], "gradients 1 must be"),
        ([([1.0], [[np.inf]])], "gradients 1 holds"),
        ([([1.0], [[1.0]]), ([1.0], [[1.0], [2.0]])], "round 2 has 2 targets, not 1"),
    ],
)
def test_updates_and_gradients_that_do_not_fit_are_refused(rounds, message):
    with pytest.raises(InvalidScores, match=message):
        gradient_cosine(rounds)
