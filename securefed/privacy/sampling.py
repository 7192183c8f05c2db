"""How a step draws a hospital's records, and what its noised sum is divided by.

One quantity is set, the same for everybody, and the other follows from what a hospital declares:

    a batch b   rate b / declared, 1 at most    as many draws everywhere: records of small
                                                hospitals are drawn more often, and need more noise
    a rate q    batch q * declared              each record is drawn as often in any hospital

Neither depends on how many records there are or were drawn, only on the declared number. A record
counts the same in either: its hospital's weight over the divisor, times the rate, is one. With
differential privacy nobody declares less than `least`, so that a batch is the divisor everywhere,
and at a rate no divisor is below one record.
"""

import math
from dataclasses import dataclass
from typing import Protocol

from securefed.errors import ConfigurationError


class Sampling(Protocol):
    """Poisson sampling: each record enters a step independently."""

    @property
    def least(self) -> int:
        """The fewest records that a hospital declares with differential privacy."""
        ...

    @property
    def unit(self) -> float:
        """Records that a part of an expected batch stands for."""
        ...

    def parts(self, declared: int) -> int:
        """Parts of the expected batch of so many declared records: whole, so that they add up."""
        ...

    def most_parts(self, declared: int) -> int:
        """Of a hospital that declares no more than that."""
        ...

    def rate(self, declared: int) -> float:
        """Probability that one of so many declared records enters a step."""
        ...


@dataclass(frozen=True)
class Batch:
    """As many records in each hospital's steps: all of them where it declares fewer.

    Attributes:
        size: records of a step on average.
    """

    size: int

    def __post_init__(self) -> None:
        if type(self.size) is not int or self.size < 1:
            raise ConfigurationError(
                f"batch size must be a whole number of at least 1, got {self.size!r}",
                hint="it is how many records a step draws on average",
            )

    def __str__(self) -> str:
        return f"batch {self.size}"

    @property
    def least(self) -> int:
        return self.size

    @property
    def unit(self) -> float:
        return 1

    def parts(self, declared: int) -> int:
        return min(self.size, declared)

    def most_parts(self, declared: int) -> int:
        return self.size

    def rate(self, declared: int) -> float:
        return min(1.0, self.size / declared)


@dataclass(frozen=True)
class Rate:
    """The same sampling rate in every hospital.

    Attributes:
        value: of a record, in (0, 1].
    """

    value: float

    def __post_init__(self) -> None:
        if not 0 < self.value <= 1:
            raise ConfigurationError(
                f"sample_rate must be in (0, 1], got {self.value}",
                hint="it is the expected batch size over the number of patients",
            )

    def __str__(self) -> str:
        return f"rate {self.value:.4g}"

    @property
    def least(self) -> int:
        return math.ceil((1 - 1e-12) / self.value)  # 103 at a rate of 1/103, which is rounded

    @property
    def unit(self) -> float:
        return self.value

    def parts(self, declared: int) -> int:
        return declared

    def most_parts(self, declared: int) -> int:
        return declared

    def rate(self, declared: int) -> float:
        return self.value


def expected(sampling: Sampling, declared: int) -> float:
    """Records that a step draws on average, as far as is declared: what its sum is divided by."""
    return sampling.unit * sampling.parts(declared)
