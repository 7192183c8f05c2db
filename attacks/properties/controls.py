"""Controls of property inference: hospitals whose shares lie far apart, and noise.

one positive in five, and four    two hospitals of the overfit fixture    must be told
noise as long as the updates      in their place                          must tell nothing
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from attacks.findings import Control
from attacks.membership.federation_replay import Pool, ReplayPlan, trajectory
from attacks.membership.pooled_controls import sampled_fixture
from attacks.properties import NAME
from attacks.properties.shares import shares
from attacks.releases import releases
from attacks.result import AttackResult, Progress
from securefed.exposure import RoundView

SHARES = (0.2, 0.8)  # of positives among a hospital's training patients; of the others, a half
FEDERATIONS = 4
METRIC = "mean error"


def controls(seed: int, progress: Progress) -> AttackResult:
    """The family's controls, named as the default policy's gates."""
    told, nothing = [], []
    for number in range(FEDERATIONS):
        pool, plan = unequal_fixture(seed + number)
        views = list(trajectory(plan, pool, pool.is_member, seed + number))
        told.append(error(pool, plan, views))
        rng = np.random.default_rng([seed + number, 0xCA5E])
        nothing.append(error(pool, plan, [_noise(view, rng) for view in views]))
        progress((number + 1) / FEDERATIONS)
    return AttackResult(
        controls=(
            Control(NAME, "positives one in five, and four in five", METRIC, float(np.mean(told))),
            Control(NAME, "noise as long as the updates", METRIC, float(np.mean(nothing))),
        )
    )


def unequal_fixture(seed: int) -> tuple[Pool, ReplayPlan]:
    """The fixture with hospitals of SHARES."""
    pool, plan = sampled_fixture(seed)
    label = torch.zeros(len(pool))
    for hospital, share in enumerate(SHARES):
        for kind, positive in ((True, share), (False, 0.5)):
            rows = torch.nonzero((pool.hospital == hospital) & (pool.is_member == kind)).squeeze(1)
            label[rows[: round(positive * len(rows))]] = 1
    return replace(pool, records=replace(pool.records, label=label)), plan


def error(pool: Pool, plan: ReplayPlan, views: Sequence[RoundView]) -> float:
    """Mean over hospitals of how far the share of positives is off."""
    known = ~pool.is_member.numpy()
    label = pool.records.label.double().numpy()
    rounds = [releases(plan.training, plan.hospitals, view) for view in views]
    found = shares(plan, pool, known, label[known, None], rounds, lambda share: None)
    return float(np.abs(found.told[:, 0] - SHARES).mean())


def _noise(view: RoundView, rng: np.random.Generator) -> RoundView:
    updates = {}
    for name, update in view.updates.items():
        other = rng.normal(size=update.shape)
        updates[name] = (other * (np.linalg.norm(update) / np.linalg.norm(other))).astype(
            np.float32
        )
    return replace(view, updates=updates)
