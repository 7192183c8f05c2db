"""Patients as tensors: padded to the same number of slices, with a mask for what is missing.

A row is an example, what has a label: by default a patient, so that rows are patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class PatientTensors:
    """Examples of a group of patients; the first axis of every tensor is the example.

    Attributes:
        modalities: what the second axis of images and mask is, in order.
        images: (examples, modalities, slices, size, size) uint8, or after encoding the tokens
            (examples, modalities, slices, places, width) float32.
        present: (examples, modalities, slices) bool; a slice without any modality is padding.
        label: (examples,) float32, 0 or 1.
        owner: (examples,) int64, the same number for examples of one patient; None where each is a
            patient of its own.
    """

    modalities: tuple[str, ...]
    images: Tensor
    present: Tensor
    label: Tensor
    owner: Tensor | None = None

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:  # never the data itself
        return f"PatientTensors({self.patients} patients, {self.slices} slices)"

    @property
    def patients(self) -> int:
        """How many they are; no more than rows."""
        return len(self) if self.owner is None else len(torch.unique(self.owner))

    @property
    def patient(self) -> Tensor:
        """(examples,) whose each is: patients counted from 0, in the order of `owner`."""
        if self.owner is None:
            return torch.arange(len(self), device=self.label.device)
        numbers: Tensor = torch.unique(self.owner, return_inverse=True)[1]
        return numbers

    @property
    def weight(self) -> Tensor:
        """(examples,) float32 parts of a patient, the same for each of its examples."""
        if self.owner is None:
            return torch.ones_like(self.label)
        return 1 / self.patient.bincount()[self.patient].to(self.label)

    def shares(self, whole: int) -> Tensor:
        """(examples,) int64 that add up to `whole` for each patient, as even as can be."""
        if self.owner is None:
            return torch.full((len(self),), whole, device=self.label.device)
        counts, order = self.patient.bincount(), self.patient.argsort(stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(self), device=order.device) - (
            counts.cumsum(0) - counts
        ).repeat_interleave(counts)
        each = counts[self.patient]
        return whole // each + (rank < whole % each)

    def of_patients(self, number: Tensor) -> "PatientTensors":
        """The examples of some patients, by their numbers in `patient`: one after another as asked,
        and numbered so."""
        if self.owner is None:
            return self[number]
        counts, order = self.patient.bincount(), self.patient.argsort(stable=True)
        row, owner = segments(F.pad(counts.cumsum(0), (1, 0)), number)
        return replace(self[order[row]], owner=owner)

    @property
    def slices(self) -> int:
        """Of each patient, padding included."""
        return self.present.shape[-1]

    @property
    def real(self) -> Tensor:
        """(patients, slices) bool: slices that some modality shows."""
        return self.present.any(dim=1)

    def __getitem__(self, index: Tensor | slice) -> "PatientTensors":
        owner = None if self.owner is None else self.owner[index]
        images, present, label = (t[index] for t in (self.images, self.present, self.label))
        return PatientTensors(self.modalities, images, present, label, owner)

    def to(self, device: torch.device) -> "PatientTensors":
        images, present, label = (t.to(device) for t in (self.images, self.present, self.label))
        owner = None if self.owner is None else self.owner.to(device)
        return PatientTensors(self.modalities, images, present, label, owner)

    def first_slices(self, count: int) -> "PatientTensors":
        """The same examples with their first slices only."""
        return replace(self, images=self.images[:, :, :count], present=self.present[:, :, :count])

    def one_slice(self, row: Tensor, number: Tensor) -> "PatientTensors":
        """One slice each: slice `number` of the example in `row`, both (slices,)."""
        return replace(
            self,
            owner=None if self.owner is None else self.owner[row],
            images=self.images[row, :, number].unsqueeze(2),
            present=self.present[row, :, number].unsqueeze(2),
            label=self.label[row],
        )

    def middle_slices(self) -> "PatientTensors":
        """The same examples with their middle slice only."""
        row = torch.arange(len(self), device=self.label.device)
        middle = (self.real.sum(dim=1) // 2).clamp(max=self.slices - 1)
        return self.one_slice(row, middle)

    def only(self, modality: str) -> "PatientTensors":
        """The examples that have a modality, without the others."""
        kept = torch.zeros_like(self.present)
        number = self.modalities.index(modality)
        kept[:, number] = self.present[:, number]
        return replace(self, present=kept)[kept.flatten(1).any(dim=1)]


def segments(first: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    """Places of some segments, one after another, and of which of those asked each is.

    Args:
        first: (segments + 1,) where each begins; the last entry is where all end.
        number: (asked,) segments, in any order, repeated or not.

    Returns:
        (places,) and (places,), the latter counted from 0 to asked - 1.
    """
    counts = first[number + 1] - first[number]
    owner = torch.arange(len(number), device=first.device).repeat_interleave(counts)
    begins = first[number] - (counts.cumsum(0) - counts)
    return begins[owner] + torch.arange(len(owner), device=first.device), owner


def concatenate(groups: Sequence[PatientTensors]) -> PatientTensors:
    """Groups one after another, with blank slices where one has fewer; as the first in type."""
    first, slices = groups[0], max(group.slices for group in groups)
    owner = None
    if any(group.owner is not None for group in groups):
        before = accumulate([0, *(group.patients for group in groups)])
        owner = torch.cat([n + group.patient for n, group in zip(before, groups, strict=False)])

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
        owner=owner,
    )
