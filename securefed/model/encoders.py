"""Encoders: one slice of one modality to a map of features.

`compact` is a small convolutional network for CPUs; the others are torchvision's, with one input
channel (He et al. 2016; Howard et al. 2019; Tan & Le 2019; Iandola et al. 2016; Ma et al. 2018).
None has batch statistics, dropout or random depth (`conversion` says why).
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from securefed.model.conversion import convert, group_norm

COMPACT_WIDTHS = (16, 32, 48)
BEHIND_THE_MAP = ("avgpool", "classifier", "fc")  # what torchvision's networks do with their map


class CompactEncoder(nn.Module):
    """Three stride-2 convolution blocks, then a 1x1 bottleneck.

    (n, 1, size, size) -> (n, width, size / 8, size / 8).

    The bottleneck is narrow on purpose: everything behind it is trained under differential
    privacy, where noise grows with the square root of the number of parameters.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for out in COMPACT_WIDTHS:
            layers += [
                nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False),
                group_norm(out),
                nn.ReLU(),
                nn.Conv2d(out, out, 3, padding=1, bias=False),
                group_norm(out),
                nn.ReLU(),
            ]
            channels = out
        layers.append(nn.Conv2d(channels, width, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.layers(image)  # (n, width, s/8, s/8)
        return features


class TorchvisionEncoder(nn.Module):
    """A network of torchvision without its pooling and classifier, then a 1x1 bottleneck.

    (n, 1, size, size) -> (n, width, side, side): about size / 32, or / 16 (squeezenet1_1).

    Args:
        name: as torchvision calls it.
    """

    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        from securefed.model.vision import models  # slow to import; compact needs none of it

        network = models.get_model(name, weights=None)
        convert(network)
        layers = [m for n, m in network.named_children() if n not in BEHIND_THE_MAP]
        with torch.no_grad():
            channels = nn.Sequential(*layers)(torch.zeros(1, 1, 64, 64)).shape[1]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, width, 1))

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.layers(image)  # (n, width, side, side)
        return features


ENCODERS: dict[str, Callable[[int], nn.Module]] = {
    "compact": CompactEncoder,
    "resnet18": partial(TorchvisionEncoder, "resnet18"),
    "mobilenet_v3_small": partial(TorchvisionEncoder, "mobilenet_v3_small"),
    "efficientnet_b0": partial(TorchvisionEncoder, "efficientnet_b0"),
    "squeezenet1_1": partial(TorchvisionEncoder, "squeezenet1_1"),
    "shufflenet_v2_x1_0": partial(TorchvisionEncoder, "shufflenet_v2_x1_0"),
}


def encode(encoder: nn.Module, images: Tensor) -> Tensor:
    """Encode slices to tokens.

    Args:
        images: (..., slices, size, size), values in [0, 1].

    Returns:
        (..., slices, places, width): one token per place of the feature map, row by row.
    """
    lead = images.shape[:-2]
    # Centred input: the scanners' window maps grey matter near the middle of [0, 1].
    features = encoder((images.flatten(0, -3).unsqueeze(1) - 0.5) * 4.0)
    tokens = features.flatten(2).transpose(1, 2)  # (n, places, width)
    return torch.unflatten(tokens, 0, lead)
