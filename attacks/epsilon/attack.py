"""The epsilon audit of a run that held canaries (Steinke, Nasr & Jagielski 2023, white box).

One hospital's records held made-up ones, each by its own coin (`securefed run --canaries`). The
observer knows the directions of all of them and every patient, but not the coins, and asks of each
round how much of a canary's direction is in what it saw (`scene`). The sum that the patients were
to contribute is taken off first, and judged (`background`). Then there are three bounds, each with
an error of its own that is fixed in advance:

    canaries        guesses of the coins, fixed from the claim alone (`CanaryPlan.for_run`), and the
                    bound on the accountant's own curve (`trade_off`)
    gaussian pair   the scores themselves as two normal laws; no mechanism is assumed
    noise           the size of the noise in the directions of canaries that are out, and the
                    epsilon of the run's own steps with no more than that

They test the whole of sampling, clipping, noise and accounting of one hospital in one run. None can
confirm a claim, only fail to contradict it, with the power that stands beside it. Adaptive local
optimizers and parameter changes give weaker scores, not wrong bounds: guesses alone are made then.
"""

import math
from dataclasses import replace

import numpy as np

from attacks.epsilon import NAME
from attacks.epsilon.background import Background, Factor, factor
from attacks.epsilon.canaries import CanaryPlan, EpsilonAudit, audit_epsilon
from attacks.epsilon.composed_power import CanaryView
from attacks.epsilon.gaussian_dp import MINIMUM_CANARIES
from attacks.epsilon.gaussian_pair import (
    SIGNIFICANCE,
    least_visible,
    normal_enough,
    pair_bound,
    pair_power,
)
from attacks.epsilon.known_patients import predictable
from attacks.epsilon.noise_bound import Measured, implied
from attacks.epsilon.scene import Array, Scene, Seen
from attacks.epsilon.scores import log_ratio
from attacks.epsilon.ways_out import way_out
from attacks.errors import InvalidScores
from attacks.findings import Finding, LowerBound
from attacks.findings import Scene as Setting
from attacks.result import AttackResult, Progress, ScoreChart
from attacks.statistics.intervals import Estimate
from attacks.statistics.targets import finite_vector
from attacks.subject import Subject
from securefed.exposure import Exposure, Observer

GUESSES, PAIR, NOISE, FACTOR = "canaries", "gaussian pair", "noise", "patients' factor"
WORKED_OUT = "the mean is worked out from models, not exact to the size of its noise"
EPSILON, SURPRISE = "epsilon", "surprise"
AMPLE = 0.95  # power that no policy finds too little
SETTING: Setting = "as configured"
MAKE_ONE = "make one with: securefed run --canaries 350"
BROKEN = "the implementation of differential privacy is broken"


def attack(subject: Subject, exposure: Exposure, progress: Progress) -> AttackResult:
    """Bound epsilon from what the observer saw of the canaries.

    Raises:
        InvalidScores: directions of another number of parameters than the run's.
    """
    canaries, observer = subject.canaries, exposure.observer
    if canaries is None:
        return _absent(observer, f"the run held no canaries; {MAKE_ONE}")
    if canaries.hospital in exposure.members:
        return _absent(observer, f"{canaries.hospital} is an observer and knows its own coins")
    if canaries.directions.shape[1] != exposure.released.size:
        raise InvalidScores(
            f"canaries of {canaries.directions.shape[1]} parameters, the run shares "
            f"{exposure.released.size}",
            hint="canaries.json belongs to another run",
        )
    scene = Scene(subject, canaries)
    seen = scene.look(exposure)
    background = None
    if seen.factors and predictable(subject):
        background = Background.of(subject, seen, lambda share: progress(0.95 * share))
    test = _Test(scene, seen, background)
    plan, scores = test.plan, test.scores
    audit = audit_epsilon(plan, scores, canaries.included, scene.claimed)
    if scene.claimed is not None and not scene.in_units(seen):
        # The law of such scores is not known, so that no power is claimed for them.
        audit = replace(audit, power_halved_noise=0.0, noticed_noise=0.0, visible_epsilon=math.inf)
    progress(1.0)
    patients = test.factor()
    judged = patients if isinstance(patients, Factor) else None
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
        "patients_taken_off": background.fitted if background else None,
        "patients_factor": judged.estimate if judged else None,
        "patients_factor_error": judged.error if judged else None,
        "remarks": scene.remarks(seen),
    }
    included, excluded = scores[canaries.included], scores[~canaries.included]
    findings: tuple[Finding, ...] = (
        finding(observer, audit),
        _finding(observer, PAIR, EPSILON, test.pair()),
        _finding(observer, NOISE, EPSILON, test.noise()),
        _finding(observer, FACTOR, SURPRISE, judged.surprise if judged else str(patients)),
    )
    if max(map(_power, findings)) < AMPLE:
        remedy = way_out(scene, seen)
        findings = tuple(replace(each, remedy=remedy) for each in findings)
    return AttackResult(
        findings=findings,
        details=details,
        lines={"epsilon": [{"observer": observer, **audit.line()}]},
        charts=(ScoreChart(f"Canary scores, {observer}", np.sort(included), np.sort(excluded)),),
    )


def finding(observer: Observer, audit: EpsilonAudit) -> Finding:
    """What guesses say of the run's epsilon, against its claim."""
    plan = audit.plan
    bound = LowerBound(
        value=audit.certified,
        confidence=1 - plan.significance,
        claim=audit.claimed_epsilon,
        power=audit.power_halved_noise,
        breach="half the noise",
        least_visible=audit.visible_epsilon,
        if_refuted=BROKEN,
        told=(
            f"{audit.correct} of {plan.guesses} guesses right; the most they could certify is "
            f"{math.floor(100 * audit.largest_bound) / 100:.2f}"
        ),
    )
    return _finding(observer, GUESSES, EPSILON, bound)


def _finding(observer: Observer, method: str, metric: str, found: Estimate | str) -> Finding:
    """A figure, or in words why there is none."""
    if isinstance(found, str):
        return Finding(NAME, method, metric, observer, SETTING, absent=found, applies=False)
    return Finding(NAME, method, metric, observer, SETTING, found)


def _power(finding: Finding) -> float:
    bound = finding.estimate
    return (bound.power or 0.0) if isinstance(bound, LowerBound) else 0.0


def _absent(observer: Observer, why: str) -> AttackResult:
    left = (GUESSES, EPSILON), (FACTOR, SURPRISE)
    return AttackResult(findings=tuple(_finding(observer, *each, why) for each in left))


class _Test:
    """What was seen along the canaries, and what follows from it."""

    def __init__(self, scene: Scene, seen: Seen, background: Background | None) -> None:
        left = background.taken_off(seen) if background else seen.shares
        self._scene, self._seen, self._background = scene, seen, background
        self._canaries = scene.canaries
        self._delta = scene.subject.training.delta
        self._along: Array = left @ self._canaries.directions.T.astype(np.float64)  # (rounds, M)
        self._view = scene.view(seen) if scene.claimed is not None else None
        self.plan = self._plan(len(self._canaries.included))
        self.scores = finite_vector(self._scores(), "scores")

    def _plan(self, count: int) -> CanaryPlan:
        """How much is guessed, from the claim alone."""
        if self._view is None:
            return CanaryPlan(count, count - count // 2, count // 2, self._delta)
        return CanaryPlan.for_run(count, self._view, self._delta)

    def _scores(self) -> Array:
        """What guesses are ranked by, (M,)."""
        view = self._view
        if view is None or not self._scene.in_units(self._seen):
            sums: Array = self._along.sum(axis=0)
            return sums
        ratios = log_ratio(
            self._along, view.assumed_noise, view.mechanism.sample_rate, view.steps_per_round
        )
        summed: Array = ratios.sum(axis=0)
        return summed

    def _measurable(self) -> CanaryView | str:
        """The view under which canaries' parts have a known law, or why they have none."""
        if self._view is None:
            return "the run claims no epsilon that scores could contradict"
        if not self._scene.in_units(self._seen):
            return "in what was seen a canary's part has no known size; see the remarks"
        return self._view

    def pair(self) -> LowerBound | str:
        """The bound from scores as they are."""
        view, claim = self._measurable(), self._scene.claimed
        included = self._canaries.included
        counts = int(included.sum()), int((~included).sum())
        if isinstance(view, str) or claim is None:
            return str(view)
        if min(counts) < MINIMUM_CANARIES:
            return f"fewer than {MINIMUM_CANARIES} canaries are in, or out; {MAKE_ONE}"
        if not normal_enough(view, self._delta, claim):
            return f"sums of {view.rounds} rounds are not near enough to normal; more rounds are"
        sums = self._along.sum(axis=0)
        return LowerBound(
            value=pair_bound(sums[included], sums[~included], self._delta),
            confidence=1 - SIGNIFICANCE,
            claim=claim,
            power=pair_power(*counts, view, claim, self._delta),
            breach="half the noise",
            least_visible=least_visible(*counts, view, self._delta),
            if_refuted=BROKEN,
        )

    def noise(self) -> LowerBound | str:
        """The bound from the noise where no canary is."""
        view, hospital = self._measurable(), self._scene.hospital
        if isinstance(view, str):
            return view
        if not self._seen.exact:
            return WORKED_OUT
        squares = np.square(self._along[:, ~self._canaries.included])
        own = view.steps_per_round * hospital.accounted_noise**2
        if not squares.size or not own:
            return "no canary is out, or the ledger holds no noise"
        measured = Measured(float(squares.sum()) / own, squares.size, view.noise_ratio)
        steps = view.rounds * view.steps_per_round
        return implied(hospital, steps, self._delta, [measured], 1) or "nothing is claimed"

    def factor(self) -> Factor | str:
        """How often patients are in what was seen."""
        if self._view is None:
            return "the run claims no sampling that a factor could contradict"
        if self._background is None:
            return "the patients' part of what was seen cannot be computed"
        if not self._seen.exact:
            return WORKED_OUT
        noise = math.sqrt(self._view.steps_per_round) * self._view.seen_noise
        return factor(self._scene.subject, self._canaries, self._seen, self._background, noise)
