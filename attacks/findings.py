"""What attacks hand to the verdict: findings, controls, and checks that must come to nothing.

A finding's estimate may be a figure with two limits, which the policy's threshold is held against;
or a lower bound: then the run's own claim is what it can contradict; or a surprise, which says how
improbable it is that the claim is true.
"""

import math
from dataclasses import dataclass
from typing import Literal

from attacks.errors import InvalidScores
from attacks.statistics.intervals import Estimate, Interval
from securefed.exposure import Observer

Scene = Literal["as configured", "worst case"]


@dataclass(frozen=True)
class LowerBound:
    """An estimate that says "at least", against what the run claims.

    Attributes:
        value: the truth is below it with probability 1 - confidence at most.
        confidence: fixed with the attack, whatever the policy's is.
        claim: the most that the run says it is; None where it says nothing.
        power: chance that `breach` would have contradicted the claim; None without a claim.
        breach: what the power is against, in words.
        least_visible: least true value that would have shown, infinite where none would.
        if_refuted: what a value over the claim means, in words.
        told: what the bound rests on, in words; "" where the figures say it.
    """

    value: float
    confidence: float
    claim: float | None
    power: float | None
    breach: str
    least_visible: float
    if_refuted: str
    told: str = ""

    @property
    def refutes(self) -> bool:
        """Whether it is over the claim."""
        return self.claim is not None and self.value > self.claim

    def interval(self, confidence: float) -> Interval:  # it has its own
        return Interval(self.value, math.inf, self.confidence)

    def p_value_at_most(self, threshold: float) -> float:
        """The bound is a test inverted at its own level: it is refused there, or not at all."""
        return 1 - self.confidence if self.value > threshold else 1.0


LARGEST_SURPRISE = 300.0  # p-values below 1e-300 are all the same


@dataclass(frozen=True)
class Surprise:
    """How improbable it is to see this, or worse, of a run that does what it claims.

    Attributes:
        value: -log10 of the p-value, up to LARGEST_SURPRISE.
        of: what was held against the claim, in words.
    """

    value: float
    of: str

    @classmethod
    def at(cls, log_p_value: float, of: str, tried: int = 1) -> "Surprise":
        """From the natural logarithm of a p-value that is the least of `tried` (Bonferroni)."""
        value = -(log_p_value + math.log(tried)) / math.log(10)
        return cls(float(min(max(0.0, value), LARGEST_SURPRISE)), of)

    def interval(self, confidence: float) -> Interval:
        """A p-value is computed, not estimated."""
        return Interval(self.value, self.value, confidence)

    def p_value_at_most(self, threshold: float) -> float:
        return float(10.0**-self.value)


@dataclass(frozen=True)
class Finding:
    """What one attack found, by one observer, in one scene.

    Attributes:
        attack: the family.
        method: the attack within its family, for instance "lira".
        metric: of leakage, larger is worse; named as in the policy.
        estimate: the figure; None where there is none.
        absent: why there is none (not applicable, withheld); None where there is one.
        applies: False where the observer saw nothing that this attack could start from.
        remedy: what would settle it where it is left open, if the attack knows.

    Raises:
        InvalidScores: both or neither of estimate and absent, or a figure that is not finite.
    """

    attack: str
    method: str
    metric: str
    observer: Observer
    scene: Scene
    estimate: Estimate | None = None
    absent: str | None = None
    applies: bool = True
    remedy: str = ""

    def __post_init__(self) -> None:
        place = f"{self.attack}, {self.method}, {self.metric}, {self.observer}, {self.scene}"
        if (self.estimate is None) == (not self.absent):
            raise InvalidScores(f"{place}: a finding is a figure, or says why there is none")
        if self.estimate is not None and not self.applies:
            raise InvalidScores(f"{place}: a figure from an attack that does not apply")
        if self.estimate is not None and not math.isfinite(self.estimate.value):
            raise InvalidScores(f"{place}: the figure is {self.estimate.value}")


@dataclass(frozen=True)
class Control:
    """A control's figure; `interval` where its gate asks for one."""

    attack: str
    control: str
    metric: str
    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Check:
    """One thing that was tried on the program and must come to nothing, whatever a policy says.

    Attributes:
        observer: who tries it.
        refused: whether it came to nothing.
        expected: whether it does with a sound program; False where nobody can tell.
        detail: the refusal's name, or what follows from acceptance.
    """

    attack: str
    name: str
    observer: Observer
    refused: bool
    expected: bool
    detail: str

    @property
    def sound(self) -> bool:
        return self.refused == self.expected
