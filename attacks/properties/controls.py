"""Controls of property inference: hospitals whose shares lie far apart, and noise.

positives one in five, and four    two hospitals of the overfit fixture    must be told
bright CT one in five, and four    the same, with brighter tokens of CT    must be told
noise as long as the updates       in place of the former's                must tell nothing
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
from attacks.statistics.targets import Bools
from securefed.exposure import RoundView

SHARES = (0.2, 0.8)  # of a hospital's training patients who have it; of the others, a half
BRIGHTER = 1.0  # what a bright CT adds to its tokens, in standard deviations
FEDERATIONS = 4
METRIC = "mean error"


def controls(seed: int, progress: Progress) -> AttackResult:
    """The family's controls, named as the default policy's gates."""
    errors: list[tuple[float, float, float]] = []
    for number in range(seed, seed + FEDERATIONS):
        pool, plan, has = unequal_fixture(number)
        positives, scanners = positive(pool, has), bright(pool, has)
        views = list(trajectory(plan, positives, pool.is_member, number))
        others = list(trajectory(plan, scanners, pool.is_member, number))
        rng = np.random.default_rng([number, 0xCA5E])
        errors.append(
            (
                error(positives, plan, has, views),
                error(scanners, plan, has, others),
                error(positives, plan, has, [_noise(view, rng) for view in views]),
            )
        )
        progress(len(errors) / FEDERATIONS)
    names = (
        "positives one in five, and four in five",
        "bright CT one in five, and four in five",
        "noise as long as the updates",
    )
    return AttackResult(
        controls=tuple(
            Control(NAME, name, METRIC, float(np.mean(each)))
            for name, each in zip(names, zip(*errors, strict=True), strict=True)
        )
    )


def unequal_fixture(seed: int) -> tuple[Pool, ReplayPlan, Bools]:
    """The fixture, and who of it has a property: hospitals of SHARES, (patients,)."""
    pool, plan = sampled_fixture(seed)
    has = np.zeros(len(pool), np.bool_)
    for hospital, share in enumerate(SHARES):
        for kind, part in ((True, share), (False, 0.5)):
            rows = torch.nonzero((pool.hospital == hospital) & (pool.is_member == kind)).squeeze(1)
            has[rows[: round(part * len(rows))]] = True
    return pool, plan, has


def positive(pool: Pool, has: Bools) -> Pool:
    """The same patients, those who have it positive."""
    return replace(pool, records=replace(pool.records, label=torch.from_numpy(has).float()))


def bright(pool: Pool, has: Bools) -> Pool:
    """The same patients, all positive, those who have it with brighter tokens of the query.

    What a token adds to a sum has the sign of the residual: of both labels alike it cancels.
    """
    moved = pool.records.tokens.clone()
    moved[:, 0] += BRIGHTER * torch.from_numpy(has).float()[:, None, None]
    label = torch.ones(len(pool))
    return replace(pool, records=replace(pool.records, tokens=moved, label=label))


def error(pool: Pool, plan: ReplayPlan, has: Bools, views: Sequence[RoundView]) -> float:
    """Mean over hospitals of how far the share of those who have it is off."""
    known = ~pool.is_member.numpy()
    rounds = [releases(plan.training, plan.hospitals, view) for view in views]
    of_known = has[known, None].astype(np.float64)
    found = shares(plan, pool, known, of_known, rounds, lambda share: None)
    return float(np.abs(found.told[:, 0] - SHARES).mean())


def _noise(view: RoundView, rng: np.random.Generator) -> RoundView:
    updates = {}
    for name, update in view.updates.items():
        other = rng.normal(size=update.shape)
        updates[name] = (other * (np.linalg.norm(update) / np.linalg.norm(other))).astype(
            np.float32
        )
    return replace(view, updates=updates)
