"""Encoders of volumes: all slices of one modality at once, each slice's map told by its neighbours.

A patient's slices in order are the depth axis. Maps keep it: there is one for each slice, of a slab
around it, so that what comes behind is as for encoders of slices. Convolutions alone mix slices
(normalisation is each slice's own), and a slice that is absent, missing or padding, is zeros to
each of them, as what lies beyond the last slice is. So a patient's maps are the same however much
padding there is.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from securefed.model.conversion import COMPACT_WIDTHS, group_norm, torchvision_map


class SliceNorm(nn.GroupNorm):
    """GroupNorm of each slice alone: (n, channels, slices, height, width), the same."""

    def forward(self, maps: Tensor) -> Tensor:
        alone = super().forward(maps.transpose(1, 2).flatten(0, 1))
        return torch.unflatten(alone, 0, (maps.shape[0], maps.shape[2])).transpose(1, 2)


def slice_norm(channels: int) -> SliceNorm:
    """As `conversion.group_norm`."""
    return SliceNorm(group_norm(channels).num_groups, channels)


class _Absent(TorchFunctionMode):
    """While entered, absent slices are zeros to every convolution.

    Args:
        present: (n, 1, slices, 1, 1) bool.
    """

    def __init__(self, present: Tensor) -> None:
        super().__init__()
        self._present = present

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is F.conv3d:
            args = (args[0] * self._present, *args[1:])
        return func(*args, **(kwargs or {}))


class VolumeEncoder(nn.Module):
    """(n, 1, slices, size, size), (n, slices) bool -> (n, width, slices, side, side).

    `layers` keep the depth axis as it is, and mix along it in three-dimensional convolutions alone.
    """

    layers: nn.Sequential

    def forward(self, volume: Tensor, present: Tensor) -> Tensor:
        with _Absent(present[:, None, :, None, None]):
            maps: Tensor = self.layers(volume)
        return maps


class CompactVolumes(VolumeEncoder):
    """The compact encoder with the second convolution of each block over three slices.

    side = size / 8; a map is told by three slices on either side.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for out in COMPACT_WIDTHS:
            layers += [
                nn.Conv3d(channels, out, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False),
                slice_norm(out),
                nn.ReLU(),
                nn.Conv3d(out, out, 3, padding=1, bias=False),
                slice_norm(out),
                nn.ReLU(),
            ]
            channels = out
        self.layers = nn.Sequential(*layers, nn.Conv3d(channels, width, 1))


class TorchvisionVolumes(VolumeEncoder):
    """A video network of torchvision, frames being slices, without its strides along them.

    side is about size / 16.

    Args:
        name: as torchvision calls it.
    """

    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        layers = torchvision_map(name, slice_norm)
        for module in layers.modules():
            if isinstance(module, nn.Conv3d):
                module.stride = (1, *module.stride[1:])
        with torch.no_grad():
            channels = layers(torch.zeros(1, 1, 1, 64, 64)).shape[1]
        self.layers = layers.append(nn.Conv3d(channels, width, 1))


def inflated(weight: Tensor, like: Tensor) -> Tensor:
    """A convolution's weight over slices alone as one over volumes; any other as it is.

    It stands in the middle of the depth, the rest is zeros: what it makes of a slice is the same,
    and neighbours are learned (after Carreira & Zisserman 2017, section 2.4, who repeat it).

    Args:
        like: of the shape that is wanted.
    """
    if like.dim() != weight.dim() + 1 or weight.dim() != 4:
        return weight
    made = weight.new_zeros((*weight.shape[:2], like.shape[2], *weight.shape[2:]))
    made[:, :, like.shape[2] // 2] = weight
    return made
