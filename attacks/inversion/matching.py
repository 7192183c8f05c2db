"""Whom a reconstruction shows: targets and their decoys, compared in the encoders' features.

A trial is one training patient, chosen before anything is reconstructed, and decoys who took no
part: held-out patients with the same modalities, of the same hospital as far as there are enough.
Candidates are compared with the reconstruction by what the encoders make of both, which tells heads
apart better than pixels do. A reconstruction that knows nothing picks the target with probability
1 / (decoys + 1), because it was chosen without looking.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attacks.inversion.quality import LEAST_DECOYS
from attacks.one_row import in_one_row
from attacks.subject import Hospital
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors, concatenate

Distances = NDArray[np.float64]
Acquired = tuple[bool, ...]  # whether a patient has each modality
Key = tuple[str, bool, int]  # hospital, whether held out, number: one patient
Gallery = dict[Key, Tensor]  # patient -> features of its slices, (slices, modalities, features)
ENCODE_CHUNK = 64  # slices encoded at a time


@dataclass(frozen=True, eq=False)
class Trial:
    """One target and its decoys.

    Attributes:
        hospital: the target's.
        keys: who the candidates are, in order.
        examples: of the target, then of LEAST_DECOYS decoys: what the network answers for; images
            as uint8.
        candidates: the same, each with all its slices in one row.
    """

    hospital: str
    keys: tuple[Key, ...] = field(repr=False)
    examples: PatientTensors = field(repr=False)
    candidates: PatientTensors = field(repr=False)

    @property
    def decoys(self) -> PatientTensors:
        """The decoys' examples."""
        return self.examples.of_patients(torch.arange(1, self.examples.patients))


def draw_trials(
    hospitals: Sequence[Hospital], among: Sequence[str], count: int, rng: np.random.Generator
) -> list[Trial]:
    """At most `count` trials with targets of the hospitals named in `among`, each patient once.

    Patients with too few decoys of the same modalities are no targets; an empty list means that
    nobody has enough.
    """
    held_out = {each.name: _by_modalities(each.held_out) for each in hospitals}
    targets: list[tuple[Hospital, int, Acquired]] = []
    for hospital in hospitals:
        if hospital.name in among:
            for modalities, rows in _by_modalities(hospital.train).items():
                enough = sum(len(of.get(modalities, ())) for of in held_out.values())
                if enough >= LEAST_DECOYS and any(modalities):
                    targets += [(hospital, row, modalities) for row in rows]
    order = rng.permutation(len(targets))[:count]
    return [_trial(hospitals, held_out, targets[int(i)], rng) for i in order]


def _by_modalities(group: PatientTensors) -> dict[Acquired, list[int]]:
    """What was acquired -> patients, by number."""
    of_examples = group.present.any(dim=2).int()  # (examples, modalities)
    acquired = of_examples.new_zeros(group.patients, of_examples.shape[1])
    acquired.index_add_(0, group.patient, of_examples)
    rows: dict[Acquired, list[int]] = {}
    for row, modalities in enumerate((acquired > 0).tolist()):
        rows.setdefault(tuple(modalities), []).append(row)
    return rows


def _trial(
    hospitals: Sequence[Hospital],
    held_out: dict[str, dict[Acquired, list[int]]],
    target: tuple[Hospital, int, Acquired],
    rng: np.random.Generator,
) -> Trial:
    own, row, modalities = target
    parts = [own.train.of_patients(torch.tensor([row]))]
    keys: list[Key] = [(own.name, False, row)]
    missing = LEAST_DECOYS
    for hospital in sorted(hospitals, key=lambda each: each.name != own.name):  # own first
        rows = held_out[hospital.name].get(modalities, [])
        drawn = [rows[int(i)] for i in rng.permutation(len(rows))[:missing]]
        parts.append(hospital.held_out.of_patients(torch.tensor(drawn).long()))
        keys += [(hospital.name, True, each) for each in drawn]
        missing -= len(drawn)
    examples = concatenate(parts)
    return Trial(own.name, tuple(keys), examples, in_one_row(examples))


def images_of(group: PatientTensors) -> Tensor:
    """(patients, slices, modalities, size, size) in [0, 1]."""
    return group.images.transpose(1, 2).float() / 255


def presence_of(group: PatientTensors) -> Tensor:
    """(patients, slices, modalities) bool."""
    return group.present.transpose(1, 2)


@torch.no_grad()
def features(network: FusionNetwork, images: Tensor) -> Tensor:
    """(n, modalities, size, size) in [0, 1] -> (n, modalities, features) of the encoders."""
    chunks = torch.split(images, ENCODE_CHUNK)
    return torch.cat([network.encode(chunk[:, :, None]).flatten(2) for chunk in chunks])


def candidate_distances(
    network: FusionNetwork,
    reconstructions: Tensor,
    candidates: PatientTensors,
    keys: Sequence[Key],
    gallery: Gallery,
) -> Distances:
    """Distance of each candidate to its nearest reconstruction, (candidates,).

    The mean squared difference of features, over the modalities that the slice has; of a
    candidate's slices and the reconstructions the best pair counts.

    Args:
        reconstructions: (n, modalities, size, size) in [0, 1].
        keys: who the candidates are.
        gallery: features already known, with this network and these slices; grows.
    """
    present = presence_of(candidates)  # (c, slices, modalities)
    seen = present.any(dim=2)
    new = torch.tensor([i for i, key in enumerate(keys) if key not in gallery]).long()
    if len(new):
        encoded = features(network, images_of(candidates[new])[seen[new]])
        parts = torch.split(encoded, seen[new].sum(dim=1).tolist())
        gallery.update(zip((keys[int(i)] for i in new), parts, strict=True))
    known = torch.cat([gallery[key] for key in keys])  # (m, modalities, f)
    found = features(network, reconstructions)  # (n, modalities, f)
    has = present[seen].float()  # (m, modalities)
    pairs = zip(known.unbind(1), found.unbind(1), strict=True)
    each = torch.stack([torch.cdist(*pair).square() for pair in pairs], dim=2)
    nearest = ((each * has[:, None]).sum(dim=2) / has.sum(dim=1)[:, None]).amin(dim=1)  # (m,)
    distance = torch.full(seen.shape, torch.inf)
    distance[seen] = nearest
    return distance.amin(dim=1).double().numpy() / found.shape[2]
