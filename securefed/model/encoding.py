"""Patients as tokens: what frozen encoders make of their images, computed once and kept."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from securefed.model.encoders import encode
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors

CHUNK = 64  # slices encoded at a time

Encode = Callable[[FusionNetwork, PatientTensors], PatientTensors]


@torch.no_grad()
def tokens_of(network: FusionNetwork, group: PatientTensors) -> PatientTensors:
    """The same patients with tokens of the network's encoders in place of images.

    Only slices that are there are encoded. The others' tokens are zeros, which no attention falls
    on.
    """
    network.eval()
    encoded = _volumes if network.of_volumes else _slices
    return replace(group, images=encoded(network, group))


def _slices(network: FusionNetwork, group: PatientTensors) -> Tensor:
    pairs = zip(network.encoders, group.images.unbind(1), group.present.unbind(1), strict=True)
    # (n, places, width); an empty group has a token shape too.
    each = [_in_chunks(encoder, images[shown]) for encoder, images, shown in pairs]
    out = each[0].new_zeros((*group.present.shape, *each[0].shape[1:]))
    out.transpose(0, 1)[group.present.transpose(0, 1)] = torch.cat(each)
    return out


def _in_chunks(encoder: nn.Module, images: Tensor) -> Tensor:
    """(n, size, size) uint8 -> (n, places, width)."""
    return torch.cat([encode(encoder, part.float() / 255) for part in torch.split(images, CHUNK)])


def _volumes(network: FusionNetwork, group: PatientTensors) -> Tensor:
    patients = max(1, CHUNK // max(1, group.slices))
    parts = zip(
        torch.split(group.images, patients), torch.split(group.present, patients), strict=True
    )
    tokens = torch.cat([network.encode(images.float() / 255, there) for images, there in parts])
    return tokens.masked_fill(~group.present[..., None, None], 0.0)
