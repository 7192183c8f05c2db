"""Encoders: one slice of one modality to a map of features.

`compact` is a small convolutional network for CPUs; `resnet18` (He et al. 2016) is torchvision's,
with one input channel. Both normalise with GroupNorm (Wu & He 2018), never with batch statistics:
those mix patients, and then no gradient belongs to one patient.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

COMPACT_WIDTHS = (16, 32, 48)


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with at most 8 groups (torchvision passes only the number of channels)."""
    return nn.GroupNorm(min(8, channels), channels)


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


class ResNet18Encoder(nn.Module):
    """torchvision's ResNet-18 without its pooling and classifier, then a 1x1 bottleneck.

    (n, 1, size, size) -> (n, width, size / 32, size / 32).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        from securefed.model.vision import models  # slow to import; only this encoder needs it

        network = models.resnet18(weights=None, norm_layer=group_norm)
        network.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        stages = [network.conv1, network.bn1, nn.ReLU(), network.maxpool]
        stages += [network.layer1, network.layer2, network.layer3, network.layer4]
        self.layers = nn.Sequential(*stages, nn.Conv2d(512, width, 1))
        _forbid_inplace(self)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.layers(image)  # (n, width, s/32, s/32)
        return features


def _forbid_inplace(module: nn.Module) -> None:
    # Per-patient gradients are taken with torch.func, which needs each activation kept.
    for child in module.modules():
        if isinstance(child, nn.ReLU):
            child.inplace = False


ENCODERS: dict[str, Callable[[int], nn.Module]] = {
    "compact": CompactEncoder,
    "resnet18": ResNet18Encoder,
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
