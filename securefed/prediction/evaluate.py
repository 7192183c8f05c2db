"""Figures of a model on labelled patients, from its predictions.

Thresholds other than one half are chosen on the patients that they are then measured on, which is
told beside them. Groups with few patients of a label are withheld: an interval of them says
nothing, and a cell of one is one person.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from securefed.errors import DataError
from securefed.model.auc import area_of_scores
from securefed.model.scores import auc_interval
from securefed.prediction.table import Prediction
from securefed.record.evaluation import Bin, Group, OperatingPoint, Rate

FEWEST = 5  # patients of each label in a group that is shown
BINS = 10  # of the reliability diagram, of as many patients each as possible
WANTED = 0.9  # specificity, and sensitivity, of the chosen operating points

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Labelled:
    """Predictions beside the truth, in one order.

    Attributes:
        logit, probability: (patients,).
        positive: (patients,).
        site, acquired: of each patient; modalities joined by "+".
    """

    logit: Floats
    probability: Floats
    positive: Bools
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
                f"{len(positive)} patients, {int(positive.sum())} of them positive: an evaluation "
                "needs both labels",
                hint="securefed predict needs no labels",
            )
        return cls(
            logit=np.array([each.logit for each in predictions]),
            probability=np.array([each.probability for each in predictions]),
            positive=positive,
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
    positive = of.positive[chosen]
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if column != "all" and min(positives, negatives) < FEWEST:
        return Group(column, value, None, None, None, None, withheld=True)
    auc = area_of_scores(of.logit[chosen], positive)
    interval = auc_interval(auc, negatives, positives)
    return Group(column, value, len(positive), positives, auc, interval, withheld=False)


def operating_points(of: Labelled) -> Iterator[OperatingPoint]:
    """At a half, and at the thresholds that just reach WANTED specificity and sensitivity here."""
    yield _at(of, "probability one half", 0.5)
    yield _at(of, f"specificity at least {WANTED:g} here", _reaching(of, specificity=True))
    yield _at(of, f"sensitivity at least {WANTED:g} here", _reaching(of, specificity=False))


def _reaching(of: Labelled, *, specificity: bool) -> float:
    """The threshold that reaches it and costs the other rate least."""
    levels = np.append(np.unique(of.probability), np.inf)  # the last calls nobody positive
    called = of.probability >= levels[:, None]  # (levels, patients)
    if specificity:
        enough = (~called[:, ~of.positive]).mean(axis=1) >= WANTED
        return float(levels[enough].min())
    enough = called[:, of.positive].mean(axis=1) >= WANTED
    return float(levels[enough].max())


def _at(of: Labelled, rule: str, threshold: float) -> OperatingPoint:
    called = of.probability >= threshold
    return OperatingPoint(
        rule=rule,
        threshold=min(threshold, 1.0),
        sensitivity=_rate(called[of.positive]),
        specificity=_rate(~called[~of.positive]),
    )


def _rate(right: Bools) -> Rate:
    test = binomtest(int(right.sum()), len(right))
    low, high = test.proportion_ci(0.95, method="wilson")
    return Rate(float(right.mean()), (float(low), float(high)))


def reliability(of: Labelled) -> list[Bin]:
    """The reliability diagram, from the lowest probabilities to the highest."""
    order = np.argsort(of.probability, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    return [
        Bin(len(part), float(of.probability[part].mean()), float(of.positive[part].mean()))
        for part in parts
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance of predicted from observed, weighted by patients."""
    patients = sum(each.patients for each in bins)
    return sum(each.patients * abs(each.predicted - each.observed) for each in bins) / patients
