"""What an observer who knows every patient can say of a hospital's sum of gradients in advance.

Differential privacy is promised against whoever knows all records but one. A canary audit may
therefore know the patients: the sum that they are expected to contribute to a round, at the
parameters it started from, hides a canary behind nothing but a name. All patients count in every
round, at every effort: a sample of them would take off as little as it is.

Not covered: encoders that train (their gradients are spread over so many parameters that they
hide little), and adaptive local optimizers, whose update is no sum of gradients.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from attacks.membership.head_gradients import (
    LIKE_OPACUS,
    Drawn,
    HeadShape,
    Records,
    gradients,
    records_of,
)
from attacks.parallel import Step, side_by_side
from attacks.result import Progress
from attacks.subject import Subject
from securefed.exposure import Vector

LARGEST = 1 << 25  # numbers in the gradients that are held at once, 256 MB

Array = npt.NDArray[np.float64]


def predictable(subject: Subject) -> bool:
    """Whether a round's update is a sum of gradients that can be computed here."""
    return not subject.encoders_train and subject.training.optimizer == "sgd"


def unforeseeable(subject: Subject) -> str:
    """Why the expected sum of a round can only be guessed at, or nothing."""
    training = subject.training
    if training.local_steps > 1:
        return (
            f"{training.local_steps} local steps a round: later ones start from parameters that "
            "nobody outside the hospital knows"
        )
    if subject.encoders_train:
        return "encoders train too, and gradients of whole networks are beyond an audit"
    trained = {n for n, _ in subject.network.named_parameters() if not n.startswith("encoder_")}
    if trained != set(subject.shared):
        return "fusion stays in the hospital and is trained there, so gradients are not known"
    return ""


@lru_cache(maxsize=128)
def known_hospital(subject: Subject, name: str) -> "KnownHospital":
    """The hospital of that name; encoded once for all observers of one subject."""
    names = [each.name for each in subject.hospitals]
    return KnownHospital.of(subject, names.index(name))


@dataclass(frozen=True, eq=False)
class KnownHospital:
    """A hospital's training records as tokens, stress records last, and how they enter its sums.

    Attributes:
        rate: expected draws of each record in one round.
        clipped_to: None where nothing is clipped.
    """

    network_head: torch.Tensor = field(repr=False)  # (size,) of the initial network
    shape: HeadShape
    shared: torch.Tensor = field(repr=False)  # (size,) bool
    records: Records = field(repr=False)
    rate: float
    clipped_to: float | None
    _sums: dict[bytes, Array] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, subject: Subject, position: int) -> "KnownHospital":
        hospital = subject.hospitals[position]
        network, training = copy.deepcopy(subject.network), subject.training
        shape = HeadShape.of(network)
        parameters = dict(network.named_parameters())
        names = set(subject.shared)
        flat = [parameters[name].detach().reshape(-1) for name in shape.places]
        shared = [
            torch.full((p.numel(),), n in names) for n, p in zip(shape.places, flat, strict=True)
        ]
        tokens = subject.encode(network, hospital.train)
        records = records_of(tokens, each_slice=training.unit == "image")
        if (held := subject.canaries) and held.stress and held.hospital == hospital.name:
            records = records.with_tokens(held.stress)
        return cls(
            network_head=torch.cat(flat),
            shape=shape,
            shared=torch.cat(shared),
            records=records,
            rate=hospital.sample_rate * training.local_steps,
            clipped_to=training.clipped_to,
        )

    def gradients(self, start: Vector, records: slice = slice(None)) -> tuple[Array, Array]:
        """Gradients at the shared parameters `start`, as they are and as training clips them.

        One that is not finite counts as nothing, as in training.

        Returns:
            (records, P) twice, in the order of the shared vector.
        """
        vectors = self.network_head[None].clone()
        vectors[0, self.shared] = torch.from_numpy(start)
        which = torch.arange(len(self.records))[records]
        drawn = Drawn(torch.zeros_like(which), which)
        rows = gradients(self.shape, vectors, self.records, drawn)[:, self.shared].double().numpy()
        rows[~np.isfinite(rows).all(axis=1)] = 0.0
        clipped = rows
        if self.clipped_to is not None:
            norms = np.linalg.norm(rows, axis=1, keepdims=True)
            clipped = rows * np.minimum(self.clipped_to / (norms + LIKE_OPACUS), 1.0)
        if len(rows) == len(self.records):
            self._sums[start.tobytes()] = clipped.sum(axis=0)  # whoever asks next has it
        return rows, clipped

    def expected_sums(self, starts: Sequence[Vector], progress: Progress) -> Array:
        """Expected sum of the hospital's gradients, clipped as in training, in each round.

        Personal parameters, which nobody outside knows, are taken as they started. Computed once
        for observers who saw the same rounds.

        Args:
            starts: shared parameters of each round, (P,) each.

        Returns:
            (rounds, P) in the order of the shared vector.
        """
        missing = {start.tobytes(): start for start in starts}
        missing = {key: start for key, start in missing.items() if key not in self._sums}
        if missing:

            def summed(start: Vector, told: Step) -> Array:
                told()
                return self._sum(start)

            sums = side_by_side(summed, list(missing.values()), steps=1, progress=progress)
            self._sums.update(zip(missing, sums, strict=True))
        return np.stack([self.rate * self._sums[start.tobytes()] for start in starts])

    def _sum(self, start: Vector) -> Array:
        size = int(self.shared.sum())
        total: Array = np.zeros(size)
        at_once = max(1, LARGEST // size)
        for first in range(0, len(self.records), at_once):
            _, clipped = self.gradients(start, slice(first, first + at_once))
            total += clipped.sum(axis=0)
        return total
