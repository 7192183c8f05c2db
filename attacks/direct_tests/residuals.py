"""What whitened residuals of a series must look like: independent N(0, I), whichever way one looks.

    all rounds           the sum of all squares (chi-square): too much noise, or too little
    worst round          the same of each round, Bonferroni
    noise                squares in directions that hold noise alone
    consecutive rounds   products of a round and the next: noise that depends on the last
    repeats              the most alike of all pairs of rounds, Bonferroni: noise used again
    mean over rounds     noise that leans one way
    kurtosis             fourth powers: noise of another shape
    dose                 the factor on what patients were expected to give: sampling times clipping
    clipping             the factor on what clipping should have taken off their gradients
    two hospitals        products of two hospitals' residuals in a round: noise used twice

Each gives a p-value of its own under the claim, as a `Surprise`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import special

from attacks.direct_tests.law import Factor, Whitened
from attacks.findings import Surprise

ALL, WORST, NOISE = "all rounds", "worst round", "noise"
DOSE, CLIPPING = "dose", "clipping"
CONSECUTIVE, REPEATS, MEAN = "consecutive rounds", "repeats", "mean over rounds"
KURTOSIS, TWO = "kurtosis", "two hospitals"
METHODS = (NOISE, ALL, WORST, DOSE, CLIPPING, CONSECUTIVE, REPEATS, MEAN, KURTOSIS, TWO)
OF_FOURTH_POWER = 96.0  # variance of z^4

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Residuals:
    """A series against its law, R rounds.

    Attributes:
        name: of the series.
        numbers: of the rounds, increasing.
        white: (R, P).
        quiet: squares of noise alone, and how many, over all rounds.
        dose, excess: as in `Whitened`, over all rounds.
    """

    name: str
    numbers: tuple[int, ...]
    white: Array = field(repr=False)
    quiet: tuple[float, int]
    dose: Factor
    excess: Factor

    @classmethod
    def of(cls, name: str, rounds: Sequence[tuple[int, Whitened]]) -> "Residuals":
        """From rounds in order."""
        each = [whitened for _, whitened in rounds]
        return cls(
            name,
            tuple(number for number, _ in rounds),
            np.stack([one.residual for one in each]),
            (sum(one.quiet[0] for one in each), sum(one.quiet[1] for one in each)),
            sum((one.dose for one in each), Factor(0.0, 0.0)),
            sum((one.excess for one in each), Factor(0.0, 0.0)),
        )

    def tests(self) -> dict[str, Surprise]:
        """Method -> what it says of this series; a test without anything to look at is left out."""
        white, numbers = self.white, self.numbers
        rounds, size = white.shape
        found = {ALL: Surprise.at(chi_square(float(np.square(white).sum()), white.size), self.name)}
        by_round = [chi_square(float(row @ row), size) for row in white]
        worst = int(np.argmin(by_round))
        place = f"{self.name}, round {numbers[worst]}"
        found[WORST] = Surprise.at(by_round[worst], place, rounds)
        if self.quiet[1]:
            said = f"{self.name}, {self.noise_ratio:.3f} of the claimed noise"
            found[NOISE] = Surprise.at(chi_square(*self.quiet), said)
        if (dose := self.dose).information > 0:
            said = f"{self.name}, patients count {dose.estimate:.2f} times +- {dose.error:.2f}"
            found[DOSE] = Surprise.at(normal((dose.estimate - 1) / dose.error), said)
        if (excess := self.excess).information > 0:
            said = (
                f"{self.name}, {excess.estimate:.2f} +- {excess.error:.2f} of what clipping "
                "takes off is there"
            )
            found[CLIPPING] = Surprise.at(normal(excess.estimate / excess.error), said)
        found |= self._between_rounds()
        leaning = rounds * float(np.square(white.mean(axis=0)).sum())
        found[MEAN] = Surprise.at(logarithm(special.chdtrc(size, leaning)), self.name)
        fourth = float((white**4 - 3).sum()) / math.sqrt(OF_FOURTH_POWER * white.size)
        found[KURTOSIS] = Surprise.at(normal(fourth), self.name)
        return found

    def _between_rounds(self) -> dict[str, Surprise]:
        white, numbers = self.white, self.numbers
        rounds, size = white.shape
        found = {}
        follow = [i for i in range(rounds - 1) if numbers[i + 1] == numbers[i] + 1]
        if follow:
            products = sum(float(white[i] @ white[i + 1]) for i in follow)
            z = products / math.sqrt(len(follow) * size)
            found[CONSECUTIVE] = Surprise.at(normal(z), self.name)
        if rounds > 1:
            long = np.linalg.norm(white, axis=1, keepdims=True)
            unit = white / np.maximum(long, np.finfo(np.float64).tiny)
            alike = np.square(np.triu(unit @ unit.T, 1))
            a, b = divmod(int(alike.argmax()), rounds)
            # The squared cosine of two independent directions in P dimensions.
            log_p = logarithm(special.betaincc(0.5, (size - 1) / 2, min(alike[a, b], 1.0)))
            place = f"{self.name}, rounds {numbers[a]} and {numbers[b]}"
            found[REPEATS] = Surprise.at(log_p, place, rounds * (rounds - 1) // 2)
        return found

    @property
    def noise_ratio(self) -> float:
        """Noise over what is claimed, in directions that hold noise alone."""
        return math.sqrt(self.quiet[0] / self.quiet[1])


def two_hospitals(everybody: Sequence[Residuals]) -> Surprise | None:
    """The pair of hospitals whose residuals go together most; None without a round in common."""
    found: list[tuple[float, str]] = []
    for one, other in combinations(everybody, 2):
        common = sorted(set(one.numbers) & set(other.numbers))
        if not common:
            continue
        a = one.white[[one.numbers.index(number) for number in common]]
        b = other.white[[other.numbers.index(number) for number in common]]
        z = float((a * b).sum()) / math.sqrt(a.size)
        found.append((normal(z), f"{one.name} and {other.name}"))
    return Surprise.at(*min(found), len(found)) if found else None


def worst(surprises: Iterable[Surprise]) -> Surprise:
    """The most surprising of one test on several series, Bonferroni."""
    several = list(surprises)
    most = max(several, key=lambda each: each.value)
    return Surprise.at(-most.value * math.log(10), most.of, len(several))


def chi_square(squares: float, count: int) -> float:
    """Natural logarithm of the two-sided p-value of a sum of `count` squares."""
    both = special.chdtr(count, squares), special.chdtrc(count, squares)
    return min(logarithm(2 * min(both)), 0.0)


def logarithm(p_value: float) -> float:
    """Natural logarithm; -infinity where a p-value is below every number."""
    return math.log(p_value) if p_value > 0 else -math.inf


def normal(z: float) -> float:
    """Natural logarithm of the two-sided p-value of a standard normal figure."""
    return float(min(special.log_ndtr(-abs(z)) + math.log(2), 0.0))
