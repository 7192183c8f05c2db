"""Simulated canaries of mechanisms whose epsilon is known: what the family's controls rest on.

    python -m attacks.epsilon.simulations        makes controls.json beside this file again

Every simulation has a seed of its own, goes through the code that audits a run, and leaves the few
figures that say whether a bound is over the truth. They depend on this code alone and not on the
run that is audited, and take minutes; so they are kept, with a digest of the code that made them. A
test makes some of them again and holds the digest against the code.
"""

import ast
import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attacks.epsilon.background import Factor
from attacks.epsilon.bounds import composed_bound
from attacks.epsilon.canaries import CanaryPlan, flip_coins, guess
from attacks.epsilon.composed_power import CanaryView, critical_count
from attacks.epsilon.gaussian_pair import pair_bound
from attacks.epsilon.noise_bound import SIGNIFICANCE as NOISE_SIGNIFICANCE
from attacks.epsilon.noise_bound import Measured
from attacks.epsilon.scores import log_ratio
from attacks.epsilon.trade_off import NOISE_LARGEST, SubsampledGaussian

KEPT = Path(__file__).with_name("controls.json")
# What the figures depend on.
MODULES = (
    "background",
    "bounds",
    "canaries",
    "composed_power",
    "gaussian_dp",
    "gaussian_pair",
    "scores",
    "simulations",
    "trade_off",
    "../epsilon/noise_bound",
)

MECHANISM = SubsampledGaussian(sample_rate=1 / 3, steps=80)  # a run's sampling, small and typical
DELTA = 1e-5
CANARIES = 350
SEED = 0xE95
COUNT = 500  # of simulations of each kind
CLAIMS = (2.0, 8.0)  # epsilons that simulated runs claim
HALVED = f"half the noise of epsilon {max(CLAIMS):g}"
OFTEN, TWICE = "patients as often as claimed", "patients twice as often"
NOTHING = CanaryPlan(
    CANARIES, 35, 35, DELTA, view=CanaryView(MECHANISM, 1.0, MECHANISM.steps)
)  # what guesses are tested with where there is nothing to guess
PATIENTS, SIZE, NOISE = 300, 40, 2.0  # of the simulated patients' part
SPREAD = 1.0  # of the logarithms of its lengths

Array = npt.NDArray[np.float64]
Figures = dict[str, float]  # of one simulation


def plan_of(claim: float) -> CanaryPlan:
    """The plan of an audit of such a run."""
    noise = MECHANISM.noise_multiplier(claim, DELTA)
    return CanaryPlan.for_run(CANARIES, CanaryView(MECHANISM, noise, MECHANISM.steps), DELTA)


def of_nothing(rng: np.random.Generator) -> Figures:
    """Scores that have nothing to do with the coins."""
    coins, scores = flip_coins(CANARIES, rng), rng.normal(size=CANARIES)
    return {
        "correct": _correct(NOTHING, scores, coins),
        "pair": pair_bound(scores[coins], scores[~coins], DELTA),
    }


def of_run(plan: CanaryPlan, noise_share: float, rng: np.random.Generator) -> Figures:
    """A run with this share of the noise that it claims.

    Returns:
        right guesses, the bound of two normal laws, and the upper limit of the noise over the
        claimed one: below 1 the epsilon that it implies is over the claim.
    """
    view = plan.view
    assert view is not None  # noqa: S101  # of plan_of
    coins = flip_coins(CANARIES, rng)
    x = noise_share * view.claimed_noise * rng.normal(size=(CANARIES, MECHANISM.steps))
    x += (rng.random(x.shape) < MECHANISM.sample_rate) & coins[:, None]
    scores = log_ratio(x, view.assumed_noise, MECHANISM.sample_rate, 1).sum(axis=1)
    sums, squares = x.sum(axis=1), np.square(x[~coins] / view.claimed_noise)
    return {
        "correct": _correct(plan, scores, coins),
        "pair": pair_bound(sums[coins], sums[~coins], DELTA),
        "noise": Measured(float(squares.sum()), squares.size).at_most(NOISE_SIGNIFICANCE),
    }


def of_patients(rate_factor: float, rng: np.random.Generator) -> Figures:
    """The factor on patients who are drawn so many times as often as claimed."""
    rate, rounds = MECHANISM.sample_rate, MECHANISM.steps
    alike = rng.normal(size=SIZE) / np.sqrt(SIZE)
    rows = alike + rng.normal(size=(PATIENTS, SIZE)) / np.sqrt(SIZE)
    # Rounds differ in how long gradients are.
    lengths = np.exp(SPREAD * rng.normal(size=(rounds, 1))) / 10
    drawn = rng.random((rounds, PATIENTS)) < rate_factor * rate
    seen = lengths * (drawn @ rows) + NOISE * rng.normal(size=(rounds, SIZE))
    even = NOISE**2 * rate * PATIENTS
    found = Factor.of(seen, lengths * rate * rows.sum(axis=0), even)
    return {"factor": found.estimate, "surprise": found.surprise.value}


def kinds() -> dict[str, Callable[[np.random.Generator], Figures]]:
    """Name -> one simulation of that kind."""
    plans = {claim: plan_of(claim) for claim in CLAIMS}
    return {
        honest(0.0): of_nothing,
        **{honest(claim): partial(of_run, plan, 1.0) for claim, plan in plans.items()},
        HALVED: partial(of_run, plans[max(CLAIMS)], 0.5),
        OFTEN: partial(of_patients, 1.0),
        TWICE: partial(of_patients, 2.0),
    }


def honest(claim: float) -> str:
    """Name of the simulations in which that much is claimed, and true."""
    return f"true epsilon {claim:g}"


def simulated(name: str, numbers: range) -> dict[str, list[float]]:
    """Some of the simulations of one kind: figure -> its values."""
    one, place = kinds()[name], list(kinds()).index(name)
    several = [one(np.random.default_rng([SEED, place, number])) for number in numbers]
    return {figure: [float(f"{each[figure]:.6g}") for each in several] for figure in several[0]}


def critical_counts() -> dict[str, int | None]:
    """Kind -> right guesses from which their bound is over what is claimed."""
    nothing = MECHANISM.curve(NOISE_LARGEST)
    found = {honest(0.0): critical_count(CANARIES, NOTHING.guesses, nothing)}
    for claim in CLAIMS:
        plan = plan_of(claim)
        assert plan.view is not None  # noqa: S101  # of plan_of
        found[honest(claim)] = critical_count(CANARIES, plan.guesses, plan.view.contradicted)
    return {**found, HALVED: found[honest(max(CLAIMS))]}


def median_bound(claim: float, correct: list[float]) -> float:
    """The bound of the median count of right guesses."""
    plan = plan_of(claim)
    count = int(np.median(correct))
    return composed_bound(CANARIES, plan.guesses, count, MECHANISM, DELTA)


def parameters() -> dict[str, Any]:
    """What was simulated."""
    return {
        "sample_rate": MECHANISM.sample_rate,
        "steps": MECHANISM.steps,
        "delta": DELTA,
        "canaries": CANARIES,
        "seed": SEED,
        "simulations": COUNT,
        "claims": list(CLAIMS),
    }


def digest() -> str:
    """Of the code that the figures depend on, but for comments, docstrings and imports."""
    texts = (Path(__file__).parent / f"{name}.py" for name in MODULES)
    words = (word for path in texts for word in _words(ast.parse(path.read_text("utf-8"))))
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _words(node: ast.AST) -> Iterator[str]:
    """Names, values and shapes of a syntax tree, alike in every version of Python."""
    if isinstance(node, ast.Import | ast.ImportFrom) or _is_text(node):
        return
    yield type(node).__name__
    for field, value in ast.iter_fields(node):
        if isinstance(value, str | int | float | complex | bytes):
            yield f"{field} {value!r}"
    for child in ast.iter_child_nodes(node):
        yield from _words(child)


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _correct(plan: CanaryPlan, scores: Array, coins: npt.NDArray[np.bool_]) -> int:
    guesses = guess(plan, scores)
    return int(((guesses == 1) & coins).sum() + ((guesses == -1) & ~coins).sum())


def main() -> None:
    figures = {name: simulated(name, range(COUNT)) for name in kinds()}
    medians = {claim: median_bound(claim, figures[honest(claim)]["correct"]) for claim in CLAIMS}
    content = {
        "made_by": "python -m attacks.epsilon.simulations",
        "digest": digest(),
        "parameters": parameters(),
        "critical_counts": critical_counts(),
        "median_bounds": {honest(claim): bound for claim, bound in medians.items()},
        "figures": figures,
    }
    KEPT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{KEPT.name}: {COUNT} simulations of each of {len(figures)} kinds")


if __name__ == "__main__":
    main()
