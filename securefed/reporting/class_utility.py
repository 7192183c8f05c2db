"""How well each of several classes is told from the rest, and what its figures cannot carry.

Each cell of the matrix is one count, which with noise has a standard deviation of its own; rates
add up cells, and their intervals are widened by the noise of as many.
"""

import math
from collections.abc import Iterator, Sequence

from securefed.model.rates import rate_interval
from securefed.record.summary import ClassScores, HeldOut, OfClass
from securefed.reporting.facts import ClassFacts
from securefed.reporting.rates import too_wide
from securefed.reporting.words import number, span
from securefed.wording import counted


def classes_of(scores: Sequence[ClassScores], held_out: HeldOut | None) -> list[ClassFacts]:
    """Each class of a run with several, in order; none of labels 0 and 1."""
    kept = {one.name: one for one in held_out.classes} if held_out else {}
    rows = [one.called for one in kept.values()]
    noise = held_out.noise if held_out and held_out.noise else 0.0
    return [
        _facts(one, kept[one.name], rows, place, noise)
        if one.name in kept
        else _facts(one, None, (), place, noise)
        for place, one in enumerate(scores)
    ]


def _facts(
    one: ClassScores,
    kept: OfClass | None,
    rows: Sequence[Sequence[float]],
    place: int,
    noise: float,
) -> ClassFacts:
    found = missed = alarms = rest = 0.0
    if kept:
        found, missed = kept.called[place], sum(kept.called) - kept.called[place]
        alarms = sum(row[place] for row in rows) - found
        rest = sum(map(sum, rows)) - found - missed - alarms
    others = max(len(rows) - 1, 0)
    return ClassFacts(
        name=one.name,
        auc=one.auc,
        auc_ci95=one.auc_ci95,
        sensitivity=one.sensitivity,
        specificity=one.specificity,
        patients=found + missed,
        called=kept.called if kept else (),
        sensitivity_ci95=rate_interval(found, missed, (noise, noise * math.sqrt(others))),
        specificity_ci95=rate_interval(rest, alarms, (noise * others, noise * math.sqrt(others))),
        roc=kept.roc if kept else None,
        unsure=too_wide(one.auc_ci95),
    )


def of_single_classes(classes: Sequence[ClassFacts]) -> Iterator[str]:
    """What must be said beside the figures of single classes, in sentences."""
    for one in classes:
        if one.auc is None:
            yield (
                f"Of {one.name} nothing is known: too few held-out patients were counted of it, or "
                "of the other classes."
            )
        elif one.unsure and one.auc_ci95:
            yield (
                f"{one.name}: {counted(round(one.patients), 'held-out patient')} are too few; AUC "
                f"{number(one.auc)} against the rest, and the truth may lie anywhere from "
                f"{span(one.auc_ci95)}."
            )
