"""An imprint spread over rounds, so that no single one looks odd (`attacks.head.imprint`).

A client that holds what it is sent against what it was sent before would notice an imprint: it is
hundreds of honest steps away. Here the server walks there, no step longer than the longest of the
run, towards an imprint whose rows are too short to show. From then on every round has another
direction, in which other patients lie farthest out, again within a step. What is read over all
rounds is put together: the round in which a patient was nearest.

    hospital   one hospital's updates, where they are told apart
    sum        all hospitals' in one, of which nobody knows whose a patient is

Judged like every other identification: a training patient is found if it was nearer in some round
than each of 50 held-out patients was in any. The sums are computed from signatures: exact in the
clear; under differential privacy without the clipping, which favours the attack.

Not covered: what the server loses by it (seven units in eight do nothing for the diagnosis), and
clients that look at more than the length of a step.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import torch

from attacks.findings import Finding
from attacks.head.features import Floats, HeadGradient, Signatures, output_weight, signatures
from attacks.head.imprint import (
    Bins,
    bins_of_gradient,
    bins_of_patients,
    distances,
    quiet_imprint,
    vector_of,
)
from attacks.head.imprinted import SAME, spread_of
from attacks.head.stage import ROUNDING, Stage, identification
from attacks.head.updates import Mechanism
from attacks.head.worst_case import mechanism_of
from attacks.result import AttackResult, Effort, Progress
from attacks.statistics.targets import Bools
from attacks.subject import Subject
from securefed.exposure import Exposure, Vector
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors, concatenate

LEAST_SHARE = 1e-3  # of a patient's pooling weight in a bin: one place in a thousand
HARVESTS = {Effort.QUICK: 4, Effort.DEFAULT: 16, Effort.THOROUGH: 32}  # rounds, once arrived
MOST_PATIENTS = 2_000  # whose sums are made; of more, the first of each hospital
METHOD = "imprint spread over rounds"


@dataclass(frozen=True, eq=False)
class Harvest:
    """What rounds yielded together.

    Attributes:
        nearest, strangers: (patients,), (strangers,), least distance over all rounds.
        drawn: (patients,) bool, who was in any of them.
        longest: of the steps between the imprints.
    """

    nearest: Floats = field(repr=False)
    strangers: Floats = field(repr=False)
    drawn: Bools = field(repr=False)
    longest: float

    @property
    def found(self) -> Bools:
        """(patients,), nearer in some round than each stranger in any."""
        return np.asarray(self.nearest < self.strangers.min())


def harvest(
    network: FusionNetwork,
    shared: Sequence[str],
    people: tuple[PatientTensors, PatientTensors, PatientTensors],
    rates: Floats,
    mechanism: Mechanism,
    coarseness: float,
    rounds: int,
    rng: np.random.Generator,
    progress: Progress = lambda share: None,
) -> Harvest:
    """Rounds of quiet imprints on patients who are drawn anew in each.

    Args:
        people: candidates, strangers, and known to the attacker; as tokens.
        rates: (candidates,) with which they are drawn; 0 for whom nobody trains on.
        mechanism: of which noise and learning rate count.
        coarseness: largest error of an update's entry by fixed point; 0 in the clear.
    """
    near, far = (np.full(each.patients, np.inf) for each in people[:2])
    ever = np.zeros(len(near), np.bool_)
    batch = max(1, round(float(rates.sum())))
    sent: list[Vector] = []
    for number in range(rounds):
        imprinted = quiet_imprint(network, people[2], batch, number)
        sent.append(vector_of(imprinted, shared))
        output = output_weight(imprinted)
        candidates, strangers, known = (signatures(imprinted, each) for each in people)
        drawn = rng.random(len(near)) < rates
        ever |= drawn
        rounding = _rounding(imprinted, coarseness) * batch / mechanism.learning_rate
        deviation = math.hypot(mechanism.noise_std, rounding)
        seen = _read(candidates, drawn, output, deviation, rng)
        spread = spread_of(bins_of_patients(known, output, LEAST_SHARE).feature)
        close, wrong = (
            distances(seen, bins_of_patients(each, output, LEAST_SHARE), spread)
            for each in (candidates, strangers)
        )
        near, far = np.minimum(near, close), np.minimum(far, wrong)
        progress((number + 1) / rounds)
    steps = [float(np.linalg.norm(b - a)) for a, b in pairwise(sent)]
    return Harvest(near, far, ever, max(steps, default=0.0))


def _rounding(imprinted: FusionNetwork, coarseness: float) -> float:
    """Standard deviation of what an update's entry is off by: short rows are rounded less."""
    largest = float(imprinted.classifier.hidden.bias[1:].detach().abs().max())
    return max(ROUNDING * largest, coarseness / math.sqrt(3))


def _read(
    known: Signatures,
    drawn: Bools,
    output: Floats,
    deviation: float,
    rng: np.random.Generator,
) -> Bins:
    """The bins of a sum over those who were drawn, each entry off by `deviation`."""
    rows = np.tensordot(np.where(drawn, known.residual, 0.0), known.rows, 1)  # (m, d + 1)
    rows = rows + deviation * rng.standard_normal(rows.shape)
    last = (known.probability - known.label)[drawn].sum(axis=0)
    gradient = HeadGradient(rows[:, :-1], rows[:, -1], last)
    # A bin is a difference of two rows, each divided by its output weight.
    unsure = np.hypot(1 / output[1:], np.append(1 / output[2:], 0.0))
    return bins_of_gradient(gradient, output, 10 * deviation * unsure)


def scattered(
    subject: Subject,
    exposure: Exposure,
    stage: Stage,
    effort: Effort,
    rng: np.random.Generator,
    progress: Progress,
) -> AttackResult:
    """On the run's own patients and under its mechanism, from the stage's network on."""

    def absent(reason: str) -> AttackResult:
        return AttackResult(findings=(_finding(exposure, absent=reason),))

    if exposure.observer not in ("server", "coalition"):
        return absent("only the server sends parameters")
    if stage.logits > 1:
        return absent("each class adds weights of its own: rows are no bins that can be subtracted")
    views = [view.shared for view in exposure.rounds]
    longest = max((float(np.linalg.norm(b - a)) for a, b in pairwise(views)), default=0.0)
    if not longest:
        return absent("there is no honest step to go by")
    shared, network = list(subject.shared), stage.network
    one = stage.people.hospitals[:1]
    hospitals = one if exposure.sees_updates else list(subject.hospitals)
    most = max(1, MOST_PATIENTS // len(hospitals))
    counts = [min(most, each.train.patients) for each in hospitals]
    trained = [
        each.train.of_patients(torch.arange(count))
        for each, count in zip(hospitals, counts, strict=True)
    ]
    rates = np.repeat([each.sample_rate for each in hospitals], counts)
    batch = round(float(rates.sum()))
    first = quiet_imprint(network, stage.people.reference, max(1, batch), 0)
    away = float(np.linalg.norm(vector_of(first, shared) - vector_of(network, shared)))
    walk = math.ceil(away / longest)
    rounds = min(HARVESTS[effort], subject.training.rounds - walk)
    if rounds < 1:
        return absent(f"to get there takes {walk} rounds, and the run has no more")
    everybody = tokens_of(network, concatenate(trained))
    mechanism = mechanism_of(subject, one[0])
    if not subject.training.shared_noise:
        mechanism = replace(mechanism, noise_std=mechanism.noise_std * len(hospitals) ** 0.5)
    people = (everybody, stage.people.decoys[one[0].name], stage.people.reference)
    coarseness = max(each.encoding_error for each in hospitals)
    got = harvest(network, shared, people, rates, mechanism, coarseness, rounds, rng, progress)
    if not got.drawn.any():
        return absent("none of its rounds drew a patient")
    details = {
        "rounds to get there": walk,
        "rounds harvested": rounds,
        "hospitals in a sum": len(hospitals),
        "longest honest step": longest,
        "longest step between imprints": got.longest,
        "patients told apart": int((got.nearest < SAME)[got.drawn].sum()),
        "patients drawn": int(got.drawn.sum()),
    }
    finding = _finding(exposure, got.found[got.drawn].tolist())
    return AttackResult(findings=(finding,), details={METHOD: details})


def _finding(exposure: Exposure, hits: Sequence[bool] = (), absent: str | None = None) -> Finding:
    """The share identified, or why it does not apply."""
    applies = absent is None
    return identification(exposure.observer, METHOD, "worst case", hits, absent, applies=applies)
