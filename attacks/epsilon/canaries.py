"""Canaries: coins, guesses and the epsilon audit of one run.

m records made to be memorable are each put into training by a fair coin of its own; afterwards
the attacker, who sees scores but not coins, calls the highest-scoring "in" and the lowest "out"
and abstains on the rest (Steinke, Nasr & Jagielski 2023, algorithm 1). The bound holds for any
scores, however chosen, on three conditions that this module enforces or states:

- the coins are independent and fair, not an exact half: they come from the system's generator;
- how many guesses are made, and which bound is read, stands in the `CanaryPlan` before any score
  is seen (a maximum over many numbers of guesses is no bound);
- the scores do not depend on the coins except through the run. That is the caller's to keep:
  canaries that were *not* included must be scored by the same code.

The epsilon is that of the unit a canary stands for: one canary per patient where the claim is per
patient. A coin adds a canary or leaves it out, so the adjacency is add/remove, as the accountant's.
"""

import math
import secrets
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attacks.epsilon.bounds import (
    check_counts,
    check_significance,
    composed_bound,
    f_dp_bound,
    one_run_bound,
)
from attacks.epsilon.composed_power import CanaryView, choose_guesses, power_of
from attacks.epsilon.gaussian_dp import check_delta, point_estimate
from attacks.epsilon.power import Method, power_against_halved_noise, smallest_visible_epsilon
from attacks.errors import InvalidScores, TooFewTargets
from attacks.statistics.targets import Bools, finite_vector, membership_vector


@dataclass(frozen=True)
class CanaryPlan:
    """An epsilon audit, fixed before the run.

    Attributes:
        canaries: how many records get a coin.
        guesses_in, guesses_out: how many are called "in" (highest scores) and "out" (lowest).
        delta: of the claim under audit, in (0, 1).
        method: the bound that the verdict reads; "f_dp" needs the mechanism's family: that of
            `view`, or without one a single Gaussian release.
        significance: chance that the bound exceeds a true epsilon.
        view: mechanism and observer of a run of DP-SGD with a claim; None for anything else.

    Raises:
        InvalidScores: more guesses than canaries, none, or delta or significance out of range.
    """

    canaries: int
    guesses_in: int
    guesses_out: int
    delta: float
    method: Method = "one_run"
    significance: float = 0.05
    view: CanaryView | None = None

    @classmethod
    def for_run(cls, canaries: int, view: CanaryView, delta: float) -> "CanaryPlan":
        """The plan with most power against half the claimed noise; it looks at no score."""
        calls = choose_guesses(canaries, view)
        return cls(canaries, *calls, delta, method="f_dp", view=view)

    def __post_init__(self) -> None:
        if min(self.guesses_in, self.guesses_out) < 0:
            raise InvalidScores(f"{self.guesses_in} and {self.guesses_out} guesses are no plan")
        check_counts(self.canaries, self.guesses, 0)
        check_delta(self.delta)
        check_significance(self.significance)
        if self.method not in ("one_run", "f_dp"):
            raise InvalidScores(f"unknown method {self.method!r}", hint="one_run or f_dp")
        if self.view is not None and self.method != "f_dp":
            raise InvalidScores("a plan with a view is read by the f_dp bound")

    @property
    def guesses(self) -> int:
        return self.guesses_in + self.guesses_out


def flip_coins(canaries: int, rng: np.random.Generator | None = None) -> Bools:
    """One fair coin per canary: True means it is trained on.

    Args:
        rng: for simulations only. Left out, coins come from the operating system, because an
            attacker who can rebuild the coins needs no run to win.
    """
    if canaries < 1:
        raise InvalidScores(f"{canaries} canaries cannot be assigned")
    if rng is not None:
        return rng.integers(0, 2, size=canaries).astype(np.bool_)
    tossed = np.frombuffer(secrets.token_bytes((canaries + 7) // 8), dtype=np.uint8)
    return np.unpackbits(tossed)[:canaries].astype(np.bool_)


def guess(plan: CanaryPlan, scores: npt.ArrayLike) -> npt.NDArray[np.int8]:
    """+1 for the plan's highest scores, -1 for its lowest, 0 where it abstains.  # (canaries,)

    Ties go by position, which carries no news of a coin.

    Raises:
        InvalidScores: another number of scores than canaries, or one that is not finite.
    """
    values = finite_vector(scores, "canary scores")
    if values.size != plan.canaries:
        raise InvalidScores(f"{values.size} scores for {plan.canaries} canaries")
    order = np.argsort(values, kind="stable")
    guesses = np.zeros(values.size, dtype=np.int8)
    guesses[order[: plan.guesses_out]] = -1
    guesses[order[values.size - plan.guesses_in :]] = 1
    return guesses


@dataclass(frozen=True)
class EpsilonAudit:
    """What one run's canaries say about its epsilon.

    Attributes:
        plan: as fixed in advance.
        correct: right guesses among the plan's.
        one_run_bound: lower bound on epsilon, any (epsilon, delta)-DP mechanism.
        f_dp_bound: lower bound if the run is of the plan's family (`CanaryPlan.method`).
        point_estimate: Andrew et al.'s estimate, *not* a bound; None below 20 canaries a side.
        visible_epsilon: smallest true epsilon that an ideal attack on a Gaussian run would have
            shown to be above 0 with this plan, four times in five (of the family of `view`).
        largest_bound: what the plan yields if every guess is right: it can say no more.
        claimed_epsilon: the accountant's, or None where the run claims none.
        power_halved_noise: chance that an ideal attack would have contradicted the claim, had
            half the noise been added; None without a claim.
        noticed_noise: largest share of the claimed noise that an ideal attack would have noticed
            to be too little, four times in five; 0 where none, None without a `view`.
    """

    plan: CanaryPlan
    correct: int
    one_run_bound: float
    f_dp_bound: float
    point_estimate: float | None
    visible_epsilon: float
    largest_bound: float
    claimed_epsilon: float | None = None
    power_halved_noise: float | None = None
    noticed_noise: float | None = None

    @property
    def certified(self) -> float:
        """The bound that the plan named in advance. The larger of two would be no 95% bound."""
        return self.one_run_bound if self.plan.method == "one_run" else self.f_dp_bound

    def line(self) -> dict[str, Any]:
        """The audit as plain values; figures that are not finite are None."""
        plan = self.plan
        return {
            "canaries": plan.canaries,
            "guesses": plan.guesses,
            "method": plan.method,
            "significance": plan.significance,
            "delta": plan.delta,
            "correct": self.correct,
            "certified": self.certified,
            "one_run_bound": self.one_run_bound,
            "f_dp_bound": self.f_dp_bound,
            "point_estimate": _finite(self.point_estimate),
            "visible_epsilon": _finite(self.visible_epsilon),
            "largest_bound": self.largest_bound,
            "claimed_epsilon": self.claimed_epsilon,
            "power_halved_noise": self.power_halved_noise,
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def audit_epsilon(
    plan: CanaryPlan,
    scores: npt.ArrayLike,
    included: npt.ArrayLike,
    claimed_epsilon: float | None = None,
) -> EpsilonAudit:
    """Guess, count, bound.

    Args:
        scores: one per canary, higher means more likely trained on.
        included: the coins of `flip_coins`.
        claimed_epsilon: the accountant's upper bound at the plan's delta.

    Raises:
        InvalidScores: sizes, values that are not finite, or a claim that is not positive.
    """
    if claimed_epsilon is not None and not 0 < claimed_epsilon < math.inf:
        raise InvalidScores(f"a claimed epsilon must be positive, got {claimed_epsilon}")
    coins = membership_vector(included, plan.canaries, "included")
    guesses = guess(plan, scores)
    correct = int(((guesses == 1) & coins).sum() + ((guesses == -1) & ~coins).sum())
    one_run, f_dp = _bounds(plan, correct)
    largest = _bounds(plan, plan.guesses)
    power, visible, noticed = _power(plan, claimed_epsilon)
    return EpsilonAudit(
        plan=plan,
        correct=correct,
        one_run_bound=one_run,
        f_dp_bound=f_dp,
        point_estimate=_estimate(plan, np.asarray(scores, dtype=np.float64), coins),
        visible_epsilon=visible,
        largest_bound=largest[0] if plan.method == "one_run" else largest[1],
        claimed_epsilon=claimed_epsilon,
        power_halved_noise=power if claimed_epsilon is not None else None,
        noticed_noise=noticed,
    )


def _power(plan: CanaryPlan, claimed: float | None) -> tuple[float | None, float, float | None]:
    """Power against halved noise, smallest visible epsilon, noticed share of the noise."""
    if plan.view is not None:
        calls = (plan.guesses_in, plan.guesses_out)
        power = power_of(plan.canaries, calls, plan.view, plan.delta, plan.significance)
        return power.against_halved, power.visible_epsilon, power.noticed_noise
    sizes = (plan.canaries, plan.guesses)
    visible = smallest_visible_epsilon(
        *sizes,
        plan.delta,
        attacker="gaussian",
        method=plan.method,
        significance=plan.significance,
    )
    if claimed is None:
        return None, visible, None
    against_halved = power_against_halved_noise(
        *sizes, claimed, plan.delta, method=plan.method, significance=plan.significance
    )
    return against_halved, visible, None


def _bounds(plan: CanaryPlan, correct: int) -> tuple[float, float]:
    """(one-run, f-DP)."""
    counts = (plan.canaries, plan.guesses, correct)
    one_run = one_run_bound(*counts, plan.delta, plan.significance)
    if plan.view is None:
        return one_run, f_dp_bound(*counts, plan.delta, plan.significance)
    mechanism = plan.view.mechanism
    return one_run, composed_bound(*counts, mechanism, plan.delta, plan.significance)


def _estimate(plan: CanaryPlan, scores: npt.NDArray[np.float64], included: Bools) -> float | None:
    """Andrew et al.'s point; None where there is nothing to fit: few canaries, or one score."""
    try:
        return point_estimate(scores[included], scores[~included], plan.delta)
    except (TooFewTargets, InvalidScores):
        return None
