"""Head leakage: whose fused feature stands in the gradient of the classifier's first layer.

When only the classifier (or fusion and classifier) is shared, its first linear layer still gives
the joined feature away (attacks.head.features says exactly what its row ratio is here). Two scenes:

    as configured   updates, or their mean, as this observer saw them in the run, early and late
    worst case      one client, a batch of one and of four patients, with the run's network and its
                    mechanism (clipping and noise where it is private); simulated, labels known

Success is identification: a training patient against 50 held-out patients of the same hospital,
ranked by attacks.head.matching. Chance is 1/51. In the scene as configured a target is any training
patient, drawn into that step or not, as an attacker cannot know. Targets of one update are judged
on the same mixture, so that the exact interval treats as independent what is nearly so.

Not covered: many rounds pooled for one patient (that is membership inference, with its own attack),
several local steps other than as their sum, and Adam, whose steps are no gradients.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from attacks import labels
from attacks.findings import Scene
from attacks.head.controls import controls_on_run
from attacks.head.features import HeadGradient, head_gradient, label_count, signatures
from attacks.head.imprinted import measure
from attacks.head.pictures import pictures_of
from attacks.head.scattered import scattered
from attacks.head.stage import (
    DECOYS,
    ROUNDING,
    People,
    Stage,
    Stages,
    identification,
    identified,
    part,
)
from attacks.head.worst_case import worst_case
from attacks.result import AttackResult, Effort, Progress
from attacks.subject import Hospital, Subject
from securefed.exposure import Exposure, Observer, RoundView
from securefed.model.encoding import tokens_of


@dataclass(frozen=True)
class _Plan:
    """How much is tried.

    Attributes:
        rounds: of those seen, evenly spread, the first and the last included.
        targets: patients to identify in the scene as configured.
        batches: of each size in the worst case, half of them early and half late.
        hospitals: whose patients are targets, at most.
        pictures, iterations: reconstructed patients, and optimiser steps of each.
    """

    rounds: int
    targets: int
    batches: int
    hospitals: int
    pictures: int
    iterations: int


PLANS = {
    # 120 targets at chance have an upper limit of .07, which a threshold of .10 can tell apart.
    Effort.QUICK: _Plan(2, targets=120, batches=14, hospitals=2, pictures=1, iterations=60),
    Effort.DEFAULT: _Plan(6, targets=240, batches=60, hospitals=4, pictures=2, iterations=300),
    Effort.THOROUGH: _Plan(
        40, targets=2000, batches=500, hospitals=1000, pictures=4, iterations=1000
    ),
}


def attack(
    subject: Subject,
    exposure: Exposure,
    effort: Effort,
    progress: Progress,
    *,
    with_worst_case: bool = True,
) -> AttackResult:
    """What one observer saw, and the worst case.

    Args:
        with_worst_case: it is of the run, not of an observer: once an audit is enough. With it
            come what imprint parameters would yield, pictures, and the controls on this run.
    """
    views = [view for view in exposure.rounds if _sources(view, exposure)]
    if reason := _not_applicable(subject, exposure, views):
        return absent(exposure.observer, reason, with_worst_case)
    plan, rng = PLANS[effort], np.random.default_rng([subject.seed, 0x4EAD1EA])
    seen = {name for view in views for name in _targets(view, exposure)}
    hospitals = [h for h in subject.hospitals if h.name in seen and len(h.train) > 0]
    people = People.draw(subject, hospitals[: plan.hospitals], rng)
    if people is None:
        few = f"fewer than {DECOYS} held-out decoys"
        return absent(exposure.observer, few, with_worst_case, applies=True)
    rounds = min(plan.rounds, 2) if subject.encoders_train else plan.rounds
    chosen = [views[i] for i in np.unique(np.linspace(0, len(views) - 1, rounds).astype(int))]
    stages = Stages(subject, people)
    share = 0.5 if with_worst_case else 1.0
    found = _as_configured(subject, exposure, chosen, stages, plan, rng, part(progress, 0, share))
    if not with_worst_case:
        return found
    edges = [chosen[0], chosen[-1]] if len(chosen) > 1 else chosen
    trials = max(1, plan.batches // len(edges))
    worst = worst_case(
        subject, exposure.observer, edges, stages, trials, rng, part(progress, 0.5, 0.7)
    )
    imprinted = _imprinted(
        subject, exposure, stages.at(edges[0]), trials, effort, rng, part(progress, 0.7, 0.8)
    )
    spread = scattered(
        subject, exposure, stages.at(edges[0]), effort, rng, part(progress, 0.8, 0.85)
    )
    pictures = pictures_of(
        subject,
        edges[-1],
        people,
        plan.pictures,
        plan.iterations,
        rng,
        part(progress, 0.85, 1.0),
    )
    sound = controls_on_run(subject, effort, rng)
    return AttackResult(
        findings=(*found.findings, *worst.findings, *imprinted.findings, *spread.findings),
        controls=sound.controls,
        details={
            **found.details,
            **worst.details,
            **imprinted.details,
            **spread.details,
            **pictures.details,
            **sound.details,
        },
        pictures=pictures.pictures,
    )


def _imprinted(
    subject: Subject,
    exposure: Exposure,
    stage: Stage,
    trials: int,
    effort: Effort,
    rng: np.random.Generator,
    progress: Progress,
) -> AttackResult:
    """What imprint parameters would yield, for an observer who can send any."""
    if exposure.observer not in ("server", "coalition"):
        reason = "only the server sends parameters"
        absent = identification(
            exposure.observer, "imprint", "worst case", absent=reason, applies=False
        )
        return AttackResult(findings=(absent,))
    large = effort is not Effort.QUICK
    return measure(subject, exposure.observer, stage, trials, large, rng, progress)


# ---- what is seen ------------------------------------------------------------------------------


def _not_applicable(subject: Subject, exposure: Exposure, views: list[RoundView]) -> str:
    if subject.training.optimizer != "sgd":
        return "local Adam steps are no gradients: the row ratio is destroyed"
    if not views:
        return f"the {exposure.observer} saw no update of another hospital and no mean of them"
    return ""


def _sources(view: RoundView, exposure: Exposure) -> Mapping[str | None, NDArray[np.float32]]:
    """Updates that may be attacked: client -> update, or None -> the mean where none is visible."""
    others: dict[str | None, NDArray[np.float32]] = {
        name: update for name, update in view.updates.items() if name not in exposure.members
    }
    if others or view.mean is None:
        return others
    return {None: view.mean}


def _targets(view: RoundView, exposure: Exposure) -> list[str]:
    """Hospitals whose patients may be in what was seen."""
    names = [name for name in _sources(view, exposure) if name is not None]
    return names or [name for name in view.survivors if name not in exposure.members]


def absent(
    observer: Observer, reason: str, with_worst_case: bool, *, applies: bool = False
) -> AttackResult:
    """No figure, and why: `applies` where there could have been one."""
    scenes: tuple[Scene, ...] = ("as configured", "worst case")
    return AttackResult(
        findings=tuple(
            identification(observer, "row ratio", scene, absent=reason, applies=applies)
            for scene in scenes[: 1 + with_worst_case]
        )
    )


# ---- as configured -----------------------------------------------------------------------------


def _as_configured(
    subject: Subject,
    exposure: Exposure,
    views: list[RoundView],
    stages: Stages,
    plan: _Plan,
    rng: np.random.Generator,
    progress: Progress,
) -> AttackResult:
    hits: list[bool] = []
    cosines: list[float] = []
    errors: list[float] = []
    for done, view in enumerate(views):
        stage = stages.at(view)
        sources = _sources(view, exposure)
        possible = [h for h in stages.people.hospitals if h.name in _targets(view, exposure)]
        for hospital in possible:
            key = hospital.name if hospital.name in sources else None
            clients = len(view.survivors) if key is None else 1
            gradient, patients, noise_std = _summed(
                subject, hospital, sources[key], max(1, clients)
            )
            matched = stage.filter(patients, noise_std)
            count = max(1, plan.targets // (len(views) * len(possible)))
            rows = rng.permutation(hospital.train.patients)[:count]
            batch = hospital.train.of_patients(torch.from_numpy(rows))
            tokens = tokens_of(stage.network, batch)
            targets = signatures(stage.network, tokens)
            for index in range(len(rows)):
                hit, cosine = identified(
                    matched, gradient, targets[index : index + 1], stage.decoys[hospital.name]
                )
                hits.append(hit)
                cosines.append(cosine)
            counted = label_count(
                gradient.output_bias, max(1, round(patients)), stage.reference.probability
            )
            told = counted.estimate / max(1, round(patients))
            true = labels.shares(hospital.train, stage.logits).mean(0).numpy()
            errors.append(float(np.abs(told - true).mean()))
        progress((done + 1) / len(views))
    details = {
        "rounds": [view.number for view in views],
        "attacked": "updates" if exposure.sees_updates else "mean of the updates",
        "trials": len(hits),
        "mean cosine of targets": float(np.mean(cosines)),
        "mean error of the share of labels": float(np.mean(errors)),
        "approximate": _approximations(subject),
    }
    finding = identification(exposure.observer, "row ratio", "as configured", hits)
    return AttackResult(findings=(finding,), details={"as configured": details})


def _summed(
    subject: Subject, hospital: Hospital, update: NDArray[np.float32], clients: int
) -> tuple[HeadGradient, float, float]:
    """An update as a sum of gradients, the patients expected in it, the noise per entry."""
    training = subject.training
    expected = float(hospital.expected_batch * clients)
    scale = expected / training.learning_rate
    patients = expected * training.local_steps
    dp_std = (training.clip_norm or 0.0) * hospital.noise_multiplier
    noise_std = float(np.hypot(dp_std * (clients * training.local_steps) ** 0.5, ROUNDING * scale))
    summed = update.astype(np.float64) * -scale
    return head_gradient(subject.network, subject.shared, summed), patients, noise_std


def _approximations(subject: Subject) -> list[str]:
    """What the attacker had to assume, in words."""
    notes = []
    if subject.training.local_steps > 1:
        notes.append(f"{subject.training.local_steps} SGD steps taken as one sum")
    if not any(name.startswith("fusion.") for name in subject.shared):
        notes.append("fusion is personal: its initial values stand in for the hospital's")
    if subject.encoders_train and not any(n.startswith("encoder_") for n in subject.shared):
        notes.append("encoders are personal: their initial values stand in for the hospital's")
    if subject.training.unit == "image":
        notes.append("slices are records: the signature of all of them stands in for the drawn one")
    if subject.training.clip_norm is not None:
        notes.append("label counts ignore clipping and noise")
    if any(hospital.train.owner is not None for hospital in subject.hospitals):
        notes.append("labels are of examples: a patient is identified with all of its own known")
    return notes
