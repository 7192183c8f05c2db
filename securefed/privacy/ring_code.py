"""Patients' gradients as integers in the ring of a secure sum, with a hospital's share of noise.

The client side of Kairouz, Liu & Steinke (2021), algorithm 1, for each patient drawn:

    clip      to clip_norm
    scale     so that the clipping norm is `clip_steps` ring steps
    rotate    by random public signs and the Walsh-Hadamard matrix: no word stands out
    round     each word up or down at random, right on average; drawn again if the vector's norm
              has grown beyond the accounted bound, which is checked in integers

then the sum over patients, and discrete Gaussian noise from the cryptographic stream on each word.
The server adds vectors modulo 2^32, rotates back and scales back. Signs come from a hash of the
round's number: they keep words small and have no part in privacy.

What floating point does here cannot weaken the guarantee: everything that leaves is an integer
whose bound was checked in integers, plus exact noise. Not protected: see `privacy.distributed`.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from protocols.discrete_gaussian import DiscreteGaussian
from securefed.errors import PrivacyError
from securefed.privacy.distributed import RingNoise
from securefed.privacy.noise import KeystreamSource

Rows = NDArray[np.float64]
Words = NDArray[np.uint32]

ATTEMPTS = 8  # at roundings; the chance that all fail is below 2^-160


def padded(parameters: int) -> int:
    """Words that carry `parameters` values: the next power of two."""
    return 1 << (parameters - 1).bit_length()


@dataclass(frozen=True)
class RingCode:
    """How gradients become words; public and the same for all hospitals.

    Attributes:
        parameters: P, values of one gradient.
        clip_norm: largest norm of one patient's gradient.
        noise: share and scale, for padded(P) words.
    """

    parameters: int
    clip_norm: float
    noise: RingNoise

    def encode(self, chunks: Iterable[Rows], round_number: int, source: KeystreamSource) -> Words:
        """Noised sum over all rows of all chunks; any number of rows, none included.

        Args:
            chunks: arrays (n, P), a gradient per row, not yet clipped.
            source: of the rounding and of the noise.

        Returns:
            (noise.dimension,) words.

        Raises:
            PrivacyError: rows of another length. Values that are not finite count as zero rows.
        """
        total = np.zeros(self.noise.dimension, np.int64)
        for rows in chunks:
            total += self.quantise(rows, round_number, source).sum(axis=0)
        gaussian = sampler(self.noise.share_sigma)
        total += gaussian.sample(total.size, key=source.keystream(32))
        return total.astype(np.uint32)  # modulo 2^32

    def decode(self, total: Words, round_number: int) -> NDArray[np.float64]:
        """A sum of encoded vectors as the sum of clipped gradients and noise, (P,)."""
        words = total.astype(np.uint32, copy=False).view(np.int32).astype(np.float64)
        values = walsh_hadamard(words[np.newaxis])[0] * signs(round_number, words.size)
        gradients: NDArray[np.float64] = values[: self.parameters]
        return gradients * (self.clip_norm / self.noise.clip_steps)

    def quantise(self, rows: Rows, round_number: int, source: KeystreamSource) -> NDArray[np.int64]:
        """(n, P) -> (n, dimension): integer rows whose squared norm is at most the bound.

        Unbiased but for the roundings drawn again, about one in a million.
        """
        if rows.ndim != 2 or rows.shape[1] != self.parameters:
            raise PrivacyError(
                f"gradients have shape {rows.shape}, expected (n, {self.parameters})"
            )
        scaled = np.zeros((len(rows), self.noise.dimension))
        scaled[:, : self.parameters] = self._clip(rows)
        scaled *= signs(round_number, self.noise.dimension)
        rotated = walsh_hadamard(scaled)
        floor = np.floor(rotated)
        fraction = rotated - floor
        result = np.zeros(rotated.shape, np.int64)
        pending = np.arange(len(rows))
        for _ in range(ATTEMPTS):
            up = source.uniform(pending.size * floor.shape[1]).reshape(-1, floor.shape[1])
            words = (floor[pending] + (up < fraction[pending])).astype(np.int64)
            fits = np.square(words).sum(axis=1) <= self.noise.norm_bound_squared
            result[pending[fits]] = words[fits]
            pending = pending[~fits]
            if not pending.size:
                break
        # A row that never fitted stays zero, which hides that patient and breaks no bound.
        return result

    def _clip(self, rows: Rows) -> Rows:
        """Norms of at most clip_steps, shorter rows in proportion; zero where not finite."""
        finite = np.isfinite(rows).all(axis=1, keepdims=True)
        rows = np.where(finite, rows, 0.0)
        norms = np.linalg.norm(rows, axis=1)
        factors = self.noise.clip_steps / np.maximum(norms, self.clip_norm)
        clipped: Rows = rows * factors[:, np.newaxis]
        return clipped


def walsh_hadamard(rows: Rows) -> Rows:
    """Multiply each row by the orthonormal Walsh-Hadamard matrix, its own inverse; (n, 2^k)."""
    count, size = rows.shape
    out = rows.copy()
    out /= math.sqrt(size)
    half = 1
    while half < size:
        pairs = out.reshape(count, size // (2 * half), 2, half)
        mixed = np.empty(pairs.shape)
        np.add(pairs[:, :, 0], pairs[:, :, 1], out=mixed[:, :, 0])
        np.subtract(pairs[:, :, 0], pairs[:, :, 1], out=mixed[:, :, 1])
        out = mixed.reshape(count, size)
        half *= 2
    return out


@lru_cache(maxsize=2)
def signs(round_number: int, size: int) -> NDArray[np.float64]:
    """(size,) of +-1 from SHAKE-256 of the round's number; read-only."""
    label = b"securefed rotation v1" + round_number.to_bytes(8)
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(label).digest(-(-size // 8)), np.uint8))
    diagonal = np.where(bits[:size], -1.0, 1.0)
    diagonal.flags.writeable = False
    return diagonal


@lru_cache(maxsize=8)
def sampler(sigma: int) -> DiscreteGaussian:
    """Of a parameter: its table takes a fifth of a second to make, and holds no secret."""
    return DiscreteGaussian(float(sigma))
