"""Controls of the epsilon audit: simulated canaries of mechanisms whose epsilon is known.

At epsilon 0, 2 and 8 the bounds must stay under the truth as often as they claim to (null); half
the noise of epsilon 8 must contradict the claim (positive). Patients who are drawn as often as
claimed must not surprise, and those drawn twice as often must. The figures are kept in
controls.json; `simulations` makes them and says why.
"""

import json
from functools import cache
from typing import Any

import numpy as np

from attacks.epsilon import NAME
from attacks.epsilon.simulations import (
    CLAIMS,
    HALVED,
    KEPT,
    OFTEN,
    TWICE,
    honest,
    parameters,
)
from attacks.errors import InvalidScores
from attacks.findings import Control
from attacks.result import AttackResult

ABOVE, CONTRADICTED = "share of bounds above the truth", "share contradicted"
GUESSES = {honest(0.0): "true epsilon 0, 500 simulations"}  # as policies have named it


def controls() -> AttackResult:
    """The family's controls, named as the default policy's gates.

    Raises:
        InvalidScores: the kept figures are of other simulations.
    """
    kept = _kept()
    of_bounds = [(honest(claim), claim, ABOVE) for claim in (0.0, *CLAIMS)]
    of_bounds.append((HALVED, max(CLAIMS), CONTRADICTED))
    found = []
    for name, claim, metric in of_bounds:
        figures = _figures(name)
        over = {
            GUESSES.get(name, name): figures["correct"] >= kept["critical_counts"][name],
            f"gaussian pair, {name}": figures["pair"] > claim,
        }
        if "noise" in figures:  # in units of the claimed noise
            over[f"noise, {name}"] = figures["noise"] < 1
        found += [Control(NAME, each, metric, float(runs.mean())) for each, runs in over.items()]
    often, twice = _figures(OFTEN)["surprise"], _figures(TWICE)["surprise"]
    found += [
        Control(NAME, OFTEN, "share of surprises over 2", float((often > 2).mean())),
        Control(NAME, OFTEN, "largest surprise", float(often.max())),
        Control(NAME, TWICE, "least surprise", float(twice.min())),
    ]
    details = {f"median bound at {name}": bound for name, bound in kept["median_bounds"].items()}
    return AttackResult(controls=tuple(found), details=details)


def _figures(name: str) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    return {key: np.array(values) for key, values in _kept()["figures"][name].items()}


@cache
def _kept() -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8"))
    if kept["parameters"] != parameters():
        raise InvalidScores(
            f"{KEPT.name} holds simulations of {kept['parameters']}, not of {parameters()}",
            hint=f"make them again: {kept['made_by']}",
        )
    return kept
