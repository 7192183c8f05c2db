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
Told = Callable[[int, int], object]  # slices that are encoded, and in all


def _ignore(done: int, total: int) -> None:
    """Who does not want to know."""


@torch.no_grad()
def tokens_of(
    network: FusionNetwork, group: PatientTensors, told: Told = _ignore
) -> PatientTensors:
    """The same patients with tokens of the network's encoders in place of images.

    Only slices that are there are encoded. The others' tokens are zeros, which no attention falls
    on.

    Args:
        told: called now and then; with large images this takes minutes.
    """
    network.eval()
    done, total = 0, int(group.present.sum())

    def count(slices: int) -> None:
        nonlocal done
        done += slices
        told(done, total)

    encoded = _volumes if network.of_volumes else _slices
    return replace(group, images=encoded(network, group, count))


def _slices(network: FusionNetwork, group: PatientTensors, count: Callable[[int], None]) -> Tensor:
    pairs = zip(network.encoders, group.images.unbind(1), group.present.unbind(1), strict=True)
    # (n, places, width); an empty group has a token shape too.
    each = [_in_chunks(encoder, images[shown], count) for encoder, images, shown in pairs]
    out = each[0].new_zeros((*group.present.shape, *each[0].shape[1:]))
    out.transpose(0, 1)[group.present.transpose(0, 1)] = torch.cat(each)
    return out


def _in_chunks(encoder: nn.Module, images: Tensor, count: Callable[[int], None]) -> Tensor:
    """(n, size, size) uint8 -> (n, places, width)."""
    tokens = []
    for part in torch.split(images, CHUNK):
        tokens.append(encode(encoder, part.float() / 255))
        count(len(part))
    return torch.cat(tokens)


def _volumes(network: FusionNetwork, group: PatientTensors, count: Callable[[int], None]) -> Tensor:
    patients = max(1, CHUNK // max(1, group.slices))
    tokens = []
    for images, there in zip(
        torch.split(group.images, patients), torch.split(group.present, patients), strict=True
    ):
        tokens.append(network.encode(images.float() / 255, there))
        count(int(there.sum()))
    return torch.cat(tokens).masked_fill(~group.present[..., None, None], 0.0)
