"""Gradients of an audit's patients at the parameters that a round started from."""

import torch

from attacks.membership.federation_replay import Pool, ReplayPlan
from attacks.membership.head_gradients import LIKE_OPACUS, Drawn, gradients
from attacks.statistics.targets import Bools, Floats
from securefed.exposure import Vector

LARGEST = 1 << 25  # numbers in the gradients of one round, 256 MB
WIDEST = 3_000  # directions of a covariance; its eigenvectors take a minute


def incomputable(plan: ReplayPlan, pool: Pool) -> str:
    """Why what a release holds cannot be computed from the patients, or nothing."""
    size = int(plan.shared.sum())
    if plan.training.optimizer != "sgd":
        return f"local {plan.training.optimizer} steps are no sums of gradients"
    if len(pool) * size > LARGEST or min(len(pool), size) > WIDEST:
        return f"{len(pool)} gradients of {size} parameters are more than an audit holds"
    return ""


@torch.no_grad()
def patient_gradients(
    plan: ReplayPlan, pool: Pool, start: Vector, patients: Bools | None = None
) -> tuple[Floats, Floats]:
    """Each patient's gradient, as it is and as it was clipped.  # (patients, P) twice

    A patient of several records counts as their sum.

    Args:
        start: shared parameters that a round started from.
        patients: (patients,) bool, whose to compute; None: everybody's.
    """
    wanted = torch.ones(len(pool), dtype=torch.bool)
    if patients is not None:
        wanted = torch.from_numpy(patients)
    place = wanted.cumsum(0) - 1
    records = torch.nonzero(wanted[pool.patient]).squeeze(1)
    drawn = Drawn(torch.zeros_like(records), records)
    rows = gradients(plan.shape, plan.head(start), pool.records, drawn)
    rows = torch.where(rows.isfinite().all(dim=1, keepdim=True), rows, 0.0).double()
    clipped = rows
    if (clipped_to := plan.training.clipped_to) is not None:
        norms = rows.norm(dim=1, keepdim=True)
        clipped = rows * (clipped_to / (norms + LIKE_OPACUS)).clamp(max=1.0)
    empty = rows.new_zeros(int(wanted.sum()), int(plan.shared.sum()))
    of = place[pool.patient[records]]
    one, other = (empty.index_add(0, of, each[:, plan.shared]) for each in (rows, clipped))
    return one.numpy(), other.numpy()
