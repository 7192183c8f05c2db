"""The ROC of a membership attack: curve, AUC, and the true-positive rate at a small FPR.

Carlini et al. (2022) argue that an attack is judged at low false-positive rates, where an average
such as the AUC hides that a few patients are exposed for certain. The FPR that is asked for is
rarely the one that is reached: with n non-members only multiples of 1/n exist. So the realised FPR
and exact intervals stand beside every figure, and a target below 1/n is withheld, not rounded.
"""

from dataclasses import dataclass, field

import numpy as np

from attacks.errors import InvalidScores
from attacks.statistics.intervals import Proportion
from attacks.statistics.targets import Floats, ScoredTargets
from securefed.model.auc import area_of_scores


@dataclass(frozen=True)
class RocCurve:
    """One point per distinct score, from (0, 0) to (1, 1).

    Attributes:
        fpr, tpr: rates of non-members and members with score >= threshold.  # (points,)
        thresholds: descending; the first is infinity.  # (points,)
    """

    fpr: Floats = field(repr=False)
    tpr: Floats = field(repr=False)
    thresholds: Floats = field(repr=False)


def roc_curve(targets: ScoredTargets) -> RocCurve:
    """The curve over records; records of equal score enter together."""
    # Imported here: it takes half a second, and nothing else in an audit needs it.
    from sklearn import metrics

    return RocCurve(*metrics.roc_curve(targets.is_member, targets.scores, drop_intermediate=False))


def auc(targets: ScoredTargets) -> float:
    """P[a member scores higher than a non-member], ties counted half."""
    return area_of_scores(targets.scores, targets.is_member)


@dataclass(frozen=True)
class OperatingPoint:
    """An attack held to a false-positive rate.

    Attributes:
        target_fpr: what was asked for.
        tpr: found members among all; None where the figure is withheld.
        fpr: false alarms among all non-members, at most the target; None where withheld.
        withheld: why there is no figure, or None.
    """

    target_fpr: float
    tpr: Proportion | None
    fpr: Proportion | None
    withheld: str | None = None


def tpr_at_fpr(targets: ScoredTargets, target_fpr: float) -> OperatingPoint:
    """The share of members found when at most `target_fpr` of the non-members are accused.

    A record is accused if it scores above the (k+1)-th largest non-member, k = floor(target x
    non-members). The rule looks at non-members alone, so given the rule the members are
    independent trials and the Clopper-Pearson interval of the TPR is exact. That of the FPR is
    conservative: its lower end lies a little low.

    Withheld below 1/target_fpr distinct non-members (1,000 for 0.1%).

    Raises:
        InvalidScores: target_fpr outside (0, 1), or several records of one patient.
    """
    if not 0 < target_fpr < 1:
        raise InvalidScores(f"target_fpr must be in (0, 1), got {target_fpr}", hint="0.01 or 0.001")
    if targets.patient_is_member.size != targets.scores.size:
        raise InvalidScores(
            f"{targets.scores.size} records of {targets.patient_is_member.size} patients: "
            "records of one patient are not independent trials",
            hint="score each patient once, for instance by the mean over its slices",
        )
    non_members = np.sort(targets.scores[~targets.is_member])[::-1]
    # Rounding first: 1 / 0.001 and 0.07 x 100 are not whole in binary.
    needed = int(np.ceil(round(1 / target_fpr, 9)))
    if non_members.size < needed:
        reason = (
            f"{non_members.size} distinct non-members; "
            f"a false-positive rate of {target_fpr:g} needs {needed}"
        )
        return OperatingPoint(target_fpr, None, None, reason)
    allowed = int(np.floor(round(target_fpr * non_members.size, 9)))
    cut = non_members[allowed]
    members = targets.scores[targets.is_member]
    return OperatingPoint(
        target_fpr,
        tpr=Proportion(int((members > cut).sum()), members.size),
        fpr=Proportion(int((non_members > cut).sum()), non_members.size),
    )
