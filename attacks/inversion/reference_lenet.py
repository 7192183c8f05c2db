"""The fixture of the inversion controls: a small sigmoid LeNet and smooth pictures.

The network is the one that the literature reconstructs from first (Zhu et al. 2019, section 4):
three 5x5 convolutions of 12 channels with sigmoids and one linear layer; 15,826 parameters for
32x32 colour images and 10 classes. Weights are uniform in [-0.1, 0.1], where the sigmoids are not
saturated. (With the [-0.5, 0.5] of that paper's code, a few hundred steps do not arrive.)
The pictures are ellipses of random place, size and colour with soft edges: generated, so that
nothing is downloaded and nobody's scan is in the package. That this network is easy is its
purpose: an attack that fails here would fail anywhere.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attacks.errors import InvalidScores
from attacks.inversion.gradient_inversion import Simulate

CLASSES, CHANNELS, SIDE = 10, 3, 32
IMAGE = (CHANNELS, SIDE, SIDE)
ELLIPSES = 6
LARGEST_WEIGHT = 0.1
EDGE = 4.0  # steepness of an ellipse's edge, per squared relative radius


class ReferenceLeNet(nn.Module):
    """(n, 3, 32, 32) in [0, 1] -> (n, 10) logits."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(CHANNELS, 12, 5, stride=2, padding=2),
            nn.Sigmoid(),
            nn.Conv2d(12, 12, 5, stride=2, padding=2),
            nn.Sigmoid(),
            nn.Conv2d(12, 12, 5, padding=2),
            nn.Sigmoid(),
        )
        self.classifier = nn.Linear(12 * (SIDE // 4) ** 2, CLASSES)
        drawn = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-LARGEST_WEIGHT, LARGEST_WEIGHT, generator=drawn)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


def smooth_picture(seed: int) -> Tensor:
    """Soft ellipses on a dark ground, (3, 32, 32) in [0, 1]."""
    drawn = torch.Generator().manual_seed(seed)
    axis = torch.linspace(-1, 1, SIDE)
    row, column = torch.meshgrid(axis, axis, indexing="ij")
    picture = torch.full(IMAGE, 0.1)
    for _ in range(ELLIPSES):
        centre = torch.rand(2, generator=drawn) * 1.4 - 0.7
        radius = torch.rand(2, generator=drawn) * 0.4 + 0.2
        colour = torch.rand(CHANNELS, generator=drawn)
        far = ((row - centre[0]) / radius[0]) ** 2 + ((column - centre[1]) / radius[1]) ** 2
        inside = torch.sigmoid(EDGE * (1 - far))
        picture = picture * (1 - inside) + colour[:, None, None] * inside
    return picture


def gradients_of(network: nn.Module, labels: Tensor) -> Simulate:
    """One gradient of the cross-entropy per image, over all parameters.

    Args:
        labels: (problems,) class of each problem's only image.

    Returns:
        (problems, channels, rows, columns) -> (problems, P), differentiable.
    """
    parameters = tuple(network.parameters())

    def simulate(images: Tensor) -> Tensor:
        if len(images) != len(labels):
            raise InvalidScores(f"{len(images)} images for {len(labels)} labels")
        return torch.stack(
            [gradient(images[i : i + 1], labels[i : i + 1]) for i in range(len(images))]
        )

    def gradient(image: Tensor, label: Tensor) -> Tensor:
        loss = F.cross_entropy(network(image), label)
        parts = torch.autograd.grad(loss, parameters, create_graph=True)
        return torch.cat([part.reshape(-1) for part in parts])

    return simulate
