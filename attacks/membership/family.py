"""Membership inference as a family: shadow models and rounds are worked out once an audit."""

from dataclasses import dataclass, replace

from attacks.family import Case, Family
from attacks.membership import NAME
from attacks.membership.attack import attack
from attacks.membership.fixture import fixture_controls
from attacks.membership.planted import amplification, planted_controls
from attacks.membership.pooled_controls import pooled_controls
from attacks.membership.pooled_rounds import Pooled, pooled_of
from attacks.membership.shadow_models import NoShadows, Shadows, prepare
from attacks.result import AttackResult, Progress
from securefed.exposure import Exposure, Observer

SHARE_OF_SHADOWS = 0.9  # of the time that preparation takes


@dataclass(frozen=True, eq=False)
class _Prepared:
    shadows: Shadows | NoShadows
    pooled: dict[Observer, Pooled] | NoShadows


def _controls(case: Case, progress: Progress) -> AttackResult:
    """The same for every effort: so are the gates."""
    seed = case.subject.seed
    one = fixture_controls(seed, lambda share: progress(0.7 * share))
    other = pooled_controls(seed, lambda share: progress(0.7 + 0.1 * share))
    more = planted_controls(seed)
    progress(1.0)
    return AttackResult(
        controls=(*one.controls, *other.controls, *more.controls),
        details={**one.details, **other.details},
    )


def _prepare(case: Case, progress: Progress) -> _Prepared:
    part = SHARE_OF_SHADOWS
    shadows = prepare(
        case.subject, case.released, case.effort, lambda share: progress(part * share)
    )
    return _Prepared(shadows, pooled_of(case, lambda share: progress(part + (1 - part) * share)))


def _attack(
    case: Case, exposure: Exposure, progress: Progress, prepared: _Prepared
) -> AttackResult:
    rounds = prepared.pooled
    pooled = None if isinstance(rounds, NoShadows) else rounds.get(exposure.observer)
    found = attack(case.subject, exposure, prepared.shadows, pooled)
    more = amplification(case, exposure, progress)
    progress(1.0)
    return replace(
        found,
        findings=(*found.findings, *more.findings),
        details={**found.details, **more.details},
    )


FAMILY = Family(
    name=NAME,
    controls=_controls,
    prepare=_prepare,
    attack=_attack,
    weights=(9, 430, 8),
)
