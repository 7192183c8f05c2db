"""Mechanisms: what a hospital makes of its patients' gradients before anything leaves.

    no noise       exact gradients of a Poisson sample; nothing is bounded, nothing is accounted
    own noise      clipped and noised by the hospital alone (DP-SGD, Abadi et al. 2016)
    shared noise   clipped, rounded and noised in the ring of the secure sum by all hospitals
                   together (Kairouz, Liu & Steinke 2021; `privacy.distributed`)

A mechanism is one value that carries noise, layout and accounting event together, so that none of
them can be changed without the others. Its public half is its layout, with which the server
decodes (`wire.contribution`). A new one is a class here and a line in MECHANISMS; if it is encoded
in another way, also a layout in wire/.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from securefed.errors import ConfigurationError
from securefed.model.sharing import Vector
from securefed.privacy.accounting import Event, solve_noise_multiplier
from securefed.privacy.noise import KeystreamSource
from securefed.privacy.ring_code import RingCode
from securefed.training.step import Step
from securefed.wire.contribution import Layout
from securefed.wire.description import JobDescription, beside_training

Values = NDArray[np.float32] | NDArray[np.uint32]
Gradients = Callable[[Step, KeystreamSource], dict[str, Tensor]]


class Draws(Protocol):
    """What a mechanism needs of a trainer."""

    def draw(self, round_number: int, step: int) -> tuple[Step, KeystreamSource]:
        """One step's sample, and the randomness for all else in it."""
        ...

    def take_steps(self, round_number: int, gradients: Gradients) -> Vector:
        """The round's local steps; the change of the shared parameters that travel."""
        ...


class Mechanism(Protocol):
    """How a hospital's patients enter what it contributes.

    Attributes:
        layout: how contributions are encoded, the same for everybody.
        clip_norm: bound on one record's gradient; None where nothing is clipped.
        secret_noise: whether sampling and noise come from a cryptographic generator.
        personal_steps: whether parameters that are not shared may train too, in several steps.
    """

    @property
    def layout(self) -> Layout: ...
    @property
    def clip_norm(self) -> float | None: ...
    @property
    def secret_noise(self) -> bool: ...
    @property
    def personal_steps(self) -> bool: ...

    def event(self, rate: float, steps: int) -> Event | None:
        """What `steps` steps at sampling rate `rate` cost; None where nothing is promised."""
        ...

    def contribute(self, trainer: Draws, round_number: int) -> Values:
        """A round's values for the layout. Epsilon is reserved before this is called."""
        ...


@dataclass(frozen=True)
class NoNoise:
    """No differential privacy. Sampling is seeded: nobody is promised anything by it."""

    layout: Layout
    clip_norm: ClassVar[None] = None
    secret_noise: ClassVar[bool] = False
    personal_steps: ClassVar[bool] = True

    @classmethod
    def of(cls, job: JobDescription, hospital: str, records: int) -> "NoNoise":
        return cls(job.layout)

    def event(self, rate: float, steps: int) -> None:
        return None

    def contribute(self, trainer: Draws, round_number: int) -> Vector:
        return trainer.take_steps(round_number, lambda step, source: step.mean_gradient())


@dataclass(frozen=True)
class OwnNoise:
    """Each record clipped to `clip_norm`, noise of `noise_multiplier` times it on their sum."""

    layout: Layout
    clip_norm: float
    noise_multiplier: float
    secret_noise: bool = True
    personal_steps: ClassVar[bool] = True

    @classmethod
    def of(cls, job: JobDescription, hospital: str, records: int) -> "OwnNoise":
        """Noise with which the run's whole budget lasts for the rounds that the plan has for it."""
        privacy, training = job.settings.privacy, job.settings.training
        multiplier = solve_noise_multiplier(
            privacy.epsilon,
            privacy.delta,
            training.sampling.rate(records),
            # Whom the plan never asks is not asked: any noise does.
            max(1, job.plan.turns(hospital)) * training.local_steps,
            privacy.accountant,
            beside_training(job.settings),
        )
        return cls(job.layout, privacy.clip_norm, multiplier, not privacy.seeded_noise)

    def event(self, rate: float, steps: int) -> Event:
        return Event(self.noise_multiplier, rate, steps)

    def contribute(self, trainer: Draws, round_number: int) -> Vector:
        return trainer.take_steps(
            round_number,
            lambda step, source: step.noised_gradient(
                self.clip_norm, self.noise_multiplier, source
            ),
        )


@dataclass(frozen=True)
class SharedNoise:
    """A share of noise in the ring; the noise that counts is the sum of several hospitals'.

    Nothing moves at the hospital: the server takes the step and sends the result. So there is one
    step a round, on shared parameters only; anything else would need noise of the hospital's own.
    """

    layout: Layout
    code: RingCode
    secret_noise: bool = True
    personal_steps: ClassVar[bool] = False

    @classmethod
    def of(cls, job: JobDescription, hospital: str, records: int) -> "SharedNoise":
        """Noise as the job describes it.

        Raises:
            ConfigurationError: the description has no shared noise, or this hospital declares less
                than it says that the smallest does: then the noise would not be enough.
        """
        noise, smallest = job.shared_noise, job.smallest_training_set
        if noise is None:
            raise ConfigurationError("the job description has no shared noise")
        if job.settings.smallest_matters and smallest and records < smallest:
            raise ConfigurationError(
                f"the job description says that no hospital declares fewer than {smallest} "
                f"training patients; this one declares {records}, and the noise would not be "
                "enough for them",
                hint="agree on a smaller number",
            )
        privacy = job.settings.privacy
        code = RingCode(job.parameters, privacy.clip_norm, noise)
        return cls(job.layout, code, not privacy.seeded_noise)

    @property
    def clip_norm(self) -> float:
        return self.code.clip_norm

    def event(self, rate: float, steps: int) -> Event:
        noise = self.code.noise
        return Event(noise.noise_multiplier, rate, steps, noise_from=noise.counted)

    def contribute(self, trainer: Draws, round_number: int) -> NDArray[np.uint32]:
        step, source = trainer.draw(round_number, 0)
        return self.code.encode(step.gradient_rows(), round_number, source)


class _Kind(Protocol):
    @classmethod
    def of(cls, job: JobDescription, hospital: str, records: int) -> Mechanism:
        """The mechanism of a hospital of the job that declares so many training records."""
        ...


#: By what the settings ask for: privacy.placement, or "none" without privacy.dp.
MECHANISMS: dict[str, type[_Kind]] = {
    "none": NoNoise,
    "local": OwnNoise,
    "distributed": SharedNoise,
}


def build_mechanism(job: JobDescription, hospital: str, records: int) -> Mechanism:
    """The mechanism that the job describes, for a hospital that declares `records` of training.

    Raises:
        ConfigurationError, PrivacyError: it cannot be had with these settings and records.
    """
    privacy = job.settings.privacy
    return MECHANISMS[privacy.placement if privacy.dp else "none"].of(job, hospital, records)
