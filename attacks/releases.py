"""Sums of hospitals' gradients, as an observer has them of one round.

An update of SGD is a sum of gradients times the step, plus noise; a mean of updates is such a sum
over several hospitals. Whoever attacks the sum needs to know with which factor each hospital is in
it, and how much of it is noise by the run's own settings.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from attacks.subject import Hospital, Training
from securefed.exposure import RoundView, Vector

ROUNDING = 2.0**-24  # of a float32 parameter near 1: what an update is uncertain by


@dataclass(frozen=True, eq=False)
class Release:
    """One sum.

    Attributes:
        number: of the round.
        start: shared parameters that it started from, (P,).
        value: the sum of gradients as it was released, (P,), times the factors.
        factors: hospital -> factor with which its sum of gradients is in.
        noise: standard deviation of an entry, by added noise and by rounding.
    """

    number: int
    start: Vector = field(repr=False)
    value: npt.NDArray[np.float64] = field(repr=False)
    factors: dict[str, float]
    noise: float


def releases(
    training: Training,
    everybody: Sequence[Hospital],
    view: RoundView,
    members: Collection[str] = (),
) -> list[Release]:
    """What a round shows: updates of others than the members where they are told apart, or a mean.

    Means are of hospitals that the observer knows to have taken part.
    """
    hospitals = {each.name: each for each in everybody}
    told = {name: update for name, update in view.updates.items() if name not in members}
    if told:
        return [
            _release(training, view, update, [hospitals[name]]) for name, update in told.items()
        ]
    if view.mean is None or not view.survivors:
        return []
    return [_release(training, view, view.mean, [hospitals[name] for name in view.survivors])]


def factors_of(training: Training, hospitals: Sequence[Hospital]) -> dict[str, float]:
    """Hospital -> factor with which its sum of gradients enters the mean update, less its sign."""
    if training.shared_noise:
        step = training.learning_rate / sum(each.expected_batch for each in hospitals)
        return {each.name: step for each in hospitals}
    together = sum(each.weight for each in hospitals)
    return {
        each.name: each.weight / together * training.learning_rate / each.expected_batch
        for each in hospitals
    }


def noise_of(
    training: Training, hospitals: Sequence[Hospital], factors: Mapping[str, float]
) -> float:
    """Standard deviation of the noise that hospitals add to an entry of a round's sum."""
    clip = (training.clip_norm or 0.0) * math.sqrt(training.local_steps)
    return math.hypot(*(factors[each.name] * each.noise_multiplier * clip for each in hospitals))


def _release(
    training: Training, view: RoundView, value: Vector, hospitals: Sequence[Hospital]
) -> Release:
    factors = factors_of(training, hospitals)
    together = sum(each.weight for each in hospitals)
    # An error of at most e in fixed point is one of e / sqrt(3) on average.
    coded = (each.weight / together * each.encoding_error / math.sqrt(3) for each in hospitals)
    noise = math.hypot(noise_of(training, hospitals, factors), ROUNDING, *coded)
    return Release(view.number, view.shared, -value.astype(np.float64), factors, noise)
