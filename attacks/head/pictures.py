"""Pictures of the head leakage attack: a recovered feature turned into an image of one slice.

The easiest case: one patient of one slice, alone in the batch, under the run's mechanism. Twice:
with the encoders known, and with a surrogate's (the same shape, other weights), which is what an
attacker has who was never told them.
"""

import copy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from attacks.head.feature_inversion import invert_feature
from attacks.head.features import row_ratio, signatures
from attacks.head.stage import People, part
from attacks.head.worst_case import mechanism_of, simulated_gradient
from attacks.result import AttackResult, Picture, Progress
from attacks.subject import Subject
from securefed.exposure import RoundView
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors
from securefed.model.sharing import load_vector


def pictures_of(
    subject: Subject,
    view: RoundView,
    people: People,
    count: int,
    iterations: int,
    rng: np.random.Generator,
    progress: Progress,
) -> AttackResult:
    """One slice of one patient alone in the batch, from its recovered feature."""
    network = copy.deepcopy(subject.network).eval().requires_grad_(True)
    load_vector(network, list(subject.shared), view.shared)
    slices = _one_slice(people.reference)
    start = slices.images.float().mean((0, 2)) / 255  # (modalities, size, size)
    ratios = signatures(network, tokens_of(network, slices)).ratios
    # A unit that nobody uses has no ratios, hence no spread; np.nanstd would warn of it.
    spread = np.ma.masked_invalid(ratios).std(axis=0).filled(np.nan)
    pictures, figures = [], []
    encoders = {"known": network, "surrogate": _surrogate(network, rng)}
    for number in range(count):
        hospital = people.hospitals[number % len(people.hospitals)]
        pool = _one_slice(hospital.train)
        if not len(pool):
            continue  # none of its patients has every scan of the middle slice
        row = int(rng.integers(len(pool)))
        patient = pool[row : row + 1]
        gradient = simulated_gradient(
            subject, network, patient, mechanism_of(subject, hospital), rng
        )
        for half, (kind, with_encoders) in enumerate(encoders.items()):
            share = (number + half / 2) / count
            inverted = invert_feature(
                with_encoders,
                row_ratio(gradient),
                patient.label,
                spread,
                start,
                iterations,
                part(progress, share, share + 0.5 / count),
            )
            true, found = _grey(patient.images[0, 0, 0]), inverted.images[0]  # of the query
            decoy = _nearest(found, _one_slice(people.decoys[hospital.name]))
            gain = _psnr(true, found) - _psnr(true, start[0].numpy())
            figures.append({"encoders": kind, "psnr over the mean image, dB": gain})
            caption = f"head leakage, worst case, batch 1, encoders {kind}: {gain:+.1f} dB"
            pictures.append(Picture(f"{caption} over the mean image", true, found, decoy))
    return AttackResult(pictures=tuple(pictures), details={"pictures": figures})


def _surrogate(network: FusionNetwork, rng: np.random.Generator) -> FusionNetwork:
    """The network with encoders of the same shape and other weights."""
    other = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        fresh = FusionNetwork(network.shape)
    for encoder, another in zip(other.encoders, fresh.encoders, strict=True):
        encoder.load_state_dict(another.state_dict())
    return other


def _one_slice(group: PatientTensors) -> PatientTensors:
    """The middle slice of each example that has every modality there, as a patient of its own."""
    middle = replace(group.middle_slices(), owner=None)
    return middle[middle.present.flatten(1).all(dim=1)]


def _grey(images: torch.Tensor) -> NDArray[np.float32]:
    grey: NDArray[np.float32] = (images.float() / 255).numpy()
    return grey


def _nearest(image: NDArray[np.float32], group: PatientTensors) -> NDArray[np.float32]:
    images = _grey(group.images[:, 0, 0])
    nearest: NDArray[np.float32] = images[((images - image) ** 2).mean((1, 2)).argmin()]
    return nearest


def _psnr(true: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(-10 * np.log10(max(float(((true - other) ** 2).mean()), 1e-12)))
