"""Source inference: of a patient who took part, in which hospital?

Membership in the federation may be no secret, and the hospital still be one: a hospice, a clinic
for one disease. Hu et al. 2021 ask each hospital's local model which of them knows a record best.
Here every hospital's updates are asked, over all rounds: the likelihood ratio of
`attacks.membership.pooled_rounds`, "trained on there" against "nowhere", hospital by hospital.

Of sums the same holds where cohorts change: a hospital is in some sums and not in others. Where two
hospitals are in the same sums always, nothing that was seen tells them apart; a patient of either
counts as a toss of a coin between them.

The figure is the chance that a patient's own hospital ranks above another, by lot among the others;
.5 is chance, however many hospitals there are. `details` have the same of held-out patients: what
exceeds .5 there is case mix or scanner, which the attack tells just as well.

Not covered: an attacker who does not know who the other patients are (the law of a release takes
everybody but the target as known), and the released model alone, which is one for all hospitals.
"""

from collections.abc import Sequence

import numpy as np

from attacks.family import Case
from attacks.findings import Finding
from attacks.membership.pooled_rounds import Pooled
from attacks.membership.shadow_models import NoShadows
from attacks.result import AttackResult
from attacks.source import NAME
from attacks.statistics.intervals import mean_by_patient
from attacks.statistics.targets import Bools, Floats
from attacks.subject import Hospital
from securefed.exposure import Exposure

MORE_PATIENTS = "a run with more patients: every one of this run's is in the figure"
METHOD, METRIC = "likelihood ratio", "auc"


def attack(case: Case, exposure: Exposure, pooled: Pooled | NoShadows | None) -> AttackResult:
    """What one observer can say of the patients of hospitals other than its own.

    Args:
        pooled: what its rounds say together; None where it saw none.
    """
    hospitals = case.subject.hospitals
    others = np.array([each.name not in exposure.members for each in hospitals])
    if reason := _not_applicable(exposure, others, pooled):
        return AttackResult(findings=(_finding(exposure, absent=reason, applies=False),))
    assert isinstance(pooled, Pooled)  # noqa: S101  # else there was a reason
    asked = others & pooled.seen
    hospital, is_member = people(hospitals)
    ranks = ranked(pooled.ratios, hospital, asked)
    of_members, of_others = (ranks[asked[hospital] & kind] for kind in (is_member, ~is_member))
    rng = np.random.default_rng([case.subject.seed, 0x50])
    details = {
        "hospitals": int(asked.sum()),
        "rounds": len(pooled.rounds),
        "patients": of_members.size,
        "share whose hospital ranks first": float((of_members == 1).mean()),
        "share by chance": 1 / int(asked.sum()),
        "auc of held-out patients": float(of_others.mean()) if of_others.size else None,
    }
    found = _finding(exposure, estimate=mean_by_patient(of_members, rng), remedy=MORE_PATIENTS)
    return AttackResult(findings=(found,), details=details)


def people(hospitals: Sequence[Hospital]) -> tuple[np.ndarray, Bools]:
    """Of every patient of the pool: hospital, and whether it was trained on."""
    sizes = [(each.train.patients, each.held_out.patients) for each in hospitals]
    hospital = np.repeat(np.arange(len(hospitals)), [sum(pair) for pair in sizes])
    is_member = np.concatenate([np.arange(a + b) < a for a, b in sizes])
    return hospital, is_member


def ranked(ratios: Floats, hospital: np.ndarray, asked: Bools) -> Floats:
    """Share of the other hospitals asked that a patient's own ranks above; a tie counts half.

    Args:
        ratios: (patients, hospitals).
        hospital: (patients,) each one's own.
        asked: (hospitals,) bool.
    """
    own = np.take_along_axis(ratios, hospital[:, None], axis=1)
    other = asked & (np.arange(asked.size) != hospital[:, None])
    wins = np.where(other, (own > ratios) + 0.5 * (own == ratios), 0.0)
    share: Floats = wins.sum(axis=1) / np.maximum(other.sum(axis=1), 1)
    return share


def _not_applicable(exposure: Exposure, others: Bools, pooled: Pooled | NoShadows | None) -> str:
    if isinstance(pooled, NoShadows):
        return pooled.reason
    if others.sum() < 2:
        return "one hospital is not its own: whoever is in nobody else's is in that one's"
    if pooled is None or (others & pooled.seen).sum() < 2:
        return f"the {exposure.observer} saw no update, and no mean, of two other hospitals"
    if pooled.unknown:
        return pooled.unknown
    if len(np.unique(pooled.present[:, others & pooled.seen], axis=1).T) < 2:
        return "every sum that it saw is of the same hospitals: nothing tells them apart"
    return ""


def _finding(exposure: Exposure, **figure: object) -> Finding:
    return Finding(NAME, METHOD, METRIC, exposure.observer, "as configured", **figure)  # type: ignore[arg-type]
