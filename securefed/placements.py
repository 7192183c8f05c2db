"""Whose noise is quieter: what a planned run's mean update carries under either placement.

Each hospital's own noise (`privacy.placement: local`) is added to its own sum, and the sums are
averaged by weight. Shared noise (`distributed`) is one for all, as much as the hospital needs whose
records are drawn most often, divided by everybody's batch. Which of the two is less depends on
how many hospitals there are, how unlike they are, and how they sample (`privacy.sampling`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from securefed.config import Settings, load
from securefed.errors import SecureFedError
from securefed.privacy.planning import SharedNoise, Training, noise_for
from securefed.wire.plan import Plan

Placement = Literal["local", "distributed"]


@dataclass(frozen=True)
class Cast:
    """The hospitals of a planned run.

    Attributes:
        plan: who is asked when.
        trainings: one entry each; hospitals of equal size may share one.
        played: names in the plan of the hospitals that each entry stands for.
    """

    plan: Plan
    trainings: tuple[Training, ...]
    played: tuple[Sequence[str], ...]

    @cached_property
    def turns(self) -> list[int]:
        """In how many rounds each is asked; of one entry for several, the most."""
        return [max(self.plan.turns(name) for name in names) for names in self.played]

    @cached_property
    def entry(self) -> Mapping[str, int]:
        """Name -> place of its entry."""
        return {name: place for place, names in enumerate(self.played) for name in names}

    @property
    def cohorts(self) -> list[tuple[str, ...]]:
        """Of all rounds, or one where all are alike."""
        rounds = 1 if self.plan.clients_per_round is None else self.plan.rounds
        return [self.plan.cohort(number) for number in range(1, rounds + 1)]


@dataclass(frozen=True)
class Placed:
    """The noise of a planned run.

    Attributes:
        noise_multipliers: of each entry's hospitals; shared noise has one for all.
        shared: None where each hospital's noise is its own.
    """

    cast: Cast
    noise_multipliers: tuple[float, ...]
    shared: SharedNoise | None

    @classmethod
    def of(cls, settings: Settings, cast: Cast, noise_multiplier: float | None) -> "Placed":
        """As the settings place it.

        Args:
            noise_multiplier: None solves it for `privacy.epsilon`.

        Raises:
            ConfigurationError, PrivacyError: no noise does what is asked.
        """
        target, trainings = settings.privacy.epsilon, cast.trainings
        if settings.privacy.placement == "distributed":
            # One noise for all hospitals: what the smallest needs, if it is asked most often.
            smallest = min(trainings, key=lambda each: each.records)
            needed = noise_multiplier or noise_for(smallest, max(cast.turns), target)
            shared = _calibrated(settings, needed, cast.plan.rounds)
            return cls(cast, (shared.noise_multiplier,) * len(trainings), shared)
        own = (
            noise_multiplier or noise_for(training, turns, target)
            for training, turns in zip(trainings, cast.turns, strict=True)
        )
        return cls(cast, tuple(own), None)

    @property
    def noise_of_update(self) -> float:
        """Standard deviation of the noise in the mean gradient of a round in which all answer.

        In clipping norms; over the cohorts of the plan its root mean square.
        """
        variances = [self._variance(cohort) for cohort in self.cast.cohorts]
        return math.sqrt(math.fsum(variances) / len(variances))

    def _variance(self, cohort: Sequence[str]) -> float:
        entries = [self.cast.entry[name] for name in cohort]
        asked = [self.cast.trainings[each] for each in entries]
        if self.shared:
            batch = sum(each.expected_batch for each in asked)
            return len(asked) * (self.shared.share / batch) ** 2
        noised = (  # each sum over its batch, by the hospital's weight
            (each.declared * self.noise_multipliers[entry] / each.expected_batch) ** 2
            for each, entry in zip(asked, entries, strict=True)
        )
        return math.fsum(noised) / sum(each.declared for each in asked) ** 2


def compared(
    settings: Settings, cast: Cast, placed: Placed, noise_multiplier: float | None
) -> tuple[dict[Placement, float], list[str]]:
    """The noise of an update by placement, the settings' own first; and why the other has none."""
    own = settings.privacy.placement
    noises: dict[Placement, float] = {own: placed.noise_of_update}
    (other,) = (each for each in get_args(Placement) if each != own)
    try:
        changed = load(None, {**settings.model_dump(), "privacy.placement": other})
        changed = among(changed, len(cast.entry))
        noises[other] = Placed.of(changed, cast, noise_multiplier).noise_of_update
    except SecureFedError as error:
        return noises, [f"not compared with privacy.placement: {other}: {error}"]
    return noises, []


def among(settings: Settings, hospitals: int) -> Settings:
    """Settings of so many hospitals, where it matters to a hospital how many others there are."""
    distributed = settings.privacy.placement == "distributed"
    if hospitals < 2 or not (distributed or settings.federation.clients_per_round):
        return settings
    return load(None, {**settings.model_dump(), "federation.clients": hospitals})


def _calibrated(settings: Settings, noise_multiplier: float, rounds: int) -> SharedNoise:
    from securefed.wire.description import JobDescription, calibrated  # imports torch

    job = JobDescription(settings, "budget", ())
    noise = calibrated(settings, job.parameters, noise_multiplier, rounds)
    return SharedNoise.of(
        noise, settings.federation.clients_per_round or settings.federation.clients
    )
