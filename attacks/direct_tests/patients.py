"""What patients are expected to give to a round: their clipped gradients, and what clipping took.

All of them, in some of the rounds: one gradient takes a third of a millisecond, and a run has tens
of thousands. Rounds are taken in neighbouring pairs, the first and the last among them.
"""

from collections.abc import Sequence

import numpy as np

from attacks.direct_tests.law import Array, Part
from attacks.epsilon.known_patients import LARGEST, known_hospital, unforeseeable
from attacks.result import Effort
from attacks.subject import Hospital, Subject
from securefed.exposure import Vector

GRADIENTS = {Effort.QUICK: 7_200, Effort.DEFAULT: 24_000, Effort.THOROUGH: 10**9}  # in an audit
WIDEST = 3_000  # directions of a covariance; its eigenvectors take a minute


def unpredictable(subject: Subject) -> str:
    """Why a round's expected sum cannot be computed from its patients, or nothing."""
    if why := unforeseeable(subject):
        return why
    records = sum(each.train.patients for each in subject.hospitals)
    size = sum(dict(subject.network.named_parameters())[n].numel() for n in subject.shared)
    if records * size > LARGEST or min(records, size) > WIDEST:
        return f"{records} gradients of {size} parameters are more than an audit holds"
    return ""


def rounds_to_look_at(numbers: Sequence[int], subject: Subject, effort: Effort) -> list[int]:
    """Some of the rounds, in neighbouring pairs spread over the run; all where effort allows."""
    patients = sum(each.train.patients for each in subject.hospitals)
    pairs = max(1, GRADIENTS[effort] // (2 * patients))
    if 2 * pairs >= len(numbers):
        return list(numbers)
    firsts = np.linspace(0, len(numbers) - 2, pairs).round().astype(int)
    return sorted({numbers[place] for first in firsts for place in (first, first + 1)})


class Patients:
    """The hospitals' records at one round's start; each hospital computed once.

    Attributes:
        norms: hospital -> of its records' gradients before clipping, (N,).
    """

    def __init__(self, subject: Subject, start: Vector) -> None:
        self._subject, self._start = subject, start
        self._parts: dict[str, Part] = {}
        self.norms: dict[str, Array] = {}

    def part(self, name: str, factor: float) -> Part:
        """A hospital's part of a release in which its sum counts `factor` times."""
        if name not in self._parts:
            self._parts[name] = self._computed(name)
        unit = self._parts[name]
        return Part(factor * unit.rows, factor * unit.excess, unit.rate)

    def _computed(self, name: str) -> Part:
        (hospital,) = (each for each in self._subject.hospitals if each.name == name)
        known = known_hospital(self._subject, name)
        rows, clipped = known.gradients(self._start)
        norms = np.linalg.norm(rows, axis=1)
        canaries = self._subject.canaries
        stressed = canaries is not None and canaries.hospital == name and canaries.stress
        self.norms[name] = norms[: -len(stressed)] if stressed else norms
        excess = (rows - clipped).sum(axis=0)
        return Part(self._with_canaries(hospital, clipped), excess, hospital.sample_rate)

    def _with_canaries(self, hospital: Hospital, rows: Array) -> Array:
        """Canaries that are in are records like others, as long as clipping leaves any."""
        canaries = self._subject.canaries
        if canaries is None or canaries.hospital != hospital.name:
            return rows
        length = self._subject.training.clipped_to or 0.0
        return np.concatenate([rows, length * canaries.directions[canaries.included]])
