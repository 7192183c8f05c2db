"""What an observer has of the mechanism: series of noised sums in units of their noise.

Of a hospital where its updates can be told apart, of all survivors together where only the sum is
opened. A round's vector is divided by the standard deviation that the claim gives its noise, so
that whatever the settings are, noise as claimed is N(0, I).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from attacks.releases import factors_of, noise_of
from attacks.subject import Hospital, Subject
from securefed.exposure import Exposure, RoundView, Vector

SUM = "sum"
COARSEST = 0.02  # error of an entry by its encoding, in standard deviations of the noise
WIDEST = 6.0  # standard deviations of the noise that must fit the range of what is sent
FLOAT32 = 2.0**-23  # error of a parameter between 1 and 2

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Releases:
    """One series.

    Attributes:
        name: the hospital's, or "sum".
        numbers: of the rounds, increasing.
        starts: shared parameters that they started from, (P,) each.
        values: (R, P), the summed gradients and their noise, over the noise's standard deviation.
        factors: of each round: hospital -> factor with which its sum of clipped gradients enters.
    """

    name: str
    numbers: tuple[int, ...]
    starts: tuple[Vector, ...] = field(repr=False)
    values: Array = field(repr=False)
    factors: tuple[dict[str, float], ...] = field(repr=False)

    def only(self, numbers: Sequence[int]) -> "Releases":
        """The same series in some of its rounds."""
        rows = [row for row, number in enumerate(self.numbers) if number in set(numbers)]
        return Releases(
            self.name,
            tuple(self.numbers[row] for row in rows),
            tuple(self.starts[row] for row in rows),
            self.values[rows],
            tuple(self.factors[row] for row in rows),
        )


def untestable(subject: Subject) -> str:
    """Why nothing that leaves this run can be held against a law, or nothing."""
    training = subject.training
    if training.clip_norm is None:
        return "the run claims no epsilon: there is no mechanism to test"
    if training.optimizer != "sgd":
        return (
            f"local {training.optimizer} scales every entry apart, so that noise does not arrive "
            "as it was added; test a run with training.optimizer: sgd"
        )
    for hospital in subject.hospitals:
        deviation = _update_noise(subject, hospital)
        if WIDEST * deviation > training.value_range:
            return (
                f"noise of {deviation:.3g} an entry does not fit the range that masked updates are "
                f"cut to ({training.value_range:g}); raise secure_aggregation.value_range"
            )
        # An update is a difference of parameters, which are some 1 large, in single precision.
        if (error := hospital.encoding_error + FLOAT32) > COARSEST * deviation:
            return (
                f"an entry of an update is sent with an error of up to {error:.2g}, and its noise "
                f"is {deviation:.2g}; lower secure_aggregation.max_patients or value_range, or "
                "raise training.learning_rate"
            )
    return ""


def _update_noise(subject: Subject, hospital: Hospital) -> float:
    """Standard deviation of the noise in an entry of the hospital's update."""
    training = subject.training
    clip = training.clip_norm or 0.0
    steps = math.sqrt(training.local_steps)
    return (
        training.learning_rate / hospital.expected_batch * hospital.noise_multiplier * clip * steps
    )


def series(subject: Subject, exposure: Exposure) -> list[Releases]:
    """The series that an observer has: every hospital's where it tells them apart, or the sum's."""
    names = [each.name for each in subject.hospitals]
    # What a hospital itself sent is on record exactly; a mean that it worked out is not.
    told = [name for name in names if any(name in view.updates for view in exposure.rounds)]
    if told:
        return [_of_hospital(subject, exposure, name) for name in told]
    views = [view for view in exposure.rounds if view.mean is not None and view.survivors]
    return [_of_sum(subject, views)] if views else []


def _of_hospital(subject: Subject, exposure: Exposure, name: str) -> Releases:
    (hospital,) = (each for each in subject.hospitals if each.name == name)
    training = subject.training
    views = [view for view in exposure.rounds if name in view.updates]
    deviation = hospital.noise_multiplier * (training.clip_norm or 0.0)
    deviation *= math.sqrt(training.local_steps)
    unit = training.learning_rate / hospital.expected_batch * deviation
    return Releases(
        name,
        tuple(view.number for view in views),
        tuple(view.shared for view in views),
        np.stack([-view.updates[name].astype(np.float64) / unit for view in views]),
        tuple({name: 1 / deviation} for _ in views),
    )


def _of_sum(subject: Subject, views: Sequence[RoundView]) -> Releases:
    values, factors = [], []
    for view in views:
        assert view.mean is not None  # noqa: S101  # chosen so by series()
        there = [each for each in subject.hospitals if each.name in view.survivors]
        parts = factors_of(subject.training, there)
        deviation = noise_of(subject.training, there, parts)
        values.append(-view.mean.astype(np.float64) / deviation)
        factors.append({name: part / deviation for name, part in parts.items()})
    return Releases(
        SUM,
        tuple(view.number for view in views),
        tuple(view.shared for view in views),
        np.stack(values),
        tuple(factors),
    )
