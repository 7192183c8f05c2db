"""Real vectors and counts as integers modulo 2^32 or less, with a sum that provably cannot wrap.

A `FixedPoint` spreads +-value_range over the largest integers that leave room for the sum of
`summands` vectors; a `CountSlot` carries non-negative integers exactly. Both refuse a value
outside their range instead of clipping it: a silent clip would change the mean, and a wrap
would destroy it.

The federated mean: a client with weight w (0 <= w <= w_max) and update x (|x_i| <= c) encodes
w * x with FixedPoint(value_range=w_max * c, summands=cohort), puts w into a CountSlot of the
same vector, and the server divides the decoded sum of w * x by the decoded sum of w. Neither w
nor x of one client is ever seen. The error of the mean is at most error_bound(survivors)
divided by the total weight.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protocols.errors import BadVector, InvalidRules, NotFinite, ValueOutOfRange, WouldOverflow
from protocols.mask_stream import Words
from protocols.packing import reduce

_CHUNK = 2**16


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """Numbers within +-value_range as integers within +-`largest`, for sums of `summands`.

    No wrap: a value encodes to an integer q with |q| <= largest = floor((2^(b-1) - 1) / summands),
    b = modulus_bits (the scaled value is at most largest * (1 + 2^-51) < largest + 1/2 before
    rounding), so any sum of at most `summands` of them lies within +-(2^(b-1) - 1) and is read back
    without ambiguity from its residue modulo 2^b.

    Raises:
        InvalidRules: unless value_range is positive and finite, and summands positive.
        WouldOverflow: if no positive integer is left for one value, or if the resolution would
            be coarser than `coarsest_resolution`.
    """

    value_range: float
    summands: int
    coarsest_resolution: float = math.inf
    modulus_bits: int = 32

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value_range) and self.value_range > 0):
            raise InvalidRules(f"value_range must be positive and finite, got {self.value_range}")
        if self.summands < 1:
            raise InvalidRules(f"summands must be at least 1, got {self.summands}")
        if self.largest < 1:
            raise WouldOverflow(
                f"{self.summands} summands leave no room in {self.modulus_bits} bits"
            )
        if not self.resolution <= self.coarsest_resolution:
            raise WouldOverflow(
                f"{self.summands} values within +-{self.value_range} fit into {self.modulus_bits}"
                f" bits only in steps of {self.resolution:.3g}, coarser than"
                f" {self.coarsest_resolution:.3g}",
                hint="clip to a smaller value_range or admit fewer clients",
            )

    @property
    def largest(self) -> int:
        """The integer that stands for value_range."""
        return int(2 ** (self.modulus_bits - 1) - 1) // self.summands

    @property
    def resolution(self) -> float:
        """The step between two neighbouring encoded values."""
        return self.value_range / self.largest

    def error_bound(self, summands: int) -> float:
        """Largest |decoded sum - exact sum| for that many summands.

        Half a step for each rounding, and 2^-51 of the range for each product in float64.
        """
        return summands * (self.resolution / 2 + self.value_range * 2.0**-51)

    def encode(self, values: NDArray[np.float64] | NDArray[np.float32]) -> Words:
        """Round to the nearest step, as two's complement in the ring; any shape -> same shape.

        Raises:
            NotFinite: for NaN or infinity.
            ValueOutOfRange: for a value outside +-value_range.
        """
        if values.dtype not in (np.float32, np.float64):
            raise BadVector(f"values must be float32 or float64, got {values.dtype}")
        flat = np.ascontiguousarray(values).reshape(-1)
        integers = np.empty(flat.size, dtype=np.int32)
        scale = self.largest / self.value_range
        scaled = np.empty(_CHUNK)  # float64, one chunk at a time: no float64 copy of the whole
        for start in range(0, flat.size, _CHUNK):
            chunk = flat[start : start + _CHUNK]
            self._check(chunk, start)
            work = scaled[: chunk.size]
            np.copyto(work, chunk)
            work *= scale
            np.rint(work, out=work)
            np.copyto(integers[start : start + _CHUNK], work, casting="unsafe")
        return integers.view(np.uint32).reshape(values.shape)

    def decode(self, total: Words) -> NDArray[np.float64]:
        """The sum of encoded vectors back as real numbers."""
        unused = np.uint32(32 - self.modulus_bits)
        # Shifted up and down again as signed: the sign of the ring becomes that of the integer.
        signed = (total.astype(np.uint32, copy=False) << unused).view(np.int32) >> np.int32(unused)
        return signed * np.float64(self.resolution)

    def _check(self, chunk: NDArray[Any], offset: int) -> None:
        # NaN makes both extremes NaN, which is not within anything.
        if -self.value_range <= float(chunk.min()) and float(chunk.max()) <= self.value_range:
            return
        if not np.isfinite(chunk).all():
            place = offset + int(np.flatnonzero(~np.isfinite(chunk))[0])
            raise NotFinite(f"the value at {place} is not a finite number")
        place = offset + int(np.abs(chunk).argmax())
        raise ValueOutOfRange(
            f"the value at {place} is outside +-{self.value_range}",
            hint="clip the update before encoding it",
        )


def bits_needed(value_range: float, summands: int, resolution: float) -> int:
    """The fewest bits for sums of values within +-value_range in steps of at most `resolution`.

    >>> bits_needed(4.0, 16, 1e-3)
    17

    Raises:
        WouldOverflow: if 32 do not suffice.
    """
    for bits in range(8, 33):
        largest = (2 ** (bits - 1) - 1) // summands
        if largest and value_range / largest <= resolution:
            return bits
    raise WouldOverflow(
        f"sums of {summands} values within +-{value_range} do not fit into 32 bits in steps of"
        f" {resolution:.3g}"
    )


@dataclass(frozen=True, slots=True)
class CountSlot:
    """Integers within 0 and `maximum`, summed exactly over at most `summands` clients.

    Raises:
        InvalidRules: unless both are positive.
        WouldOverflow: if maximum * summands does not fit below 2^modulus_bits.
    """

    maximum: int
    summands: int
    modulus_bits: int = 32

    def __post_init__(self) -> None:
        if self.maximum < 1 or self.summands < 1:
            raise InvalidRules(
                f"maximum and summands must be positive, got {self.maximum}, {self.summands}"
            )
        if self.maximum * self.summands >= 2**self.modulus_bits:
            raise WouldOverflow(
                f"{self.summands} counts of up to {self.maximum} do not fit into"
                f" {self.modulus_bits} bits"
            )

    def encode(self, counts: ArrayLike) -> Words:
        """Exact integers as ring words; any shape -> same shape.

        Raises:
            BadVector: if the counts are not integers.
            ValueOutOfRange: for a count outside 0 and maximum.
        """
        array = np.asarray(counts)
        if not np.issubdtype(array.dtype, np.integer):
            raise BadVector(f"counts must be integers, got {array.dtype}")
        if array.size and (int(array.min()) < 0 or int(array.max()) > self.maximum):
            raise ValueOutOfRange(f"a count is outside 0 and {self.maximum}")
        return array.astype(np.uint32)

    def decode(self, total: Words) -> NDArray[np.int64]:
        """The exact sum of the counts, from any words that are equal to it in the ring."""
        return reduce(total, self.modulus_bits).astype(np.int64)
