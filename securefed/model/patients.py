"""Patients as tensors: padded to the same number of slices, with masks for what is missing."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class PatientTensors:
    """A group of patients; the first axis of every tensor is the patient.

    Attributes:
        ct, mri: (patients, slices, size, size) uint8 images, or after encoding the tokens
            (patients, slices, places, width) float32.
        has_ct, has_mri: (patients, slices) bool; both False marks padding.
        label: (patients,) float32, 0 or 1.
    """

    ct: Tensor
    mri: Tensor
    has_ct: Tensor
    has_mri: Tensor
    label: Tensor

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:  # never the data itself
        return f"PatientTensors({len(self)} patients, {self.ct.shape[1]} slices)"

    def __getitem__(self, index: Tensor | slice) -> "PatientTensors":
        return PatientTensors(*(getattr(self, field.name)[index] for field in fields(self)))

    def to(self, device: torch.device) -> "PatientTensors":
        return PatientTensors(*(getattr(self, field.name).to(device) for field in fields(self)))
