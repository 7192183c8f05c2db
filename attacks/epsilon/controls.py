"""Controls of the epsilon audit: simulated canaries of mechanisms whose epsilon is known.

At epsilon 0, 2 and 8 the bound must stay under the truth as often as it claims to (null controls).
With half the noise of epsilon 8 the claim of 8 must be contradicted (positive control).
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from attacks.epsilon import NAME
from attacks.epsilon.bounds import composed_bound
from attacks.epsilon.canaries import CanaryPlan, flip_coins, guess
from attacks.epsilon.composed_power import CanaryView
from attacks.epsilon.scores import log_ratio
from attacks.epsilon.trade_off import SubsampledGaussian
from attacks.findings import Control
from attacks.result import AttackResult, Progress
from attacks.statistics.targets import Bools

Array = npt.NDArray[np.float64]
TRUTH = SubsampledGaussian(sample_rate=1 / 3, steps=80)  # a run's sampling, small and typical
DELTA = 1e-5
SIMULATIONS = 500
AT_ONCE = 25  # simulations
ABOVE = "share of bounds above the truth"


def controls(seed: int, progress: Progress) -> AttackResult:
    """Simulated canaries of mechanisms whose epsilon is known: how often the bound is too high.

    At epsilon 2 and 8 the simulation is of the composed, subsampled mechanism itself, scored,
    guessed and bounded by the code that audits a run. The last control is the positive one: half
    of the claimed noise, which has to be contradicted.
    """
    rng = np.random.default_rng([seed, 0xE95])
    found = [Control(NAME, "true epsilon 0, 500 simulations", ABOVE, _above_nothing(rng))]
    progress(0.1)
    details: dict[str, float] = {}
    for i, epsilon in enumerate((2.0, 8.0)):
        noise = TRUTH.noise_multiplier(epsilon, DELTA)
        plan = CanaryPlan.for_run(350, CanaryView(TRUTH, noise, TRUTH.steps), DELTA)
        bounds = _bounds(plan, noise, SIMULATIONS, rng)
        progress(0.4 + 0.3 * i)
        above = float((bounds > epsilon).mean())
        found.append(Control(NAME, f"true epsilon {epsilon:g}", ABOVE, above))
        details[f"median bound at true epsilon {epsilon:g}"] = float(np.median(bounds))
    bounds = _bounds(plan, noise / 2, SIMULATIONS // 5, rng)
    share = float((bounds > epsilon).mean())
    found.append(Control(NAME, "half the noise of epsilon 8", "share contradicted", share))
    progress(1.0)
    return AttackResult(controls=tuple(found), details=details)


def _above_nothing(rng: np.random.Generator) -> float:
    """How often scores that have nothing to do with the coins give a bound above 0."""
    plan = CanaryPlan(150, 15, 15, DELTA, "f_dp", view=CanaryView(TRUTH, 1.0, TRUTH.steps))
    above = 0
    for _ in range(SIMULATIONS):
        coins = flip_coins(plan.canaries, rng)
        above += _bound(plan, _correct(plan, rng.normal(size=plan.canaries), coins)) > 0
    return above / SIMULATIONS


def _bounds(plan: CanaryPlan, noise: float, simulations: int, rng: np.random.Generator) -> Array:
    """Bounds of simulated runs whose noise multiplier is `noise`, (simulations,)."""
    bounds: list[float] = []
    while len(bounds) < simulations:
        size = min(AT_ONCE, simulations - len(bounds))
        coins = rng.integers(0, 2, (size, plan.canaries)).astype(np.bool_)
        x = noise * rng.normal(size=(size, plan.canaries, TRUTH.steps))
        x += (rng.random(x.shape) < TRUTH.sample_rate) & coins[..., None]
        assumed = plan.view.assumed_noise if plan.view else noise
        scores = log_ratio(x, assumed, TRUTH.sample_rate, 1).sum(axis=-1)
        bounds += [_bound(plan, _correct(plan, s, c)) for s, c in zip(scores, coins, strict=True)]
    return np.array(bounds)


def _correct(plan: CanaryPlan, scores: Array, coins: Bools) -> int:
    guesses = guess(plan, scores)
    return int(((guesses == 1) & coins).sum() + ((guesses == -1) & ~coins).sum())


@cache
def _bound(plan: CanaryPlan, correct: int) -> float:
    mechanism = plan.view.mechanism if plan.view else TRUTH
    return composed_bound(plan.canaries, plan.guesses, correct, mechanism, plan.delta)
