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
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, median, stdev

import numpy as np
from scipy.special import stdtrit

from securefed.comparison.bootstrap import FIGURES, Floats, figures, intervals, replicates
from securefed.model.class_scores import counts_of, metrics
from securefed.model.scores import Confusion as Counted
from securefed.model.scores import Counts, confusion, whole
from securefed.privacy.accounting import Noise
from securefed.record.comparison import ClassRow, Cost, Figure, Figures, Headline, Row
from securefed.record.metrics import Curve
from securefed.record.summary import Confusion

CONVERGED_WITHIN = 0.01  # of the final AUC


@dataclass(frozen=True)
class Measured:
    """What one seed gave.

    Attributes:
        counts: hospital -> histogram of held-out scores.
        curve: (finished rounds, AUC), ascending, the final one last; empty if unknown.
        epsilon: the largest that any hospital spent; None without DP, and with seeded noise.
        noise: of a run; baselines release nothing.
    """

    seed: int
    counts: dict[str, Counts] = field(repr=False)
    curve: Curve
    cost: Cost
    epsilon: float | None
    noise: Noise = "none"

    @cached_property
    def redraws(self) -> dict[str, Floats]:
        """FIGURES of redrawn patients, (REPLICATES,) each; the same in every process."""
        return replicates(list(self.counts.values()), np.random.default_rng(self.seed))


def row(
    name: str,
    budget: float | None,
    measured: Sequence[Measured],
    *,
    headline: Headline = "auc",
    classes: Sequence[str] = (),
) -> Row:
    """The figures of one row over its seeds (at least one).

    Args:
        budget: epsilon that it was given; None without DP.
        headline: which figure is the row's AUC: "mean_auc" where every hospital has a model of
            its own, so that scores of different hospitals have no common scale.
        classes: names of the task's, none of labels 0 and 1.
    """
    # Replicates of different seeds are independent: their mean is a replicate of the mean.
    over_patients = intervals(
        {kind: np.mean([each.redraws[kind] for each in measured], axis=0) for kind in FIGURES}
    )
    by_seed = [figures(list(each.counts.values())) for each in measured]
    rounds = [convergence_round(each.curve) for each in measured]
    spent = [each.epsilon for each in measured if each.epsilon is not None]
    return Row(
        name=name,
        epsilon_budget=budget,
        seeds=tuple(each.seed for each in measured),
        held_out_patients=tuple(metrics(_total(each)).patients for each in measured),
        auc_is=headline,
        figures=Figures(
            **{
                kind: _over_seeds([each[kind] for each in by_seed], over_patients[kind])
                for kind in FIGURES
            }
        ),
        auc_newcombe_ci95=tuple(
            metrics(_total(each)).auc_ci95 if headline == "auc" else None for each in measured
        ),
        confusion=None if classes else _sum([confusion(_total(each)) for each in measured]),
        classes=tuple(_of_class(c, name, measured) for c, name in enumerate(classes)),
        convergence_round=_median(rounds),
        convergence_round_by_seed=tuple(rounds),
        epsilon_spent=max(spent) if spent else None,
        cost=Cost(
            **{
                kind: _median([getattr(each.cost, kind) for each in measured])
                for kind in Cost.__struct_fields__
            }
        ),
    )


def _of_class(number: int, name: str, measured: Sequence[Measured]) -> ClassRow:
    """One class against the rest, over the seeds."""
    matrix = np.sum([counts_of(_total(each))[1] for each in measured], axis=0)
    own = [[counts_of(each)[0][number] for each in one.counts.values()] for one in measured]
    draws = [
        replicates(groups, np.random.default_rng([one.seed, number]))["auc"]
        for groups, one in zip(own, measured, strict=True)
    ]
    over_patients = intervals({"auc": np.mean(draws, axis=0)})["auc"]
    return ClassRow(
        name=name,
        auc=_over_seeds([figures(groups)["auc"] for groups in own], over_patients),
        called=tuple(whole(float(cell)) for cell in matrix[number]),
    )


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


def interval_over_seeds(values: Sequence[float]) -> tuple[float, float] | None:
    """95% interval of the mean, Student's t, cut to [0, 1]; None for fewer than two seeds."""
    if len(values) < 2:
        return None
    away = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    mean = fmean(values)
    return max(0.0, mean - away), min(1.0, mean + away)


def _over_seeds(
    values: Sequence[float | None], over_patients: tuple[float, float] | None
) -> Figure:
    defined = [value for value in values if value is not None]
    # A mean over the seeds where a figure happens to exist would flatter.
    everywhere = len(defined) == len(values)
    return Figure(
        value=fmean(defined) if everywhere else None,
        ci95_patients=over_patients,
        ci95_seeds=interval_over_seeds(defined) if everywhere else None,
        by_seed=tuple(values),
    )


def _total(measured: Measured) -> Counts:
    total: Counts = np.sum(list(measured.counts.values()), axis=0)
    return total


def _sum(parts: Sequence[Counted]) -> Confusion:
    return Confusion(
        **{kind: sum(getattr(part, kind) for part in parts) for kind in Confusion.__struct_fields__}
    )


def _median(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(median(defined)) if defined else None
