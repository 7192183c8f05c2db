"""What an observer who knows every patient can say of a hospital's sum of gradients in advance.


Differential privacy is promised against whoever knows all records but one. A canary audit may
therefore know the patients: the sum that they are expected to contribute to a round, at the
parameters it started from, hides a canary behind nothing but a name. Of each round a fresh sample
of patients stands for all, so that its error does not add up over the rounds.

Not covered: encoders that train (their gradients are spread over so many parameters that they
hide little), and adaptive local optimizers, whose update is no sum of gradients.
"""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from attacks.membership.head_gradients import (
    Drawn,
    HeadShape,
    Records,
    encoded_records,
    gradients,
    summed_gradients,
)
from attacks.result import Progress
from attacks.subject import Subject
from securefed.exposure import Vector

ROUNDS_AT_ONCE = 8


def predictable(subject: Subject) -> bool:
    """Whether a round's update is a sum of gradients that can be computed here."""
    return not subject.encoders_train and subject.training.optimizer == "sgd"


@lru_cache(maxsize=8)
def known_hospital(subject: Subject, name: str) -> "KnownHospital":
    """The hospital of that name; encoded once for all observers of one subject."""
    names = [each.name for each in subject.hospitals]
    return KnownHospital.of(subject, names.index(name))


@dataclass(frozen=True, eq=False)
class KnownHospital:
    """A hospital's training records as tokens, stress records last, and how they enter its sums.

    Attributes:
        seed: of the samples.
        rate: expected draws of each record in one round.
        clip_norm: None where nothing is clipped.
    """

    seed: tuple[int, int]
    network_head: torch.Tensor = field(repr=False)  # (size,) of the initial network
    shape: HeadShape
    shared: torch.Tensor = field(repr=False)  # (size,) bool
    records: Records = field(repr=False)
    rate: float
    clip_norm: float | None
    _known: dict[bytes, npt.NDArray[np.float64]] = field(default_factory=dict, repr=False)

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
        records = encoded_records(network, hospital.train, each_slice=training.unit == "image")
        if (held := subject.canaries) and held.stress and held.hospital == hospital.name:
            records = records.with_tokens(held.stress)
        return cls(
            seed=(subject.seed, position),
            network_head=torch.cat(flat),
            shape=shape,
            shared=torch.cat(shared),
            records=records,
            rate=hospital.sample_rate * training.local_steps,
            clip_norm=training.clip_norm,
        )

    def gradients(self, start: Vector) -> npt.NDArray[np.float64]:
        """Each record's gradient at the shared parameters `start`, not clipped, (records, P)."""
        vectors = self.network_head[None].clone()
        vectors[0, self.shared] = torch.from_numpy(start)
        every = torch.arange(len(self.records))
        rows = gradients(self.shape, vectors, self.records, Drawn(torch.zeros_like(every), every))
        finite: npt.NDArray[np.float64] = rows[:, self.shared].double().numpy()
        return finite

    def expected_sums(
        self, starts: Sequence[Vector], sample: int, progress: Progress
    ) -> npt.NDArray[np.float64]:
        """Expected sum of the hospital's gradients, clipped as in training, in each round.

        Personal parameters, which nobody outside knows, are taken as they started. Computed once
        for observers who saw the same rounds.

        Args:
            starts: shared parameters of each round, (P,) each.
            sample: how many records stand for all of them in a round.

        Returns:
            (rounds, P) in the order of the shared vector.
        """
        key = hashlib.sha256(np.stack(starts).tobytes() + str(sample).encode()).digest()
        if key not in self._known:
            self._known[key] = self._expected_sums(starts, sample, progress)
        return self._known[key]

    def _expected_sums(
        self, starts: Sequence[Vector], sample: int, progress: Progress
    ) -> npt.NDArray[np.float64]:
        rng = np.random.default_rng([*self.seed, len(starts)])
        count = min(sample, len(self.records))
        scale = self.rate * len(self.records) / count
        sums = []
        for first in range(0, len(starts), ROUNDS_AT_ONCE):
            part = starts[first : first + ROUNDS_AT_ONCE]
            vectors = self.network_head.repeat(len(part), 1)
            vectors[:, self.shared] = torch.from_numpy(np.stack(part))
            drawn = [np.sort(rng.choice(len(self.records), count, replace=False)) for _ in part]
            which = Drawn(
                torch.arange(len(part)).repeat_interleave(count),
                torch.from_numpy(np.concatenate(drawn)),
            )
            total = summed_gradients(self.shape, vectors, self.records, which, self.clip_norm)
            sums.append(total[:, self.shared].double().numpy() * scale)
            progress(min(1.0, (first + len(part)) / len(starts)))
        return np.concatenate(sums)
