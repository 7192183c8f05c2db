"""The worst case of head leakage: one client, one or four patients, and the run's own mechanism.

No sum over hospitals, no batch of a hundred: what the network and the clipping and noise of the run
give away by themselves. The updates are simulated (attacks.head.updates) with the shared parameters
of the first and the last round attacked. Sparse recovery is tried on the batch of four; it cannot
take patients apart who enter with more places than there are hidden units, and then says so.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from attacks.findings import Finding
from attacks.head.features import HeadGradient, Signatures, head_gradient, label_count, signatures
from attacks.head.sparse_recovery import recover
from attacks.head.stage import ROUNDING, Stage, Stages, identification, identified
from attacks.head.updates import Mechanism, client_update
from attacks.result import AttackResult, Progress
from attacks.subject import Hospital, Subject
from securefed.exposure import Observer, RoundView
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors

LARGE_BATCH = 4
SEVERAL = "a patient enters with several examples, and what is taken apart would be examples"
CLASSES = "each class adds weights of its own, and no division leaves zeros and ones of a column"


def worst_case(
    subject: Subject,
    observer: Observer,
    views: list[RoundView],
    stages: Stages,
    trials: int,
    rng: np.random.Generator,
    progress: Progress,
) -> AttackResult:
    outcomes: dict[int, list[_Outcome]] = {1: [], LARGE_BATCH: []}
    for done, view in enumerate(views):
        stage = stages.at(view)
        for half, (size, found) in enumerate(outcomes.items()):
            batches = _batches(subject, stage, size, trials, rng)
            for number, outcome in enumerate(batches, start=1):
                found.append(outcome)
                progress((done + (half + number / trials) / 2) / len(views))
    findings = [
        identification(observer, f"row ratio, batch {size}", "worst case", [o.hit for o in found])
        for size, found in outcomes.items()
    ]
    findings.append(_sparse_finding(observer, outcomes[LARGE_BATCH]))
    details = {
        f"batch {size}": {
            "trials": len(found),
            "mean cosine of targets": float(np.mean([o.cosine for o in found])),
            "mean error of the label count": float(np.mean([o.label_error for o in found])),
            "label count inside its range": float(np.mean([o.label_in_range for o in found])),
        }
        for size, found in outcomes.items()
    }
    progress(1.0)
    return AttackResult(findings=tuple(findings), details={"worst case": details})


@dataclass(frozen=True)
class _Outcome:
    """One simulated batch; `sparse_hit` is None where sparse recovery gave up, for `sparse_why`."""

    hit: bool
    cosine: float
    label_error: float
    label_in_range: bool
    sparse_hit: bool | None
    sparse_why: str


def _batches(
    subject: Subject,
    stage: Stage,
    size: int,
    trials: int,
    rng: np.random.Generator,
) -> Iterator[_Outcome]:
    hospitals = stage.people.hospitals
    for trial in range(trials):
        hospital = hospitals[trial % len(hospitals)]
        rows = torch.from_numpy(rng.permutation(hospital.train.patients)[:size])
        batch = hospital.train.of_patients(rows)
        known = signatures(stage.network, tokens_of(stage.network, batch))
        mechanism = mechanism_of(subject, hospital)
        gradient = simulated_gradient(subject, stage.network, batch, mechanism, rng)
        rounding = ROUNDING * size / mechanism.learning_rate
        matched = stage.filter(size, float(np.hypot(mechanism.noise_std, rounding)))
        decoys = stage.decoys[hospital.name]
        hit, cosine = identified(matched, gradient, known[:1], decoys)
        true = known.label.sum(axis=0)  # (logits,)
        count = label_count(gradient.output_bias, size, stage.reference.probability)
        sparse_hit, why = None, SEVERAL
        if stage.logits > 1:
            why = CLASSES
        elif batch.owner is None:
            sparse_hit, why = _sparse(stage, gradient, known[:1], decoys, rng)
        yield _Outcome(
            hit=hit,
            cosine=cosine,
            label_error=float(np.abs(count.estimate - true).mean()),
            label_in_range=bool(
                ((count.lowest - 1e-3 <= true) & (true <= count.highest + 1e-3)).all()
            ),
            sparse_hit=sparse_hit,
            sparse_why=why,
        )


def mechanism_of(subject: Subject, hospital: Hospital) -> Mechanism:
    """What protects one hospital's step in this run; under shared noise, all hospitals' shares."""
    training = subject.training
    noise_std = (training.clip_norm or 0.0) * hospital.noise_multiplier
    if training.shared_noise:
        noise_std *= len(subject.hospitals) ** 0.5
    return Mechanism(training.learning_rate, training.clipped_to, noise_std)


def simulated_gradient(
    subject: Subject,
    network: FusionNetwork,
    batch: PatientTensors,
    mechanism: Mechanism,
    rng: np.random.Generator,
) -> HeadGradient:
    """The sum of gradients that an attacker computes from a simulated update."""
    frozen = not subject.encoders_train
    group = tokens_of(network, batch) if frozen else batch
    update = client_update(network, subject.shared, group, mechanism, rng, encoded=frozen)
    summed = update.astype(np.float64) * (-batch.patients / mechanism.learning_rate)
    return head_gradient(network, subject.shared, summed)


def _sparse(
    stage: Stage,
    gradient: HeadGradient,
    target: Signatures,
    decoys: Signatures,
    rng: np.random.Generator,
) -> tuple[bool | None, str]:
    head = stage.network.classifier.hidden
    weight, bias = (p.detach().double().numpy() for p in (head.weight, head.bias))
    found = recover(gradient, weight, bias, stage.output_weight, rng)
    if not len(found.inputs):
        return None, found.reason
    candidates = np.concatenate([target.ratios, decoys.ratios])  # (1 + decoys, m, d)
    features = np.nanmean(candidates, axis=1)
    distances = np.linalg.norm(features[:, None] - found.inputs, axis=2).min(axis=1)
    return bool(distances[0] < distances[1:].min()), ""


def _sparse_finding(observer: Observer, outcomes: list[_Outcome]) -> Finding:
    method = f"sparse recovery, batch {LARGE_BATCH}"
    if all(outcome.sparse_hit is None for outcome in outcomes):
        reason, _ = Counter(outcome.sparse_why for outcome in outcomes).most_common(1)[0]
        return identification(observer, method, "worst case", absent=reason, applies=False)
    hits = [bool(outcome.sparse_hit) for outcome in outcomes]
    return identification(observer, method, "worst case", hits)
