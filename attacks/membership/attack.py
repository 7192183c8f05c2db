"""Membership inference: was this patient in the training data of the run?

Targets are patients, scored by attacks of `attacks.membership.scores` on the released model; the
online LiRA ("lira") is the primary, named before any was run. Whoever saw updates or their mean
also pools all rounds (`attacks.membership.pooled_rounds`): a likelihood ratio, and the cosine
between a patient's gradient and what a round moved. An observer's targets are the patients of
hospitals other than its own.

    as configured   the run as it is, every target
    worst case      the tenth of the targets that shadows not trained on them find hardest: the
                    outliers, who are exposed first (Carlini et al. 2022, section 6.3). Chosen
                    without a look at the attacked model, so that the interval stands.

Not covered: an attacker who lacks data of the same distribution is weaker than these shadows; one
who uses the trajectory of released models, or several runs on the same patients, may be stronger.
Shadows know the exact settings, and the pool holds the true members: an upper end of what an
outsider can do with these methods, not of what can be done.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attacks.errors import TooFewTargets
from attacks.findings import Finding, Scene
from attacks.membership import NAME
from attacks.membership.pooled_rounds import Pooled
from attacks.membership.scores import (
    lira_offline,
    lira_online,
    logit_confidence,
    loss_threshold,
    rmia_log_ratio,
    rmia_scores,
)
from attacks.membership.shadow_models import NoShadows, Shadows, patient_losses
from attacks.result import AttackResult, RocChart
from attacks.statistics.intervals import auc_by_patient, clopper_pearson
from attacks.statistics.roc import roc_curve, tpr_at_fpr
from attacks.statistics.targets import Bools, Floats, ScoredTargets
from attacks.subject import Subject
from securefed.exposure import Exposure

FALSE_POSITIVE_RATES = (0.01, 0.001)
METRICS = ("auc", *(f"tpr at fpr {rate:g}" for rate in FALSE_POSITIVE_RATES))
SHADOW_METHODS = ("lira", "lira offline", "rmia", "loss threshold")
RATIO, COSINE = "likelihood ratio", "gradient cosine"
HARDEST_SHARE, HARDEST_LEAST = 0.1, 40  # of the targets in the worst case; and at least so many
CURVE_POINTS = 300  # kept of a ROC curve
MORE_PATIENTS = (
    "a run with more patients, held-out ones among them: every one of this run's is in the figure, "
    "and more effort does not narrow it"
)


@dataclass(frozen=True)
class _Scores:
    """One method's scores of the observer's targets, or why there are none."""

    method: str
    targets: ScoredTargets | None = field(default=None, repr=False)
    absent: str = ""
    applies: bool = True


def attack(
    subject: Subject,
    exposure: Exposure,
    shadows: Shadows | NoShadows,
    pooled: Pooled | None,
) -> AttackResult:
    """All membership attacks of one observer.

    Args:
        shadows: of `attacks.membership.shadow_models.prepare`, the same for every observer.
        pooled: what the rounds that this observer saw say together; None where it saw none.

    Returns:
        A finding for every method, metric and scene, and the ROC of every method.
    """
    if isinstance(shadows, NoShadows):
        absent = [
            _Scores(m, absent=shadows.reason, applies=False)
            for m in (*SHADOW_METHODS, RATIO, COSINE)
        ]
        findings = [f for scores in absent for f in _findings(scores, exposure, subject.seed)]
        return AttackResult(tuple(findings), details={"shadows": 0, "reason": shadows.reason})
    scene = _Scene.of(subject, exposure, shadows)
    scored = [*scene.by_shadows(), *scene.by_rounds(pooled)]
    hardest = scene.hardest(scored[0])
    findings = [f for scores in scored for f in _findings(scores, exposure, subject.seed)]
    findings += _findings(hardest, exposure, subject.seed, "worst case", METRICS[:1])
    curves = {s.method: _curve(s.targets) for s in scored if s.targets is not None}
    return AttackResult(
        findings=tuple(findings),
        details=scene.details(scored, pooled),
        charts=(RocChart(f"Membership inference, {exposure.observer}", curves),) if curves else (),
    )


@dataclass(frozen=True)
class _Scene:
    """What one observer attacks.

    Attributes:
        aim: (patients,) bool, the pool's patients that are targets.
        losses: (patients,) cross-entropy under the released model.
    """

    exposure: Exposure
    shadows: Shadows
    aim: Bools = field(repr=False)
    losses: Floats = field(repr=False)

    @classmethod
    def of(cls, subject: Subject, exposure: Exposure, shadows: Shadows) -> "_Scene":
        # Without held-out patients a hospital has members only, and all shadows hold them.
        wanted = [h.name not in exposure.members and len(h.held_out) > 0 for h in subject.hospitals]
        aim = np.array(wanted)[shadows.pool.hospital.numpy()]
        head = shadows.plan.head(exposure.released)
        losses = patient_losses(shadows.plan.shape, head, shadows.pool)[0]
        return cls(exposure, shadows, aim, losses)

    @property
    def is_member(self) -> Bools:
        return np.asarray(self.shadows.pool.is_member.numpy()[self.aim])

    def by_shadows(self) -> Iterator[_Scores]:
        """Scores of the released model against what the shadows say."""
        aim, losses = self.aim, self.losses[self.aim]
        inside = self.shadows.inside[:, aim]
        target = logit_confidence(losses)
        said = np.stack([logit_confidence(row) for row in self.shadows.losses[:, aim]])
        methods: dict[str, Callable[[], Floats]] = {
            "lira": lambda: lira_online(target, said, inside),
            "lira offline": lambda: lira_offline(target, said, inside),
            "rmia": lambda: self._rmia(aim),
            "loss threshold": lambda: loss_threshold(losses),
        }
        for method, scores in methods.items():
            yield self._scored(method, scores)

    def _rmia(self, aim: Bools) -> Floats:
        # The population is the whole pool, whose membership the score does not use.
        ratios = rmia_log_ratio(-self.losses, -self.shadows.losses)
        return rmia_scores(ratios[aim], ratios)

    def _scored(self, method: str, scores: Callable[[], Floats]) -> _Scores:
        try:
            return _Scores(method, ScoredTargets.of(scores(), self.is_member))
        except TooFewTargets as error:
            return _Scores(method, absent=str(error))

    def by_rounds(self, pooled: Pooled | None) -> Iterator[_Scores]:
        """Scores of all rounds together, for whoever saw updates or means."""
        hospital = self.shadows.pool.hospital.numpy()
        seen = self.aim & pooled.seen[hospital] if pooled else np.zeros_like(self.aim)
        if pooled is None or not seen.any():
            reason = f"the {self.exposure.observer} saw no update and no mean of updates"
            yield from (_Scores(each, absent=reason, applies=False) for each in (RATIO, COSINE))
            return
        members = self.shadows.pool.is_member.numpy()[seen]
        if pooled.unknown:
            yield _Scores(RATIO, absent=pooled.unknown, applies=False)
        else:
            own = pooled.ratios[np.arange(len(hospital)), hospital]
            yield _Scores(RATIO, ScoredTargets.of(own[seen], members))
        yield _Scores(COSINE, ScoredTargets.of(pooled.cosines[seen], members))

    def hardest(self, primary: _Scores) -> _Scores:
        """The primary attack on the outliers alone."""
        if primary.targets is None:
            return primary
        aim, inside = self.aim, self.shadows.inside
        out = np.where(inside, 0.0, self.shadows.losses).sum(0)[aim] / (~inside).sum(0)[aim]
        count = max(HARDEST_LEAST, round(HARDEST_SHARE * out.size))
        chosen = np.argsort(-out, kind="stable")[:count]
        members = self.is_member[chosen]
        if members.all() or not members.any():
            return _Scores(primary.method, absent=f"the {count} hardest targets are of one class")
        return _Scores(primary.method, ScoredTargets.of(primary.targets.scores[chosen], members))

    def details(self, scored: list[_Scores], pooled: Pooled | None) -> dict[str, Any]:
        training, losses, members = self.shadows.plan.training, self.losses, self.is_member
        return {
            "shadows": len(self.shadows.inside),
            "rounds_replayed": training.rounds,
            "rounds_pooled": len(pooled.rounds) if pooled else 0,
            "caveats": list(self.shadows.caveats),
            "members": int(members.sum()),
            "non_members": int((~members).sum()),
            "mean_loss_members": float(losses[self.aim][members].mean()),
            "mean_loss_non_members": float(losses[self.aim][~members].mean()),
            "mean_loss_by_shadow": self.shadows.losses.mean(1).tolist(),
            "realised_fpr": {s.method: _realised(s.targets) for s in scored if s.targets},
        }


def _findings(
    scores: _Scores,
    exposure: Exposure,
    seed: int,
    scene: Scene = "as configured",
    metrics: tuple[str, ...] = METRICS,
) -> list[Finding]:
    def finding(metric: str, **figure: Any) -> Finding:
        remedy = MORE_PATIENTS if figure.get("estimate") else ""
        return Finding(
            NAME, scores.method, metric, exposure.observer, scene, **figure, remedy=remedy
        )

    targets = scores.targets
    if targets is None:
        return [finding(m, absent=scores.absent, applies=scores.applies) for m in metrics]
    found = []
    try:
        rng = np.random.default_rng([seed, 3])
        found.append(finding("auc", estimate=auc_by_patient(targets, rng)))
    except TooFewTargets as error:
        found.append(finding("auc", absent=str(error)))
    for metric, rate in zip(METRICS[1:], FALSE_POSITIVE_RATES, strict=True):
        if metric in metrics:
            point = tpr_at_fpr(targets, rate)
            found.append(finding(metric, estimate=point.tpr, absent=point.withheld))
    return found


def _realised(targets: ScoredTargets) -> Mapping[str, float | None]:
    points = {f"{rate:g}": tpr_at_fpr(targets, rate).fpr for rate in FALSE_POSITIVE_RATES}
    return {rate: None if fpr is None else fpr.value for rate, fpr in points.items()}


def _curve(targets: ScoredTargets) -> NDArray[np.float64]:
    """(points, 4): FPR, TPR and the TPR's exact 95% limits, thinned evenly on the log scale."""
    curve, members = roc_curve(targets), targets.member_patients
    keep = np.unique(
        np.searchsorted(curve.fpr, np.geomspace(1 / targets.non_member_patients, 1, CURVE_POINTS))
    )
    keep = np.union1d([0, curve.fpr.size - 1], keep[keep < curve.fpr.size])
    limits = [clopper_pearson(round(tpr * members), members) for tpr in curve.tpr[keep]]
    return np.column_stack(
        [curve.fpr[keep], curve.tpr[keep], [i.lower for i in limits], [i.upper for i in limits]]
    )
