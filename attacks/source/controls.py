"""Controls of source inference: the overfit fixture's rounds, in the clear and as changing sums.

updates in the clear        each hospital's own                          must succeed
sums of changing cohorts    one hospital, the other, both, in turn       must succeed
patients of nobody          candidates of whom none took part            must find nothing
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from attacks.findings import Control
from attacks.membership.federation_replay import Pool, ReplayPlan, trajectory
from attacks.membership.fixture import NULL_CONFIDENCE
from attacks.membership.pooled_controls import sampled_fixture
from attacks.membership.pooled_rounds import pool_rounds
from attacks.result import AttackResult, Progress
from attacks.source import NAME
from attacks.source.attack import METRIC, ranked
from attacks.statistics.intervals import mean_by_patient
from attacks.statistics.targets import Floats
from securefed.exposure import Exposure, RoundView

GRADIENTS = 10_000  # more than the fixture's rounds have


def controls(seed: int, progress: Progress) -> AttackResult:
    """The family's controls, named as the default policy's gates."""
    pool, plan = sampled_fixture(seed)
    strangers, _ = sampled_fixture(seed + 1)
    one, other = (each.name for each in plan.hospitals)
    views = list(trajectory(plan, pool, pool.is_member, seed))
    progress(0.3)
    changing = sums(plan, views, [(one,), (other,), (one, other)])
    found = {
        "plain, updates in the clear": ranks(plan, pool, views),
        "sums of changing cohorts": ranks(plan, pool, changing),
    }
    progress(0.7)
    rng = np.random.default_rng([seed, 0x51])
    null = mean_by_patient(ranks(plan, strangers, views), rng)
    progress(1.0)
    interval = null.interval(NULL_CONFIDENCE)
    return AttackResult(
        controls=(
            *(Control(NAME, name, METRIC, float(each.mean())) for name, each in found.items()),
            Control(NAME, "patients of nobody", METRIC, null.value, interval),
        )
    )


def ranks(plan: ReplayPlan, pool: Pool, views: Sequence[RoundView]) -> Floats:
    """Of every candidate of the pool that was trained on, or stands for one that was."""
    seen = Exposure("server", (), "plain", tuple(views), views[-1].shared)
    pooled = pool_rounds(plan, pool, {"server": seen}, GRADIENTS, lambda share: None)["server"]
    both = np.ones(len(plan.hospitals), np.bool_)
    shares: Floats = ranked(pooled.ratios, pool.hospital.numpy(), both)[pool.is_member.numpy()]
    return shares


def sums(
    plan: ReplayPlan, views: Sequence[RoundView], cohorts: Sequence[tuple[str, ...]]
) -> list[RoundView]:
    """The same rounds behind masks: the mean over a cohort, cohorts in turn."""
    weight = {each.name: each.weight for each in plan.hospitals}
    summed = []
    for place, view in enumerate(views):
        cohort = cohorts[place % len(cohorts)]
        parts = [weight[name] * view.updates[name].astype(np.float64) for name in cohort]
        mean = np.sum(parts, axis=0) / sum(weight[name] for name in cohort)
        summed.append(replace(view, updates={}, mean=mean.astype(np.float32), survivors=cohort))
    return summed
