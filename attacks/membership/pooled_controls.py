"""Controls of the pooled rounds: the overfit fixture's updates, of its own patients and of others.

plain, rounds pooled      updates of a federation without privacy    must succeed
rounds of other patients  candidates of whom none took part          must find nothing
"""

from dataclasses import replace

import numpy as np

from attacks.findings import Control
from attacks.membership import NAME
from attacks.membership.federation_replay import Pool, ReplayPlan, trajectory
from attacks.membership.fixture import NULL_CONFIDENCE, PATIENTS, fixture
from attacks.membership.pooled_rounds import Pooled, pool_rounds
from attacks.result import AttackResult, Progress
from attacks.statistics.intervals import auc_by_patient
from attacks.statistics.roc import auc, tpr_at_fpr
from attacks.statistics.targets import Floats, ScoredTargets
from securefed.exposure import Exposure

ROUNDS, RATE = 10, 0.3


def pooled_controls(seed: int, progress: Progress) -> AttackResult:
    """Named as the default policy's gates."""
    pool, plan = sampled_fixture(seed)
    others, _ = sampled_fixture(seed + 1)
    inside = pool.is_member.numpy()
    found = ScoredTargets.of(own_ratios(pool, pooled(plan, pool, pool, seed)), inside)
    progress(0.5)
    nothing = ScoredTargets.of(own_ratios(pool, pooled(plan, pool, others, seed)), inside)
    null = auc_by_patient(nothing, np.random.default_rng([seed, 7]))
    progress(1.0)
    rare = tpr_at_fpr(found, 0.01).tpr
    return AttackResult(
        controls=(
            Control(NAME, "plain, rounds pooled", "auc", auc(found)),
            Control(NAME, "plain, rounds pooled", "tpr at fpr 0.01", rare.value if rare else 0.0),
            Control(
                NAME,
                "rounds of other patients",
                "auc",
                null.value,
                null.interval(NULL_CONFIDENCE),
            ),
        )
    )


def sampled_fixture(seed: int) -> tuple[Pool, ReplayPlan]:
    """The overfit fixture, a step of which draws RATE of the patients."""
    pool, plan = fixture(seed, by_lot=True)
    hospitals = tuple(
        replace(each, sample_rate=RATE, expected_batch=round(RATE * PATIENTS / 2))
        for each in plan.hospitals
    )
    return pool, replace(plan, hospitals=hospitals, training=replace(plan.training, rounds=ROUNDS))


def pooled(plan: ReplayPlan, candidates: Pool, trained: Pool, seed: int) -> Pooled:
    """What a server's view of a run on some patients says of others, or of the same."""
    views = tuple(trajectory(plan, trained, trained.is_member, seed))
    seen = Exposure("server", (), "plain", views, views[-1].shared)
    most = ROUNDS * len(candidates)
    return pool_rounds(plan, candidates, {"server": seen}, most, lambda share: None)["server"]


def own_ratios(pool: Pool, of: Pooled) -> Floats:
    """Each candidate's ratio for the hospital of whose pool it is."""
    ratios: Floats = of.ratios[np.arange(len(pool)), pool.hospital.numpy()]
    return ratios
