"""Controls of the direct tests: simulated releases of a mechanism that does what it says, and not.

The null control is honest runs, each tested in every way that a run is: nothing may surprise more
than chance does. The positive ones take away half of the noise, with the patients known and
unknown, draw patients twice as often, and do not clip: what must be seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from attacks.direct_tests import NAME, blind, residuals
from attacks.direct_tests.blind import lengths
from attacks.direct_tests.law import Array, Law, Part
from attacks.direct_tests.releases import Releases
from attacks.direct_tests.residuals import Residuals, two_hospitals
from attacks.findings import Control, Surprise
from attacks.result import AttackResult, Progress

HONEST, BROKEN = 120, 20  # simulations
ROUNDS, PATIENTS, SIZE = 16, 30, 120
RATE = 1 / 3
NOISE = 0.5  # over the clipping norm, which is 1: few patients stand for many
LONGER = 0.4  # share of gradients that clipping shortens


@dataclass(frozen=True)
class _Fault:
    """Factors on what is claimed."""

    noise: float = 1.0
    rate: float = 1.0
    clipped: bool = True


@dataclass(frozen=True, eq=False)
class _Tested:
    """One simulated series."""

    residuals: Residuals
    surprises: dict[str, Surprise]


def controls(seed: int, progress: Progress) -> AttackResult:
    """The family's controls, named as the default policy's gates."""
    rng = np.random.default_rng([seed, 0xD05E])
    honest: list[_Tested] = []
    for _ in range(HONEST):
        honest.append(_simulated(rng))
        progress(0.6 * len(honest) / HONEST)
    surprises = [each.value for one in honest for each in one.surprises.values()]
    surprises += [each.value for each in _between(honest)]
    name = f"honest releases, {HONEST} simulations"
    found = [
        Control(NAME, name, "largest surprise", max(surprises)),
        Control(NAME, name, "share of surprises over 2", float(np.mean(np.array(surprises) > 2))),
    ]
    for name, method, fault in (
        ("half the noise", residuals.NOISE, _Fault(noise=0.5)),
        ("half the noise, patients unknown", blind.NOISE, _Fault(noise=0.5)),
        ("patients drawn twice as often", residuals.DOSE, _Fault(rate=2.0)),
        ("patients not clipped", residuals.CLIPPING, _Fault(clipped=False)),
    ):
        broken = [_simulated(rng, fault) for _ in range(BROKEN)]
        least = min(each.surprises[method].value for each in broken)
        found.append(Control(NAME, name, "least surprise", least))
    progress(1.0)
    return AttackResult(controls=tuple(found))


def _between(honest: list[_Tested]) -> Iterator[Surprise]:
    """Tests of two hospitals: every series and the next."""
    for one, other in zip(honest[::2], honest[1::2], strict=True):
        if pair := two_hospitals((one.residuals, other.residuals)):
            yield pair


def _simulated(rng: np.random.Generator, fault: _Fault = _Fault()) -> _Tested:
    """A run of ROUNDS rounds, held against what it claims."""
    rows = _gradients(rng)
    clipped = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1.0)
    law = Law.of([Part(clipped / NOISE, (rows - clipped).sum(axis=0) / NOISE, RATE)])
    drawn = rng.random((ROUNDS, PATIENTS)) < fault.rate * RATE
    values = drawn @ (clipped if fault.clipped else rows) / NOISE
    values += fault.noise * rng.normal(size=values.shape)
    numbers = tuple(range(1, ROUNDS + 1))
    starts, factors = (np.zeros(SIZE, np.float32),) * ROUNDS, ({NAME: 1 / NOISE},) * ROUNDS
    series = [(n, law.whiten(value)) for n, value in zip(numbers, values, strict=True)]
    left = Residuals.of("simulated", series)
    blindly = lengths(Releases("simulated", numbers, starts, values, factors))
    return _Tested(left, left.tests() | (blindly.tests() if blindly else {}))


def _gradients(rng: np.random.Generator) -> Array:
    """As patients' are: mostly alike, in few directions, some far beyond a norm of 1."""
    few = rng.normal(size=(6, SIZE)) / np.sqrt(SIZE)
    weights = rng.normal(size=(PATIENTS, 6)) * np.geomspace(1, 0.1, 6)
    weights[:, 0] += 1.5
    rows: Array = np.exp(2 * rng.normal(size=(PATIENTS, 1))) * (weights @ few)
    rows /= np.quantile(np.linalg.norm(rows, axis=1), 1 - LONGER)
    return rows
