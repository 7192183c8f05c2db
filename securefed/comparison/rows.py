"""From what each seed's model did on held-out patients to one row of the comparison.

Two intervals stand beside a mean over seeds, and answer different questions. `ci95_patients`
(bootstrap): had other patients been held out, with these very models. `ci95_seeds` (Student's t):
had the whole study been made again, with other seeds for data or splits, initial weights and
sampling. One seed has no interval of the second kind; its AUC then has Newcombe's for the first.

The convergence round is the number of finished rounds at the first evaluation from which on the
AUC stays within 0.01 of the final one. It is known to the spacing of the evaluations only, and a
model that never moved "converges" at round 0.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
from scipy.special import stdtrit

from securefed.comparison.bootstrap import FIGURES, Floats, figures, intervals, replicates
from securefed.model.scores import Confusion, Counts, confusion, metrics
from securefed.simulation.baselines import Curve

CONVERGED_WITHIN = 0.01  # of the final AUC

#: Keys of summary.json that are costs; None where a baseline has no such thing.
COSTS = (
    "bytes_up_per_client_round",
    "bytes_down_per_client_round",
    "client_seconds_per_round",
    "aggregate_seconds_per_round",
    "wall_seconds",
)


@dataclass(frozen=True)
class Measured:
    """What one seed gave.

    Attributes:
        counts: hospital -> histogram of held-out scores.
        curve: (finished rounds, AUC), ascending, the final one last; empty if unknown.
        cost: a value for each of COSTS, or None.
        epsilon: the largest that any hospital spent; None without DP.
    """

    seed: int
    counts: dict[str, Counts] = field(repr=False)
    curve: Curve
    cost: dict[str, float | None]
    epsilon: float | None

    @cached_property
    def drawn(self) -> dict[str, Floats]:
        """FIGURES of redrawn patients, (REPLICATES,) each; the same in every process."""
        return replicates(list(self.counts.values()), np.random.default_rng(self.seed))


def row(measured: Sequence[Measured], *, headline: str = "auc") -> dict[str, Any]:
    """The figures of one row over its seeds (at least one).

    Args:
        headline: which of FIGURES is the row's AUC: "mean_auc" where every hospital has a model of
            its own, so that scores of different hospitals have no common scale.
    """
    # Replicates of different seeds are independent: their mean is a replicate of the mean.
    over_patients = intervals(
        {name: np.mean([each.drawn[name] for each in measured], axis=0) for name in FIGURES}
    )
    by_seed = [figures(list(each.counts.values())) for each in measured]
    rounds = [convergence_round(each.curve) for each in measured]
    spent = [each.epsilon for each in measured if each.epsilon is not None]
    return {
        "seeds": [each.seed for each in measured],
        "held_out_patients": [int(_total(each).sum()) for each in measured],
        "auc_is": headline,
        "figures": {
            name: _over_seeds([each[name] for each in by_seed], over_patients[name])
            for name in FIGURES
        },
        "auc_newcombe_ci95": [
            metrics(_total(each)).auc_ci95 if headline == "auc" else None for each in measured
        ],
        "confusion": _sum([confusion(_total(each)) for each in measured]),
        "convergence_round": _median(rounds),
        "convergence_round_by_seed": rounds,
        "epsilon_spent": max(spent) if spent else None,
        "cost": {name: _median([each.cost.get(name) for each in measured]) for name in COSTS},
    }


def convergence_round(curve: Curve) -> int | None:
    """Finished rounds at the first evaluation from which the AUC stays within 0.01 of the final.

    None without evaluations.
    """
    if not curve:
        return None
    final, reached = curve[-1][1], curve[-1][0]
    for finished, auc in reversed(curve):
        if abs(auc - final) > CONVERGED_WITHIN:
            break
        reached = finished
    return reached


def curve_of(lines: Sequence[dict[str, Any]]) -> Curve:
    """AUC over finished rounds, from the lines of metrics.jsonl.

    A line's AUC describes the parameters its round started from. A round that was repeated after a
    crash counts as it went the last time.
    """
    of_round = {line["round"]: line["auc"] for line in lines if line["client"] is None}
    return tuple((number - 1, auc) for number, auc in sorted(of_round.items()) if auc is not None)


def interval_over_seeds(values: Sequence[float]) -> tuple[float, float] | None:
    """95% interval of the mean, Student's t, cut to [0, 1]; None for fewer than two seeds."""
    if len(values) < 2:
        return None
    away = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    mean = fmean(values)
    return max(0.0, mean - away), min(1.0, mean + away)


def _over_seeds(
    values: Sequence[float | None], over_patients: tuple[float, float] | None
) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    return {
        # A mean over the seeds where a figure happens to exist would flatter.
        "value": fmean(known) if len(known) == len(values) else None,
        "ci95_patients": over_patients,
        "ci95_seeds": interval_over_seeds(known) if len(known) == len(values) else None,
        "by_seed": list(values),
    }


def _total(measured: Measured) -> Counts:
    total: Counts = np.sum(list(measured.counts.values()), axis=0)
    return total


def _sum(parts: Sequence[Confusion]) -> dict[str, int]:
    return {name: sum(asdict(part)[name] for part in parts) for name in asdict(parts[0])}


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(median(known)) if known else None
