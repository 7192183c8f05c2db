"""Public weights from phantoms, as those that ship with SecureFed were made.

`securefed pretrain` makes the file again. It is safetensors, half precision (about 200 kB), with
its provenance as metadata: generator settings, seed, slices, slice AUC on held-out public phantoms.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.data.phantom_settings import SHOWS
from securefed.model import weight_files
from securefed.model.auc import area_of_scores
from securefed.model.encoders import encode
from securefed.model.network import encoder_of
from securefed.model.pretraining import Readout, Schedule, halves, pretrain, told_of

# Hospitals of a run are sites 0 to 999 (federation.clients); these are nobody's.
PUBLIC_SITES = range(1_000_000, 1_000_020)
HELD_OUT_SITES = range(1_001_000, 1_001_004)


@dataclass(frozen=True)
class PublicSet:
    """Slices of one modality with evidence.

    Attributes:
        images: (slices, size, size).
        evidence: (slices,), whether a slice shows the modality's finding.
    """

    images: NDArray[np.uint8]
    evidence: NDArray[np.bool_]


def public_phantoms(
    spec: PhantomSpec, sites: range, per_site: int, seed: int
) -> dict[str, PublicSet]:
    """Slices of phantoms of sites that no run uses, by modality."""
    patients = [
        patient
        for index in sites
        for patient in generate(spec, SiteProfile.draw(spec, index, seed), per_site, seed)
    ]
    return {
        modality: PublicSet(
            images=np.concatenate([each.patient.images_of(modality) for each in patients]),
            evidence=np.concatenate([each.evidence_of(modality) for each in patients]),
        )
        for modality in spec.modalities
    }


def make(
    path: Path,
    *,
    modalities: tuple[str, ...],
    encoder: str,
    width: int,
    image_size: int,
    patients: int,
    schedule: Schedule,
    seed: int,
    progress: Callable[[str, float], None],
) -> dict[str, str]:
    """Train an encoder of each modality on public phantoms and write them; returns the metadata."""
    spec = PhantomSpec(_shown(modalities), image_size, missing_query=0.0, missing_context=0.0)
    train = public_phantoms(spec, PUBLIC_SITES, max(1, patients // len(PUBLIC_SITES)), seed)
    held_out = public_phantoms(spec, HELD_OUT_SITES, max(1, patients // 20), seed)
    tensors: dict[str, torch.Tensor] = {}
    source = "phantoms, single-modality evidence per slice, no pairs"
    about = told_of(encoder, width, image_size, source, schedule, seed) | {
        "phantom": json.dumps(asdict(spec)),
        "patients": str(patients),
    }
    for modality in modalities:
        name, public, test = encoder_of(modality), train[modality], held_out[modality]
        network, readout = pretrain(
            encoder,
            width,
            public.images,
            public.evidence,
            seed,
            schedule,
            partial(progress, name),
        )
        auc = slice_auc(network, readout, test.images, test.evidence)
        about[f"{name}_held_out_slice_auc"] = f"{auc:.4f}"
        tensors |= halves(name, network)
    weight_files.write(path, tensors, about)
    return about


def _shown(modalities: tuple[str, ...]) -> tuple[str, ...]:
    """What phantoms show, so that there is more than one finding: slices without evidence too."""
    if len({SHOWS.get(name) for name in modalities}) > 1:
        return modalities
    return (*modalities, "mri" if "ct" in modalities else "ct")


@torch.no_grad()
def slice_auc(
    network: nn.Module, readout: Readout, images: NDArray[np.uint8], evidence: NDArray[np.bool_]
) -> float:
    """How well the readout's logits tell slices with evidence from those without."""
    parts = torch.split(torch.from_numpy(images), 256)
    logits = torch.cat([readout(encode(network, part.float() / 255)) for part in parts])
    return area_of_scores(logits.numpy(), evidence)
