"""One step of DP-SGD before any mechanism: the records that were drawn, and their gradients.

What is here is private: gradients of single records and exact sums. A mechanism
(`training.mechanism`) turns them into what may be kept or sent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from securefed.model import task
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors
from securefed.privacy.noise import KeystreamSource
from securefed.privacy.ring_code import Rows
from securefed.training.canaries import CanaryRecords
from securefed.training.factors import flat
from securefed.training.patients import by_patient, parts_alike
from securefed.training.per_patient import Forward, patient_gradients
from securefed.training.private import private_gradients

# What goes through the network at once. Fewer patients at a time leave the caches warm and hold
# less memory; more of them share the cost of each call. Measured: benchmarks/dp_training.py.
PART_PIXELS = 1 << 19  # of one modality, when encoders train: 128 slices of 64 x 64
PART_ATTENTION = 1 << 20  # entries of the attention's matrices, with tokens: 256 slices of 8 x 8


@dataclass(frozen=True, eq=False)
class Step:
    """A Poisson sample of one hospital's records, and the network they are scored with.

    Attributes:
        network: holds the present parameters.
        trained: of these, the ones that train, by name.
        patients: those drawn.
        canaries, drawn_canaries: the run's, and indices of those drawn; None without an audit.
        shared: names of the shared parameters, in vector order.
        encoded: whether the patients hold tokens or images.
        expected: records that a step draws on average; depends on nobody's draw.
        kept: 1 where a coordinate of a shared parameter trains in this round and 0 elsewhere, by
            name; empty where all do.
    """

    network: FusionNetwork
    trained: Mapping[str, nn.Parameter] = field(repr=False)
    patients: PatientTensors
    canaries: CanaryRecords | None
    drawn_canaries: Tensor = field(repr=False)
    shared: list[str] = field(repr=False)
    encoded: bool
    expected: float
    kept: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    def mean_gradient(self) -> dict[str, Tensor]:
        """The exact sum of gradients over the expected batch, by parameter: no privacy."""
        for parameter in self.trained.values():
            parameter.grad = None
        for part in self._parts:
            logits = self.network(part.images, part.present, encoded=self.encoded)
            loss = task.loss(logits, part.label, part.weight)
            (loss / self.expected).backward()  # type: ignore[no-untyped-call]
        gradients = {
            name: torch.zeros_like(p) if p.grad is None else p.grad
            for name, p in self.trained.items()
        }
        for name, rows in self._canary_gradients.items():
            gradients[name] += rows.sum(0) / self.expected
        for name, kept in self.kept.items():
            gradients[name] *= kept
        return gradients

    def noised_gradient(
        self, clip_norm: float, noise_multiplier: float, source: KeystreamSource
    ) -> dict[str, Tensor]:
        """The noised sum of clipped gradients over the expected batch, by parameter."""
        return private_gradients(
            self.network,
            self._loss_of_patient,
            map(by_patient, self._parts),
            clip_norm=clip_norm,
            noise_multiplier=noise_multiplier,
            expected_batch_size=self.expected,
            source=source,
            made_up=self._canary_gradients or None,
            kept=self.kept,
        )

    def gradient_rows(self) -> Iterator[Rows]:
        """Each record's exact gradient in chunks (n, P), in the order of the shared vector."""
        for part in self._parts:
            yield self._vectors(
                patient_gradients(self.network, self._loss_of_patient, by_patient(part))
            )
        if self._canary_gradients:
            yield self._vectors(self._canary_gradients)

    def _vectors(self, gradients: Mapping[str, Tensor]) -> Rows:
        rows = [flat(gradients[name]) for name in self.shared]
        return torch.cat(rows, dim=1).double().cpu().numpy()

    @property
    def _parts(self) -> Iterator[PatientTensors]:
        rows, columns = self.patients.images.shape[-2:]  # of tokens: places, width
        slice_size, largest = (
            (rows**2, PART_ATTENTION) if self.encoded else (rows * columns, PART_PIXELS)
        )
        return parts_alike(self.patients, max(1, largest // slice_size))

    @cached_property
    def _canary_gradients(self) -> dict[str, Tensor]:
        if self.canaries is None:
            return {}
        return self.canaries.gradients(self.drawn_canaries, self.trained)

    def _loss_of_patient(self, forward: Forward, patient: Mapping[str, Tensor]) -> Tensor:
        logits = forward(patient["images"], patient["present"], encoded=self.encoded)
        return task.loss(logits, patient["label"], patient["weight"])
