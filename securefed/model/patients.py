"""Patients as tensors: padded to the same number of slices, with a mask for what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class PatientTensors:
    """A group of patients; the first axis of every tensor is the patient.

    Attributes:
        modalities: what the second axis of images and mask is, in order.
        images: (patients, modalities, slices, size, size) uint8, or after encoding the tokens
            (patients, modalities, slices, places, width) float32.
        present: (patients, modalities, slices) bool; a slice without any modality is padding.
        label: (patients,) float32, 0 or 1.
    """

    modalities: tuple[str, ...]
    images: Tensor
    present: Tensor
    label: Tensor

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:  # never the data itself
        return f"PatientTensors({len(self)} patients, {self.slices} slices)"

    @property
    def slices(self) -> int:
        """Of each patient, padding included."""
        return self.present.shape[-1]

    @property
    def real(self) -> Tensor:
        """(patients, slices) bool: slices that some modality shows."""
        return self.present.any(dim=1)

    def __getitem__(self, index: Tensor | slice) -> "PatientTensors":
        return replace(
            self, images=self.images[index], present=self.present[index], label=self.label[index]
        )

    def to(self, device: torch.device) -> "PatientTensors":
        images, present, label = (t.to(device) for t in (self.images, self.present, self.label))
        return replace(self, images=images, present=present, label=label)

    def first_slices(self, count: int) -> "PatientTensors":
        """The same patients with their first slices only."""
        return replace(self, images=self.images[:, :, :count], present=self.present[:, :, :count])

    def one_slice(self, row: Tensor, number: Tensor) -> "PatientTensors":
        """Records of one slice each: slice `number` of the patient in `row`, both (records,)."""
        return replace(
            self,
            images=self.images[row, :, number].unsqueeze(2),
            present=self.present[row, :, number].unsqueeze(2),
            label=self.label[row],
        )

    def middle_slices(self) -> "PatientTensors":
        """The same patients with their middle slice only."""
        row = torch.arange(len(self), device=self.label.device)
        middle = (self.real.sum(dim=1) // 2).clamp(max=self.slices - 1)
        return self.one_slice(row, middle)

    def only(self, modality: str) -> "PatientTensors":
        """The patients who have a modality, without the others."""
        kept = torch.zeros_like(self.present)
        number = self.modalities.index(modality)
        kept[:, number] = self.present[:, number]
        return replace(self, present=kept)[kept.flatten(1).any(dim=1)]


def concatenate(groups: Sequence[PatientTensors]) -> PatientTensors:
    """Groups one after another, with blank slices where one has fewer; as the first in type."""
    first, slices = groups[0], max(group.slices for group in groups)

    def padded(values: Tensor) -> Tensor:
        empty = slices - values.shape[2]
        return torch.cat(
            [values, values.new_zeros(*values.shape[:2], empty, *values.shape[3:])], dim=2
        )

    return replace(
        first,
        images=torch.cat([padded(group.images).to(first.images) for group in groups]),
        present=torch.cat([padded(group.present).to(first.present) for group in groups]),
        label=torch.cat([group.label.to(first.label) for group in groups]),
    )
