"""From a feature to a picture: the images whose feature is the recovered one.

Whoever holds the encoders optimises the images of one slice, of every modality, so that the
signature's ratios (attacks.head.features) come out as recovered, from a mean image, under a
total-variation prior (Mahendran & Vedaldi 2015). The encoders of a default run are public, so
nothing is guessed; where encoders are trained and not shared, a surrogate of the same shape stands
in, and what comes out has the surrogate's idea of a feature, not the hospital's.

A weighted mean over places has no positions: a few dozen numbers cannot hold a picture of thousands
of pixels. Expect the tone of a patient's slices, not the anatomy. The feature itself tells patients
apart far better than the picture does.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attacks.head.features import Floats, gradient_rows
from attacks.result import Progress
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors

STEP = 0.02  # of Adam, in grey values of [0, 1]
SMALLEST = 1e-9  # of a bias gradient, to divide by
SMOOTHNESS = 0.02  # weight of total variation beside the mean squared feature error


@dataclass(frozen=True, eq=False)
class Inverted:
    """Images of one slice with the wanted feature.

    Attributes:
        images: (modalities, size, size) in [0, 1].
        error: mean squared error of the feature in units of the reference patients' spread; 1 is
            as far as another patient.
    """

    images: NDArray[np.float32] = field(repr=False)
    error: float


def invert_feature(
    network: FusionNetwork,
    ratios: Floats,
    label: Tensor,
    spread: Floats,
    start: Tensor,
    iterations: int,
    progress: Progress,
) -> Inverted:
    """Find a slice's images whose row ratios are `ratios`.

    Args:
        network: with the parameters the update was taken at; encoders known or a surrogate's.
        ratios: (m, d); rows that are NaN have no say.
        label: of the slice, (1,); of several classes the ratios depend on it.
        spread: standard deviation of each entry over reference patients, (m, d).
        start: mean image of each modality, (modalities, size, size) in [0, 1].
    """
    images = start.float().clone().requires_grad_(True)
    known = torch.from_numpy(np.isfinite(ratios) & (spread > 0))
    target = torch.from_numpy(np.where(known, ratios, 0.0)).float()
    scale = torch.from_numpy(np.where(known, spread, 1.0)).float()
    optimizer = torch.optim.Adam([images], lr=STEP)
    error = torch.zeros(())
    for done in range(iterations):
        optimizer.zero_grad()
        error = _feature_error(network, images, label, target, scale, known)
        (error + SMOOTHNESS * _total_variation(images)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            images.clamp_(0.0, 1.0)
        progress((done + 1) / iterations)
    return Inverted(images.detach().numpy(), float(error.detach()))


def _feature_error(
    network: FusionNetwork,
    images: Tensor,
    label: Tensor,
    target: Tensor,
    scale: Tensor,
    known: Tensor,
) -> Tensor:
    tokens = network.encode(images[None, :, None])  # (1, modalities, 1, places, width)
    there = torch.ones(tokens.shape[:3], dtype=torch.bool)
    one = PatientTensors(network.shape.modalities, tokens, there, label)
    rows = gradient_rows(network, one)[0]
    divisor = rows[:, -1:]
    there = divisor.abs() > SMALLEST
    ratios = rows[:, :-1] / torch.where(there, divisor, 1.0)
    squares = ((ratios - target) / scale).square()
    return squares[known & there].mean()


def _total_variation(images: Tensor) -> Tensor:
    across = (images[:, :, 1:] - images[:, :, :-1]).abs().mean()
    return across + (images[:, 1:] - images[:, :-1]).abs().mean()
