"""Stress records: made-up patients whose gradients are far longer than the clipping norm.

Where few patients' gradients reach the norm, a clip that does nothing changes next to nothing, and
no audit notices. So a run with canaries has a few records more: tokens of random pictures, STRENGTH
times as large as an encoder gives, which go through the patients' own forward, loss and clip, and
are drawn at their rate. Clipped, each counts as much as a patient; not clipped, as a hundred.

They follow from the seed of the canaries, so that the audit has them too, and change no patient's
guarantee: each is one more record, and counts for no rate and no expected batch.
"""

from dataclasses import replace

import numpy as np
import torch

from securefed.model.encoding import tokens_of
from securefed.model.network import DualEncoderNetwork
from securefed.model.patients import PatientTensors
from securefed.privacy.noise import SeededSource

STRENGTH = 30.0


def stress_count(records: int) -> int:
    """One for thirty declared records, at least one, at most ten: enough to be seen unclipped."""
    return min(max(1, records // 30), 10)


def stress_records(seed: str, count: int, network: DualEncoderNetwork) -> PatientTensors:
    """`count` records of one slice, as tokens of the network's encoders.

    Args:
        seed: of the run's canaries, hexadecimal.
        network: with its frozen encoders; what else it holds does not matter.
    """
    edge = network.shape.image_size
    bits = SeededSource(int(seed, 16), "stress", count, edge).keystream(2 * count * edge * edge)
    pictures = np.frombuffer(bits, np.uint8).reshape(2, count, 1, edge, edge).copy()
    ct, mri = torch.from_numpy(pictures).to(next(network.parameters()).device)
    there = torch.ones(count, 1, dtype=torch.bool, device=ct.device)
    labels = (torch.arange(count, device=ct.device) % 2).float()
    group = PatientTensors(ct, mri, there, there, labels)
    tokens = tokens_of(network, group)
    return replace(tokens, ct=STRENGTH * tokens.ct, mri=STRENGTH * tokens.mri)


def joined(patients: PatientTensors, stress: PatientTensors) -> PatientTensors:
    """Patients' tokens, then the stress records with as many slices as they have."""
    empty = patients.ct.shape[1] - 1

    def longer(values: torch.Tensor) -> torch.Tensor:
        return torch.cat([values, values.new_zeros(len(values), empty, *values.shape[2:])], dim=1)

    return PatientTensors(
        torch.cat([patients.ct, longer(stress.ct).to(patients.ct)]),
        torch.cat([patients.mri, longer(stress.mri).to(patients.mri)]),
        torch.cat([patients.has_ct, longer(stress.has_ct).to(patients.has_ct)]),
        torch.cat([patients.has_mri, longer(stress.has_mri).to(patients.has_mri)]),
        torch.cat([patients.label, stress.label.to(patients.label)]),
    )
