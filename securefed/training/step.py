"""One step of DP-SGD before any mechanism: the records that were drawn, and their gradients.

What is here is private: gradients of single records and exact sums. A mechanism
(`training.mechanism`) turns them into what may be kept or sent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from securefed.model.network import DualEncoderNetwork
from securefed.model.patients import PatientTensors
from securefed.privacy.noise import KeystreamSource
from securefed.privacy.ring_code import Rows
from securefed.training.canaries import CanaryRecords, NetworkWithCanaries
from securefed.training.private import Forward, patient_gradients, private_gradients

GRADIENT_CHUNK = 16  # patients whose gradients are held at once, when encoders train


@dataclass(frozen=True, eq=False)
class Step:
    """A Poisson sample of one hospital's records, and the network they are scored with.

    Attributes:
        network: holds the present parameters.
        patients: those drawn.
        canaries, drawn_canaries: the run's, and indices of those drawn; None without an audit.
        shared: names of the shared parameters, in vector order.
        encoded: whether the patients hold tokens or images.
        expected: records that a step draws on average; depends on nobody's draw.
    """

    network: DualEncoderNetwork
    patients: PatientTensors
    canaries: CanaryRecords | None
    drawn_canaries: Tensor = field(repr=False)
    shared: list[str] = field(repr=False)
    encoded: bool
    expected: float

    def mean_gradient(self) -> dict[str, Tensor]:
        """The exact sum of gradients over the expected batch, by parameter: no privacy."""
        self.network.zero_grad()
        batch = self.patients
        size = self._chunk or max(1, len(batch))
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            logits = self.network(
                part.ct, part.mri, part.has_ct, part.has_mri, encoded=self.encoded
            )
            loss = F.binary_cross_entropy_with_logits(logits, part.label, reduction="sum")
            (loss / self.expected).backward()  # type: ignore[no-untyped-call]
        trainable = {n: p for n, p in self.network.named_parameters() if p.requires_grad}
        gradients = {
            name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in trainable.items()
        }
        if self.canaries is not None:
            for name, total in self.canaries.sum(self.drawn_canaries, trainable).items():
                gradients[name] += total / self.expected
        return gradients

    def noised_gradient(
        self, clip_norm: float, noise_multiplier: float, source: KeystreamSource
    ) -> dict[str, Tensor]:
        """The noised sum of clipped gradients over the expected batch, by parameter."""
        gradients = private_gradients(
            self._model,
            self._loss_of_record,
            self._tensors,
            clip_norm=clip_norm,
            noise_multiplier=noise_multiplier,
            expected_batch_size=self.expected,
            source=source,
            chunk=self._chunk,
        )
        return {name.removeprefix("network."): value for name, value in gradients.items()}

    def gradient_rows(self) -> Iterator[Rows]:
        """Each record's exact gradient in chunks (n, P), in the order of the shared vector."""
        batch = self._tensors
        records = len(batch["label"])
        size = self._chunk or max(1, records)
        for start in range(0, records, size):
            part = {name: tensor[start : start + size] for name, tensor in batch.items()}
            gradients = patient_gradients(self._model, self._loss_of_record, part)
            named = {name.removeprefix("network."): rows for name, rows in gradients.items()}
            flat = [named[name].reshape(len(part["label"]), -1) for name in self.shared]
            yield torch.cat(flat, dim=1).double().cpu().numpy()

    @property
    def _chunk(self) -> int | None:
        return None if self.encoded else GRADIENT_CHUNK

    @property
    def _model(self) -> nn.Module:
        if self.canaries is None:
            return self.network
        return NetworkWithCanaries(self.network, self.canaries)

    @property
    def _tensors(self) -> dict[str, Tensor]:
        if self.canaries is not None:
            return self.canaries.batch(self.patients, self.drawn_canaries)
        return {each.name: getattr(self.patients, each.name) for each in fields(self.patients)}

    def _loss_of_record(self, forward: Forward, record: Mapping[str, Tensor]) -> Tensor:
        images = (record["ct"], record["mri"], record["has_ct"], record["has_mri"])
        if self.canaries is None:
            logit = forward(*images, encoded=self.encoded)
            return F.binary_cross_entropy_with_logits(logit, record["label"])
        logit, along = forward(record["canary"], *images, encoded=self.encoded)
        loss = F.binary_cross_entropy_with_logits(logit, record["label"])
        return self.canaries.loss(loss, along, record["canary"])
