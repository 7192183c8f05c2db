"""Encoders: what one modality shows of a patient, to a map of features for each slice.

`compact` is a small convolutional network for CPUs; others are torchvision's, with one input
channel (He et al. 2016; Howard et al. 2019; Tan & Le 2019; Iandola et al. 2016; Ma et al. 2018).
Those see each slice alone. `compact3d` and `r3d_18` (Tran et al. 2018) see volumes (`volumes`).
None has batch statistics, dropout or random depth (`conversion` says why).
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from securefed.model.conversion import COMPACT_WIDTHS, group_norm, torchvision_map
from securefed.model.volumes import CompactVolumes, TorchvisionVolumes, VolumeEncoder


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
        layers = torchvision_map(name)
        with torch.no_grad():
            channels = layers(torch.zeros(1, 1, 64, 64)).shape[1]
        self.layers = layers.append(nn.Conv2d(channels, width, 1))

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
    "compact3d": CompactVolumes,
    "r3d_18": partial(TorchvisionVolumes, "r3d_18"),
}


def encode(encoder: nn.Module, images: Tensor, present: Tensor | None = None) -> Tensor:
    """Encode slices to tokens.

    Args:
        images: (..., slices, size, size), values in [0, 1].
        present: (..., slices) bool, which of them there are; all if not said. Only encoders of
            volumes look, and what they make of an absent slice has no meaning.

    Returns:
        (..., slices, places, width): one token per place of the feature map, row by row.
    """
    # Centred input: the scanners' window maps grey matter near the middle of [0, 1].
    centred = (images - 0.5) * 4.0
    if isinstance(encoder, VolumeEncoder):
        if present is None:
            present = torch.ones(images.shape[:-2], dtype=torch.bool, device=images.device)
        volumes = centred.flatten(0, -4) if images.dim() > 3 else centred[None]
        maps = encoder(volumes[:, None], present.reshape(volumes.shape[:2]))
        features = maps.transpose(1, 2).flatten(0, 1)
    else:
        features = encoder(centred.flatten(0, -3).unsqueeze(1))
    tokens = features.flatten(2).transpose(1, 2)  # (n, places, width)
    return torch.unflatten(tokens, 0, images.shape[:-2])
