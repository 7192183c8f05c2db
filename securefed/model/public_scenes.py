"""Public weights from scenes: one encoder for every modality, which has seen no head and no lesion.

A linear readout of the features of each place learns what is there (`securefed.data.scenes`). A
label for each place says where to look, which one of a whole picture does not. What is told apart
is rare, as findings are: features of mean 0 and variance 1 are then small at most places and large
at few, and a pooled score begins with those. `securefed pretrain` makes the shipped file again.
"""

from collections.abc import Callable
from math import isqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from securefed.data.scenes import GREYS, KINDS, Scenes, draw
from securefed.model import weight_files
from securefed.model.auc import area_of_scores
from securefed.model.encoders import ENCODERS, encode
from securefed.model.pretraining import (
    LinearReadout,
    Schedule,
    fit,
    halves,
    log_mean_exp,
    told_of,
)

HELD_OUT = 10  # one for so many trained on
RARE = torch.tensor(20.0)  # what a place with a spot or patch counts, beside one without
OF_GREYS = 0.3  # what their squared error counts, beside the cross-entropy of kinds
NAME = "encoder"  # of no modality: weight_files gives them to each


class PlaceReadout(LinearReadout):
    """What is at each place, linear in its features; thrown away after pretraining."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.evidence = nn.Linear(width, len(KINDS) + len(GREYS))

    def forward(self, tokens: Tensor) -> Tensor:
        """(scenes, places, width) -> (scenes, places, kinds' logits and greys)."""
        told: Tensor = self.evidence(tokens)
        return told


def loss(told: Tensor, targets: Tensor) -> Tensor:
    """Of places: cross-entropy of kinds, squared error of greys; of scenes: cross-entropy of kinds.

    (scenes, places, targets) each. A scene's evidence is pooled as a patient's will be, so that no
    place without anything is as loud as one with.
    """
    entropy = F.binary_cross_entropy_with_logits
    evidence, shown = told[..., : len(KINDS)], targets[..., : len(KINDS)]
    of_scenes = entropy(log_mean_exp(evidence, -2), shown.amax(-2))
    of_greys = F.mse_loss(told[..., len(KINDS) :], targets[..., len(KINDS) :])
    return entropy(evidence, shown, pos_weight=RARE) + of_scenes + OF_GREYS * of_greys


def make(
    path: Path,
    *,
    scenes: int,
    encoder: str,
    width: int,
    image_size: int,
    schedule: Schedule,
    seed: int,
    progress: Callable[[str, float], None],
) -> dict[str, str]:
    """Train an encoder on scenes and write it for every modality; returns the metadata."""
    with torch.no_grad():
        places = encode(ENCODERS[encoder](width), torch.zeros(1, image_size, image_size)).shape[-2]
    side = isqrt(places)
    train = draw(scenes, image_size, side, seed, lambda share: progress("scenes", share))
    held_out = draw(max(1, scenes // HELD_OUT), image_size, side, seed + 1)
    centre, spread = train.greys.mean((0, 1)), train.greys.std((0, 1))

    def targets(of: Scenes) -> Tensor:
        return torch.from_numpy(
            np.concatenate([of.kinds, (of.greys - centre) / spread], axis=-1).astype(np.float32)
        )

    network, readout = fit(
        encoder,
        width,
        train.images,
        targets(train),
        seed,
        schedule,
        lambda share: progress(NAME, share),
        readout=PlaceReadout,
        loss=loss,
    )
    source = "scenes of random shapes and textures, no anatomy, no modality"
    about = told_of(encoder, width, image_size, source, schedule, seed) | {
        "scenes": str(scenes),
        **held_out_figures(network, readout, held_out.images, targets(held_out)),
    }
    weight_files.write(path, halves(NAME, network), about)
    return about


@torch.no_grad()
def held_out_figures(
    network: nn.Module, readout: nn.Module, images: np.ndarray, targets: Tensor
) -> dict[str, str]:
    """AUC over places of each kind, share of the variance explained of each grey."""
    parts = torch.split(torch.from_numpy(images), 256)
    told = torch.cat([readout(encode(network, part.float() / 255)) for part in parts])
    told, targets = told.flatten(0, 1), targets.flatten(0, 1)
    figures = {
        f"{NAME}_held_out_{name}_auc": area_of_scores(
            told[:, column].numpy(), targets[:, column].numpy() > 0.5
        )
        for column, name in enumerate(KINDS)
    }
    for column, name in enumerate(GREYS, len(KINDS)):
        left = F.mse_loss(told[:, column], targets[:, column])
        explained = 1 - left / targets[:, column].var(correction=0)
        figures[f"{NAME}_held_out_{name}_r2"] = float(explained)
    return {name: f"{value:.4f}" for name, value in figures.items()}
