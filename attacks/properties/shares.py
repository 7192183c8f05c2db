"""Shares of a hospital's training patients that have a property, from sums of their gradients.

At a round's start, patients whom the attacker knows give a mean gradient, and what a property adds
to it on average: g = a + B (x - mean x) + rest, by least squares over the known patients with
properties x of 0 to 1. A sum over the N patients of hospital h, drawn at rate q, is then

    f q N (a + B delta) + rest        delta: its shares, less those of the known patients

so that rounds, hospitals and cohorts are one weighted least-squares problem for delta. A label
moves the gradient of the last bias (Geng et al. 2021 count labels there), and all others too.
Weights are those of drawing, of what known and unknown patients differ by, and of noise.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from attacks.membership.federation_replay import Pool, ReplayPlan
from attacks.membership.patient_gradients import patient_gradients
from attacks.releases import Release
from attacks.result import Progress
from attacks.statistics.targets import Bools, Floats
from attacks.statistics.whitened import Whitened
from attacks.subject import Hospital

SPREAD = 0.25  # standard deviation of a share that is expected before anything is seen


@dataclass(frozen=True, eq=False)
class Shares:
    """What was worked out.

    Attributes:
        known: (properties,), shares of the patients that the attacker knows: the guess.
        told: (hospitals, properties), in [0, 1].
    """

    known: Floats = field(repr=False)
    told: Floats = field(repr=False)


@dataclass(frozen=True, eq=False)
class _Known:
    """Known patients' gradients at one round's start.

    Attributes:
        mean: (P,).
        effects: (P, properties), what each property adds.
        rows: (n, P) of the gradients, and less what mean and properties say.
        rest: of the same.
    """

    mean: Floats = field(repr=False)
    effects: Floats = field(repr=False)
    rows: Floats = field(repr=False)
    rest: Floats = field(repr=False)

    @classmethod
    def of(cls, rows: Floats, centred: Floats) -> "_Known":
        mean = rows.mean(axis=0)
        effects, *_ = np.linalg.lstsq(centred, rows - mean, rcond=None)
        return cls(mean, effects.T, rows, rows - mean - centred @ effects)


def shares(
    plan: ReplayPlan,
    pool: Pool,
    known: Bools,
    properties: Floats,
    rounds: Sequence[Sequence[Release]],
    progress: Progress,
) -> Shares:
    """Every hospital's shares from all rounds together.

    Args:
        known: (patients,) bool, whom of the pool the attacker knows; none of them was trained on.
        properties: (known patients, properties), 0 to 1.
        rounds: the releases of each round.
    """
    hospitals, guess = plan.hospitals, properties.mean(axis=0)
    count, kinds = len(hospitals), len(guess)
    information = np.eye(count * kinds) / SPREAD**2
    evidence = np.zeros(count * kinds)
    for done, releases in enumerate(rounds):
        _, rows = patient_gradients(plan, pool, releases[0].start, known)
        at_start = _Known.of(rows, properties - guess)
        for release in releases:
            factors = np.array([release.factors.get(each.name, 0.0) for each in hospitals])
            drawn = factors / release.noise * np.array([*_drawn(plan, hospitals)])
            value = release.value[plan.others :] / release.noise
            white = Whitened.of(
                _varying(plan, at_start, factors / release.noise),
                value - drawn.sum() * at_start.mean,
            )
            effects = white.white(at_start.effects.T).T  # (P, properties)
            moment = effects.T @ effects / white.excess
            information += np.kron(np.outer(drawn, drawn), moment)
            evidence += np.kron(drawn, effects.T @ white.residual / white.excess)
        progress((done + 1) / len(rounds))
    delta = np.linalg.solve(information, evidence).reshape(count, kinds)
    return Shares(guess, np.clip(guess + delta, 0, 1))


def _drawn(plan: ReplayPlan, hospitals: Iterable[Hospital]) -> Iterable[float]:
    """Patients of each hospital expected in a round."""
    steps = plan.training.local_steps
    return (each.sample_rate * steps * each.weight for each in hospitals)


def _varying(plan: ReplayPlan, known: _Known, factors: Floats) -> Floats:
    """Rows whose products are the covariance of a release about its mean, noise apart, (2n, P).

    Who is drawn varies by second moments; who the hospital's patients are, and who the known ones
    are, by what properties leave.
    """
    steps, count = plan.training.local_steps, len(known.rows)
    drawing, differing = 0.0, 0.0
    for factor, each in zip(factors, plan.hospitals, strict=True):
        rate, size = each.sample_rate, each.weight
        drawing += factor**2 * steps * rate * (1 - rate) * size
        differing += (factor * steps * rate) ** 2 * (size + size**2 / count)
    return np.concatenate(
        [np.sqrt(drawing / count) * known.rows, np.sqrt(differing / count) * known.rest]
    )
