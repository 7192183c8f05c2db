"""Public weights from pictures: one modality, sorted into folders of classes.

FOLDER/CLASS/*.png, as public collections of single pictures are given out. One class is without a
finding, and the encoder learns to tell the others from it. Pictures name no patients, so those held
out may be of patients who were trained on, and classes may differ in where they are from: the AUC
in the file's metadata says that something was learned, and nothing about any patient.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from securefed.data.folders import SUFFIXES
from securefed.data.images import read_image
from securefed.errors import DataError
from securefed.model import weight_files
from securefed.model.auc import area_of_scores
from securefed.model.encoders import encode
from securefed.model.network import encoder_of
from securefed.model.pretraining import Readout, Schedule, halves, pretrain, told_of
from securefed.wording import counted, listed

HELD_OUT = 5  # every fifth picture of a class
FEWEST = 20  # of either kind


@dataclass(frozen=True)
class PublicSet:
    """Pictures of one modality with evidence.

    Attributes:
        images: (pictures, size, size).
        evidence: (pictures,), whether a picture shows a finding.
    """

    images: NDArray[np.uint8]
    evidence: NDArray[np.bool_]


def read(folder: Path, without: str, size: int) -> tuple[PublicSet, PublicSet, str]:
    """Those to train on, those held out, and a SHA-256 over all files.

    Args:
        without: the class, by its folder's name, that shows no finding.
        size: edge in pixels that pictures are fitted into.

    Raises:
        DataError: no such folders, too few pictures, or one that cannot be read.
    """
    classes = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    names = [path.name for path in classes]
    if without not in names:
        raise DataError(
            f"{folder}: there is no folder {without} of pictures without a finding, but "
            f"{listed(names) if names else 'none at all'}",
            hint="sort the pictures into folders of classes, and name that one (--without)",
        )
    digest = hashlib.sha256()
    parts: dict[bool, list[tuple[np.ndarray, bool]]] = {True: [], False: []}
    for each in classes:
        for number, path in enumerate(_pictures(each)):
            digest.update(f"{each.name}/{path.name}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
            held_out = number % HELD_OUT == HELD_OUT - 1
            parts[held_out].append((read_image(path, size), each.name != without))
    train, test = (
        PublicSet(np.array([image for image, _ in part]), np.array([shows for _, shows in part]))
        for part in (parts[False], parts[True])
    )
    positive = int(train.evidence.sum())
    if min(positive, len(train.evidence) - positive) < FEWEST:
        raise DataError(
            f"{folder}: {counted(positive, 'picture')} to train on with a finding and "
            f"{len(train.evidence) - positive} without, {FEWEST} of each are the fewest",
            hint="add pictures, or use weights from elsewhere (securefed convert-weights)",
        )
    return train, test, digest.hexdigest()


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def make(
    path: Path,
    folder: Path,
    *,
    modality: str,
    without: str,
    source: str,
    licence: str,
    encoder: str,
    width: int,
    image_size: int,
    schedule: Schedule,
    seed: int,
    progress: Callable[[str, float], None],
) -> dict[str, str]:
    """Train an encoder of one modality on public pictures and write it; returns the metadata.

    Raises:
        DataError: see `read`.
    """
    train, test, sha256 = read(folder, without, image_size)
    name = encoder_of(modality)
    network, readout = pretrain(
        encoder,
        width,
        train.images,
        train.evidence,
        seed,
        schedule,
        lambda share: progress(name, share),
    )
    about = told_of(encoder, width, image_size, source, schedule, seed) | {
        "licence": licence,
        "images": str(len(train.images) + len(test.images)),
        "images_sha256": sha256,
        "without_finding": without,
        f"{name}_held_out_slice_auc": (
            f"{slice_auc(network, readout, test.images, test.evidence):.4f}"
        ),
    }
    weight_files.write(path, halves(name, network), about)
    return about


@torch.no_grad()
def slice_auc(
    network: nn.Module, readout: Readout, images: NDArray[np.uint8], evidence: NDArray[np.bool_]
) -> float:
    """How well the readout's logits tell pictures with evidence from those without."""
    parts = torch.split(torch.from_numpy(images), 256)
    logits = torch.cat([readout(encode(network, part.float() / 255)) for part in parts])
    return area_of_scores(logits.numpy(), evidence)
