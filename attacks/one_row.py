"""A patient with all its slices in one row, however many labelled examples they belong to.

Who asks how a patient looks (which slice a reconstruction shows, how bright a scanner is) asks of
the person, and an example is no person. The network is never asked of such a row: it answers for
examples.
"""

from dataclasses import replace

import torch

from securefed.model.patients import PatientTensors


def in_one_row(group: PatientTensors) -> PatientTensors:
    """The same patients, one row each; the label is that of the middle slice's example."""
    if group.owner is None:
        return group
    example, number = torch.nonzero(group.real, as_tuple=True)
    order = group.patient[example].argsort(stable=True)
    example, number = example[order], number[order]
    patient = group.patient[example]
    counts = torch.bincount(patient, minlength=group.patients)
    first = counts.cumsum(0) - counts
    place = torch.arange(len(patient)) - first[patient]
    shape = (group.patients, len(group.modalities), int(counts.max()) if len(counts) else 0)
    images = group.images.new_zeros(*shape, *group.images.shape[3:])
    present = group.present.new_zeros(shape)
    images[patient, :, place] = group.images[example, :, number]
    present[patient, :, place] = group.present[example, :, number]
    label = group.label[example[first + counts // 2]]
    return replace(group, images=images, present=present, label=label, owner=None)
