"""The direct tests as a family: on what observers saw and on what they know of themselves."""

from attacks.direct_tests import NAME
from attacks.direct_tests.attack import Evidence, attack, gather
from attacks.direct_tests.controls import controls
from attacks.direct_tests.releases import untestable
from attacks.family import Case, Family
from attacks.result import AttackResult, Progress
from securefed.exposure import Exposure, Observer


def _controls(case: Case, progress: Progress) -> AttackResult:
    """None where there is nothing for them to speak for."""
    return AttackResult() if untestable(case.subject) else controls(case.subject.seed, progress)


def _prepare(case: Case, progress: Progress) -> dict[Observer, Evidence]:
    needed = {name: each for name, each in case.recorded.items() if not case.covered(name)}
    return gather(case.subject, needed, case.effort, progress)


def _attack(
    case: Case, exposure: Exposure, progress: Progress, evidence: dict[Observer, Evidence]
) -> AttackResult:
    observer = exposure.observer
    result = attack(case.subject, observer, evidence.get(observer), case.covered(observer))
    progress(1.0)
    return result


FAMILY = Family(
    name=NAME,
    controls=_controls,
    prepare=_prepare,
    attack=_attack,
    alone=("server", "peer", "coalition", "outsider"),
    weights=(0.5, 17, 0.1),
)
