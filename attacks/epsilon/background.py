"""The patients' part of what was seen: taken off before canaries are scored, and judged.

An honest hospital's patients are in its sums as often as their sampling rate says, clipped. So the
factor on their expected sum is 1: of double sampling 2, of gradients that are not clipped more. How
far off it may be follows from the rounds alone: what a round shows beyond a factor of 1 is as
likely as its opposite, whatever the noise. The sum of such differences is over x times the root of
their sum of squares with probability exp(-x^2 / 2) at most (Efron 1969; de la Pena 1999 for one
round after the other).

What is taken off is the factor that fits without a canary's coin, since scores may not depend on
coins but through the run. For the judgement the auditor, who knows them, takes canaries off too.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from attacks.epsilon.known_patients import known_hospital, unforeseeable
from attacks.epsilon.scene import Seen
from attacks.findings import Surprise
from attacks.result import Progress
from attacks.subject import Canaries, Subject

FEWEST = 20  # rounds: in fewer no factor is over a surprise of 4, however far off it is

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Background:
    """The patients' expected part in each round.

    Attributes:
        expected: in units of one canary, (rounds, P).
        fitted: factor on it that fits what was seen.
    """

    expected: Array = field(repr=False)
    fitted: float

    @classmethod
    def of(cls, subject: Subject, seen: Seen, progress: Progress) -> "Background":
        """Of every hospital whose sums are in what was seen."""
        total = np.zeros_like(seen.shares)
        names = sorted({name for each in seen.factors for name in each})
        for i, name in enumerate(names):

            def told(share: float, done: int = i) -> None:
                progress((done + share) / len(names))

            there = [row for row, each in enumerate(seen.factors) if name in each]
            sums = known_hospital(subject, name).expected_sums(
                [seen.starts[row] for row in there], told
            )
            total[there] += sums * np.array([[seen.factors[row][name]] for row in there])
        energy = float(np.square(total).sum())
        # The factor guards against an expectation that is off (other personal parameters).
        return cls(total, float((total * seen.shares).sum()) / energy if energy else 0.0)

    def taken_off(self, seen: Seen) -> Array:
        """What was seen without it, (rounds, P)."""
        left: Array = seen.shares - self.fitted * self.expected
        return left


@dataclass(frozen=True)
class Factor:
    """How often the patients' expected part is in what was seen.

    Attributes:
        leaning: of the rounds' differences from a factor of 1: their sum over the root of their
            sum of squares.
    """

    estimate: float
    error: float
    leaning: float

    @classmethod
    def of(cls, shares: Array, expected: Array, even: float) -> "Factor":
        """By weighted least squares.

        Args:
            shares, expected: (rounds, P).
            even: squared length of an expected part from which rounds count alike, because what
                scatters is no longer the noise but who was drawn.
        """
        along, energy = (shares * expected).sum(axis=1), np.square(expected).sum(axis=1)
        weights = 1 / (energy + even)
        estimate = float((weights @ along) / (weights @ energy))
        scatter = weights * (along - estimate * energy)
        error = float(np.linalg.norm(scatter) / (weights @ energy))
        off = weights * (along - energy)
        length = float(np.linalg.norm(off))
        return cls(estimate, error, float(off.sum()) / length if length else 0.0)

    @property
    def surprise(self) -> Surprise:
        """That it is so far from 1."""
        said = f"patients count {self.estimate:.2f} times +- {self.error:.2f}"
        return Surprise.at(min(math.log(2) - self.leaning**2 / 2, 0.0), said)


def factor(
    subject: Subject, canaries: Canaries, seen: Seen, background: Background, noise: float
) -> Factor | str:
    """The factor on the patients' part without canaries, or why it says nothing.

    Args:
        noise: standard deviation of an entry of what was seen, by the claim.
    """
    if why := unforeseeable(subject):
        return why
    if len(seen.shares) < FEWEST:
        return f"{len(seen.shares)} rounds are too few to say by how much a factor is off"
    if not background.expected.any():
        return "no patient's gradient is expected"
    hospital = next(each for each in subject.hospitals if each.name == canaries.hospital)
    drawn = hospital.sample_rate * subject.training.local_steps
    there = drawn * canaries.directions[canaries.included].sum(axis=0, dtype=np.float64)
    return Factor.of(seen.shares - there, background.expected, _even(subject, seen, noise))


def _even(subject: Subject, seen: Seen, noise: float) -> float:
    """Where the scatter by noise is as large as that by who was drawn.

    Of n expected draws a factor scatters by 1/n, of noise by noise^2 over the squared length.
    """
    names = {name for each in seen.factors for name in each}
    there = [each for each in subject.hospitals if each.name in names]
    draws = sum(each.sample_rate * each.train.patients for each in there)
    return noise**2 * draws
