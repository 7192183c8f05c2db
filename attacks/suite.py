"""The audit: every attack family on every observer's exposure, with its controls, and the verdict.

`steps` lists what there is to do, in an order that puts cheap answers first; the caller runs the
steps one by one and may stop between them. What is done stays done: `conclude` judges whatever
results there are, and a threshold that nobody got to is INCONCLUSIVE. Controls run once a family,
because they speak of the attack's code and not of the run.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from attacks.families import FAMILIES, family
from attacks.family import Case, Family
from attacks.policy import Policy
from attacks.result import AttackResult, Progress
from attacks.verdicts import AuditVerdict, judge
from securefed.exposure import Exposure, Observer


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

    attack: str
    observer: Observer | None
    label: str
    weight: float
    work: Callable[[Progress], AttackResult]


@dataclass(frozen=True)
class Done:
    """A finished step."""

    step: Step
    result: AttackResult


def steps(case: Case, attacks: Collection[str]) -> list[Step]:
    """What the audit consists of, in order.

    Args:
        attacks: names of the families to run.
    """
    return [step for name in FAMILIES if name in attacks for step in _steps_of(family(name), case)]


def _steps_of(of: Family, case: Case) -> Iterator[Step]:
    for_controls, for_preparation, for_attack = of.weights
    yield Step(of.name, None, f"{of.name}: controls", for_controls, partial(of.controls, case))
    prepared: list[Any] = []
    if prepare := of.prepare:

        def preparation(progress: Progress) -> AttackResult:
            prepared.append(prepare(case, progress))
            return AttackResult()

        yield Step(of.name, None, f"{of.name}: preparation", for_preparation, preparation)
    if attack := of.attack:

        def on(exposure: Exposure, progress: Progress) -> AttackResult:
            return attack(case, exposure, progress, *prepared)

        for observer, exposure in case.exposures.items():
            label = f"{of.name}: {observer}"
            yield Step(of.name, observer, label, for_attack, partial(on, exposure))


def conclude(
    done: Sequence[Done], policy: Policy, asked: Collection[str] = tuple(FAMILIES)
) -> AuditVerdict:
    """Judge what was done.

    A family whose attack ran and whose controls did not (the user stopped between them) is
    INVALID, as any attack without its controls.

    Args:
        asked: the families that the audit was to run; what the policy says of others is not asked.
    """
    results = [each.result for each in done]
    return judge(
        [finding for result in results for finding in result.findings],
        [control for result in results for control in result.controls],
        policy,
        [check for result in results for check in result.checks],
        asked,
    )
