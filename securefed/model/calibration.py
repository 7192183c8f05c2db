"""A temperature for a model's answers, from the counts of held-out patients that a run opens.

A network that tells patients apart may be too sure of it, or not sure enough. Dividing its logits
by one number, the temperature, mends that and leaves every order, so every AUC, as it is (Guo et
al. 2017, ICML, section 4.2). It is fitted to the summed histogram of logits by label, after the
last round: nobody sends anything more, and what is made from noised counts costs no epsilon.

With N patients of logit z in a bin, n of them positive, the estimate solves

    sum over bins of  w (n - N p) = 0,   p = sigmoid(z / temperature).

Without noise w is z, and that is maximum likelihood. Noise of variance v in each of the two counts
of a bin adds v (p^2 + (1 - p)^2) to the variance of n - N p, which in bins of sure answers is
nearly all of it; w is divided by how much larger the variance has become (the optimal estimating
equation, Godambe & Heyde 1987, at temperature 1). With w = z a count of -2 among the sure answers
carried the estimate away.

The 95% interval holds the temperatures whose sum is at most 1.96 of its standard deviations from 0
(Rao's score test, inverted as Wilson's interval is). A temperature leaves probability one half
where it is, so its own interval would call that exact. An answer's interval is therefore of a slope
and a shift that are free together (Platt 1999; the delta method), widened to hold the answer. As
the answer itself they were tried, and cost more than they gave (docs/decisions: a temperature from
the counts).

Not covered: patients unlike those held out; that the miscalibration is other than one factor; and,
of 8 wide bins, where in its bin a patient lies.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from securefed.model.rates import Z_95

MOST = 20.0  # and 1 / MOST: the temperatures that are looked at
FURTHEST = 6.0  # logits: a line with a larger shift is none
STEPS = 50  # of Newton's method, which takes five or so
WIDEST = 4.0  # upper end over lower: a wider interval does not say which way to go
_SLOPES = np.exp(np.linspace(-math.log(MOST), math.log(MOST), 301))

Floats = NDArray[np.float64]
Interval = tuple[float, float]
Positive = Annotated[float, msgspec.Meta(ge=1 / MOST, le=MOST)]
Shift = Annotated[float, msgspec.Meta(ge=-FURTHEST, le=FURTHEST)]


class Temperature(msgspec.Struct, frozen=True, kw_only=True):
    """What logits are divided by.

    Attributes:
        value, ci95: the estimate and its 95% interval.
        slope, shift: of the line that logits go by where both are free.
        covariance: of these two: variance of the slope, covariance, variance of the shift.
    """

    value: Positive
    ci95: tuple[Positive, Positive]
    slope: Positive
    shift: Shift
    covariance: tuple[float, float, float]

    def __post_init__(self) -> None:
        (low, high), (of_slope, both, of_shift) = self.ci95, self.covariance
        # Written so that no comparison holds of what is not a number.
        if not (low <= self.value <= high and math.isfinite(self.slope + self.shift)):
            raise ValueError("a temperature that is not in its interval")
        if not (min(of_slope, of_shift) >= 0 and both**2 <= of_slope * of_shift < math.inf):
            raise ValueError("a covariance that is none")

    def probabilities(self, logits: Floats) -> tuple[Floats, Floats, Floats]:
        """(...) logits to calibrated probabilities and the ends of their 95% intervals.

        The intervals are of the calibration: of patients with this logit the share of positives.
        """
        middle, line = logits / self.value, self.slope * logits + self.shift
        of_slope, both, of_shift = self.covariance
        variance = of_slope * logits**2 + 2 * both * logits + of_shift
        half = Z_95 * np.sqrt(variance.clip(min=0))
        low, high = np.minimum(middle, line - half), np.maximum(middle, line + half)
        return _sigmoid(middle), _sigmoid(low), _sigmoid(high)


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How a model's probabilities fit held-out patients, before a temperature and after.

    Attributes:
        patients: by the counts.
        temperature: null where they do not say; then probabilities are the network's own.
        why_not: the reason then, in words; "" otherwise.
        loss_before, loss_after: mean cross-entropy, nats, from the bins. Fitted and measured on the
            same patients, so to the latter is added what that is expected to hide (Takeuchi's
            information criterion, 1976, noise in the counts included).
        error_before, error_after: expected calibration error over 8 bins (Naeini et al. 2015);
            nothing is added to the latter.
        error_by_chance: what it is expected to be, of so few patients and so much noise, where
            probabilities are right.
    """

    patients: Annotated[int, msgspec.Meta(ge=1)]
    temperature: Temperature | None
    why_not: str
    loss_before: float
    loss_after: float | None
    error_before: float
    error_after: float | None
    error_by_chance: float

    def __post_init__(self) -> None:
        if not self.why_not.isprintable():
            raise ValueError("a reason with control characters")


def alike(one: Calibration | None, other: Calibration | None) -> bool:
    """Whether two are the same but for rounding: sums of floats are another machine's own."""
    if one is None or other is None:
        return one is other
    figures = [msgspec.json.decode(msgspec.json.encode(each)) for each in (one, other)]
    return _close(*figures)


def _close(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return all(map(_close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    return one == other


@dataclass(frozen=True, eq=False)
class Cells:
    """A histogram of logits by label.

    Attributes:
        logit: (bins,) at which a bin's patients are taken to be.
        negatives, positives: (bins,) patients, with noise neither whole nor positive.
        group: (bins,) which bin of the calibration error it belongs to, from 0.
        deviation: standard deviation of the noise of each count, patients.
    """

    logit: Floats
    negatives: Floats = field(repr=False)
    positives: Floats = field(repr=False)
    group: NDArray[np.int64]
    deviation: float

    @property
    def patients(self) -> float:
        """All of them."""
        return float(self.negatives.sum() + self.positives.sum())

    def residual(self, predicted: Floats) -> Floats:
        """(..., bins) probabilities to positives less their expected number."""
        return (1 - predicted) * self.positives - predicted * self.negatives

    def variance(self, predicted: Floats) -> Floats:
        """(..., bins) of the residual, where the probabilities are right."""
        noise = self.deviation**2 * (predicted**2 + (1 - predicted) ** 2)
        return self.information(predicted) + noise

    def information(self, predicted: Floats) -> Floats:
        """(..., bins) of the residual without noise; also how fast it falls with the logit."""
        # Noise makes patients negative; a variance is not.
        patients = (self.negatives + self.positives).clip(min=0)
        return np.asarray(patients * predicted * (1 - predicted))


def calibrate(cells: Cells, patients: int) -> Calibration | None:
    """Fit a temperature; None where there is not one patient.

    Args:
        patients: how many they are said to be; with noise, rounding makes that another number.
    """
    if cells.patients < 1:
        return None
    few = min(cells.negatives.sum(), cells.positives.sum()) < 1
    found = None if few else _temperature(cells)
    before = _sigmoid(cells.logit)
    after = None if found is None else _sigmoid(cells.logit / found.value)
    known = before if after is None else after
    return Calibration(
        patients=patients,
        temperature=found,
        why_not="" if found else _why_not(cells, patients, one_label=few),
        loss_before=_loss(cells, cells.logit),
        loss_after=None if found is None else _loss_after(cells, found.value),
        error_before=_error(cells, before),
        error_after=None if after is None else _error(cells, after),
        error_by_chance=float(_by_group(cells, cells.variance(known), np.sqrt))
        * math.sqrt(2 / math.pi),
    )


def _why_not(cells: Cells, patients: int, *, one_label: bool) -> str:
    if one_label:
        return "held-out patients of both labels are needed"
    noise = ", counted with noise," if cells.deviation else ""
    return (
        f"{patients} held-out patients{noise} leave the temperature open by more than "
        f"a factor of {WIDEST:g}"
    )


def _temperature(cells: Cells) -> Temperature | None:
    slope = _slope(cells)
    if slope is None or slope[2] > WIDEST * slope[0]:
        return None
    low, value, high = slope
    line = _line(cells, value)
    if line is None:
        return None
    (slope_free, shift), covariance = line
    return Temperature(
        value=1 / value,
        ci95=(1 / high, 1 / low),
        slope=float(slope_free),
        shift=float(shift),
        covariance=(float(covariance[0, 0]), float(covariance[0, 1]), float(covariance[1, 1])),
    )


def _shares(cells: Cells) -> Floats:
    """(bins,) how much of the variance of each is of patients, not of noise."""
    predicted = _sigmoid(cells.logit)
    variance = cells.variance(predicted)
    own = cells.information(predicted)
    return np.divide(own, variance, out=np.zeros_like(own), where=variance > 0)


def _slope(cells: Cells) -> tuple[float, float, float] | None:
    """Lower end, estimate and upper end of 1 / temperature; None where the grid ends before."""
    weights = _shares(cells) * cells.logit
    predicted = _sigmoid(_SLOPES[:, None] * cells.logit)  # (grid, bins)
    sums = cells.residual(predicted) @ weights  # (grid,), falling but for noise
    deviations = np.sqrt(cells.variance(predicted) @ weights**2)
    roots = np.flatnonzero((sums[:-1] > 0) & (sums[1:] <= 0))
    if not len(roots):
        return None
    root = int(roots[0])
    value = np.interp(0, -sums[root : root + 2], _SLOPES[root : root + 2])
    refused = np.abs(sums) > Z_95 * deviations
    below, above = np.flatnonzero(refused[: root + 1]), np.flatnonzero(refused[root + 1 :])
    if not (len(below) and len(above)):
        return None
    return float(_SLOPES[below[-1]]), float(value), float(_SLOPES[root + 1 + above[0]])


def _line(cells: Cells, slope: float) -> tuple[Floats, Floats] | None:
    """(2,) slope and shift, both free, and their (2, 2) covariance; None where there is no line."""
    design = np.stack([cells.logit, np.ones_like(cells.logit)], axis=1)  # (bins, 2)
    weighted = design * _shares(cells)[:, None]
    found = np.array([slope, 0.0])
    for _ in range(STEPS):
        predicted = _sigmoid(design @ found)
        bend = weighted.T @ (design * cells.information(predicted)[:, None])
        if not np.linalg.cond(bend) < 1e12:
            return None
        inverse = np.linalg.inv(bend)
        step = inverse @ (weighted.T @ cells.residual(predicted))
        found = found + step
        if not (1 / MOST < found[0] < MOST and abs(found[1]) < FURTHEST):
            return None
        if np.abs(step).max() < 1e-9:
            spread = weighted.T @ (weighted * cells.variance(predicted)[:, None])
            return found, inverse @ spread @ inverse.T
    return None


def _loss(cells: Cells, logit: Floats) -> float:
    nats = cells.negatives * np.logaddexp(0, logit) + cells.positives * np.logaddexp(0, -logit)
    return float(nats.sum()) / cells.patients


def _loss_after(cells: Cells, temperature: float) -> float:
    return _loss(cells, cells.logit / temperature) + _hidden(cells, temperature)


def _hidden(cells: Cells, temperature: float) -> float:
    """How much smaller the loss looks for being measured where the temperature was fitted, nats."""
    predicted, weights = _sigmoid(cells.logit / temperature), _shares(cells) * cells.logit
    slope = (weights * cells.information(predicted) * cells.logit).sum()
    covariance = (cells.logit * weights * cells.variance(predicted)).sum()
    return float(covariance / slope) / cells.patients


def _error(cells: Cells, predicted: Floats) -> float:
    return _by_group(cells, cells.residual(predicted), np.abs)


def _by_group(cells: Cells, values: Floats, then: np.ufunc) -> float:
    """The sum over groups of what `then` makes of each one's sum, for each patient."""
    return float(then(np.bincount(cells.group, values)).sum()) / cells.patients


def _sigmoid(logit: Floats) -> Floats:
    return np.asarray(0.5 + 0.5 * np.tanh(logit / 2))
