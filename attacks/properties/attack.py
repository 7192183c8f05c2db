"""Property inference: which share of a hospital's training patients has a property.

Differential privacy covers a patient, not a hospital: a share of all patients hardly changes with
one of them, so that no epsilon hides it. Whoever tells a hospital's releases apart works it out
(`attacks.properties.shares`), and this says how well: in how many hospitals to within TOLD, beside
a guess, which is the share among the patients that the attacker knows. Its figure is reported and
judged only where a policy says what a hospital's case mix may cost.

    positives                  case mix: counts of labels, over rounds; of a patient with several
                               labelled examples, the share of positive ones; so for each class
    without CT, without MRI    what equipment and protocol give; so for each modality
    bright CT, bright MRI      scanner: grey values over the median of the known patients', which
                               calibration and sequence move for all patients of a scanner alike

The attacker knows patients of the same distribution: the held-out ones of all hospitals stand for
them. A property that is rare among them, or nearly all have, is left out: a guess is as good. Not
covered: a scanner's name, and what of it does not show in the mean grey value.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from attacks import labels
from attacks.family import Case
from attacks.findings import Finding
from attacks.membership.patient_gradients import incomputable
from attacks.membership.pooled_rounds import evenly
from attacks.membership.shadow_models import Candidates, NoShadows, candidates
from attacks.one_row import in_one_row
from attacks.properties import NAME
from attacks.properties.shares import Shares, shares
from attacks.releases import Release, releases
from attacks.result import AttackResult, Effort, Progress
from attacks.statistics.intervals import Proportion
from attacks.statistics.targets import Bools, Floats
from attacks.subject import Hospital, Subject
from securefed.exposure import Exposure
from securefed.model.network import NetworkShape
from securefed.model.patients import PatientTensors

METRIC = "told within 0.05"
TOLD = 0.05
ROUNDS = {Effort.QUICK: 6, Effort.DEFAULT: 20, Effort.THOROUGH: 80}
WHITE = 255
RAREST = 0.1  # share of the known patients that has a property, or has not


def attack(case: Case, exposure: Exposure, progress: Progress) -> AttackResult:
    """What one observer can say of the hospitals that it tells apart."""
    subject = case.subject
    properties = names_of(subject.network.shape)
    who = candidates(subject, case.released.tobytes())
    rounds = _rounds(subject, exposure, ROUNDS[case.effort])
    if reason := case.covered(exposure.observer) or _not_applicable(subject, exposure, who, rounds):
        return AttackResult(findings=tuple(_absent(exposure, each, reason) for each in properties))
    assert isinstance(who, Candidates)  # noqa: S101  # else there was a reason
    known = ~who.pool.is_member.numpy()
    levels = median_brightness([each.held_out for each in subject.hospitals])
    logits = max(1, len(subject.network.shape.classes))
    of_known = np.concatenate(
        [properties_of(each.held_out, levels, logits) for each in subject.hospitals]
    )
    common = np.minimum(of_known.mean(axis=0), 1 - of_known.mean(axis=0)) >= RAREST
    rare = f"fewer than {RAREST:.0%} of the known patients have it, or have it not"
    if not common.any():
        return AttackResult(findings=tuple(_absent(exposure, each, rare) for each in properties))
    apart = told_apart(present_in(rounds, subject.hospitals))
    if not apart.any():
        reason = "every sum that it saw is of the same hospitals, and tells of them together only"
        return AttackResult(findings=tuple(_absent(exposure, each, reason) for each in properties))
    found = shares(who.plan, who.pool, known, of_known[:, common], rounds, progress)
    truth = [properties_of(each.train, levels, logits).mean(axis=0) for each in subject.hospitals]
    names = [name for name, there in zip(properties, common, strict=True) if there]
    findings, details = _compared(exposure, names, found, np.stack(truth)[:, common], apart)
    findings += [_absent(exposure, name, rare) for name in properties if name not in names]
    details |= {"rounds": [each[0].number for each in rounds], "hospitals": int(apart.sum())}
    return AttackResult(findings=tuple(findings), details=details)


def names_of(shape: NetworkShape) -> tuple[str, ...]:
    """The properties of patients with these modalities and classes."""
    shown = [modality.upper() for modality in shape.modalities]
    without, bright = (tuple(f"{what} {name}" for name in shown) for what in ("without", "bright"))
    mix = tuple(f"class {name}" for name in shape.classes) or ("positives",)
    return (*mix, *without, *bright)


def properties_of(patients: PatientTensors, levels: Floats, logits: int = 1) -> Floats:
    """(patients, properties), 0 to 1, in the order of `names_of`.

    Args:
        levels: of each modality, from `median_brightness`.
        logits: of the network, one for each class.
    """
    scans = in_one_row(patients)
    without, bright = ~scans.present.any(dim=2), brightness(scans) > levels
    each = np.column_stack([labels.shares(patients, logits).numpy(), without.numpy(), bright])
    return each.astype(np.float64)


def median_brightness(groups: Sequence[PatientTensors]) -> Floats:
    """Of each modality over all patients who have it, (modalities,); NaN where nobody has."""
    found = np.concatenate([brightness(in_one_row(group)) for group in groups])
    middle = [
        np.median(kind[~np.isnan(kind)]) if not np.isnan(kind).all() else np.nan for kind in found.T
    ]
    return np.array(middle)


def brightness(patients: PatientTensors) -> Floats:
    """Mean grey value by modality, (patients, modalities); NaN where a patient has none.

    Args:
        patients: each in one row.

    Of pixels that are neither black nor white: beyond a window's ends no calibration shows.
    """
    return np.array(
        [[_mean_grey(each) for each in patient] for patient in patients.images]
    ).reshape(patients.present.shape[:2])


def _mean_grey(images: Tensor) -> float:
    grey = images[(images > 0) & (images < WHITE)]
    return float(grey.double().mean()) if len(grey) else np.nan


def present_in(rounds: Sequence[Sequence[Release]], hospitals: Sequence[Hospital]) -> Bools:
    """(releases, hospitals) bool, who is in which release."""
    return np.array(
        [[each.name in release.factors for each in hospitals] for of in rounds for release in of]
    )


def told_apart(present: Bools) -> Bools:
    """(hospitals,) bool, whose part in (releases, hospitals) no others' parts can stand for."""
    sums = present.astype(np.float64)
    alone: Bools = np.diag(np.linalg.pinv(sums) @ sums) > 1 - 1e-6
    return alone


def _compared(
    exposure: Exposure, names: Sequence[str], found: Shares, truth: Floats, apart: Bools
) -> tuple[list[Finding], dict[str, Any]]:
    errors = np.abs(found.told - truth)[apart]  # (hospitals, properties)
    guesses = np.abs(found.known - truth)[apart]
    findings: list[Finding] = []
    details: dict[str, Mapping[str, float]] = {}
    for column, name in enumerate(names):
        told = int((errors[:, column] <= TOLD).sum())
        figure = Proportion(told, len(errors))
        findings.append(
            Finding(
                NAME,
                name,
                METRIC,
                exposure.observer,
                "as configured",
                estimate=figure,
                remedy="a run of more hospitals: each is one trial",
            )
        )
        details[name] = {
            "mean error": float(errors[:, column].mean()),
            "mean error of a guess": float(guesses[:, column].mean()),
            "guessed within 0.05": int((guesses[:, column] <= TOLD).sum()),
        }
    return findings, dict(details)


def _rounds(subject: Subject, exposure: Exposure, most: int) -> list[list[Release]]:
    hospitals: tuple[Hospital, ...] = subject.hospitals
    each = (
        releases(subject.training, hospitals, view, exposure.members) for view in exposure.rounds
    )
    seen = [several for several in each if several]
    return [seen[place] for place in evenly(range(len(seen)), most)] if seen else []


def _not_applicable(
    subject: Subject,
    exposure: Exposure,
    who: Candidates | NoShadows,
    rounds: Sequence[Sequence[Release]],
) -> str:
    if isinstance(who, NoShadows):
        return who.reason
    if subject.encoders_train:
        return "encoders train too, and gradients of whole networks are beyond an audit"
    if not rounds:
        return f"the {exposure.observer} saw no update of another hospital and no mean of them"
    return incomputable(who.plan, who.pool)


def _absent(exposure: Exposure, method: str, reason: str) -> Finding:
    return Finding(
        NAME, method, METRIC, exposure.observer, "as configured", None, reason, applies=False
    )
