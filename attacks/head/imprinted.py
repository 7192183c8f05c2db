"""What an accepted imprint yields on a run's network (`attacks.head.imprint`).

Identification of patients, and how many of a batch can be told apart, in the clear and under the
run's mechanism. That a client accepts an imprint, `attacks.malicious_server` says.
"""

from dataclasses import replace
from itertools import product

import numpy as np
import torch

from attacks.head.features import Floats, output_weight, signatures
from attacks.head.imprint import (
    BIN_WEIGHT,
    bins_of_gradient,
    bins_of_patients,
    distances,
    imprint,
)
from attacks.head.stage import ROUNDING, Stage, identification
from attacks.head.updates import Mechanism
from attacks.head.worst_case import mechanism_of, simulated_gradient
from attacks.result import AttackResult, Progress
from attacks.subject import Subject
from securefed.exposure import Observer
from securefed.model.encoding import tokens_of

SAME = 0.1  # distance below which a bin's feature is a patient's own; wrong patients are near 1
SMALL, LARGE = 4, 100  # patients in a batch
FAINTEST = 1e-3  # of a patient's full weight in a bin: below it a bin counts as empty


def measure(
    subject: Subject,
    observer: Observer,
    stage: Stage,
    trials: int,
    large: bool,
    rng: np.random.Generator,
    progress: Progress,
) -> AttackResult:
    """Identification by an imprint under the run's mechanism (batch of four), and how many
    patients of a batch can be told apart, in the clear and under the mechanism.

    Args:
        stage: the network the imprint is put into.
        trials: batches of four; of a hundred a tenth as many, at least two.
        large: whether to try batches of a hundred at all.
    """
    private = subject.training.clip_norm is not None
    details: dict[str, float] = {}
    hits: list[bool] = []
    kinds = ("in the clear", "under the run's mechanism") if private else ("in the clear",)
    sizes = (SMALL, LARGE) if large else (SMALL,)
    for done, (kind, size) in enumerate(product(kinds, sizes), start=1):
        count = trials if size == SMALL else max(2, trials // 10)
        outcomes = _outcomes(subject, stage, size, count, kind == kinds[0], rng)
        apart = float(np.mean([number for _, number in outcomes]))
        details[f"patients told apart of {size}, {kind}"] = apart
        if (kind, size) == (kinds[-1], SMALL):
            hits = [hit for hit, _ in outcomes]
        progress(done / (len(kinds) * len(sizes)))
    finding = identification(observer, f"imprint, batch {SMALL}", "worst case", hits)
    return AttackResult(findings=(finding,), details={"imprint": details})


def _outcomes(
    subject: Subject,
    stage: Stage,
    size: int,
    trials: int,
    plain: bool,
    rng: np.random.Generator,
) -> list[tuple[bool, int]]:
    """Of each batch: whether its first patient is identified, and how many are told apart."""
    people = stage.people
    network = imprint(stage.network, people.reference, size)
    output = output_weight(network)
    spread = spread_of(bins_of_patients(signatures(network, people.reference), output).feature)
    decoys = {name: signatures(network, group) for name, group in people.decoys.items()}
    outcomes = []
    for trial in range(trials):
        hospital = people.hospitals[trial % len(people.hospitals)]
        rows = rng.permutation(hospital.train.patients)[:size]
        batch = hospital.train.of_patients(torch.from_numpy(rows))
        mechanism = mechanism_of(subject, hospital)
        if plain:
            mechanism = replace(mechanism, clipped_to=None, noise_std=0.0)
        gradient = simulated_gradient(subject, network, batch, mechanism, rng)
        seen = bins_of_gradient(gradient, output, _faintest(mechanism, size))
        own = bins_of_patients(signatures(network, tokens_of(network, batch)), output)
        near = distances(seen, own, spread)
        wrong = distances(seen, bins_of_patients(decoys[hospital.name], output), spread)
        outcomes.append((bool(near[0] < wrong.min()), int((near < SAME).sum())))
    return outcomes


def spread_of(features: Floats) -> Floats:
    """Standard deviation of each bin's feature over patients, (m - 1, d); 1 in an empty bin."""
    known = np.isfinite(features)  # (patients, m - 1, d)
    counts = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, features, 0).sum(axis=0) / counts
    squares = np.where(known, features - mean, 0) ** 2
    spread: Floats = np.sqrt(squares.sum(axis=0) / counts)
    return np.where(spread > 0, spread, 1.0)


def _faintest(mechanism: Mechanism, size: int) -> float:
    """The weight below which a bin is rounding or noise."""
    rounding = 10 * ROUNDING * size / mechanism.learning_rate
    return max(FAINTEST, rounding / BIN_WEIGHT, mechanism.noise_std / BIN_WEIGHT)
