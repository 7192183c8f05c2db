"""From patients to tensors of patients, and to what a baseline sees of them."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from securefed.data.samples import Patient
from securefed.model.patients import PatientTensors


def stack(patients: Sequence[Patient], max_slices: int) -> PatientTensors:
    """Stack patients; one with more than `max_slices` keeps that many, evenly spaced.

    Raises:
        ValueError: no patients, or images of different sizes.
    """
    if not patients:
        raise ValueError("cannot stack zero patients")
    chosen = [_evenly_spaced(patient, max_slices) for patient in patients]
    slices = max(len(keep) for keep in chosen)
    size = patients[0].ct.shape[-1]
    images = np.zeros((2, len(patients), slices, size, size), np.uint8)
    present = np.zeros((2, len(patients), slices), np.bool_)
    for row, (patient, keep) in enumerate(zip(patients, chosen, strict=True)):
        images[0, row, : len(keep)] = patient.ct[keep]
        images[1, row, : len(keep)] = patient.mri[keep]
        present[0, row, : len(keep)] = patient.has_ct[keep]
        present[1, row, : len(keep)] = patient.has_mri[keep]
    labels = np.array([patient.label for patient in patients], np.float32)
    tensors = [torch.from_numpy(array) for array in (*images, *present, labels)]
    return PatientTensors(*tensors)


def _evenly_spaced(patient: Patient, max_slices: int) -> NDArray[np.int64]:
    count = len(patient.has_ct)
    slices = min(count, max_slices)
    # The middles of equal parts: of one slice the middle of the head, not its lowest edge.
    middles: NDArray[np.int64] = (2 * np.arange(slices) + 1) * count // (2 * slices)
    return middles


def parts_alike(group: PatientTensors, slices: int) -> Iterator[PatientTensors]:
    """The patients in parts of about as many slices each, so that little of a part is padding.

    Args:
        slices: most of a part, padding included; one patient may have more.

    Returns:
        Every patient once, by number of slices, each part cut to its longest patient.
    """
    real = group.has_ct | group.has_mri  # (patients, slices)
    ends = (real * torch.arange(1, real.shape[1] + 1, device=real.device)).amax(1).clamp(min=1)
    order = ends.argsort(stable=True)
    counts = ends[order].tolist()
    start = 0
    for stop in range(1, len(counts) + 1):
        if stop == len(counts) or (stop + 1 - start) * counts[stop] > slices:
            part, longest = group[order[start:stop]], counts[stop - 1]
            ct, mri, has_ct, has_mri = (
                each[:, :longest] for each in (part.ct, part.mri, part.has_ct, part.has_mri)
            )
            yield PatientTensors(ct, mri, has_ct, has_mri, part.label)
            start = stop


def one_slice_records(group: PatientTensors) -> PatientTensors:
    """Every slice as a record of its own, with its patient's label (the weaker unit `image`)."""
    real = group.has_ct | group.has_mri  # (patients, slices)
    row, column = torch.nonzero(real, as_tuple=True)
    return PatientTensors(
        group.ct[row, column, None],
        group.mri[row, column, None],
        group.has_ct[row, column, None],
        group.has_mri[row, column, None],
        group.label[row],
    )


def without_ct(group: PatientTensors) -> PatientTensors:
    """The same patients with MRI only; those who had no MRI are left out."""
    return _with_one_modality(group, group.has_mri, "has_mri")


def without_mri(group: PatientTensors) -> PatientTensors:
    """The same patients with CT only; those who had no CT are left out."""
    return _with_one_modality(group, group.has_ct, "has_ct")


def _with_one_modality(group: PatientTensors, present: Tensor, kept: str) -> PatientTensors:
    row = present.any(dim=1)
    nothing = torch.zeros_like(present)
    masks = {"has_ct": nothing, "has_mri": nothing, kept: present}
    only = PatientTensors(group.ct, group.mri, masks["has_ct"], masks["has_mri"], group.label)
    return only[row]
