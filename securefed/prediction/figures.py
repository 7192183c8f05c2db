"""Figures of a model from how many patients of each label lie at which probability.

Operating points, the reliability diagram with its expected calibration error (Naeini et al. 2015),
and decision curves (Vickers and Elkin 2006, Medical Decision Making 26:565). Intervals are over
patients, and cover noise in the counts to first order where there is any. A threshold that is
chosen on the patients it is then measured on is no threshold for others, which stands beside it;
the interval of the rate that it leaves open covers the choice.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from securefed.model.rates import Z_95, around, rate_interval
from securefed.model.scores import auc_interval, whole
from securefed.prediction.levels import Floats, Levels
from securefed.record.evaluation import Bin, Figures, Interval, NetBenefit, OperatingPoint, Rate
from securefed.record.summary import Confusion

FEWEST = 5  # patients of a bin, and of each label in a group
BINS = 10  # of the reliability diagram, of as many patients each as possible
ROUNDING = 1e-9  # patients
WANTED = 0.9  # specificity, and sensitivity, of the chosen operating points
HALF = "probability one half"
SPECIFIC = f"specificity at least {WANTED:g} here"
SENSITIVE = f"sensitivity at least {WANTED:g} here"
# Where decision curves are worked out: near enough for a curve, too far apart for single patients.
THRESHOLDS = tuple(each / 20 for each in range(1, 20))


def figures(levels: Levels, points: Sequence[OperatingPoint] | None = None) -> Figures:
    """All figures of patients of both labels.

    Args:
        points: whose thresholds the operating points have; None to choose them here.
    """
    bins = tuple(reliability(levels))
    chosen = operating_points(levels) if points is None else at_thresholds(levels, points)
    return Figures(
        auc=levels.auc,
        auc_ci95=auc_interval(levels.auc, *levels.patients),
        roc=tuple(levels.corners()),
        confusion=confusion(levels),
        operating_points=tuple(chosen),
        reliability=bins,
        calibration_error=calibration_error(bins),
        calibrated_error=calibrated_error(bins),
        decision_curve=tuple(decision_curve(levels, THRESHOLDS)),
    )


def confusion(levels: Levels) -> Confusion:
    """Patients by truth and by the answer at probability one half."""
    negatives, positives = levels.patients
    false, true = map(float, levels.called[:, levels.place(0.5)])
    return Confusion(
        true_positive=_whole(true),
        false_negative=_whole(positives - true),
        false_positive=_whole(false),
        true_negative=_whole(negatives - false),
    )


def _whole(patients: float) -> int | float:
    return whole(round(patients, 6))  # sums of parts are rounded


def operating_points(levels: Levels) -> Iterator[OperatingPoint]:
    """At a half, and at the thresholds that just reach WANTED specificity and sensitivity here."""
    yield _point(levels, HALF, levels.place(0.5), 0.5)
    yield _chosen(levels, SPECIFIC, 0)
    yield _chosen(levels, SENSITIVE, 1)


def at_thresholds(levels: Levels, points: Sequence[OperatingPoint]) -> Iterator[OperatingPoint]:
    """The same thresholds on some of the patients that they were chosen on."""
    for each in points:
        rule = each.rule.replace(" here", " of all")
        yield _point(levels, rule, levels.place(each.threshold), each.threshold)


def _chosen(levels: Levels, rule: str, label: int) -> OperatingPoint:
    """The point whose rate of a label's patients just reaches WANTED."""
    at = _point(levels, rule, _reaching(levels, WANTED, label))
    rates = at.specificity, at.sensitivity
    reached, left = rates[label], rates[1 - label]
    if reached.ci95 is None or left.ci95 is None or left.value is None:
        return at
    # Of all patients the rate may be anything in its interval, so that the threshold which reaches
    # it there may be any that reaches a rate of the interval here.
    other = _rates(levels)[1 - label]
    most, least = (float(other[_reaching(levels, end, label)]) for end in reached.ci95)
    low, high = left.ci95
    wide = around(
        left.value,
        (left.value - low, left.value - least),
        (high - left.value, most - left.value),
    )
    rates = (rates[0], Rate(left.value, wide)) if label == 0 else (Rate(left.value, wide), rates[1])
    return OperatingPoint(rule, at.threshold, sensitivity=rates[1], specificity=rates[0])


def _rates(levels: Levels) -> tuple[Floats, Floats]:
    """(levels + 1,) specificity and sensitivity where patients are positive from a level on."""
    negatives, positives = levels.patients
    false, true = levels.called
    return 1 - false / negatives, true / positives


def _reaching(levels: Levels, wanted: float, label: int) -> int:
    """The level that reaches a rate of a label's patients and costs the other rate least."""
    # Sums of parts of patients are rounded: a rate that is just reached counts.
    places = np.flatnonzero(_rates(levels)[label] >= wanted - ROUNDING)
    return int(places[-1] if label else places[0])


def _point(levels: Levels, rule: str, place: int, threshold: float | None = None) -> OperatingPoint:
    negatives, positives = levels.patients
    false, true = map(float, levels.called[:, place])
    above, below = levels.noise(place)
    return OperatingPoint(
        rule=rule,
        threshold=levels.threshold(place) if threshold is None else threshold,
        sensitivity=_rate(true, positives - true, (above, below)),
        specificity=_rate(negatives - false, false, (below, above)),
    )


def _rate(right: float, wrong: float, noise: tuple[float, float]) -> Rate:
    interval = rate_interval(right, wrong, noise)
    return Rate(None, None) if interval is None else Rate(right / (right + wrong), interval)


def reliability(levels: Levels) -> Iterator[Bin]:
    """The reliability diagram, from the lowest probabilities to the highest."""
    # Bins with noise are few and wide already.
    runs = [slice(at, at + 1) for at in range(len(levels.least))]
    for run in runs if levels.deviation else levels.cut(BINS, FEWEST):
        counts = levels.negatives[run].clip(0), levels.positives[run].clip(0)
        negatives, positives = (float(each.sum()) for each in counts)
        interval = rate_interval(positives, negatives, (levels.deviation, levels.deviation))
        if interval is None or (levels.deviation and positives + negatives < FEWEST):
            continue  # of nobody, or little but noise
        yield Bin(
            patients=_whole(positives + negatives),
            predicted=float(np.average(levels.mean[run], weights=sum(counts))),
            calibrated=None
            if levels.calibrated is None
            else float(np.average(levels.calibrated[run], weights=sum(counts))),
            observed=positives / (positives + negatives),
            ci95=interval,
        )


def calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance of predicted from observed, weighted by patients."""
    return _error((each, each.predicted) for each in bins)


def calibrated_error(bins: Sequence[Bin]) -> float | None:
    """The same of calibrated probabilities; None where the model has no temperature."""
    told = [(each, each.calibrated) for each in bins if each.calibrated is not None]
    return _error(told) if told else None


def _error(bins: Iterable[tuple[Bin, float]]) -> float:
    each = [(one.patients, abs(predicted - one.observed)) for one, predicted in bins]
    return sum(patients * off for patients, off in each) / sum(patients for patients, _ in each)


def decision_curve(levels: Levels, thresholds: Sequence[float]) -> Iterator[NetBenefit]:
    """The net benefit of acting on the model, from each threshold on.

    Who acts at a threshold means a probability by it, so calibrated ones are held against it where
    there are any.

    Args:
        thresholds: between 0 and 1; of a histogram, edges of its bins.
    """
    # A temperature keeps the order, so both ascend over the levels.
    answers = levels.least if levels.calibrated is None else levels.calibrated
    for threshold in thresholds:
        place = int(np.searchsorted(answers, threshold - ROUNDING))
        model, interval = _net_benefit(levels, place, threshold)
        treat_all, _ = _net_benefit(levels, 0, threshold)
        yield NetBenefit(threshold, model, interval, treat_all)


def _net_benefit(levels: Levels, place: int, threshold: float) -> tuple[float, Interval]:
    """True positives less false ones at the odds of the threshold, per patient; with its interval.

    It is a mean over patients of 1, minus the odds, or 0, so that its variance follows from counts.
    Of parts of a patient that is more than the variance of their mean.
    """
    odds = threshold / (1 - threshold)
    patients = sum(levels.patients)
    false, true = map(float, levels.called[:, place])
    benefit = (true - odds * false) / patients
    chance = ((true + odds**2 * false) / patients - benefit**2) / patients
    noise, _ = levels.noise(place)
    noised = (noise / patients) ** 2 * (1 + odds**2)
    half = Z_95 * math.sqrt(max(0.0, chance) + noised)
    return benefit, (benefit - half, benefit + half)
