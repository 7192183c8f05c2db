"""Scans as other heads in other scanners would have given them: what a step sees of an example.

Each drawn example is mirrored or not, turned, scaled and moved, all its slices and modalities
alike, so that what is registered stays so; and each modality's grey values g in [0, 1] become
gain * g^gamma, as scanners differ. The ranges are public constants. What becomes of an example
depends on it and on its own random numbers alone, so that clipping bounds what its patient
contributes as before, and epsilon is the same. Held-out patients are scored as they are.

Pictures change, so encoders have to train: tokens of frozen ones are computed once.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from securefed.model.patients import PatientTensors
from securefed.privacy.noise import RandomSource

# Largest change, either way; each value within is as likely.
TURN = math.radians(20)
SCALE = 0.17  # logarithm
MOVE = 0.05  # of the edge
GAMMA, GAIN = 0.5, 0.35  # logarithms


def augmented(group: PatientTensors, source: RandomSource) -> PatientTensors:
    """The same examples, each changed by random numbers of its own.

    Args:
        group: of images, not of tokens.
    """
    examples, modalities, slices, size, _ = group.images.shape
    if not examples:
        return group
    device = group.images.device
    uniform = torch.from_numpy(source.uniform(examples * (5 + 2 * modalities)))
    drawn = (2 * uniform.view(examples, -1) - 1).float().to(device)  # in [-1, 1)
    grey = drawn[:, 5:].view(examples, 2, modalities, 1, 1, 1)
    gamma, gain = (grey[:, 0] * GAMMA).exp(), (grey[:, 1] * GAIN).exp()
    images = gain * (group.images / 255) ** gamma
    grid = F.affine_grid(_places(drawn[:, :5]), [examples, 1, size, size], align_corners=False)
    flat = images.view(examples, modalities * slices, size, size)
    moved = F.grid_sample(flat, grid, align_corners=False).view_as(images)
    return replace(group, images=(255 * moved).round().clamp(0, 255).to(torch.uint8))


def _places(drawn: Tensor) -> Tensor:
    """(examples, 2, 3) where a changed picture looks in the picture, edges at -1 and 1."""
    mirror = torch.where(drawn[:, 0] < 0, -1.0, 1.0)
    angle, scale = drawn[:, 1] * TURN, (drawn[:, 2] * SCALE).exp()
    cos, sin = scale * angle.cos(), scale * angle.sin()
    across = torch.stack([mirror * cos, -sin, 2 * MOVE * drawn[:, 3]], dim=1)
    down = torch.stack([mirror * sin, cos, 2 * MOVE * drawn[:, 4]], dim=1)
    return torch.stack([across, down], dim=1)
