"""The epsilon audit as a family: its findings are lower bounds, against the run's own claim."""

from attacks.epsilon import NAME
from attacks.epsilon.attack import attack
from attacks.epsilon.controls import controls
from attacks.family import Case, Family
from attacks.result import AttackResult, Progress
from securefed.exposure import Exposure


def _attack(case: Case, exposure: Exposure, progress: Progress) -> AttackResult:
    return attack(case.subject, exposure, progress)


FAMILY = Family(
    name=NAME,
    controls=lambda case, progress: controls(),  # kept in the package
    attack=_attack,
    alone=("server", "coalition", "outsider"),
    weights=(0.1, 0, 7),
)
