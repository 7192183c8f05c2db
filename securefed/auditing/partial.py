"""What one party can try alone: of the suite's steps those for which its folder has the truth.

An attack is scored with the patients whom it is about. A hospital has its own, and what it sent:
families say of which observers that is enough (`attacks.family`, `alone`). A server has nobody's.
Where that is not enough, the line says what is missing, instead of a figure.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial

from attacks.families import family
from attacks.findings import Finding
from attacks.policy import Policy
from attacks.result import AttackResult, Progress
from attacks.subject import Subject
from attacks.suite import Step
from securefed.exposure import Exposure, Observer
from securefed.run_directory import Run

EVERYBODY = "needs the patients of every hospital, and this folder is of one"
OTHERS = "needs the other hospitals' patients: what a peer sees tells of them, not of its own"
NOBODY = "needs patients to be about, and a server has none"


def within(exposure: Exposure, subject: Subject) -> Exposure:
    """An exposure less the means over hospitals that the auditor does not know."""
    known = {each.name for each in subject.hospitals}
    rounds = tuple(
        view
        if view.survivors and set(view.survivors) <= known
        else replace(view, mean=None, survivors=())
        for view in exposure.rounds
    )
    return replace(exposure, rounds=rounds)


def able(todo: Sequence[Step], run: Run) -> tuple[str, ...]:
    """The families of which a party can try anything, in the order of their steps."""
    return tuple(
        dict.fromkeys(
            step.attack
            for step in todo
            if (step.observer and not _lacks(run, step)) or family(step.attack).attack is None
        )
    )


def of_party(todo: Sequence[Step], run: Run, policy: Policy) -> list[Step]:
    """The steps of an audit from one party's folder."""
    if run.party == "everybody":
        return list(todo)
    tried = able(todo, run)
    return [each for step in todo for each in _of(step, run, policy, tried)]


def _of(step: Step, run: Run, policy: Policy, tried: Collection[str]) -> Iterator[Step]:
    if step.observer is None:
        if step.attack in tried:  # controls of what is not tried would speak for nothing
            yield step
    elif missing := _lacks(run, step):
        yield replace(
            step, weight=0.0, work=partial(_absent, step.attack, step.observer, policy, missing)
        )
    else:
        yield step


def _lacks(run: Run, step: Step) -> str:
    """What this party does not have for a step on what an observer saw, or nothing."""
    if run.party == "server":
        return NOBODY
    if step.observer in family(step.attack).alone:
        return ""
    return OTHERS if step.observer == "peer" else EVERYBODY


def _absent(
    attack: str, observer: Observer, policy: Policy, missing: str, progress: Progress
) -> AttackResult:
    """A line for everything that the policy asks of a family."""
    progress(1.0)
    method = policy.primary.get(attack, attack)
    asked = [(each.metric, each.scene) for each in policy.thresholds if each.attack == attack]
    return AttackResult(
        findings=tuple(
            Finding(attack, method, metric, observer, scene, absent=missing, applies=False)
            for metric, scene in asked or [(attack, "as configured")]
        )
    )
