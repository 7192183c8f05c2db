"""Head leakage as a family."""

from attacks.family import Case, Family
from attacks.head import NAME
from attacks.head.attack import absent, attack
from attacks.head.controls import controls
from attacks.result import AttackResult, Progress
from securefed.exposure import Exposure


def _attack(case: Case, exposure: Exposure, progress: Progress) -> AttackResult:
    alone = exposure.observer == case.closest
    if reason := case.covered(exposure.observer):
        return absent(exposure.observer, reason, alone)
    return attack(case.subject, exposure, case.effort, progress, with_worst_case=alone)


FAMILY = Family(
    name=NAME,
    controls=lambda case, progress: controls(case.effort, case.subject.seed, progress),
    attack=_attack,
    weights=(3, 0, 2),
)
