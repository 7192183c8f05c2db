"""Discrete Gaussian noise: integers k with probability proportional to exp(-k^2 / (2 sigma^2)).

Canonne, Kamath and Steinke, "The discrete Gaussian for differential privacy" (NeurIPS 2020): as
private as the continuous one, and free of the floating-point holes of sampling that. Added by
each client inside the ring, the sum over clients is analysed by Kairouz, Liu and Steinke, "The
distributed discrete Gaussian mechanism" (ICML 2021): a sum of discrete Gaussians is not exactly
one, and they price the difference. This module only samples.

The paper samples by rejection, which is slow in vectors. Here the distribution function is
inverted from a table in 256-bit integer arithmetic: a uniform real number U is drawn as 63 bits
of AES-256-CTR keystream, and 192 bits more in the rare case (about sigma * 2^-59) that these do
not decide. The law of a sample is within 2^-180 of the exact one in total variation; no floating
point takes part. Time depends on the values drawn in that rare case only, but table look-ups go
through the cache: whoever measures the machine itself is not kept out.
"""

import decimal
import math
import os
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from protocols.errors import InvalidRules
from protocols.mask_stream import keystream_from

MAX_SIGMA = 2**14
_PRECISION_BITS = 256
_TAIL_BITS = 200
_HEAD_BITS = 63  # of U in the first word; the 64th bit is the sign
_MORE_BITS = 192
_GUIDE_BITS = 14
_CHUNK = 2**15


class DiscreteGaussian:
    """The discrete Gaussian of parameter sigma, ready to be sampled; holds no secret.

    `sigma` is the parameter. The variance is never larger than sigma^2, and for sigma of 2 and
    more equal to it in all digits of a float.
    """

    def __init__(self, sigma: float) -> None:
        """Build the table, of about 16.7 sigma entries.

        Raises:
            InvalidRules: unless 2^-3 <= sigma <= MAX_SIGMA.
        """
        if not 0.125 <= sigma <= MAX_SIGMA:
            raise InvalidRules(
                f"sigma must be within 0.125 and {MAX_SIGMA}, got {sigma}",
                hint="choose the fixed-point scale so that sigma spans some hundreds of steps",
            )
        self.sigma = sigma
        masses = _masses(Fraction(sigma))
        total = sum(masses)
        # thresholds[j]: P[|k| <= j] in units of 2^-(63 + 192), rounded down.
        self._thresholds: list[int] = []
        reached = 0
        for mass in masses:
            reached += mass
            self._thresholds.append((reached << _HEAD_BITS + _MORE_BITS) // total)
        heads = [threshold >> _MORE_BITS for threshold in self._thresholds[:-1]]
        # The last magnitude takes what is left: U is always below its threshold.
        self._heads = np.array([*heads, 2**_HEAD_BITS], dtype=np.uint64)
        slots = np.arange(2**_GUIDE_BITS, dtype=np.uint64) << np.uint64(_HEAD_BITS - _GUIDE_BITS)
        self._guide = np.searchsorted(self._heads, slots).astype(np.int32)

    def sample(self, count: int, key: bytes | None = None) -> NDArray[np.int32]:
        """Independent samples, from a fresh key or from one that is used nowhere else.

        Args:
            key: 32 secret bytes that determine the samples; for tests and for resuming.
        """
        stream = keystream_from(os.urandom(32) if key is None else key, 0)
        samples = np.empty(count, dtype=np.int32)
        zeros, buffer = bytes(8 * _CHUNK), bytearray(8 * _CHUNK + 15)
        words = np.frombuffer(buffer, dtype="<u8", count=_CHUNK)
        for start in range(0, count, _CHUNK):
            part = samples[start : start + _CHUNK]
            stream.update_into(zeros, buffer)
            sign = (words[: part.size] >> np.uint64(_HEAD_BITS)).astype(np.int32)
            heads = words[: part.size] & np.uint64(2**_HEAD_BITS - 1)
            magnitudes = self._invert(heads)
            for place in np.flatnonzero(self._heads[magnitudes] == heads):
                more = int.from_bytes(stream.update(bytes(_MORE_BITS // 8)), "big")
                magnitudes[place] = self._resolve(int(heads[place]), more)
            np.multiply(magnitudes, 1 - 2 * sign, out=part)
        return samples

    def _invert(self, heads: NDArray[np.uint64]) -> NDArray[np.int32]:
        """The smallest magnitude whose threshold is not below U, by the head bits alone."""
        slots = (heads >> np.uint64(_HEAD_BITS - _GUIDE_BITS)).astype(np.intp)
        magnitudes = self._guide[slots]
        magnitudes += self._heads[magnitudes] < heads
        # In the bulk a slot of the guide spans one threshold at most; the tail is crowded.
        (left,) = np.nonzero(self._heads[magnitudes] < heads)
        magnitudes[left] = np.searchsorted(self._heads, heads[left])
        return magnitudes

    def _resolve(self, head: int, more: int) -> int:
        """The magnitude when the head bits equal those of a threshold."""
        uniform = head << _MORE_BITS | more
        magnitude = int(np.searchsorted(self._heads, np.uint64(head)))
        while magnitude < len(self._thresholds) - 1 and self._thresholds[magnitude] <= uniform:
            magnitude += 1
        return magnitude


def _masses(sigma: Fraction) -> list[int]:
    """Weights of the magnitudes 0, 1, 2, ... in units of 2^-256, down to 2^-200.

    exp(-k^2 / (2 sigma^2)) by recurrence: each factor is the one before times q^2, with q =
    exp(-1 / (2 sigma^2)). Rounding takes at most (k + 1)^2 2^-255 off the k-th, below 2^-200 in
    all for k up to 16.7 MAX_SIGMA.
    """
    one = 1 << _PRECISION_BITS
    with decimal.localcontext() as context:
        context.prec = 100
        context.Emin, context.Emax = -(10**6), 10**6
        exponent = -1 / (2 * sigma * sigma)
        q = (decimal.Decimal(exponent.numerator) / exponent.denominator).exp()
        factor = int(q * one)
        squared = int(q * q * one)
    mass, masses = one, [one]
    while True:
        mass = mass * factor >> _PRECISION_BITS
        factor = factor * squared >> _PRECISION_BITS
        # Both signs of a magnitude together; zero has only one.
        masses.append(2 * mass)
        if mass >> _PRECISION_BITS - _TAIL_BITS == 0:
            return masses


def tail_bound(sigma: float, bound: int) -> float:
    """An upper bound on P[|k| > bound], for headroom in the ring: 2 exp(-bound^2 / (2 sigma^2)).

    The discrete Gaussian is subgaussian with this parameter (Canonne, Kamath and Steinke).
    """
    return min(1.0, 2 * math.exp(-(bound**2) / (2 * sigma**2)))
