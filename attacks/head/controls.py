"""Controls of the head leakage attack: where it must succeed, and where it must fail.

Positive: one client in the clear. Alone in its batch, a patient's feature must come out of the row
ratio, on a reference network and on the very network of the run; two to four patients must be
taken apart by sparse recovery on a reference network with one place per patient and 128 hidden
units. Null: the recovered feature against every other patient's, in the same whitened space that
identifies patients.

Reference patients are smooth random images, the same for every audit of one seed.
"""

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from attacks.findings import Control
from attacks.head import NAME
from attacks.head.features import (
    Floats,
    HeadGradient,
    Signatures,
    head_gradient,
    output_weight,
    row_ratio,
    signatures,
)
from attacks.head.imprinted import SAME
from attacks.head.matching import build_filter
from attacks.head.scattered import harvest
from attacks.head.sparse_recovery import recover
from attacks.head.updates import PLAIN, client_update
from attacks.result import AttackResult, Effort, Progress
from attacks.subject import Subject
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.model.sharing import shared_names

POSITIVE = "plain, batch 4 or less, one client"
NULL = "a wrong patient's feature"
ROUNDING = 1e-6  # of a plain update's entries, over its gradients
MANY, MANY_BATCHES = 12, 5  # patients whom only independent components take apart
RATE, ROUNDS = 0.25, 6  # of an imprint spread over rounds
REFERENCES = 64
SUBJECT_PATIENTS = 80
FEWEST_PATIENTS = 30
BATCHES = {Effort.QUICK: 10, Effort.DEFAULT: 30, Effort.THOROUGH: 100}
ONE_PLACE = NetworkShape(image_size=8, width=16, attention_width=16, head_width=128)
MANY_PLACES = NetworkShape(image_size=32, width=8, attention_width=8, head_width=8)


def controls(effort: Effort, seed: int, progress: Progress) -> AttackResult:
    """The controls on reference networks, as the policy names them; the same for every run."""
    rng = np.random.default_rng([seed, 0x4EAD])
    batches = BATCHES[effort]
    found = list(_alone(_reference_scene(MANY_PLACES, 2, rng), batches, rng))
    details = {"batch 1, row ratio": found[0].value, NULL: found[1].value}
    for done, size in enumerate((2, 3, 4), start=1):
        progress(done / 4)
        right = float(np.mean(_together(_reference_scene(ONE_PLACE, 1, rng), size, batches, rng)))
        found.append(Control(NAME, POSITIVE, "cosine", right))
        details[f"batch {size}, sparse recovery"] = right
    # One batch in fifty or so gives up: the median of a few is as good as certain.
    many = float(np.median(_together(_reference_scene(ONE_PLACE, 1, rng), MANY, MANY_BATCHES, rng)))
    found.append(Control(NAME, f"plain, batch {MANY}, one client", "cosine", many))
    details[f"batch {MANY}, sparse recovery"] = many
    found += _spread_over_rounds(_reference_scene(ONE_PLACE, 1, rng), rng)
    progress(1.0)
    return AttackResult(controls=tuple(found), details={"mean cosine": details})


def _spread_over_rounds(scene: "_Scene", rng: np.random.Generator) -> tuple[Control, Control]:
    """Of the patients who were drawn, and of as many who never are, the share told apart."""
    third = len(scene.known) // 3
    groups = [scene.patients[part : part + third] for part in (0, third, 2 * third)]
    everybody = scene.patients[: 2 * third]
    rates = np.repeat([RATE, 0.0], third)
    got = harvest(
        scene.network,
        scene.shared,
        (everybody, groups[1], groups[2]),
        rates,
        PLAIN,
        0.0,
        ROUNDS,
        rng,
    )
    near = got.nearest < SAME
    return (
        Control(NAME, "imprint spread over rounds", "told apart", float(near[got.drawn].mean())),
        Control(NAME, "patients of no round", "told apart", float(near[third:].mean())),
    )


def controls_on_run(subject: Subject, effort: Effort, rng: np.random.Generator) -> AttackResult:
    """A batch of one on the run's initial network and patients; nothing if those are too few."""
    hospital = max(subject.hospitals, key=lambda each: each.train.patients)
    rows = rng.permutation(hospital.train.patients)[:SUBJECT_PATIENTS]
    if len(rows) < FEWEST_PATIENTS:
        return AttackResult()
    scene = _scene(subject.network, hospital.train.of_patients(torch.from_numpy(rows)))
    right, wrong = _alone(scene, BATCHES[effort], rng)
    # How alike patients look differs between runs, and identification takes it into account: the
    # gate on it is for the reference network, this figure for the reader.
    return AttackResult(controls=(right,), details={"a wrong patient's cosine": wrong.value})


@dataclass(frozen=True, eq=False)
class _Scene:
    """A network and the patients whose gradients it takes; all in the shared vector's order."""

    network: FusionNetwork = field(repr=False)
    shared: list[str]
    patients: PatientTensors = field(repr=False)  # tokens
    known: Signatures = field(repr=False)

    def gradient(self, rows: list[int], rng: np.random.Generator) -> HeadGradient:
        batch = self.patients.of_patients(torch.tensor(rows))
        update = client_update(self.network, self.shared, batch, PLAIN, rng, encoded=True)
        summed = update.astype(np.float64) * (-len(rows) / PLAIN.learning_rate)
        return head_gradient(self.network, self.shared, summed)


def _scene(network: FusionNetwork, images: PatientTensors) -> _Scene:
    network = copy.deepcopy(network).eval().requires_grad_(True)
    tokens = tokens_of(network, images)
    names = shared_names(network, "fusion+classifier")
    return _Scene(network, names, tokens, signatures(network, tokens))


def _reference_scene(shape: NetworkShape, slices: int, rng: np.random.Generator) -> _Scene:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        network = FusionNetwork(shape)
    return _scene(network, _random_patients(REFERENCES + 32, slices, shape.image_size, rng))


def _random_patients(
    count: int, slices: int, size: int, rng: np.random.Generator
) -> PatientTensors:
    """Smooth random images of the default modalities; labels by a coin."""
    modalities = NetworkShape().modalities
    coarse = torch.from_numpy(rng.random((len(modalities) * count, slices, 4, 4))).float()
    smooth = F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=True)
    images = (smooth * 255).to(torch.uint8).reshape(-1, count, slices, size, size).transpose(0, 1)
    there = torch.ones(images.shape[:3], dtype=torch.bool)
    label = torch.from_numpy(rng.integers(0, 2, count)).float()
    return PatientTensors(modalities, images, there, label)


def _alone(scene: _Scene, batches: int, rng: np.random.Generator) -> tuple[Control, Control]:
    """The worst cosine of a patient alone in the batch, and the mean size of wrong patients'."""
    order = rng.permutation(len(scene.known))
    targets, rest = order[: len(order) // 3], order[len(order) // 3 :]
    reference = scene.known[rest]
    matched = build_filter(reference, patients=1, noise_std=ROUNDING)
    right, wrong = [], []
    for row in targets[:batches]:
        gradient = scene.gradient([int(row)], rng)
        right.append(_ratio_cosine(row_ratio(gradient), scene.known.ratios[row], matched.mean))
        cosines = np.abs(matched.cosines(gradient, scene.known[targets]))
        own = int(np.flatnonzero(targets == row)[0])
        right.append(float(cosines[own]))
        wrong += np.delete(cosines, own).tolist()
    return (
        Control(NAME, POSITIVE, "cosine", min(right)),
        Control(NAME, NULL, "cosine", float(np.mean(wrong))),
    )


def _ratio_cosine(found: Floats, true: Floats, mean: Floats) -> float:
    """Cosine of two (m, d) features less their mean, over the units that are on for both."""
    both = np.isfinite(found).all(axis=1) & np.isfinite(true).all(axis=1)
    a, b = (found - mean)[both].ravel(), (true - mean)[both].ravel()
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-300))


def _together(scene: _Scene, size: int, batches: int, rng: np.random.Generator) -> list[float]:
    """Of each batch the worst patient's cosine by sparse recovery; 0 where it gave up."""
    head = scene.network.classifier
    parameters = [p.detach().double().numpy() for p in (head.hidden.weight, head.hidden.bias)]
    output = output_weight(scene.network)
    features = np.nanmean(scene.known.ratios, axis=1)  # one place: every unit's ratio is the same
    mean = features.mean(axis=0)
    worst = []
    for _ in range(batches):
        rows = rng.permutation(len(scene.known))[:size]
        gradient = scene.gradient([int(row) for row in rows], rng)
        found = recover(gradient, parameters[0], parameters[1], output, rng).inputs
        cosines = _cosines(found - mean, features[rows] - mean)  # (found, size)
        worst.append(float(cosines.max(axis=0).min()) if len(found) else 0.0)
    return worst


def _cosines(a: Floats, b: Floats) -> Floats:
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    cosines: Floats = (a @ b.T) / np.maximum(lengths, 1e-300)
    return cosines
