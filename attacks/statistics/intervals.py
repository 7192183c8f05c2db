"""How sure a figure is: exact intervals, a bootstrap over patients, and Holm's correction.

Clopper & Pearson (1934) for counts of independent trials; a percentile bootstrap that resamples
whole patients, members and non-members apart (Field & Welsh 2007, the cluster bootstrap), for the
AUC; Holm (1979) for several tests at once. The bootstrap is approximate: with few patients,
or an AUC near 0 or 1, it covers less than it says (measured at 3 slices a patient, nominal 95%: 94%
with 40 patients a class; 92% with 10, and 87% where the AUC is .92). Below `MINIMUM_PATIENTS` it is
refused, and where the classes separate completely it is replaced by an exact, wide interval. No
interval here knows of a systematic error, such as members and non-members of different scanners.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from attacks.errors import InvalidScores, TooFewTargets
from attacks.statistics.targets import Bools, Floats, ScoredTargets, finite_vector
from securefed.model.auc import area, area_of_scores

MINIMUM_PATIENTS = 10  # of each class; below it a bootstrap interval is fiction
CHUNK = 1 << 21  # weights held at once by the bootstrap: 16 MB


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval: each end is passed with probability (1-confidence)/2."""

    lower: float
    upper: float
    confidence: float

    def holds(self, value: float) -> bool:
        return self.lower <= value <= self.upper


class Estimate(Protocol):
    """A measured figure that can say how sure it is."""

    @property
    def value(self) -> float: ...

    def interval(self, confidence: float) -> Interval: ...

    def p_value_at_most(self, threshold: float) -> float:
        """One-sided p-value of the hypothesis that the true value is at most `threshold`."""


def tail(confidence: float) -> float:
    """The probability beyond each end of an interval.

    Raises:
        InvalidScores: unless 0.5 <= confidence < 1.
    """
    if not 0.5 <= confidence < 1:
        raise InvalidScores(f"confidence must be in [0.5, 1), got {confidence}", hint="0.95")
    return (1 - confidence) / 2


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Exact interval of a proportion; it covers at least `confidence` whatever the truth.

    Raises:
        InvalidScores: unless 0 <= successes <= trials and trials >= 1.
    """
    _check_counts(successes, trials)
    alpha = tail(confidence)
    failures = trials - successes
    # Quantiles of the beta law take 5 us; scipy.stats.binomtest's search 3 ms, and a ROC has 100.
    lower = special.betaincinv(successes, failures + 1, alpha) if successes else 0.0
    upper = special.betaincinv(successes + 1, failures, 1 - alpha) if failures else 1.0
    return Interval(float(lower), float(upper), confidence)


def _check_counts(successes: int, trials: int) -> None:
    if trials < 1 or not 0 <= successes <= trials:
        raise InvalidScores(f"{successes} successes in {trials} trials is not a proportion")


@dataclass(frozen=True)
class Proportion:
    """Successes among independent trials, for instance identified patients."""

    successes: int
    trials: int

    def __post_init__(self) -> None:
        _check_counts(self.successes, self.trials)

    @property
    def value(self) -> float:
        return self.successes / self.trials

    def interval(self, confidence: float) -> Interval:
        return clopper_pearson(self.successes, self.trials, confidence)

    def p_value_at_most(self, threshold: float) -> float:
        """P[Bin(trials, threshold) >= successes]."""
        probability = min(max(threshold, 0.0), 1.0)
        return float(stats.binom.sf(self.successes - 1, self.trials, probability))


@dataclass(frozen=True)
class Resampled:
    """A figure with its bootstrap replicates (sorted)."""

    value: float
    replicates: Floats = field(repr=False)  # (replicates,)

    def interval(self, confidence: float) -> Interval:
        alpha = tail(confidence)
        lower, upper = np.quantile(self.replicates, (alpha, 1 - alpha))
        return Interval(float(lower), float(upper), confidence)

    def p_value_at_most(self, threshold: float) -> float:
        # One is added above and below, so that no finite bootstrap claims a p-value of 0.
        below = int(np.searchsorted(self.replicates, threshold, side="right"))
        return (1 + below) / (1 + self.replicates.size)


def _areas(weights: Floats, is_member: Bools, tie_starts: npt.NDArray[np.intp]) -> Floats:
    """AUC of each row of weights; columns are records in ascending order of score."""
    # Summed over ties first, (rows, distinct scores).
    others, members = (
        np.add.reduceat(weights * each, tie_starts, axis=1) for each in (~is_member, is_member)
    )
    return area(others, members)


def auc_by_patient(
    targets: ScoredTargets, rng: np.random.Generator, replicates: int = 2000
) -> Estimate:
    """The AUC over records, with a bootstrap that draws whole patients.

    Returns:
        Resampled; or, where scores separate the classes completely so that every replicate
        agrees, a Proportion over the smaller class, of n patients. That is exact on the safe
        side: n disjoint pairs of patients must all have been in order, which has probability
        AUC^n at most.

    Raises:
        TooFewTargets: fewer than MINIMUM_PATIENTS members or non-members.
        InvalidScores: fewer than 100 replicates.
    """
    if replicates < 100:
        raise InvalidScores(f"{replicates} replicates give no 95% interval", hint="2000 is usual")
    smaller = min(targets.member_patients, targets.non_member_patients)
    if smaller < MINIMUM_PATIENTS:
        raise TooFewTargets(
            f"{targets.member_patients} member and {targets.non_member_patients} non-member "
            f"patients; an AUC interval needs {MINIMUM_PATIENTS} of each",
            hint="audit more patients; the AUC alone says nothing about chance",
        )
    order = np.argsort(targets.scores, kind="stable")
    sorted_scores = targets.scores[order]
    tie_starts = np.flatnonzero(np.concatenate(([True], np.diff(sorted_scores) > 0)))
    members, patients = targets.is_member[order], targets.patients[order]
    value = area_of_scores(targets.scores, targets.is_member)
    if value in (0.0, 1.0):
        return Proportion(smaller if value else 0, smaller)

    rows = max(1, CHUNK // order.size)
    drawn = [
        _areas(
            _patient_counts(targets.patient_is_member, min(rows, replicates - done), rng)[
                :, patients
            ],
            members,
            tie_starts,
        )
        for done in range(0, replicates, rows)
    ]
    return Resampled(value, np.sort(np.concatenate(drawn)))


def mean_by_patient(
    values: npt.ArrayLike, rng: np.random.Generator, replicates: int = 2000
) -> Estimate:
    """The mean of a figure in [0, 1] over patients, with a bootstrap that draws patients.

    Returns:
        Resampled; or, where all are 0 or all are 1 so that every replicate agrees, a Proportion.

    Raises:
        TooFewTargets: fewer than MINIMUM_PATIENTS.
    """
    each = finite_vector(values, "figures")
    if each.size < MINIMUM_PATIENTS:
        raise TooFewTargets(f"{each.size} patients; an interval needs {MINIMUM_PATIENTS}")
    if each.min() == each.max() and each[0] in (0.0, 1.0):
        return Proportion(int(each.sum()), each.size)
    everybody = np.ones(each.size, np.bool_)
    rows = max(1, CHUNK // each.size)
    means = [
        _patient_counts(everybody, min(rows, replicates - done), rng) @ each / each.size
        for done in range(0, replicates, rows)
    ]
    return Resampled(float(each.mean()), np.sort(np.concatenate(means)))


def _patient_counts(is_member: Bools, rows: int, rng: np.random.Generator) -> Floats:
    """How often each patient is drawn, with replacement within its class; one row per replicate."""
    counts = np.empty((rows, is_member.size))
    for chosen in (is_member, ~is_member):
        size = int(chosen.sum())
        if not size:
            continue
        counts[:, chosen] = rng.multinomial(size, np.full(size, 1 / size), size=rows)
    return counts


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the given order; rejecting those below a level keeps the chance of
    any false rejection below that level, whatever the dependence between the tests.

    Raises:
        InvalidScores: a value outside [0, 1].
    """
    if not p_values:
        return []
    values = finite_vector(p_values, "p-values")
    if values.min() < 0 or values.max() > 1:
        raise InvalidScores("p-values must be in [0, 1]")
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(values.size, 0, -1)
    adjusted = np.empty(values.size)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]
