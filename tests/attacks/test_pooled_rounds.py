"""Rounds pooled: the ratio of one release is that of the two laws, and what it finds, and not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from attacks.membership import patient_gradients, pooled_rounds
from attacks.membership.federation_replay import Pool, ReplayPlan, trajectory
from attacks.membership.pooled_controls import own_ratios, pooled, sampled_fixture
from attacks.membership.pooled_rounds import Pooled, evenly, pool_rounds
from attacks.releases import Release
from attacks.statistics.roc import auc
from attacks.statistics.targets import ScoredTargets
from securefed.exposure import Exposure, RoundView


@pytest.fixture(scope="module")
def fixture() -> tuple[Pool, ReplayPlan, tuple[RoundView, ...]]:
    pool, plan = sampled_fixture(0)
    return pool, plan, tuple(trajectory(plan, pool, pool.is_member, 0))


def said(
    pool: Pool, plan: ReplayPlan, views: tuple[RoundView, ...], most: int = 10_000, why: str = ""
) -> Pooled:
    seen = Exposure("server", (), "plain", views, views[-1].shared)
    return pool_rounds(plan, pool, {"server": seen}, most, lambda share: None, why)["server"]


def of_cohorts(
    plan: ReplayPlan, views: tuple[RoundView, ...], cohorts: list[tuple[str, ...]]
) -> tuple[RoundView, ...]:
    """The same rounds behind masks: the mean over a cohort, in turn."""
    weight = {each.name: each.weight for each in plan.hospitals}
    summed = []
    for place, view in enumerate(views):
        cohort = cohorts[place % len(cohorts)]
        total = sum(weight[name] * view.updates[name].astype(np.float64) for name in cohort)
        mean = np.asarray(total / sum(weight[name] for name in cohort), np.float32)
        summed.append(replace(view, updates={}, mean=mean, survivors=cohort))
    return tuple(summed)


def area(pool: Pool, pooled: Pooled) -> float:
    return auc(ScoredTargets.of(own_ratios(pool, pooled), pool.is_member.numpy()))


def test_the_ratio_beats_the_cosine_where_updates_are_in_the_clear(fixture):
    pool, plan, views = fixture
    found = said(pool, plan, views)
    cosine = auc(ScoredTargets.of(found.cosines, pool.is_member.numpy()))
    assert area(pool, found) > 0.95 > cosine + 0.05


def test_more_rounds_tell_more(fixture):
    pool, plan, views = fixture
    few, many = said(pool, plan, views[:2]), said(pool, plan, views)
    assert 0.6 < area(pool, few) < area(pool, many) - 0.1


def test_candidates_who_took_no_part_are_all_alike():
    # Of 5 seeds; a mean of five AUCs of 100 and 100 has a deviation of .02.
    areas = []
    for seed in range(5):
        pool, plan = sampled_fixture(seed)
        others, _ = sampled_fixture(seed + 10)
        areas.append(area(others, pooled(plan, others, pool, seed)))
    assert np.mean(areas) == pytest.approx(0.5, abs=0.08)


def test_noise_as_claimed_drowns_what_rounds_tell(fixture):
    pool, plan, _ = fixture
    noised = tuple(replace(each, noise_multiplier=60.0) for each in plan.hospitals)
    private = replace(plan, hospitals=noised, training=replace(plan.training, clip_norm=1.0))
    views = tuple(trajectory(private, pool, pool.is_member, 0))
    found = said(pool, private, views)
    assert area(pool, found) == pytest.approx(0.5, abs=0.12)
    assert np.abs(found.ratios).max() < 1.5


def test_the_ratio_of_a_round_is_that_of_the_two_laws(fixture):
    """Against densities of scipy, of a target that is drawn with a known probability or not."""
    pool, plan, _ = fixture
    few = 12  # coordinates, so that a dense covariance is no work
    plan = replace(plan, shared=torch.arange(plan.shape.size) < few)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(len(pool), few))
    drawn, factor, noise = 0.5 * 0.3, 0.1, 0.5  # half of the pool trains, a step draws 0.3 of them
    # A release so near to what is expected that no other noise than the claimed is more likely.
    value = factor * drawn * rows[:100].sum(0) + rng.normal(scale=0.3, size=few)
    name = plan.hospitals[0].name
    release = Release(1, np.zeros(few, np.float32), value, {name: factor}, noise)
    found = pooled_rounds._Judge(plan, pool, "")._ratios(release, value, rows)
    for target in (3, 57, 150):  # the last is of the other hospital
        others = np.setdiff1d(np.arange(100), target)
        mean = factor * drawn * rows[others].sum(0)
        spread = factor**2 * drawn * (1 - drawn) * rows[others].T @ rows[others]
        law = stats.multivariate_normal(mean, spread + noise**2 * np.eye(few))
        shifted = law.pdf(value - factor * rows[target]) / law.pdf(value)
        assert found[target, 0] == pytest.approx(np.log(0.7 + 0.3 * shifted), rel=1e-9)


def test_of_a_sum_over_changing_cohorts_the_right_hospital_is_told(fixture):
    pool, plan, views = fixture
    one, other = (each.name for each in plan.hospitals)
    changing = of_cohorts(plan, views, [(one,), (other,), (one, other)])
    found = said(pool, plan, changing)
    assert area(pool, found) > 0.85
    own = own_ratios(pool, found)
    wrong = found.ratios[np.arange(len(pool)), 1 - pool.hospital.numpy()]
    members = pool.is_member.numpy()
    assert np.mean((own > wrong)[members]) > 0.85
    assert found.present.tolist()[:3] == [[True, False], [False, True], [True, True]]


def test_a_sum_of_everybody_tells_members_and_not_whose(fixture):
    pool, plan, views = fixture
    found = said(pool, plan, of_cohorts(plan, views, [tuple(h.name for h in plan.hospitals)]))
    assert area(pool, found) > 0.85
    np.testing.assert_allclose(found.ratios[:, 0], found.ratios[:, 1])


def test_a_peer_is_told_nothing_of_itself(fixture):
    pool, plan, views = fixture
    one = plan.hospitals[0].name
    seen = Exposure("peer", (one,), "plain", views, views[-1].shared)
    found = pool_rounds(plan, pool, {"peer": seen}, 10_000, lambda share: None)["peer"]
    assert found.seen.tolist() == [False, True]
    assert not found.ratios[:, 0].any()


def test_local_adam_is_no_sum_of_gradients(fixture):
    pool, plan, views = fixture
    adam = replace(plan, training=replace(plan.training, optimizer="adam"))
    found = said(pool, adam, views)
    assert "adam" in found.unknown
    assert not found.ratios.any()
    assert found.cosines.any()


def test_more_than_fits_is_not_tried(fixture, monkeypatch: pytest.MonkeyPatch):
    pool, plan, views = fixture
    monkeypatch.setattr(patient_gradients, "LARGEST", 1000)
    assert "more than an audit holds" in said(pool, plan, views).unknown


def test_whoever_saw_no_round_is_left_out(fixture):
    pool, plan, views = fixture
    outsider = Exposure("outsider", (), "plain", (), views[-1].shared)
    assert pool_rounds(plan, pool, {"outsider": outsider}, 100, lambda share: None) == {}


def test_rounds_are_chosen_evenly_with_both_ends():
    assert evenly(range(1, 81), 3) == [1, 41, 80]
    assert evenly([7, 9], 6) == [7, 9]


def test_a_vector_of_shared_parameters_comes_back_out_of_the_head(fixture):
    _, plan, views = fixture
    head = plan.head(views[3].shared)
    np.testing.assert_array_equal(head[0, plan.shared].numpy(), views[3].shared)
