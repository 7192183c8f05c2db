"""Public initialisation of the encoders: one modality at a time, never a pair.

Training from scratch under differential privacy on a few hundred patients learns nothing: the
noise grows with the number of parameters. Public pictures exist, paired scans hardly do, so each
encoder may start from weights that were trained on public pictures: scenes of no modality
(`public_scenes`), or scans of its own (`public_images`). Which *places* coincide, the question of
the paired task, is in the labels of neither.

The encoder learns with a linear readout of its features. Afterwards the bottleneck is rescaled so
that each feature has mean 0 and variance 1 over the public pictures: gradients that are clipped to
one norm then waste none of it on offsets.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from securefed.model.encoders import ENCODERS, encode
from securefed.model.weight_files import FORMAT


class LinearReadout(nn.Module):
    """What is read of tokens, linear in their features."""

    evidence: nn.Linear


R = TypeVar("R", bound=LinearReadout)


class Readout(LinearReadout):
    """Linear evidence per place, pooled to a slice logit; thrown away after pretraining."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.evidence = nn.Linear(width, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(slices, places, width) -> (slices,) logits."""
        return log_mean_exp(self.evidence(tokens).squeeze(-1), -1)


def log_mean_exp(logits: Tensor, dim: int) -> Tensor:
    """Pooled over places, as a patient's are (`network.Classifier`)."""
    return torch.logsumexp(logits, dim=dim) - math.log(logits.shape[dim])


@dataclass(frozen=True)
class Schedule:
    """Public training of one encoder: epochs over the slices, slices per batch, Adam's rate."""

    epochs: int = 4
    batch_size: int = 64
    learning_rate: float = 2e-3


def told_of(
    encoder: str, width: int, image_size: int, source: str, schedule: Schedule, seed: int
) -> dict[str, str]:
    """What the file of every pretrained encoder says of it, whatever it was trained on."""
    return {
        "format": FORMAT,
        "encoder": encoder,
        "width": str(width),
        "image_size": str(image_size),
        "source": source,
        "schedule": json.dumps(asdict(schedule)),
        "seed": str(seed),
    }


def halves(name: str, network: nn.Module) -> dict[str, Tensor]:
    """An encoder's parameters as its file has them: half precision, under a name."""
    return {f"{name}.{key}": value.half() for key, value in network.state_dict().items()}


def pretrain(
    encoder: str,
    width: int,
    images: NDArray[np.uint8],
    evidence: NDArray[np.bool_],
    seed: int,
    schedule: Schedule,
    progress: Callable[[float], None],
) -> tuple[nn.Module, Readout]:
    """Train one encoder on public slices of one modality; returns it and its readout.

    Args:
        encoder: a key of ENCODERS.
        width: features per place.
        images: (slices, size, size).
        evidence: (slices,) whether the slice shows the modality's finding.
        progress: told the finished share, 0 to 1.
    """
    return fit(
        encoder,
        width,
        images,
        torch.from_numpy(evidence).float(),
        seed,
        schedule,
        progress,
        readout=Readout,
        loss=F.binary_cross_entropy_with_logits,
        mirrored=True,  # heads are nearly symmetric
    )


def fit(
    encoder: str,
    width: int,
    images: NDArray[np.uint8],
    targets: Tensor,
    seed: int,
    schedule: Schedule,
    progress: Callable[[float], None],
    *,
    readout: Callable[[int], R],
    loss: Callable[[Tensor, Tensor], Tensor],
    mirrored: bool = False,
) -> tuple[nn.Module, R]:
    """Train an encoder with any readout of its tokens; its features end with mean 0, variance 1.

    Args:
        targets: (slices, ...), what `loss` holds the readout's answer against.
        readout: makes one for a width.
        mirrored: mirror half of the batches; targets must then not depend on places.
    """
    torch.manual_seed(seed)
    network = ENCODERS[encoder](width)
    answers = readout(width)
    parameters = [*network.parameters(), *answers.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=schedule.learning_rate)
    schedule = replace(schedule, batch_size=min(schedule.batch_size, len(images)))
    steps = schedule.epochs * (len(images) // schedule.batch_size)
    decay = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.learning_rate * 2, steps)
    batches = _batches(images, targets, seed, schedule, mirrored)
    for step, (batch, target) in enumerate(batches):
        optimizer.zero_grad()
        loss(answers(encode(network, batch)), target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        decay.step()
        progress((step + 1) / steps)
    _standardise(network, answers, images)
    return network, answers


def _batches(
    images: NDArray[np.uint8], targets: Tensor, seed: int, schedule: Schedule, mirrored: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    rng = np.random.default_rng(seed)
    for _ in range(schedule.epochs):
        order = rng.permutation(len(images))
        for start in range(0, len(order) - schedule.batch_size + 1, schedule.batch_size):
            rows = order[start : start + schedule.batch_size]
            batch = images[rows]
            if mirrored and rng.random() < 0.5:
                batch = batch[:, :, ::-1]
            tensor = torch.from_numpy(np.ascontiguousarray(batch)).float() / 255
            yield tensor, targets[torch.from_numpy(rows)]


@torch.no_grad()
def _standardise(network: nn.Module, readout: LinearReadout, images: NDArray[np.uint8]) -> None:
    sample = torch.from_numpy(images[:2048]).float() / 255
    tokens = torch.cat([encode(network, part) for part in torch.split(sample, 128)]).flatten(0, -2)
    mean, spread = tokens.mean(0), tokens.std(0).clamp_min(1e-6)
    bottleneck = [module for module in network.modules() if isinstance(module, nn.Conv2d)][-1]
    bottleneck.weight /= spread[:, None, None, None]
    if bottleneck.bias is None:
        raise TypeError("the encoder's last convolution needs a bias")
    bottleneck.bias.copy_((bottleneck.bias - mean) / spread)
    # The readout undoes the rescaling: its logits stay what they were.
    readout.evidence.bias.add_(readout.evidence.weight @ mean)
    readout.evidence.weight.mul_(spread)
