"""Noise on counts of patients: numbers of training patients, histograms of held-out scores.

A patient more or less changes one count by one, so the mechanism is a Gaussian of sensitivity one
that is used once: `Event(noise_multiplier, 1.0, 1)`. Counts are integers, and so is the noise: a
patient is `STEPS` ring steps, and each hospital adds a discrete Gaussian of parameter `sigma` steps
to each count (Canonne, Kamath & Steinke 2020). What such noise costs, alone or as the sum of
several hospitals' shares, is shown in `privacy.distributed`: as much as the continuous Gaussian of

    noise_multiplier = sqrt(counted sigma^2 - SMOOTHING^2) / STEPS

up to a factor exp(1e-100) in every probability. Rounding to whole patients afterwards, and keeping
a number within bounds, costs nothing.

Not covered: that a hospital takes part; a count that is released again with other noise is another
release, and has to be reserved again.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.discrete_gaussian import MAX_SIGMA
from securefed.errors import ConfigurationError
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import Event, solve_noise_multiplier
from securefed.privacy.distributed import COARSEST_SHARE, SMOOTHING
from securefed.privacy.noise import KeystreamSource
from securefed.privacy.ring_code import sampler

LARGEST_PART = 0.25  # of the budget, for what is declared: it is there to train with
STEPS = 128  # of a patient: so fine that discrete noise is as good as continuous


@dataclass(frozen=True)
class CountNoise:
    """One hospital's noise on counts that are released together; public and the same for all.

    Attributes:
        sigma: parameter of the discrete Gaussian on each count, ring steps.
        changed: how many of the counts a patient may change, each by one; or how many groups of
            them, each by no more than one in Euclidean norm.
        counted: hospitals whose noise together hides a patient; 1 where it is its own alone.
    """

    sigma: int
    changed: int = 1
    counted: int = 1

    @property
    def noise_multiplier(self) -> float:
        """Of the continuous Gaussian that costs as much: standard deviation, patients."""
        return math.sqrt(self.counted * self.sigma**2 - SMOOTHING**2) / STEPS

    @property
    def event(self) -> Event:
        """What one release costs."""
        return Event(self.noise_multiplier, 1.0, self.changed, noise_from=self.counted)

    def deviation(self, hospitals: int) -> float:
        """Standard deviation of one count's noise in a sum over so many hospitals, patients."""
        return math.sqrt(hospitals) * self.sigma / STEPS

    def on(self, counts: NDArray[np.int64], source: KeystreamSource) -> NDArray[np.int64]:
        """Counts of patients in ring steps, noised; the shape stays."""
        return self.on_steps(STEPS * counts, source)

    def on_steps(self, steps: NDArray[np.int64], source: KeystreamSource) -> NDArray[np.int64]:
        """The same of what is in ring steps already: parts of patients too."""
        noise = sampler(self.sigma).sample(steps.size, key=source.keystream(32))
        return steps + noise.reshape(steps.shape)


def count_noise(
    epsilon: float, delta: float, accountant: Accountant, *, changed: int = 1, counted: int = 1
) -> CountNoise:
    """The least noise with which one release costs at most `epsilon`.

    Args:
        changed, counted: as in `CountNoise`.

    Raises:
        ConfigurationError: an epsilon out of reach.
    """
    multiplier = solve_noise_multiplier(epsilon, delta, 1.0, changed, accountant)
    sigma = math.ceil(math.sqrt(((multiplier * STEPS) ** 2 + SMOOTHING**2) / counted))
    if sigma > MAX_SIGMA:
        raise ConfigurationError(
            f"epsilon {epsilon:g} for counts needs noise of {multiplier:.0f} patients, more than "
            f"{MAX_SIGMA // STEPS}",
            hint="choose a larger one",
        )
    return CountNoise(max(sigma, COARSEST_SHARE), changed, counted)


def declaration_noise(
    epsilon: float | None, budget: float, delta: float, accountant: Accountant, unit: str
) -> CountNoise | None:
    """The noise on what a hospital declares of its training set; None where that is exact.

    It declares a number of patients, and where images are the records also theirs.

    Args:
        budget: epsilon of the whole run, of which it takes no more than a part.
    """
    if epsilon is None:
        return None
    part = min(epsilon, LARGEST_PART * budget)
    return count_noise(part, delta, accountant, changed=2 if unit == "image" else 1)


def declared_number(
    number: int, noise: CountNoise, source: KeystreamSource, *, least: int, most: int
) -> int:
    """A number of patients, noised, and kept within what a hospital may declare."""
    (steps,) = noise.on(np.array([number], np.int64), source)
    return int(np.clip(round(int(steps) / STEPS), least, most))
