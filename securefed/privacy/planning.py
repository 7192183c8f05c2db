"""Planning one hospital's privacy before anything runs: noise, rounds and epsilon from each other.

Two of the three are given and the third follows, by the accountants of `accounting`; nothing is
composed here. The figures are those that a run with the same numbers reserves in its ledger: the
same sampling rate, the same solver, the same Event.

Not covered: what other runs over the same patients have spent (their ledgers know), and the choice
among several runs after seeing their results.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from securefed.errors import ConfigurationError, PrivacyError
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import (
    MAX_NOISE_MULTIPLIER,
    MIN_NOISE_MULTIPLIER,
    Event,
    Guarantee,
    epsilon,
    solve_noise_multiplier,
)
from securefed.privacy.distributed import RingNoise
from securefed.privacy.sampling import Sampling, expected

MOST_ROUNDS = 100_000  # of federation.rounds
CURVE_POINTS = 12


@dataclass(frozen=True)
class Training:
    """One hospital's training, as far as accounting looks at it.

    Attributes:
        name: the hospital.
        records: privacy units it trains on: patients, or slices where the unit is image.
        sampling: how a step draws them.
        local_steps: steps per round.
        delta, unit, accountant: of every epsilon; `accountant` decides, the other stands beside.
        declaration: what it costs to declare `records`, before the first round; None if exact.
        description: what it costs to tell what scans look like; None where that is not told.

    Raises:
        ConfigurationError: a number below one.
        PrivacyError: delta is not below 1 / records.
    """

    name: str
    records: int
    sampling: Sampling
    local_steps: int
    delta: float
    unit: str = "patient"
    accountant: Accountant = "prv"
    declaration: Event | None = None
    description: Event | None = None

    def __post_init__(self) -> None:
        for what, number in (
            (f"{self.unit}s", self.records),
            ("local steps", self.local_steps),
        ):
            if type(number) is not int or number < 1:
                raise ConfigurationError(
                    f"{what} of {self.name} must be a whole number of at least 1, got {number!r}",
                    hint="a plan needs patients and steps",
                )
        if self.delta >= 1 / self.records:
            raise PrivacyError(
                f"delta {self.delta:g} is not below 1 / {self.records}, the {self.unit}s of "
                f"{self.name}",
                hint=f"set privacy.delta (--delta) to {0.1 / self.records:.1g} or smaller",
            )

    @property
    def sample_rate(self) -> float:
        """Probability that a unit enters a step."""
        return self.sampling.rate(self.records)

    @property
    def declared(self) -> int:
        """Records that it declares, but for the noise on them."""
        return max(self.records, self.sampling.least)

    @property
    def expected_batch(self) -> float:
        """What a step's sum is divided by."""
        return expected(self.sampling, self.declared)

    def steps(self, rounds: int) -> int:
        """Steps of so many rounds."""
        return rounds * self.local_steps

    @property
    def beside(self) -> tuple[Event, ...]:
        """What its patients spend beside the rounds."""
        return tuple(each for each in (self.declaration, self.description) if each)

    def spent(
        self, noise_multiplier: float, rounds: int, accountant: Accountant | None = None
    ) -> float:
        """Epsilon of what is beside and `rounds` rounds, by the deciding accountant unless told."""
        event = Event(noise_multiplier, self.sample_rate, self.steps(rounds))
        return epsilon([*self.beside, event], self.delta, accountant or self.accountant)


@dataclass(frozen=True)
class CurvePoint:
    """Epsilon after `rounds` rounds by both accountants; None where one cannot compute it."""

    rounds: int
    prv: float | None
    rdp: float | None


@dataclass(frozen=True)
class HospitalPlan:
    """What one hospital's training costs with this noise.

    Attributes:
        rounds: that were planned for.
        affordable: rounds that the asked epsilon pays for with this noise, where that was asked.
    """

    training: Training
    rounds: int
    noise_multiplier: float
    affordable: int | None = None

    @property
    def guarantee(self) -> Guarantee:
        """Of all rounds, by the deciding accountant."""
        own = self.training
        spent = own.spent(self.noise_multiplier, self.rounds)
        return Guarantee(spent, own.delta, own.unit, own.accountant)

    @property
    def noise_of_mean(self) -> float:
        """Standard deviation of the noise in a step's mean gradient, in clipping norms.

        Where the noise is the hospital's own; shared noise is divided by everybody's batch.
        """
        return self.noise_multiplier / self.training.expected_batch

    def curve(self, points: int = CURVE_POINTS) -> tuple[CurvePoint, ...]:
        """Epsilon over rounds: after the first, the last, and evenly in between."""
        between = {round(self.rounds * k / points) for k in range(1, points + 1)}
        return tuple(self.after(rounds) for rounds in sorted(between | {1}) if rounds)

    def after(self, rounds: int) -> CurvePoint:
        """Epsilon after so many rounds, by both accountants."""
        return CurvePoint(rounds, self._by("prv", rounds), self._by("rdp", rounds))

    def _by(self, accountant: Accountant, rounds: int) -> float | None:
        try:
            return self.training.spent(self.noise_multiplier, rounds, accountant)
        except PrivacyError:
            if accountant == self.training.accountant:
                raise
            return None  # PRV has no figure at a very small delta; RDP decides then


@dataclass(frozen=True)
class SharedNoise:
    """Noise that hospitals share out (`privacy.placement: distributed`), in clipping norms.

    Attributes:
        share: standard deviation of the share each hospital adds to every word of the sum.
        counted: shares that epsilon counts on.
        hospitals: asked in a round.
        noise_multiplier: of the counted shares together.
    """

    share: float
    counted: int
    hospitals: int
    noise_multiplier: float

    @classmethod
    def of(cls, noise: RingNoise, hospitals: int) -> "SharedNoise":
        """From the calibrated noise of a run."""
        share = noise.share_sigma / noise.clip_steps
        return cls(share, noise.counted, hospitals, noise.noise_multiplier)

    @property
    def of_the_sum(self) -> float:
        """Standard deviation of all shares together, when every hospital answers."""
        return self.share * math.sqrt(self.hospitals)


def noise_for(training: Training, rounds: int, target: float) -> float:
    """The noise multiplier that keeps `rounds` rounds within `target` epsilon.

    Raises:
        ConfigurationError: a target or a number of rounds that no noise reaches.
    """
    return solve_noise_multiplier(
        target,
        training.delta,
        training.sample_rate,
        training.steps(_checked(rounds)),
        training.accountant,
        training.beside,
    )


def affordable_rounds(training: Training, noise_multiplier: float, target: float) -> int:
    """The most rounds whose epsilon with this noise is at most `target`; 100,000 at most, maybe 0.

    Guarantee: `training.spent(noise_multiplier, result)` is at most `target` (it was computed), and
    one round more, below 100,000, is above it.

    Raises:
        ConfigurationError: a noise multiplier out of 0.05 to 10,000, or a target not above 0.
    """
    require_noise(noise_multiplier)
    if not (math.isfinite(target) and target > 0):
        raise ConfigurationError(f"epsilon must be positive and finite, got {target}")

    def within(rounds: int) -> bool:
        return training.spent(noise_multiplier, rounds) <= target

    # RDP is quick, and never far from PRV: search there first, then step outwards from the answer.
    rough = _largest(
        lambda rounds: training.spent(noise_multiplier, rounds, "rdp") <= target, 0, MOST_ROUNDS + 1
    )
    low, high, stride = rough, rough + 1, max(1, rough // 16)
    while low > 0 and not within(low):
        low, high = max(0, low - stride), low
    while high <= MOST_ROUNDS and within(high):
        low, high = high, high + stride
    return _largest(within, low, min(high, MOST_ROUNDS + 1))


def _largest(fits: Callable[[int], bool], low: int, high: int) -> int:
    """The largest number that fits; `low` does, `high` does not, and less always fits better."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def require_noise(noise_multiplier: float) -> None:
    """ConfigurationError unless a noise multiplier is one that a run could have."""
    if not MIN_NOISE_MULTIPLIER <= noise_multiplier <= MAX_NOISE_MULTIPLIER:  # false for NaN too
        raise ConfigurationError(
            f"noise_multiplier must be {MIN_NOISE_MULTIPLIER} to {MAX_NOISE_MULTIPLIER:g}, got "
            f"{noise_multiplier:g}",
            hint="it is the noise's standard deviation over the clipping norm; 1 is a common start",
        )


def _checked(rounds: int) -> int:
    if type(rounds) is not int or not 1 <= rounds <= MOST_ROUNDS:
        raise ConfigurationError(
            f"rounds must be a whole number from 1 to {MOST_ROUNDS}, got {rounds!r}"
        )
    return rounds
