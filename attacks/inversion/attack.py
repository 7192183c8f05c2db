"""The inversion family of an audit: controls, and the attack on what one observer saw.

What an observer sees decides what is attacked: single updates where it can tell them apart, else
the mean over the hospitals; an outsider saw neither, and then the finding says so. The measure is
identification: the share of training patients whose reconstruction is nearer to them than to each
of 50 others (attacks.inversion.matching). PSNR and SSIM stand beside it in the details.

Identification counts trials as independent. Those of one update share its reconstruction, so that
the interval of the scene as configured is somewhat too narrow; the details give the updates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attacks.findings import Finding, Scene
from attacks.inversion import NAME
from attacks.inversion.gradient_inversion import Recipe
from attacks.inversion.local_updates import trained_names
from attacks.inversion.matching import Trial, draw_trials
from attacks.inversion.quality import LEAST_DECOYS
from attacks.inversion.scenes import LONGEST_UNROLL, Attempt, Seen, as_configured, worst_case
from attacks.result import AttackResult, Effort, Picture, Progress
from attacks.statistics.intervals import Proportion
from attacks.subject import Subject
from securefed.exposure import Exposure, Observer, Vector

METHOD = "cosine + total variation"
METRIC = "identification"
SCENES: tuple[Scene, Scene] = ("as configured", "worst case")
STREAM = 0x1D7E  # separates this family's random numbers from the others'


@dataclass(frozen=True)
class Plan:
    """How much to do.

    Attributes:
        updates: attacked as configured; early rounds, one hospital after the other.
        trials: targets per update.
        dummies: patients that explain an update.
        single: targets of the worst case.
        everything: of those, also attacked as if all parameters were shared.
    """

    updates: int
    trials: int
    dummies: int
    single: int
    everything: int
    recipe: Recipe


# At chance, 1 in 51, some 120 trials keep the upper limit under a threshold of .10 nearly always.
PLANS = {
    Effort.QUICK: Plan(2, 60, 2, 6, 1, Recipe(30, 0.03, 0.3)),
    Effort.DEFAULT: Plan(8, 15, 4, 30, 4, Recipe(120, 0.03, 0.3)),
    Effort.THOROUGH: Plan(24, 10, 8, 100, 16, Recipe(400, 0.03, 0.3, restarts=2)),
}


def attack(
    subject: Subject,
    exposure: Exposure,
    effort: Effort,
    progress: Progress,
    *,
    with_worst_case: bool = True,
) -> AttackResult:
    """What one observer saw, and the worst case; where one does not apply, its finding says why.

    Args:
        with_worst_case: it is of the run, not of an observer: once an audit is enough.
    """
    plan, rng = PLANS[effort], np.random.default_rng([subject.seed, STREAM])
    seen = visible_updates(exposure, plan.updates, _rounds_with_known_state(subject))
    if reason := _not_applicable(subject, exposure, seen):
        progress(1.0)
        return absent(exposure.observer, reason, with_worst_case)
    groups = [draw_trials(subject.hospitals, each.hospitals, plan.trials, rng) for each in seen]
    everybody = sorted({name for each in seen for name in each.hospitals})
    single = draw_trials(subject.hospitals, everybody, plan.single, rng)
    if not single or not all(groups):
        progress(1.0)
        few = f"no training patient has {LEAST_DECOYS} held-out decoys with the same modalities"
        return absent(exposure.observer, few, with_worst_case, applies=True)
    share = 0.5 if with_worst_case else 1.0
    configured = _every_update(subject, seen, groups, plan, rng, _part(progress, 0.0, share))
    found = AttackResult(
        findings=(_finding(exposure.observer, SCENES[0], configured),),
        details={
            SCENES[0]: _figures(configured)
            | {
                "updates": [f"round {each.round_number}: {_source(each)}" for each in seen],
                "dummy_patients": plan.dummies,
                "expected_patients_per_step": {
                    each.name: each.expected_batch for each in subject.hospitals
                },
                "local_steps": subject.training.local_steps,
                "personal_parameters": _personal(subject),
            }
        },
        pictures=(_picture(exposure.observer, SCENES[0], configured),),
    )
    if with_worst_case:
        rest = _worst(subject, exposure.observer, seen[0], single, plan, rng, progress)
        found = AttackResult(
            findings=found.findings + rest.findings,
            details={**found.details, **rest.details},
            pictures=found.pictures + rest.pictures,
        )
    progress(1.0)
    return found


def _worst(
    subject: Subject,
    observer: Observer,
    seen: Seen,
    single: Sequence[Trial],
    plan: Plan,
    rng: np.random.Generator,
    progress: Progress,
) -> AttackResult:
    """One patient alone: as the run shares its parameters, and as if it shared all."""
    shared, seed = seen.shared, int(rng.integers(2**31))
    alone = worst_case(subject, shared, single, plan.recipe, seed, _part(progress, 0.5, 0.8))
    whole = worst_case(
        subject,
        shared,
        single[: plan.everything],
        plan.recipe,
        seed,
        _part(progress, 0.8, 1.0),
        everything=True,
    )
    names = ", ".join(sorted({trial.hospital for trial in single}))
    return AttackResult(
        findings=(_finding(observer, SCENES[1], alone),),
        details={
            SCENES[1]: _figures(alone)
            | {"round": seen.round_number, "hospitals": names, "setting": _setting(subject)},
            "worst case, as if all parameters were shared": _figures(whole),
        },
        pictures=(_picture(observer, SCENES[1], alone),),
    )


def visible_updates(exposure: Exposure, most: int, last_round: int | None) -> list[Seen]:
    """Updates that the observer can attack: of others if it sees them, else the mean.

    Args:
        most: how many, earliest rounds first.
        last_round: later ones are of no use; None: all are.
    """
    found: list[Seen] = []
    for view in exposure.rounds:
        if last_round is not None and view.number > last_round:
            break
        others = {n: u for n, u in view.updates.items() if n not in exposure.members}
        rest = tuple(name for name in view.survivors if name not in exposure.members)
        sources: dict[tuple[str, ...], Vector] = {}
        if others:
            sources = {(name,): update for name, update in sorted(others.items())}
        elif rest and view.mean is not None:
            sources = {rest: view.mean}
        for hospitals, update in sources.items():
            # An empty Poisson batch without noise moves nothing, and shows nobody.
            if np.any(update):
                found.append(Seen(hospitals, view.number, view.shared, update))
    return found[:most]


def _rounds_with_known_state(subject: Subject) -> int | None:
    """Adam's state starts at zero and is the hospital's own from then on."""
    return 1 if subject.training.optimizer == "adam" else None


def _not_applicable(subject: Subject, exposure: Exposure, seen: Sequence[Seen]) -> str:
    training = subject.training
    if exposure.observer == "outsider":
        return "an outsider sees the released model only, never an update"
    if training.optimizer == "adam" and training.local_steps > LONGEST_UNROLL:
        return (
            f"{training.local_steps} local steps of Adam are too many to unroll "
            f"(at most {LONGEST_UNROLL})"
        )
    if not seen and training.optimizer == "adam":
        return (
            "local Adam keeps its state: only round 1 can be unrolled, and no update of it was seen"
        )
    if not seen:
        return f"the {exposure.observer} saw no update of another hospital and no mean of them"
    return ""


def _every_update(
    subject: Subject,
    seen: Sequence[Seen],
    groups: Sequence[Sequence[Trial]],
    plan: Plan,
    rng: np.random.Generator,
    progress: Progress,
) -> list[Attempt]:
    attempts: list[Attempt] = []
    for done, (each, trials) in enumerate(zip(seen, groups, strict=True)):
        share = _part(progress, done / len(seen), (done + 1) / len(seen))
        seed = int(rng.integers(2**31))
        attempts += as_configured(subject, each, trials, plan.dummies, plan.recipe, seed, share)
    return attempts


def _part(progress: Progress, start: float, end: float) -> Progress:
    return lambda done: progress(start + done * (end - start))


def _finding(observer: Observer, scene: Scene, attempts: Sequence[Attempt]) -> Finding:
    hits = sum(each.identified for each in attempts)
    estimate = Proportion(hits, len(attempts))
    return Finding(NAME, METHOD, METRIC, observer, scene, estimate)


def absent(
    observer: Observer, reason: str, with_worst_case: bool, *, applies: bool = False
) -> AttackResult:
    """No figure, and why: `applies` where there could have been one."""
    scenes = SCENES if with_worst_case else SCENES[:1]
    return AttackResult(
        findings=tuple(
            Finding(NAME, METHOD, METRIC, observer, s, absent=reason, applies=applies)
            for s in scenes
        )
    )


def _figures(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """Means over the attempts; PSNR in dB, beside that of the mean head it began from."""
    return {
        "trials": len(attempts),
        "identified": sum(each.identified for each in attempts),
        "candidates": LEAST_DECOYS + 1,
        "psnr_db": float(np.mean([each.psnr_db for each in attempts])),
        "psnr_of_mean_head_db": float(np.mean([each.psnr_of_start_db for each in attempts])),
        "ssim": float(np.mean([each.ssim for each in attempts])),
    }


def _picture(observer: Observer, scene: Scene, attempts: Sequence[Attempt]) -> Picture:
    best = max(attempts, key=lambda each: each.psnr_db)
    title = f"best of {len(attempts)}, {best.psnr_db:.1f} dB"
    return best.picture(f"inversion, {observer}, {scene}: {title}")


def _source(seen: Seen) -> str:
    if len(seen.hospitals) == 1:
        return seen.hospitals[0]
    return f"mean over {', '.join(seen.hospitals)} and whoever else took part"


def _setting(subject: Subject) -> str:
    clip = subject.training.clip_norm
    noise = "" if clip is None else f", clipped to {clip:g} with this hospital's noise"
    return f"one patient, one slice, one SGD step, known label{noise}; no sum over hospitals"


def _personal(subject: Subject) -> str:
    trained = trained_names(subject.network, subject.encoders_train)
    if set(trained) <= set(subject.shared):
        return "none"
    return "taken as initialised: exact in round 1, a guess later"
