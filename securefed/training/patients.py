"""From patients to tensors of patients, and to the parts and records that a step takes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from securefed.data.samples import Patient
from securefed.model.patients import PatientTensors
from securefed.privacy.noise import RandomSource


def stack(patients: Sequence[Patient], max_slices: int) -> PatientTensors:
    """Stack examples of patients; one with more than `max_slices` keeps that many, evenly spaced.

    Raises:
        ValueError: no patients, or images of different sizes or modalities.
    """
    if not patients:
        raise ValueError("cannot stack zero patients")
    examples = [
        (row, patient, example)
        for row, patient in enumerate(patients)
        for example in patient.examples
    ]
    chosen = [kept_slices(example.slices, max_slices) for _, _, example in examples]
    slices = max(len(keep) for keep in chosen)
    modalities, size = patients[0].modalities, patients[0].image_size
    if any(patient.modalities != modalities for patient in patients):
        raise ValueError("cannot stack patients of different modalities")
    images = np.zeros((len(examples), len(modalities), slices, size, size), np.uint8)
    present = np.zeros((len(examples), len(modalities), slices), np.bool_)
    for row, ((_, patient, _), keep) in enumerate(zip(examples, chosen, strict=True)):
        images[row, :, : len(keep)] = patient.images[:, keep]
        present[row, :, : len(keep)] = patient.present[:, keep]
    labels = np.array([example.label for _, _, example in examples], np.float32)
    alone = len(examples) == len(patients)
    return PatientTensors(
        modalities,
        torch.from_numpy(images),
        torch.from_numpy(present),
        torch.from_numpy(labels),
        owner=None if alone else torch.tensor([number for number, _, _ in examples]),
    )


def kept_slices(places: Sequence[int], max_slices: int) -> NDArray[np.int64]:
    slices = min(len(places), max_slices)
    # The middles of equal parts: of one slice the middle of the head, not its lowest edge.
    middles = (2 * np.arange(slices) + 1) * len(places) // (2 * slices)
    kept: NDArray[np.int64] = np.asarray(places)[middles]
    return kept


def parts_alike(group: PatientTensors, slices: int) -> Iterator[PatientTensors]:
    """The patients in parts of about as many slices each, so that little of a part is padding.

    Args:
        slices: most of a part, padding included; one patient may have more.

    Returns:
        Every patient once, by number of slices, each part cut to its longest example.
    """
    real, patient = group.real, group.patient  # (examples, slices), (examples,)
    ends = (real * torch.arange(1, real.shape[1] + 1, device=real.device)).amax(1).clamp(min=1)
    # Each patient's examples, each as long as its longest.
    longest = ends.new_zeros(group.patients).scatter_reduce_(0, patient, ends, "amax")
    counts = patient.bincount(minlength=len(longest))
    order = (longest * counts).argsort(stable=True)
    sizes = list(zip(longest[order].tolist(), counts[order].tolist(), strict=True))
    start = 0
    for stop in range(1, len(sizes) + 1):
        widest = [max(each) for each in zip(*sizes[start : stop + 1], strict=True)]
        if stop == len(sizes) or (stop + 1 - start) * math.prod(widest) > slices:
            part = group.of_patients(order[start:stop])
            yield part.first_slices(max(end for end, _ in sizes[start:stop]))
            start = stop


def by_patient(group: PatientTensors) -> dict[str, Tensor]:
    """Tensors with the patient as first axis: images, present, label and weight of its examples.

    With several examples the second axis is the example: those of a patient who has fewer are
    filled up by its first one, with weight 0. It is the same in every sum, and its answer is a
    number, which that of an example without slices is not.
    """
    tensors = {"images": group.images, "present": group.present, "label": group.label}
    if group.owner is None:
        return tensors | {"weight": group.weight}
    patient, order = group.patient, group.patient.argsort(stable=True)
    counts = patient.bincount()
    first = counts.cumsum(0) - counts
    number = torch.arange(int(counts.max()) if len(counts) else 0, device=patient.device)
    there = number < counts[:, None]  # (patients, most examples)
    rows = order[first[:, None] + number * there]
    padded = {name: tensor[rows] for name, tensor in tensors.items()}
    return padded | {"weight": group.weight[rows] * there}


def one_slice_records(group: PatientTensors) -> PatientTensors:
    """Every slice as a record of its own, with its example's label (the weaker unit `image`)."""
    return replace(group.one_slice(*torch.nonzero(group.real, as_tuple=True)), owner=None)


def drop_modalities(group: PatientTensors, share: float, source: RandomSource) -> PatientTensors:
    """The same examples, some with one modality only (ModDrop, Neverova et al. 2016, section 4).

    What an example loses depends on that example and on its own random numbers, so that clipping
    bounds what its patient contributes as before. Examples of one modality keep it.

    Args:
        share: chance of an example of several modalities to keep one of them, each alike.
    """
    loses, which = torch.from_numpy(source.uniform(2 * len(group))).view(2, -1)
    has = group.present.any(dim=-1).cpu()  # (examples, modalities)
    chosen = (which * has.sum(dim=1)).long()  # of those that it has
    stays = has & (has.cumsum(dim=1) - 1 == chosen[:, None]) | (loses >= share)[:, None]
    return replace(group, present=group.present & stays[:, :, None].to(group.present.device))
