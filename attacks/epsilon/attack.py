"""The epsilon audit of a run that held canaries (Steinke, Nasr & Jagielski 2023, white box).

One hospital's records held made-up ones, each by its own coin (`securefed run --canaries`). The
observer knows the directions of all of them and every patient, but not the coins, and asks of each
round how much of a canary's direction is in what it saw:

    updates    the hospital's own update is visible: server without secure aggregation, coalition
    means      the mean over hospitals: the canary's part is the hospital's weight in it, under
               everybody's noise
    changes    only parameters are visible (outsider, or a strategy that hides the mean): their
               change over the run

From updates and means the sum that the patients were to contribute is taken off first
(`known_patients`). Rounds are scored by `scores`; guesses are fixed from the claim alone
(`CanaryPlan.for_run`) and the bound is on the accountant's own curve (`trade_off`).

What it tests is the whole of sampling, clipping, noise and accounting of one hospital in one run.
It cannot confirm a claim, only fail to contradict it, with the power that stands beside it.
Adaptive local optimizers and parameter changes give weaker scores, not wrong bounds.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from attacks.epsilon import NAME
from attacks.epsilon.canaries import CanaryPlan, EpsilonAudit, audit_epsilon
from attacks.epsilon.composed_power import CanaryView
from attacks.epsilon.known_patients import known_hospital, predictable
from attacks.epsilon.scores import log_ratio
from attacks.epsilon.trade_off import SubsampledGaussian
from attacks.errors import InvalidScores
from attacks.findings import Finding, LowerBound, Scene
from attacks.result import AttackResult, Effort, Progress, ScoreChart
from attacks.statistics.targets import finite_vector
from attacks.subject import Canaries, Hospital, Subject
from securefed.exposure import Exposure, Observer, RoundView

METHOD, METRIC = "canaries", "epsilon"
SCENE: Scene = "as configured"
Array = npt.NDArray[np.float64]
MAKE_ONE = "make one with: securefed run --canaries 350"
SAMPLED_PATIENTS = {Effort.QUICK: 15, Effort.DEFAULT: 75, Effort.THOROUGH: 10_000}  # per round


def attack(
    subject: Subject,
    exposure: Exposure,
    effort: Effort,
    progress: Progress,
) -> AttackResult:
    """Guess the coins from what the observer saw, and bound epsilon from the guesses.

    Raises:
        InvalidScores: directions of another number of parameters than the run's.
    """
    canaries = subject.canaries
    if canaries is None:
        return _absent(exposure, f"the run held no canaries; {MAKE_ONE}")
    if canaries.hospital in exposure.members:
        return _absent(exposure, f"{canaries.hospital} is an observer and knows its own coins")
    if canaries.directions.shape[1] != exposure.released.size:
        raise InvalidScores(
            f"canaries of {canaries.directions.shape[1]} parameters, the run shares "
            f"{exposure.released.size}",
            hint="canaries.json belongs to another run",
        )
    scene = _Scene(subject, canaries)
    seen = scene.look(exposure)
    background = None
    if seen.factors and predictable(subject):
        background = seen.take_off_patients(subject, SAMPLED_PATIENTS[effort], progress)
    plan, scores = scene.plan_and_score(seen)
    audit = audit_epsilon(plan, scores, canaries.included, scene.claimed)
    if scene.claimed is not None and not scene.in_units(seen):
        # The law of such scores is not known, so that no power is claimed for them.
        audit = replace(audit, power_halved_noise=0.0, noticed_noise=0.0, visible_epsilon=math.inf)
    progress(1.0)
    details = {
        "hospital": canaries.hospital,
        "canaries": plan.canaries,
        "guesses_in": plan.guesses_in,
        "guesses_out": plan.guesses_out,
        "correct": audit.correct,
        "seen": seen.kind,
        "rounds": len(seen.shares),
        "noise_seen_over_claimed": plan.view.noise_ratio if plan.view else None,
        "noticed_noise": audit.noticed_noise,
        "patients_taken_off": background,
        "remarks": scene.remarks(seen),
    }
    included, excluded = scores[canaries.included], scores[~canaries.included]
    observer = exposure.observer
    return AttackResult(
        findings=(finding(observer, audit),),
        details=details,
        lines={"epsilon": [{"observer": observer, **audit.line()}]},
        charts=(ScoreChart(f"Canary scores, {observer}", np.sort(included), np.sort(excluded)),),
    )


def finding(observer: Observer, audit: EpsilonAudit) -> Finding:
    """What canaries say of the run's epsilon, against its claim."""
    bound = LowerBound(
        value=audit.certified,
        confidence=1 - audit.plan.significance,
        claim=audit.claimed_epsilon,
        power=audit.power_halved_noise,
        breach="half the noise",
        least_visible=audit.visible_epsilon,
        if_refuted="the implementation of differential privacy is broken",
    )
    return Finding(NAME, METHOD, METRIC, observer, SCENE, bound)


def _absent(exposure: Exposure, why: str) -> AttackResult:
    absent = Finding(NAME, METHOD, METRIC, exposure.observer, SCENE, absent=why, applies=False)
    return AttackResult(findings=(absent,))


@dataclass(eq=False)
class _Seen:
    """What an observer saw of the shared parameters' movement, in units of one canary.

    Attributes:
        kind: "updates", "means" or "changes".
        shares: (rounds, P); a canary that one step drew adds its own direction.
        starts: shared parameters of these rounds.
        factors: of each round: hospital -> factor with which its sum of clipped gradients enters
            `shares`; empty where that cannot be said.
    """

    kind: str
    shares: Array
    starts: list[npt.NDArray[np.float32]]
    factors: list[dict[str, float]]

    def take_off_patients(self, subject: Subject, sample: int, progress: Progress) -> float:
        """Subtract what the patients were to contribute; returns the factor that fits best."""
        total = np.zeros_like(self.shares)
        names = sorted({name for each in self.factors for name in each})
        for i, name in enumerate(names):

            def told(share: float, done: int = i) -> None:
                progress(0.95 * (done + share) / len(names))

            there = [row for row, each in enumerate(self.factors) if name in each]
            starts = [self.starts[row] for row in there]
            sums = known_hospital(subject, name).expected_sums(starts, sample, told)
            total[there] += sums * np.array([[self.factors[row][name]] for row in there])
        energy = float((total**2).sum())
        # The factor guards against an expectation that is off (other personal parameters).
        fit = float((total * self.shares).sum()) / energy if energy else 0.0
        self.shares = self.shares - fit * total
        return fit


class _Scene:
    """The hospital with canaries, its claim, and the sizes that turn updates into canaries."""

    def __init__(self, subject: Subject, canaries: Canaries) -> None:
        named = [each for each in subject.hospitals if each.name == canaries.hospital]
        if not named:
            raise InvalidScores(f"the run has no hospital {canaries.hospital!r}")
        self.subject, self.canaries, self.hospital = subject, canaries, named[0]
        training = subject.training
        self.claimed = self.hospital.claimed_epsilon
        self.mechanism = SubsampledGaussian(
            self.hospital.sample_rate, training.rounds * training.local_steps
        )
        self.claimed_noise: float | None = None
        if self.claimed is not None:
            self.claimed_noise = self.mechanism.noise_multiplier(self.claimed, training.delta)

    def look(self, exposure: Exposure) -> _Seen:
        """The best that the observer can make of its exposure."""
        name = self.canaries.hospital
        for kind, usable in (
            ("updates", [v for v in exposure.rounds if name in v.updates]),
            ("means", [v for v in exposure.rounds if v.mean is not None and name in v.survivors]),
        ):
            if usable:
                shares, factors = zip(*(self._share(v, kind) for v in usable), strict=True)
                starts = [view.shared for view in usable]
                return _Seen(kind, np.stack(shares), starts, list(factors))
        start = exposure.rounds[0].shared if exposure.rounds else self._initial()
        return _Seen("changes", (start.astype(np.float64) - exposure.released)[None], [start], [])

    def _initial(self) -> npt.NDArray[np.float32]:
        parameters = dict(self.subject.network.named_parameters())
        flat = [parameters[name].detach().reshape(-1).numpy() for name in self.subject.shared]
        return np.concatenate(flat)

    def _share(self, view: RoundView, kind: str) -> tuple[Array, dict[str, float]]:
        """One round in units of a canary, and the factor of each hospital's sum in it."""
        name, training = self.canaries.hospital, self.subject.training
        clip = training.clip_norm or 1.0
        if kind == "updates":
            unit = self._step(self.hospital) * clip
            return -view.updates[name].astype(np.float64) / unit, {name: 1 / clip}
        assert view.mean is not None  # noqa: S101  # chosen so by look()
        there = [each for each in self.subject.hospitals if each.name in view.survivors]
        if training.shared_noise:
            union = sum(each.expected_batch for each in there)
            unit = training.learning_rate / union * clip
            return -view.mean.astype(np.float64) / unit, {each.name: 1 / clip for each in there}
        total = view.mean.astype(np.float64) * sum(each.weight for each in there)
        unit = self.hospital.weight * self._step(self.hospital) * clip
        factors = {each.name: each.weight * self._step(each) / unit for each in there}
        return -total / unit, factors

    def _step(self, hospital: Hospital) -> float:
        """Change of a parameter by one unit of a summed gradient."""
        return self.subject.training.learning_rate / hospital.expected_batch

    def plan_and_score(self, seen: _Seen) -> tuple[CanaryPlan, Array]:
        """The plan, from the claim alone; then the scores, (M,)."""
        delta = self.subject.training.delta
        count = len(self.canaries.included)
        along = seen.shares @ self.canaries.directions.T.astype(np.float64)  # (rounds, M)
        if self.claimed_noise is None:
            calls = (count - count // 2, count // 2)
            return CanaryPlan(count, *calls, delta), finite_vector(along.sum(axis=0), "scores")
        view = self._view(seen)
        plan = CanaryPlan.for_run(count, view, delta)
        if not self.in_units(seen):
            return plan, finite_vector(along.sum(axis=0), "scores")
        steps = self.subject.training.local_steps
        scores = log_ratio(along, view.assumed_noise, self.mechanism.sample_rate, steps)
        return plan, finite_vector(scores.sum(axis=0), "scores")

    def in_units(self, seen: _Seen) -> bool:
        """Whether a canary that was drawn once shows as 1 in what the observer saw."""
        return seen.kind != "changes" and self.subject.training.optimizer == "sgd"

    def _view(self, seen: _Seen) -> CanaryView:
        training, noise = self.subject.training, self.claimed_noise
        if noise is None:
            raise InvalidScores("a run without a claim has no noise to look through")
        ratio = 1.0
        if seen.kind == "means":
            clip = training.clip_norm or 1.0
            multipliers = {each.name: each.noise_multiplier for each in self.subject.hospitals}
            parts = [
                clip * f * multipliers[name] for each in seen.factors for name, f in each.items()
            ]
            seen_noise = math.sqrt(sum(part**2 for part in parts) / len(seen.factors))
            # Shared noise: the claim is for a sum of shares, of which each hospital adds one.
            own = noise if training.shared_noise else self.hospital.noise_multiplier
            ratio = seen_noise / own
        rounds = len(seen.shares) if seen.kind != "changes" else training.rounds
        return CanaryView(self.mechanism, noise, rounds, training.local_steps, ratio)

    def remarks(self, seen: _Seen) -> list[str]:
        """What weakens this audit."""
        said = []
        training = self.subject.training
        if seen.kind == "changes":
            said.append(
                "only the change of the parameters over the run is visible: the power of such "
                "scores is not known and counts as 0"
            )
        if training.optimizer != "sgd":
            said.append(
                f"local {training.optimizer} scales every entry apart: the power of such scores "
                "is not known and counts as 0"
            )
        if seen.factors and not predictable(self.subject):
            said.append("the patients' own contribution is not taken off")
        if self.claimed is None:
            said.append("no claim to test: the bound shows leakage, nothing more")
        return said
