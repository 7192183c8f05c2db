"""Source inference as a family: on the pooled rounds that membership inference looks at too."""

from attacks.family import Case, Family
from attacks.membership.pooled_rounds import Pooled, pooled_of
from attacks.membership.shadow_models import NoShadows
from attacks.result import AttackResult, Progress
from attacks.source import NAME
from attacks.source.attack import attack
from attacks.source.controls import controls
from securefed.exposure import Exposure, Observer


def _attack(
    case: Case,
    exposure: Exposure,
    progress: Progress,
    rounds: dict[Observer, Pooled] | NoShadows,
) -> AttackResult:
    pooled = rounds if isinstance(rounds, NoShadows) else rounds.get(exposure.observer)
    result = attack(case, exposure, pooled)
    progress(1.0)
    return result


FAMILY = Family(
    name=NAME,
    controls=lambda case, progress: controls(case.subject.seed, progress),
    prepare=pooled_of,
    attack=_attack,
    weights=(1, 2, 0.1),
)
