"""Membership inference as a family: its shadow models are trained once for all observers."""

from attacks.family import Case, Family
from attacks.membership import NAME
from attacks.membership.attack import attack
from attacks.membership.fixture import fixture_controls
from attacks.membership.shadow_models import NoShadows, Shadows, prepare
from attacks.result import AttackResult, Progress
from securefed.exposure import Exposure


def _attack(
    case: Case, exposure: Exposure, progress: Progress, shadows: Shadows | NoShadows
) -> AttackResult:
    return attack(case.subject, exposure, case.effort, progress, shadows)


FAMILY = Family(
    name=NAME,
    # The same for every effort: so are the gates.
    controls=lambda case, progress: fixture_controls(case.subject.seed, progress),
    prepare=lambda case, progress: prepare(case.subject, case.released, case.effort, progress),
    attack=_attack,
    weights=(5, 30, 2),
)
