"""Patients as tokens: what frozen encoders make of their images, computed once and kept."""

from collections.abc import Callable
from dataclasses import replace

import torch

from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors

CHUNK = 64  # slices encoded at a time

Encode = Callable[[FusionNetwork, PatientTensors], PatientTensors]


@torch.no_grad()
def tokens_of(network: FusionNetwork, group: PatientTensors) -> PatientTensors:
    """The same patients with tokens of the network's encoders in place of images.

    Padding is not encoded: its tokens are zeros, and no attention falls on it.
    """
    network.eval()
    real = group.real  # (patients, slices)
    images = group.images.transpose(1, 2)[real].transpose(0, 1)  # (modalities, n, size, size)
    # An empty group has a token shape too.
    parts = [network.encode(part.float() / 255) for part in torch.split(images, CHUNK, dim=1)]
    tokens = torch.cat(parts, dim=1).transpose(0, 1)  # (n, modalities, places, width)
    out = tokens.new_zeros((*real.shape, *tokens.shape[1:]))
    out[real] = tokens
    return replace(group, images=out.transpose(1, 2).contiguous())
