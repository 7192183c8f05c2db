"""From patients to tensors of patients, and to the parts and records that a step takes."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from securefed.data.samples import Patient
from securefed.model.patients import PatientTensors
from securefed.privacy.noise import RandomSource


def stack(patients: Sequence[Patient], max_slices: int) -> PatientTensors:
    """Stack patients; one with more than `max_slices` keeps that many, evenly spaced.

    Raises:
        ValueError: no patients, or images of different sizes or modalities.
    """
    if not patients:
        raise ValueError("cannot stack zero patients")
    chosen = [_evenly_spaced(patient, max_slices) for patient in patients]
    slices = max(len(keep) for keep in chosen)
    modalities, size = patients[0].modalities, patients[0].image_size
    if any(patient.modalities != modalities for patient in patients):
        raise ValueError("cannot stack patients of different modalities")
    images = np.zeros((len(patients), len(modalities), slices, size, size), np.uint8)
    present = np.zeros((len(patients), len(modalities), slices), np.bool_)
    for row, (patient, keep) in enumerate(zip(patients, chosen, strict=True)):
        images[row, :, : len(keep)] = patient.images[:, keep]
        present[row, :, : len(keep)] = patient.present[:, keep]
    labels = np.array([patient.label for patient in patients], np.float32)
    tensors = [torch.from_numpy(array) for array in (images, present, labels)]
    return PatientTensors(modalities, *tensors)


def _evenly_spaced(patient: Patient, max_slices: int) -> NDArray[np.int64]:
    count = patient.slices
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
    real = group.real  # (patients, slices)
    ends = (real * torch.arange(1, real.shape[1] + 1, device=real.device)).amax(1).clamp(min=1)
    order = ends.argsort(stable=True)
    counts = ends[order].tolist()
    start = 0
    for stop in range(1, len(counts) + 1):
        if stop == len(counts) or (stop + 1 - start) * counts[stop] > slices:
            yield group[order[start:stop]].first_slices(counts[stop - 1])
            start = stop


def one_slice_records(group: PatientTensors) -> PatientTensors:
    """Every slice as a record of its own, with its patient's label (the weaker unit `image`)."""
    return group.one_slice(*torch.nonzero(group.real, as_tuple=True))


def drop_modalities(group: PatientTensors, share: float, source: RandomSource) -> PatientTensors:
    """The same patients, some with one modality only (ModDrop, Neverova et al. 2016, section 4).

    What a patient loses depends on that patient and on its own random numbers, so that clipping
    bounds what it contributes as before. Patients of one modality keep it.

    Args:
        share: chance of a patient of several modalities to keep one of them, each alike.
    """
    loses, which = torch.from_numpy(source.uniform(2 * len(group))).view(2, -1)
    has = group.present.any(dim=-1).cpu()  # (patients, modalities)
    chosen = (which * has.sum(dim=1)).long()  # of those that it has
    stays = has & (has.cumsum(dim=1) - 1 == chosen[:, None]) | (loses >= share)[:, None]
    return replace(group, present=group.present & stays[:, :, None].to(group.present.device))
