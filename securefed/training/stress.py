"""Stress records: made-up patients whose gradients are far longer than the clipping norm.

Where few patients' gradients reach the norm, a clip that does nothing changes next to nothing, and
no audit notices. So a run with canaries has a few records more: tokens of random pictures, STRENGTH
times as large as an encoder gives, which go through the patients' own forward, loss and clip, and
are drawn at their rate. Clipped, each counts as much as a patient; not clipped, as a hundred.

They follow from the seed of the canaries, so that the audit has them too, and change no patient's
guarantee: each is one more record, and counts for no rate and no expected batch.
"""

import math
from dataclasses import replace

import numpy as np
import torch

from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors
from securefed.privacy.noise import SeededSource

STRENGTH = 30.0


def stress_count(records: int) -> int:
    """One for thirty declared records, at least one, at most ten: enough to be seen unclipped."""
    return min(max(1, records // 30), 10)


def stress_records(seed: str, count: int, network: FusionNetwork) -> PatientTensors:
    """`count` records of one slice, as tokens of the network's encoders.

    Args:
        seed: of the run's canaries, hexadecimal.
        network: with its frozen encoders; what else it holds does not matter.
    """
    edge = network.shape.image_size
    shape = (len(network.shape.modalities), count, 1, edge, edge)
    bits = SeededSource(int(seed, 16), "stress", count, edge).keystream(math.prod(shape))
    pictures = np.frombuffer(bits, np.uint8).reshape(shape).copy()
    images = torch.from_numpy(pictures).to(next(network.parameters()).device).transpose(0, 1)
    there = torch.ones(images.shape[:3], dtype=torch.bool, device=images.device)
    labels = (torch.arange(count, device=images.device) % 2).float()
    group = PatientTensors(network.shape.modalities, images, there, labels)
    tokens = tokens_of(network, group)
    return replace(tokens, images=STRENGTH * tokens.images)
