"""Membership inference: was this patient in the training data of the run?

Targets are patients, scored by attacks of `attacks.membership.scores` on the released model; the
online LiRA ("lira") is the primary, named before any was run. Whoever saw updates or their mean
also tries the cosine between a patient's gradient and what a round moved. An observer's targets are
the patients of hospitals other than its own.

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
import torch
from numpy.typing import NDArray

from attacks.errors import TooFewTargets
from attacks.findings import Finding, Scene
from attacks.membership import NAME
from attacks.membership.federation_replay import Pool, ReplayPlan
from attacks.membership.head_gradients import Drawn, gradients
from attacks.membership.scores import (
    gradient_cosine,
    lira_offline,
    lira_online,
    logit_confidence,
    loss_threshold,
    rmia_log_ratio,
    rmia_scores,
)
from attacks.membership.shadow_models import NoShadows, Shadows, patient_losses
from attacks.parallel import Step, side_by_side
from attacks.result import AttackResult, Effort, Progress, RocChart
from attacks.statistics.intervals import auc_by_patient, clopper_pearson
from attacks.statistics.roc import roc_curve, tpr_at_fpr
from attacks.statistics.targets import Bools, Floats, ScoredTargets
from attacks.subject import Subject
from securefed.exposure import Exposure, RoundView
from securefed.model.sharing import Vector

FALSE_POSITIVE_RATES = (0.01, 0.001)
METRICS = ("auc", *(f"tpr at fpr {rate:g}" for rate in FALSE_POSITIVE_RATES))
SHADOW_METHODS = ("lira", "lira offline", "rmia", "loss threshold")
COSINE = "gradient cosine"
COSINE_ROUNDS = {Effort.QUICK: 6, Effort.DEFAULT: 20, Effort.THOROUGH: 80}
HARDEST_SHARE, HARDEST_LEAST = 0.1, 40  # of the targets in the worst case; and at least so many
CURVE_POINTS = 300  # kept of a ROC curve


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
    effort: Effort,
    progress: Progress,
    shadows: Shadows | NoShadows,
) -> AttackResult:
    """All membership attacks of one observer.

    Args:
        shadows: of `attacks.membership.shadow_models.prepare`, the same for every observer.

    Returns:
        A finding for every method, metric and scene, and the ROC of every method.
    """
    if isinstance(shadows, NoShadows):
        absent = [
            _Scores(m, absent=shadows.reason, applies=False) for m in (*SHADOW_METHODS, COSINE)
        ]
        findings = [f for scores in absent for f in _findings(scores, exposure, subject.seed)]
        return AttackResult(tuple(findings), details={"shadows": 0, "reason": shadows.reason})
    scene = _Scene.of(subject, exposure, shadows)
    scored = [*scene.by_shadows(), scene.by_cosine(effort, progress)]
    hardest = scene.hardest(scored[0])
    findings = [f for scores in scored for f in _findings(scores, exposure, subject.seed)]
    findings += _findings(hardest, exposure, subject.seed, "worst case", METRICS[:1])
    curves = {s.method: _curve(s.targets) for s in scored if s.targets is not None}
    progress(1.0)
    return AttackResult(
        findings=tuple(findings),
        details=scene.details(scored),
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
    names: tuple[str, ...]
    shared: tuple[tuple[str, int], ...]  # name and size of the shared parameters, in vector order
    aim: Bools = field(repr=False)
    losses: Floats = field(repr=False)

    @classmethod
    def of(cls, subject: Subject, exposure: Exposure, shadows: Shadows) -> "_Scene":
        names = tuple(hospital.name for hospital in subject.hospitals)
        parameters = dict(subject.network.named_parameters())
        shared = tuple((name, parameters[name].numel()) for name in subject.shared)
        # Without held-out patients a hospital has members only, and all shadows hold them.
        wanted = [h.name not in exposure.members and len(h.held_out) > 0 for h in subject.hospitals]
        aim = np.array(wanted)[shadows.pool.hospital.numpy()]
        head = head_vector(shadows.plan, shared, exposure.released)
        losses = patient_losses(shadows.plan.shape, head, shadows.pool)[0]
        return cls(exposure, shadows, names, shared, aim, losses)

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

    def by_cosine(self, effort: Effort, progress: Progress) -> _Scores:
        """The trajectory attack, for whoever saw updates or means."""
        seen = self._visible()
        if not seen.any():
            reason = f"the {self.exposure.observer} saw no update and no mean of updates"
            return _Scores(COSINE, absent=reason, applies=False)
        patients = np.flatnonzero(self.aim & seen)
        rounds = evenly(self._rounds(), COSINE_ROUNDS[effort])
        parts = side_by_side(
            lambda view, told: self._cosines(view, patients, told),
            rounds,
            steps=1,
            progress=progress,
        )
        members = self.shadows.pool.is_member.numpy()[patients]
        return _Scores(COSINE, ScoredTargets.of(np.mean(parts, axis=0), members))

    def _rounds(self) -> list[RoundView]:
        if self.exposure.sees_updates:
            return [view for view in self.exposure.rounds if self._others(view)]
        return [view for view in self.exposure.rounds if view.mean is not None]

    def _others(self, view: RoundView) -> set[str]:
        return set(view.updates) - set(self.exposure.members)

    def _visible(self) -> Bools:
        """Targets whose hospital's update, or a mean with it, is there in every round used."""
        views = self._rounds()
        if not views:
            return np.zeros_like(self.aim)
        if not self.exposure.sees_updates:
            return self.aim
        always = set.intersection(*(self._others(view) for view in views))
        visible = np.array([name in always for name in self.names])
        return np.asarray(self.aim & visible[self.shadows.pool.hospital.numpy()])

    def _cosines(self, view: RoundView, patients: NDArray[np.intp], told: Step) -> Floats:
        """Each patient's cosine with its hospital's update, or the mean, in one round."""
        plan, pool = self.shadows.plan, self.shadows.pool
        rows = _patient_gradients(plan, pool, head_vector(plan, self.shared, view.shared), patients)
        result = np.zeros(len(patients))
        hospital = pool.hospital.numpy()[patients]
        for index, name in enumerate(self.names):
            update = view.updates.get(name) if self.exposure.sees_updates else view.mean
            here = hospital == index
            if update is not None and here.any():
                direction = head_vector(plan, self.shared, update)[0, plan.shared]
                result[here] = gradient_cosine([(direction.double().numpy(), rows[here])])
        told()
        return result

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

    def details(self, scored: list[_Scores]) -> dict[str, Any]:
        training, losses, members = self.shadows.plan.training, self.losses, self.is_member
        return {
            "shadows": len(self.shadows.inside),
            "rounds_replayed": training.rounds,
            "caveats": list(self.shadows.caveats),
            "members": int(members.sum()),
            "non_members": int((~members).sum()),
            "mean_loss_members": float(losses[self.aim][members].mean()),
            "mean_loss_non_members": float(losses[self.aim][~members].mean()),
            "mean_loss_by_shadow": self.shadows.losses.mean(1).tolist(),
            "realised_fpr": {s.method: _realised(s.targets) for s in scored if s.targets},
        }


def head_vector(
    plan: ReplayPlan, shared: tuple[tuple[str, int], ...], vector: Vector
) -> torch.Tensor:
    """A vector of shared parameters as one head: what is not shared is as it was initially.

    Returns:
        (1, size) float32.
    """
    head, offset = plan.initial.clone(), 0
    for name, size in shared:
        if name in plan.shape.places:
            start = plan.shape.places[name][0]
            head[start : start + size] = torch.from_numpy(vector[offset : offset + size].copy())
        offset += size
    return head[None]


def evenly(views: list[RoundView], most: int) -> list[RoundView]:
    """At most `most` rounds, evenly spaced, the first and the last among them."""
    chosen = np.linspace(0, len(views) - 1, min(most, len(views))).round().astype(int)
    return [views[index] for index in np.unique(chosen)]


@torch.no_grad()
def _patient_gradients(
    plan: ReplayPlan, pool: Pool, head: torch.Tensor, patients: NDArray[np.intp]
) -> Floats:
    """Gradient of each patient's loss on the shared entries.  # (targets, shared)"""
    place = torch.full((len(pool),), -1)
    place[torch.from_numpy(patients)] = torch.arange(len(patients))
    records = torch.nonzero(place[pool.patient] >= 0).squeeze(1)
    drawn = Drawn(torch.zeros_like(records), records)
    rows = gradients(plan.shape, head, pool.records, drawn)[:, plan.shared].double()
    total = rows.new_zeros(len(patients), rows.shape[1])
    return np.asarray(total.index_add_(0, place[pool.patient[records]], rows).numpy())


def _findings(
    scores: _Scores,
    exposure: Exposure,
    seed: int,
    scene: Scene = "as configured",
    metrics: tuple[str, ...] = METRICS,
) -> list[Finding]:
    def finding(metric: str, **figure: Any) -> Finding:
        return Finding(NAME, scores.method, metric, exposure.observer, scene, **figure)

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
