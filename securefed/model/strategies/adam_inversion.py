"""What a hospital can tell of the mean updates when the server's strategy is FedAdam.

The step of Reddi et al. 2021 (algorithm 2) is public, works on each coordinate alone, and its
moments start at zero. From the shared parameters of successive rounds a hospital therefore solves,
round after round, for the mean update u that made the step:

    step / learning_rate = d = (m + a u) / (sqrt(v + c u^2) + tau)
    m, v: what the earlier rounds leave of the moments; a = 1 - beta1, c = 1 - beta2

Squared, this is a quadratic in u. Two things limit the answer, and both are reported:

- Sometimes both roots fit, one where a larger update makes a larger step and a larger one beyond,
  where the second moment grows faster than the first. The first is taken. A coordinate whose other
  root is no absurdly large update is counted as ambiguous from that round on, since a wrong root
  spoils the moments too.
- d is known only as well as float32 parameters say. Copies of the inversion start from parameters
  that differ by what rounding may have taken off; how far they drift apart is the error.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from securefed.model.strategies.strategy import MeanEstimate, Values

COPIES = 8
PLAUSIBLE = 8.0  # an update over this many times the round's largest is absurd
FITS = 1e-6  # relative; a root that only squaring brought in misses by far more
BETA1, BETA2 = 0.9, 0.99  # Reddi et al. 2021, section 5
A, C = 1 - BETA1, 1 - BETA2

Flags = NDArray[np.bool_]


def invert(
    trajectory: Sequence[NDArray[np.float32]], learning_rate: float, tau: float
) -> list[MeanEstimate]:
    """Mean updates between successive shared parameters, one fewer than there are of those.

    Args:
        trajectory: shared parameters (P,) before round 1, 2, ...; none may be missing, and rounds
            that moved nothing (aborted) must be taken out.
    """
    values = np.array(trajectory, np.float64)  # (rounds + 1, P)
    rounding = np.spacing(np.abs(values).astype(np.float32)).astype(np.float64) / 2
    rng = np.random.default_rng(0)  # the answer must not change from audit to audit
    copies = values + rounding * rng.uniform(-1, 1, (COPIES, *values.shape))
    copies[0] = values
    first, second = np.zeros((2, COPIES, values.shape[1]))
    ambiguous = np.zeros(values.shape[1], np.bool_)
    estimates = []
    for step in np.diff(copies, axis=1).swapaxes(0, 1) / learning_rate:  # (COPIES, P)
        first *= BETA1
        second *= BETA2
        update, other = _solve(step, first, second, tau)
        ambiguous |= np.abs(other[0]) <= PLAUSIBLE * np.abs(update[0]).max()
        first += A * update
        second += C * update**2
        apart = np.linalg.norm(update[1:] - update[0], axis=1)
        norm = float(np.linalg.norm(update[0]))
        error = float(np.sqrt(np.mean(apart**2))) / norm if norm else np.inf
        estimates.append(MeanEstimate(update[0], error, float(ambiguous.mean())))
    return estimates


def _solve(step: Values, first: Values, second: Values, tau: float) -> tuple[Values, Values]:
    """Updates that explain the steps, and the other one that does; infinite where there is none.

    Args:
        step: over the learning rate.
        first, second: the moments, decayed, before the update enters them.
    """
    rest = first - step * tau
    square = C - C * step**2  # A^2 = C
    root = np.abs(step) * np.sqrt(np.maximum(C * rest**2 + square * second, 0.0))
    q = -(A * rest + np.where(rest < 0, -root, root))  # no cancellation
    with np.errstate(divide="ignore", invalid="ignore"):
        roots = np.stack([q / square, (rest**2 - step**2 * second) / q])
    finite = np.isfinite(roots)
    roots = np.where(finite, roots, 0.0)
    left, right = rest + A * roots, step * np.sqrt(second + C * roots**2)
    fits = finite & (np.abs(left - right) <= FITS * (np.abs(left) + np.abs(right)))
    # On the near branch a larger update makes a larger step: the derivative is positive.
    slope = A * np.sqrt(second + C * roots**2) - step * C * roots
    nearer = np.where(fits, slope, -np.inf).argmax(axis=0)[np.newaxis]
    near = np.take_along_axis(roots, nearer, axis=0)[0]
    other = np.take_along_axis(np.where(fits, roots, np.inf), 1 - nearer, axis=0)[0]
    return near, np.where(np.isclose(other, near, rtol=FITS, atol=0.0), np.inf, other)
