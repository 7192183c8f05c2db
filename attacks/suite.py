"""The audit: every attack family on every observer's exposure, with its controls, and the verdict.

`steps` lists what there is to do, in an order that puts cheap answers first; the caller runs the
steps one by one and may stop between them. What is done stays done: `conclude` judges whatever
results there are, and a threshold that nobody got to is INCONCLUSIVE. Controls run once a family,
because they speak of the attack's code and not of the run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

from attacks.epsilon import attack as epsilon_audit
from attacks.epsilon.canaries import EpsilonAudit
from attacks.epsilon.controls import controls as epsilon_controls
from attacks.head import attack as head_leakage
from attacks.inversion import attack as inversion
from attacks.membership import attack as membership
from attacks.membership.shadow_models import NoShadows, Shadows, prepare
from attacks.own_part import without_own_part
from attacks.policy import Attack, Policy
from attacks.record import details_record, epsilon_record, verdict_record
from attacks.result import AttackResult, Effort, Progress
from attacks.subject import Subject
from attacks.verdicts import Check, judge
from securefed.exposure import Exposure, Observer, Vector

FAMILIES: tuple[Attack, ...] = ("head leakage", "epsilon", "inversion", "membership")
Exposures = Mapping[Observer, Exposure]


@dataclass(frozen=True)
class Step:
    """One piece of an audit.

    Attributes:
        attack: the family it belongs to.
        observer: None for controls and preparations.
        label: for the progress bar.
        weight: expected share of the audit's time, in any unit.
        work: does it.
    """

    attack: Attack
    observer: Observer | None
    label: str
    weight: float
    work: Callable[[Progress], AttackResult]


@dataclass(frozen=True)
class Done:
    """A finished step."""

    step: Step
    result: AttackResult


class _Shadows:
    """Shadow models, trained once and shared by all observers."""

    def __init__(self, subject: Subject, released: Vector, effort: Effort) -> None:
        self._subject = subject
        self._released = released
        self._effort = effort
        self._made: Shadows | NoShadows | None = None

    def make(self, progress: Progress) -> AttackResult:
        self._made = prepare(self._subject, self._released, self._effort, progress)
        return AttackResult()

    def attack(self, exposure: Exposure, progress: Progress) -> AttackResult:
        if self._made is None:
            raise RuntimeError("the step that trains shadow models comes first")
        return membership.attack(self._subject, exposure, self._effort, progress, self._made)


def steps(
    subject: Subject,
    exposures: Exposures,
    attacks: Sequence[str],
    effort: Effort,
    canaries: epsilon_audit.CanarySecrets | None,
) -> list[Step]:
    """What the audit consists of, in order.

    Args:
        exposures: of the observers to audit.
        attacks: the families to run; names of others are passed over.
        canaries: the run's coins and directions, or None if it held none.
    """
    exposures = {name: without_own_part(each, subject) for name, each in exposures.items()}
    # Every observer has the released model.
    shadows = _Shadows(subject, next(iter(exposures.values())).released, effort)
    worst = _closest(exposures)

    def on_updates(family: _OnUpdates, exposure: Exposure, progress: Progress) -> AttackResult:
        with_worst_case = exposure.observer == worst
        if reason := _seen_already(exposure, exposures):
            return family.absent(exposure.observer, reason, with_worst_case)
        return family.attack(subject, exposure, effort, progress, with_worst_case=with_worst_case)

    def count(exposure: Exposure, progress: Progress) -> AttackResult:
        return epsilon_audit.attack(subject, exposure, effort, progress, canaries)

    families: dict[Attack, _Family] = {
        "head leakage": _Family(head_leakage.controls, partial(on_updates, head_leakage), 3, 2),
        "epsilon": _Family(epsilon_controls, count, 3, 1),
        "inversion": _Family(inversion.controls, partial(on_updates, inversion), 5, 10),
        "membership": _Family(membership.controls, shadows.attack, 5, 2),
    }
    listed: list[Step] = []
    for name in (family for family in FAMILIES if family in attacks):
        family = families[name]
        controls = partial(family.controls, effort, subject.seed)
        listed.append(Step(name, None, f"{name}: controls", family.control_weight, controls))
        if name == "membership":
            listed.append(Step(name, None, "membership: shadow models", 30, shadows.make))
        for observer, exposure in exposures.items():
            work = partial(family.attack, exposure)
            listed.append(Step(name, observer, f"{name}: {observer}", family.attack_weight, work))
    return listed


def _closest(exposures: Exposures) -> Observer:
    """Who is nearest to one hospital's update: the worst case, one an audit, goes by its name."""
    return max(
        exposures, key=lambda name: (exposures[name].sees_updates, exposures[name].sees_means)
    )


def _seen_already(exposure: Exposure, exposures: Exposures) -> str:
    """Why a coalition's updates need no attack of their own, or nothing."""
    server = exposures.get("server")
    if exposure.observer == "coalition" and server is not None and server.sees_updates:
        return "the server alone sees every update, so that a coalition adds nothing: see server"
    return ""


class _OnUpdates(Protocol):
    """A family's module that works on updates or their means."""

    def attack(
        self,
        subject: Subject,
        exposure: Exposure,
        effort: Effort,
        progress: Progress,
        *,
        with_worst_case: bool,
    ) -> AttackResult: ...

    def absent(self, observer: Observer, reason: str, with_worst_case: bool) -> AttackResult: ...


@dataclass(frozen=True)
class _Family:
    """How to run a family, and roughly how long each part takes."""

    controls: Callable[[Effort, int, Progress], AttackResult]
    attack: Callable[[Exposure, Progress], AttackResult]
    control_weight: float
    attack_weight: float


def conclude(done: Sequence[Done], checks: Sequence[Check], policy: Policy) -> dict[str, Any]:
    """Judge what was done: the part of audit.json that the policy decides, and all findings.

    Args:
        checks: what a malicious server tried on a client; empty if nothing was tried.

    A family whose attack ran and whose controls did not (the user stopped between them) is
    INVALID, as any attack without its controls.
    """
    results = [each.result for each in done]
    audits: dict[str, EpsilonAudit] = {}
    details: dict[str, dict[str, Any]] = {}
    for each in done:
        if each.result.epsilon_audit is not None and each.step.observer is not None:
            audits[each.step.observer] = each.result.epsilon_audit
        if each.result.details:
            part = each.step.observer or "controls"
            details.setdefault(each.step.attack, {})[part] = each.result.details
    findings = [finding for result in results for finding in result.findings]
    controls = [control for result in results for control in result.controls]
    answer = judge(findings, controls, policy, audits, checks)
    return {
        **verdict_record(answer, results, policy),
        "epsilon": [epsilon_record(observer, audit) for observer, audit in audits.items()],
        "checks": [asdict(check) for check in checks],
        "details": details_record(details),
    }
