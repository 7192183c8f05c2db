"""The two scenes of gradient inversion on a run: as configured, and the worst case.

as configured   an update that the observer saw is explained by a few dummy patients of one slice
                each, under the run's own steps and with its labels' mixture read off the last
                bias; whom the dummies show is tried on training patients of that hospital
worst case      one patient, one slice, one step, known label: the gradient of the run's shared
                parameters, clipped and noised as the run does, through the run's network

Where labels are of slices or studies a dummy is one example with its label, and the slice of the
worst case has that of its own. A target is a patient all the same, with all its slices.

Personal parameters that are trained are taken as initialised, which is exact in round 1 only.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attacks import labels
from attacks.inversion.gradient_inversion import Recipe, count_labelled, invert
from attacks.inversion.local_updates import LocalSteps, Presence, trained_names, updates_of
from attacks.inversion.matching import (
    Gallery,
    Key,
    Trial,
    candidate_distances,
    images_of,
    presence_of,
)
from attacks.inversion.quality import is_identified, psnr, ssim
from attacks.result import Picture, Progress
from attacks.subject import Subject
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors
from securefed.model.sharing import Vector, load_vector

LAST_BIAS = "classifier.output.bias"  # its gradient is the mean of (probability - label), by logit
LONGEST_UNROLL = 20  # steps; more of SGD are unrolled as 20 longer ones


@dataclass(frozen=True, eq=False)
class Attempt:
    """One reconstruction tried on one target: nearer than every decoy or not, and how good.

    Attributes:
        psnr_db, ssim: of the modalities that the target has, averaged.
        psnr_of_start_db: of the mean head that the search began from: what is known beforehand.
    """

    identified: bool
    psnr_db: float
    psnr_of_start_db: float
    ssim: float
    true: NDArray[np.float32] = field(repr=False)  # (size, size), of one modality
    reconstruction: NDArray[np.float32] = field(repr=False)
    decoy: NDArray[np.float32] = field(repr=False)

    def picture(self, caption: str) -> Picture:
        return Picture(caption, self.true, self.reconstruction, self.decoy)


@dataclass(frozen=True, eq=False)
class Seen:
    """An update to attack: whose it is (one hospital, or several where it is their mean)."""

    hospitals: tuple[str, ...]
    round_number: int
    shared: Vector = field(repr=False)
    update: Vector = field(repr=False)


def network_at(subject: Subject, shared: Vector) -> FusionNetwork:
    """A copy of the run's network with the given shared parameters."""
    network = copy.deepcopy(subject.network).eval()
    load_vector(network, list(subject.shared), shared)
    return network.requires_grad_(False)


def mean_head(trials: Sequence[Trial]) -> Tensor:
    """The decoys' mean middle slice, (modalities, size, size): what heads look like in general."""
    total, count = torch.zeros(()), torch.zeros(())
    for trial in trials:
        decoys = trial.candidates[1:].middle_slices()
        has = presence_of(decoys)[:, 0].float()  # (decoys, modalities)
        total = total + (images_of(decoys)[:, 0] * has[..., None, None]).sum(dim=0)
        count = count + has.sum(dim=0)
    return total / count.clamp_min(1)[:, None, None]


def as_configured(
    subject: Subject,
    seen: Seen,
    trials: Sequence[Trial],
    dummies: int,
    recipe: Recipe,
    seed: int,
    progress: Progress,
) -> list[Attempt]:
    """Explain one update by `dummies` patients, and try each trial's candidates on them."""
    network = network_at(subject, seen.shared)
    start = mean_head(trials)
    parts = label_parts(subject, network, seen, trials)
    yes = torch.ones(1, dummies, len(start), 1, dtype=torch.bool)
    presence = Presence(yes, labels.mixture(parts, dummies)[None])
    trained = trained_names(network, subject.encoders_train)
    simulate = updates_of(network, subject.shared, trained, presence, local_steps(subject))
    observed = torch.from_numpy(seen.update.copy())[None]
    shape = (dummies, len(start), 1, *start.shape[1:])
    around = start[None, :, None]
    found = invert(simulate, observed, shape, recipe, seed, None, progress, around)
    images = found.images[0, :, :, 0]  # (dummies, modalities, size, size)
    gallery: Gallery = {}
    return [
        _attempt(network, images, trial.candidates, trial.keys, gallery, start) for trial in trials
    ]


def local_steps(subject: Subject) -> LocalSteps:
    """The run's local training as it is unrolled."""
    training = subject.training
    count = min(training.local_steps, LONGEST_UNROLL)
    # Fewer, longer steps go as far; only for SGD, which moves in proportion to its rate.
    rate = training.learning_rate * training.local_steps / count
    return LocalSteps(training.optimizer, rate, count, training.strategy.proximal)


def label_parts(
    subject: Subject, network: FusionNetwork, seen: Seen, trials: Sequence[Trial]
) -> Tensor:
    """Share of each logit's label in the update's batch, (logits,), from the last bias: of positive
    patients, where it is one. All alike if unseen.

    The network's mean probabilities come from decoys: images that an attacker may have.
    """
    logits = len(network.get_parameter(LAST_BIAS))
    if LAST_BIAS not in subject.shared or subject.training.optimizer != "sgd":
        return torch.full((logits,), 1 / max(2, logits))
    sizes = [network.get_parameter(name).numel() for name in subject.shared]
    place = sum(sizes[: subject.shared.index(LAST_BIAS)])
    taken = subject.training.local_steps * subject.training.learning_rate
    decoys = trials[0].decoys
    with torch.no_grad():
        answer = network(decoys.images, decoys.present).view(-1, logits)
    # What is predicted of a decoy is its label and how far the loss is from liking it.
    residual = labels.residuals(answer, decoys.label, decoys.weight).sum(0)
    mean = (labels.shares(decoys, logits).sum(0) + residual) / decoys.patients
    records = 100  # only the resolution of the share
    gradient = -seen.update[place : place + logits] / taken
    counts = [
        count_labelled(float(g), records, min(max(float(p), 0.0), 1.0))
        for g, p in zip(gradient, mean, strict=True)
    ]
    return torch.tensor(counts) / records


def worst_case(
    subject: Subject,
    shared: Vector,
    trials: Sequence[Trial],
    recipe: Recipe,
    seed: int,
    progress: Progress,
    everything: bool = False,
) -> list[Attempt]:
    """One slice's gradient per trial, attacked alone.

    Args:
        everything: as if all parameters were shared, encoders included.
    """
    network = network_at(subject, shared)
    slices = [trial.candidates.middle_slices() for trial in trials]
    # Of trials with one patient each: (trials, 1, modalities, 1 slice, size, size).
    images = torch.stack([each.images[:1] for each in slices]).float() / 255
    present, label = (
        torch.stack([getattr(each, name)[:1] for each in slices]) for name in ("present", "label")
    )
    presence = Presence(present, label)
    trained = trained_names(network, subject.encoders_train or everything)
    names = trained if everything else list(subject.shared)
    noise = torch.Generator().manual_seed(seed)
    whole = updates_of(network, trained, trained, presence, LocalSteps())(images).detach()
    simulate = updates_of(network, names, trained, presence, LocalSteps())
    observed = _released(subject, trials, simulate(images).detach(), whole, noise)
    start = mean_head(trials)
    shape, around = tuple(images.shape[1:]), start[None, :, None]
    found = invert(simulate, observed, shape, recipe, seed, presence.pixels, progress, around)
    shown = found.images[:, :, :, 0]  # (trials, 1, modalities, size, size)
    gallery: Gallery = {}  # of middle slices
    return [
        _attempt(network, image, group, trial.keys, gallery, start)
        for image, group, trial in zip(shown, slices, trials, strict=True)
    ]


def _released(
    subject: Subject,
    trials: Sequence[Trial],
    gradients: Tensor,
    whole: Tensor,
    drawn: torch.Generator,
) -> Tensor:
    """Clip each gradient by the norm over all trained parameters, and add the hospital's noise."""
    clip, clipped_to = subject.training.clip_norm, subject.training.clipped_to
    if clip is None or clipped_to is None:
        return gradients
    scale = (clipped_to / whole.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1.0)
    multipliers = {each.name: each.noise_multiplier for each in subject.hospitals}
    std = torch.tensor([multipliers[trial.hospital] * clip for trial in trials])[:, None]
    released: Tensor = gradients * scale + std * torch.randn(gradients.shape, generator=drawn)
    return released


def _attempt(
    network: FusionNetwork,
    images: Tensor,
    candidates: PatientTensors,
    keys: Sequence[Key],
    gallery: Gallery,
    start: Tensor,
) -> Attempt:
    """Try reconstructions (n, modalities, size, size) on a target (first) and its decoys."""
    distances = candidate_distances(network, images, candidates, keys, gallery)
    decoy = 1 + int(distances[1:].argmin())
    target = candidates[:1].middle_slices()
    modalities = presence_of(target)[0, 0]  # (modalities,)
    true = images_of(target)[0, 0]  # (modalities, size, size)
    # The dummy that is nearest to the truth: figures and pictures flatter the attack, if anything.
    best = images[(images - true)[:, modalities].square().mean(dim=(1, 2, 3)).argmin()]
    shown, *_ = there = modalities.nonzero().flatten().tolist()  # the query, if it is there
    seen = [(true[m].numpy(), best[m].numpy(), start[m].numpy()) for m in there]
    return Attempt(
        identified=is_identified(float(distances[0]), distances[1:]),
        psnr_db=float(np.mean([psnr(t, found) for t, found, _ in seen])),
        psnr_of_start_db=float(np.mean([psnr(t, begun) for t, _, begun in seen])),
        ssim=float(np.mean([ssim(t, found) for t, found, _ in seen])),
        true=true[shown].numpy(),
        reconstruction=best[shown].numpy(),
        decoy=images_of(candidates[decoy : decoy + 1].middle_slices())[0, 0, shown].numpy(),
    )
