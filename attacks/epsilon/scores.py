"""How a canary is scored, and the law of that score where the mechanism is what it claims or not.

What an observer sees of a canary in one round is its own direction's share of the released sum, in
clipping norms: the number of steps that drew it, plus noise. The score of a round is the logarithm
of its likelihood ratio between "in" and "out" (Neyman & Pearson), and rounds add up:

    x = Bin(steps, rate) + N(0, steps noise^2)        in          score = log in(x) / out(x)
    x = N(0, steps noise^2)                           out

For many steps a round it is close to x itself, a matched filter. The ratio is taken at a noise
between the claimed one and half of it (`ASSUMED_NOISE`): measured, that loses under a hundredth of
the right guesses against the best choice for either. Any score gives a valid bound; the law is for
the power only, and leaves out what the patients add, so it is that of the best observer.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Array = npt.NDArray[np.float64]

ASSUMED_NOISE = 0.7  # of the claimed noise
COUNTS_LARGEST = 64  # steps a round beyond which the count is as good as normal
POINTS = 1 << 13  # of the grid of summed scores
QUADRATURE = 6001  # points over one round's x


def log_ratio(x: Array, noise: float, rate: float, steps: int) -> Array:
    """Score of one round's x, elementwise.

    Args:
        x: in clipping norms.
        noise: standard deviation of one step's noise, in clipping norms, > 0.
        rate, steps: of the sampling; steps of one round.
    """
    variance = steps * noise**2
    score: Array
    if rate == 1 or steps > COUNTS_LARGEST:
        shift = steps * rate
        score = (2 * x - shift) * (shift / (2 * variance))
        return score
    if steps == 1:
        drawn = math.log(rate) + (2 * x - 1) / (2 * variance)
        score = np.logaddexp(math.log1p(-rate), drawn)
        return score
    counts = np.arange(steps + 1)
    exponents = (2 * x[..., None] * counts - counts**2) / (2 * variance)
    score = special.logsumexp(exponents + stats.binom.logpmf(counts, steps, rate), axis=-1)
    return score


@dataclass(frozen=True)
class ScoreLaws:
    """Laws of a canary's score, in and out, on one grid.

    Attributes:
        beyond_in, beyond_out: P[score >= grid point], (POINTS,), decreasing.
    """

    beyond_in: Array = field(repr=False)
    beyond_out: Array = field(repr=False)

    def accuracies(self, share_in: float, share_out: float) -> tuple[float, float]:
        """Chance to be right when the highest `share_in` of all canaries are called in, and when
        the lowest `share_out` are called out; a share of 0 is never wrong."""
        beyond = (self.beyond_in + self.beyond_out) / 2  # decreasing from 1
        return (
            _conditional(self.beyond_in / 2, beyond, share_in),
            _conditional((1 - self.beyond_out) / 2, 1 - beyond, share_out),
        )


def _conditional(right: Array, called: Array, share: float) -> float:
    """P[right | called] where `share` of all is called, between two grid points on a line."""
    if share <= 0:
        return 1.0
    # Both rise from 0 to 1 along the grid, one of them backwards.
    order = np.argsort(called, kind="stable")
    return float(np.interp(share, called[order], right[order])) / share


@lru_cache(maxsize=256)
def score_laws(
    rate: float, steps_per_round: int, rounds: int, noise: float, assumed_noise: float
) -> ScoreLaws:
    """Laws of the summed score over `rounds`, where the noise is `noise` in truth.

    Args:
        noise, assumed_noise: of one step as the observer sees it, and as the score assumes it.
    """
    deviation = math.sqrt(steps_per_round) * noise
    high = min(steps_per_round, steps_per_round * rate + 10 * math.sqrt(steps_per_round) + 1)
    x = np.linspace(-8.5 * deviation, high + 8.5 * deviation, QUADRATURE)
    scores = log_ratio(x, assumed_noise, rate, steps_per_round)
    out = -0.5 * (x / deviation) ** 2
    inside = out + log_ratio(x, noise, rate, steps_per_round)  # logarithms: either may be extreme
    laws = [special.softmax(logs) for logs in (inside, out)]
    return ScoreLaws(*_summed(scores, laws, rounds))


def _summed(scores: Array, laws: list[Array], rounds: int) -> list[Array]:
    """P[sum of `rounds` scores >= grid point] under each law, by Fourier transform."""
    means = [float(law @ scores) for law in laws]
    spread = max(
        math.sqrt(max(float(law @ scores**2) - mean**2, 0.0))
        for law, mean in zip(laws, means, strict=True)
    )
    reach = 9 * spread * math.sqrt(rounds) + 3 * float(np.abs(scores).max()) / math.sqrt(rounds)
    low, high = rounds * min(means) - reach, rounds * max(means) + reach
    mesh = (high - low) / POINTS
    # One round's scores relative to their part of the window's lower end, so that the sum fits.
    places = (scores - low / rounds) / mesh
    floor = np.floor(places).astype(np.int64)
    upper = places - floor
    beyond = []
    for law in laws:
        ring = np.zeros(POINTS)
        np.add.at(ring, floor % POINTS, law * (1 - upper))
        np.add.at(ring, (floor + 1) % POINTS, law * upper)
        summed = np.maximum(np.fft.irfft(np.fft.rfft(ring) ** rounds, POINTS), 0.0)
        beyond.append(np.cumsum(summed[::-1])[::-1] / summed.sum())
    return beyond
