"""Where the places of an encoder's feature map lie in the image, in pixels.

A convolution of stride 2 with a padded edge centres its first output on the first pixel, not on the
middle of the first two: after three of them place i sees most of pixel 8 i, and pictures that put
it at 8 i + 4 are half a place off. So the strides are followed through the network (the arithmetic
of receptive fields: Araujo, Norris & Sim 2019, Distill).
"""

from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from securefed.model.encoders import encode
from securefed.model.network import FusionNetwork

_STRIDING = (nn.Conv2d, nn.Conv3d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool2d, nn.AvgPool3d)


@dataclass(frozen=True)
class PlaceGrid:
    """Centres of places along an edge: `first`, `first + step`, ...; as many as `side`."""

    first: float
    step: float
    side: int

    def centre(self, place: int) -> float:
        """Of a place, in pixels; 0 is the middle of the first pixel."""
        return self.first + self.step * place

    def nearest(self, size: int) -> NDArray[np.int64]:
        """(size,) the place nearest to each pixel of an edge."""
        place = np.floor((np.arange(size) - self.first) / self.step + 0.5)
        return np.asarray(place.clip(0, self.side - 1), np.int64)

    def over_pixels(self, values: NDArray[Any], size: int) -> NDArray[Any]:
        """(..., side, side) -> (..., size, size), to each pixel what its nearest place has."""
        nearest = self.nearest(size)
        return np.asarray(values[..., nearest[:, None], nearest])

    def sums(self, pixels: NDArray[Any]) -> NDArray[np.float64]:
        """(..., size, size) -> (..., side, side), the sum over the pixels nearest to each place."""
        one = np.eye(self.side)[self.nearest(pixels.shape[-1])]  # (size, side)
        return np.asarray(one.T @ pixels @ one, np.float64)


@torch.no_grad()
def place_grid(network: FusionNetwork) -> PlaceGrid:
    """Of the network's encoders, which are all alike."""
    encoder, size = network.encoders[0], network.shape.image_size
    steps: dict[int, tuple[float, int]] = {}  # edge of the input -> shift of the centre, stride

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kernel, stride, padding = (
            _last(layer, name) for name in ("kernel_size", "stride", "padding")
        )
        if stride > 1:  # branches beside each other have one stride
            steps.setdefault(inputs[0].shape[-1], ((kernel - 1) / 2 - padding, stride))

    layers = (each for each in encoder.modules() if isinstance(each, _STRIDING))
    hooks = [each.register_forward_hook(note) for each in layers]
    try:
        tokens = encode(encoder, torch.zeros(1, size, size))
    finally:
        for hook in hooks:
            hook.remove()
    first, step = 0.0, 1
    for edge in sorted(steps, reverse=True):
        shift, stride = steps[edge]
        first += step * shift
        step *= stride
    return PlaceGrid(first, step, isqrt(tokens.shape[-2]))


def _last(layer: nn.Module, name: str) -> int:
    """Of the last axis: columns, which are as rows are."""
    value = getattr(layer, name)
    return int(value[-1] if isinstance(value, tuple) else value)
