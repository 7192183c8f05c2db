"""Figures of a model on labelled patients, from its predictions.

Where labels are of studies or slices each patient has the same say, shared out over its examples,
and intervals are of patients (securefed/model/scores.py). Thresholds other than one half are chosen
on the patients that they are then measured on, which is told beside them. Groups with few patients
of a label are withheld: an interval of them says nothing, and a cell of one is one person.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from securefed.errors import DataError
from securefed.model.auc import area_of_scores
from securefed.model.rates import wilson
from securefed.model.scores import auc_interval, whole
from securefed.prediction.table import Prediction
from securefed.record.evaluation import Bin, Group, OperatingPoint, Rate

FEWEST = 5  # patients of each label in a group that is shown
BINS = 10  # of the reliability diagram, of as many patients each as possible
ROUNDING = 1e-9  # patients
WANTED = 0.9  # specificity, and sensitivity, of the chosen operating points

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Labelled:
    """Predictions beside the truth, in one order.

    Attributes:
        logit, probability: (examples,).
        positive: (examples,).
        patient: (examples,) whose each is, numbers.
        weight: (examples,) parts of a patient, the same for each of its examples.
        site, acquired: of each example; modalities joined by "+".
    """

    logit: Floats
    probability: Floats
    positive: Bools
    patient: NDArray[np.int64]
    weight: Floats
    site: tuple[str, ...]
    acquired: tuple[str, ...]

    @classmethod
    def of(
        cls, predictions: Sequence[Prediction], labels: Sequence[int], modalities: Sequence[str]
    ) -> "Labelled":
        """Raises DataError where nobody, or only one label, was predicted."""
        positive = np.array(labels, np.bool_)
        if positive.all() or not positive.any():
            raise DataError(
                f"{len(positive)} predictions, {int(positive.sum())} of them of positives: an "
                "evaluation needs both labels",
                hint="securefed predict needs no labels",
            )
        patient = np.unique([each.patient_id for each in predictions], return_inverse=True)[1]
        return cls(
            logit=np.array([each.logit for each in predictions]),
            probability=np.array([each.probability for each in predictions]),
            positive=positive,
            patient=patient,
            weight=1 / np.bincount(patient)[patient],
            site=tuple(each.site for each in predictions),
            acquired=tuple(
                "+".join(name for name in modalities if name not in each.missing.split("+"))
                for each in predictions
            ),
        )


def groups(of: Labelled) -> Iterator[Group]:
    """All patients, then by site and by what was acquired, where there are several."""
    yield _group(of, "all", "all", np.ones(len(of.positive), np.bool_))
    for column, values in (("site", of.site), ("modalities", of.acquired)):
        names = sorted(set(values))
        for name in names if len(names) > 1 else ():
            yield _group(of, column, name, np.array(values) == name)


def _group(of: Labelled, column: str, value: str, chosen: Bools) -> Group:
    ill, healthy = of.positive & chosen, ~of.positive & chosen
    positives, negatives = _patients(of, ill), _patients(of, healthy)
    if column != "all" and min(positives, negatives) < FEWEST:
        return Group(column, value, None, None, None, None, withheld=True)
    auc = area_of_scores(of.logit[chosen], of.positive[chosen], of.weight[chosen])
    interval = auc_interval(auc, of.weight[healthy].sum(), of.weight[ill].sum())
    patients = _patients(of, chosen)
    return Group(column, value, patients, positives, auc, interval, withheld=False)


def _patients(of: Labelled, chosen: Bools) -> int:
    """Who has one of these examples."""
    return len(np.unique(of.patient[chosen]))


def operating_points(of: Labelled) -> Iterator[OperatingPoint]:
    """At a half, and at the thresholds that just reach WANTED specificity and sensitivity here."""
    yield _at(of, "probability one half", 0.5)
    yield _at(of, f"specificity at least {WANTED:g} here", _reaching(of, specificity=True))
    yield _at(of, f"sensitivity at least {WANTED:g} here", _reaching(of, specificity=False))


def _reaching(of: Labelled, *, specificity: bool) -> float:
    """The threshold that reaches it and costs the other rate least."""
    levels = np.append(np.unique(of.probability), np.inf)  # the last calls nobody positive
    called = of.probability >= levels[:, None]  # (levels, patients)
    chosen = ~of.positive if specificity else of.positive
    right = (called[:, chosen] ^ specificity) @ of.weight[chosen]
    # Sums of parts of patients are rounded: a rate that is just reached counts.
    reached = levels[right >= WANTED * of.weight[chosen].sum() - ROUNDING]
    return float(reached.min() if specificity else reached.max())


def _at(of: Labelled, rule: str, threshold: float) -> OperatingPoint:
    called = of.probability >= threshold
    return OperatingPoint(
        rule=rule,
        threshold=min(threshold, 1.0),
        sensitivity=_rate(called, of.weight * of.positive),
        specificity=_rate(~called, of.weight * ~of.positive),
    )


def _rate(right: Bools, weight: Floats) -> Rate:
    patients = float(weight.sum())
    rate = float((right * weight).sum()) / patients
    return Rate(rate, wilson(rate, patients))


def reliability(of: Labelled) -> list[Bin]:
    """The reliability diagram, from the lowest probabilities to the highest."""
    order = np.argsort(of.probability, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    return [
        Bin(
            whole(round(float(of.weight[part].sum()), 6)),
            float(np.average(of.probability[part], weights=of.weight[part])),
            float(np.average(of.positive[part], weights=of.weight[part])),
        )
        for part in parts
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance of predicted from observed, weighted by patients."""
    patients = sum(each.patients for each in bins)
    return sum(each.patients * abs(each.predicted - each.observed) for each in bins) / patients
