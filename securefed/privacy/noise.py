"""Randomness for differential privacy: a keystream of AES-256-CTR, turned into Gaussians.

A generator whose state can be recovered from its output (Mersenne Twister, Philox, PCG) lets an
observer who knows part of the noise compute the rest. Here every draw comes from the keystream of
AES-256 in counter mode (NIST SP 800-38A, section 6.5), under a key from the operating system
(`CryptographicSource`) or, for simulations, derived from a seed (`SeededSource`). Normal variates
are Box & Muller's (1958). The radius is in double precision and uses 64 random bits, so that the
tail ends at 9.42 standard deviations (probability 5e-21); with 32 it would end at 6.8 (probability
1e-11), which is visible beside a small delta. The angle's 32 bits, its sine and its cosine are in
single precision, which takes a fraction of the time: multiplied by the radius in double precision
they leave no pattern, since each of 2^32 angles meets 2^53 radii.

Floating point. The sum `value + noise` of two floating-point numbers does not reach every number,
and which ones it reaches depends on the value: its last bits tell neighbouring values apart
(Mironov 2012 for Laplace; Jin, McMurtry, Rubinstein & Ohrimenko 2022 for Gaussian). `add_gaussian`
therefore adds in double precision and rounds the *result* to a grid of at most std / 1024, as
Mironov's snapping does. Rounding is post-processing, so epsilon stands; one cell of the grid
collects about 2^40 doubles, so their pattern no longer shows. Opacus answers the same attack with
a sum of four Gaussians (Holohan & Braghin 2021): four times the work, and the sum is still a raw
double.

Not covered: the probability of a cell is right to double precision only, not exactly (the exact
discrete Gaussian belongs to noise inside the ring of secure aggregation); how long a draw takes;
keys that remain in the memory of the process.
"""

import math
import os
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from torch import Tensor

SourceKind = Literal["cryptographic", "seeded"]

BLOCK = 1 << 15  # draws at a time, 192 KiB of keystream: the working set stays in cache
GRID_BITS = 10  # the grid of add_gaussian is std / 2^10 or up to twice as fine
_ZERO_BLOCK = bytes(16)
_PAIR = 12  # bytes of keystream for two normal variates: 64 bits of radius, 32 of angle
_ZEROS = memoryview(bytes(_PAIR * BLOCK // 2))  # what a keystream is read by encrypting


class RandomSource(Protocol):
    """Where sampling and noise come from. One source belongs to one thread."""

    @property
    def kind(self) -> SourceKind:
        """What `run.json` says about the noise: only "cryptographic" protects anybody."""

    def uniform(self, count: int) -> npt.NDArray[np.float64]:
        """(count,) independent uniform numbers in [0, 1), multiples of 2^-53."""

    def normal(
        self, shape: Sequence[int], std: float, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """`shape` independent draws from N(0, std^2) on the CPU, rounded to `dtype`."""


class KeystreamSource:
    """A `RandomSource` that reads the AES-256-CTR keystream of one key from its beginning.

    Two sources with equal keys give equal numbers. The key is in neither repr nor attributes, and
    a source can be neither copied nor pickled, since a copy would repeat its noise.

    Args:
        key: 32 bytes, used for this stream only; hence the counter may start at zero.
        counter: first counter block, 16 bytes.

    Raises:
        ValueError: key or counter of another length.
    """

    kind: SourceKind = "cryptographic"

    def __init__(self, key: bytes, counter: bytes = _ZERO_BLOCK) -> None:
        if len(key) != 32:
            raise ValueError(f"an AES-256 key has 32 bytes, got {len(key)}")
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
        self._scratch = _Scratch(0)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(kind={self.kind!r})"

    def keystream(self, length: int) -> bytes:
        """The next `length` bytes."""
        return self._cipher().update(bytes(length))

    def _cipher(self) -> CipherContext:
        return self._encryptor

    def uniform(self, count: int) -> npt.NDArray[np.float64]:
        """(count,) uniform in [0, 1): the upper 53 of 64 bits, times 2^-53."""
        if count < 0:
            raise ValueError(f"count must not be negative, got {count}")
        return (self._words(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normal(
        self, shape: Sequence[int], std: float, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """N(0, std^2) by Box-Muller, then rounded to `dtype`.

        Raises:
            ValueError: unless std is finite and not negative.
        """
        if not (math.isfinite(std) and std >= 0):
            raise ValueError(f"std must be finite and not negative, got {std}")
        count = math.prod(shape)
        values = torch.empty(count, dtype=dtype)
        for start in range(0, count, BLOCK):
            part = values[start : start + BLOCK]
            part.copy_(self._normal(len(part), std))
        return values.reshape(tuple(shape))

    def _normal(self, count: int, std: float) -> Tensor:
        """(count,), at most `BLOCK`, in double precision; the next draws overwrite them."""
        if self._scratch.count != count:
            self._scratch = _Scratch(count)
        scratch = self._scratch
        radius, angle, normal = scratch.radius, scratch.angle, scratch.normal
        pairs = len(radius)
        self._cipher().update_into(_ZEROS[: _PAIR * pairs], scratch.keystream)
        # numpy is the faster one in double precision, torch in single. In place throughout.
        np.copyto(radius, scratch.radius_bits)
        np.abs(radius, out=radius)
        radius += 0.5  # keeps the logarithm finite; uniform in (0, 1] after the next line
        radius *= 2.0**-63
        np.log(radius, out=radius)
        radius *= -2.0
        np.sqrt(radius, out=radius)
        radius *= std
        angle.copy_(scratch.angle_bits).mul_(math.pi * 2.0**-31)
        for half, wave in ((normal[:pairs], torch.cos), (normal[pairs:], torch.sin)):
            half.copy_(wave(angle)).mul_(torch.from_numpy(radius))
        return normal[:count]

    def _words(self, count: int) -> npt.NDArray[np.uint64]:
        # Little-endian on every machine, so that a seeded run is the same everywhere.
        return np.frombuffer(self.keystream(8 * count), dtype="<u8")


class _Scratch:
    """Where a block of `count` normal variates is made, again and again."""

    def __init__(self, count: int) -> None:
        self.count, pairs = count, (count + 1) // 2
        self.keystream = bytearray(_PAIR * pairs + 15)  # the cipher asks for room for a block
        # Little-endian on every machine, so that a seeded run is the same everywhere.
        self.radius_bits = np.frombuffer(self.keystream, "<i8", pairs)
        self.angle_bits = torch.from_numpy(
            np.frombuffer(self.keystream, "<i4", pairs, offset=8 * pairs)
        )
        self.radius = np.empty(pairs)
        self.angle = torch.empty(pairs)
        self.normal = torch.empty(2 * pairs, dtype=torch.float64)


class CryptographicSource(KeystreamSource):
    """Noise for real patients: a fresh key from the operating system, kept nowhere."""

    def __init__(self) -> None:
        super().__init__(os.urandom(32))
        self._process = os.getpid()

    def _cipher(self) -> CipherContext:
        if os.getpid() != self._process:
            # A forked child holds the parent's key and would repeat the parent's noise.
            self.__init__()  # type: ignore[misc]
        return super()._cipher()


class SeededSource(KeystreamSource):
    """Reproducible noise for research: whoever knows the seed can subtract it.

    Each purpose gets a stream of its own through the context, so that a resumed run draws the same
    numbers without any saved generator state: `SeededSource(7, "client-2", round, step, "noise")`.

    Args:
        seed: not negative.
        context: strings and integers; the order, the types and the borders between them count.

    Raises:
        ValueError: a negative seed.
    """

    kind: SourceKind = "seeded"

    def __init__(self, seed: int, *context: str | int) -> None:
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        super().__init__(_derive_key(seed, context))


def _derive_key(seed: int, context: Sequence[str | int]) -> bytes:
    """HKDF-SHA256 (RFC 5869) of the seed; the label keeps it apart from other uses of the seed."""
    parts = [f"i{part}" if isinstance(part, int) else f"s{part}" for part in context]
    info = b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in parts)
    hkdf = HKDF(SHA256(), length=32, salt=b"securefed seeded noise v1", info=info)
    return hkdf.derive(str(seed).encode())


def add_gaussian(value: Tensor, std: float, source: RandomSource) -> Tensor:
    """`value` + N(0, std^2), rounded to a grid that hides the bits of `value`.

    Guarantee: the Gaussian mechanism followed by rounding, up to the accuracy of double precision.
    The grid step is the power of two in (std / 2^11, std / 2^10]; it adds a variance of less than
    1e-7 std^2. With std 0 the value comes back unchanged, and unprotected.

    Args:
        value: finite, of any shape and device.

    Returns:
        As `value` in shape, dtype and device.

    Raises:
        ValueError: a value that is not finite (noise does not hide infinity).
    """
    # Zero times infinity is no number, and neither is its sum; a fifth of isfinite's time.
    if not math.isfinite((value.detach() * 0.0).sum()):
        raise ValueError("noise cannot hide a value that is not finite")
    if std == 0:
        return value.clone()
    grid = 2.0 ** (math.floor(math.log2(std)) - GRID_BITS)
    exact = value.detach().cpu().reshape(-1)
    noised = torch.empty_like(exact)
    for start in range(0, len(exact), BLOCK):
        part = exact[start : start + BLOCK].double()
        # In units of the grid, a power of two: the change of units is exact.
        noise = source.normal(part.shape, std / grid, torch.float64)
        noised[start : start + BLOCK] = noise.add_(part, alpha=1 / grid).round_().mul_(grid)
    return noised.reshape(value.shape).to(value.device)
