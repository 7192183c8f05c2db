"""Who masks with whom: the complete graph, or the k-regular one of Bell et al. (2020).

In a large cohort a client need not mask with everybody: Bell, Bonawitz, Gascon, Lepoint and
Raykova, "Secure single-server aggregation with (poly)logarithmic overhead" (CCS 2020), place
the clients on a circle in random order and join each with the k/2 nearest on either side. The
degree k then grows like log n. What can go wrong is random and has a probability, computed
here exactly (hypergeometric tails, union bound over clients):

- an adversary's clients hold enough of one client's shares (privacy);
- so many on the circle are corrupt or gone that the honest rest falls apart, and the server
  learns the sum over a piece (privacy);
- too many neighbours of one client drop, and its mask cannot be rebuilt (the round aborts).

The order comes from the digest of the round, which is fixed before any key exists. The bounds
hold for clients corrupted without knowing that order. A server that is free to choose cohorts
can try many and pick the worst: against such a server use the complete graph (the default), or
count its tries against `privacy_bits`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, comb

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocols.errors import InvalidRules

# Below this, every client is worth a neighbour: masks are cheap, and a twentieth of a small
# cohort is too few to speak of fractions.
SMALLEST_SPARSE_COHORT = 64


@dataclass(frozen=True, slots=True)
class SparseGraph:
    """Permission to use the k-regular graph, and what it must withstand.

    Attributes:
        max_corrupt_fraction: of the cohort, clients that collude with the server; below 1/2.
        max_dropout_fraction: of the cohort, clients that stop answering; below 1/2.
        privacy_bits: a round leaks with probability at most 2^-privacy_bits.
        abort_bits: a round within the dropout rate aborts with at most 2^-abort_bits.
    """

    max_corrupt_fraction: float = 0.05
    max_dropout_fraction: float = 0.1
    privacy_bits: int = 40
    abort_bits: int = 20

    def __post_init__(self) -> None:
        for name in ("max_corrupt_fraction", "max_dropout_fraction"):
            value = getattr(self, name)
            if not 0 <= value < 0.5:
                raise InvalidRules(f"{name} must be at least 0 and below 0.5, got {value}")
        if self.privacy_bits < 1 or self.abort_bits < 1:
            raise InvalidRules("privacy_bits and abort_bits must be positive")


@dataclass(frozen=True, slots=True)
class NeighbourPlan:
    """The chosen degree and threshold, with the failure probabilities they leave.

    Attributes:
        degree: neighbours of each client.
        threshold: shares that recover a secret, out of degree + 1 (a client keeps one itself).
        privacy_failure, abort_failure: upper bounds for one round.
    """

    degree: int
    threshold: int
    privacy_failure: float
    abort_failure: float


@lru_cache(maxsize=256)
def plan(members: int, sparse: SparseGraph, *, malicious_server: bool) -> NeighbourPlan | None:
    """The smallest degree that meets the demands of `sparse`; None if only complete will do."""
    if members < SMALLEST_SPARSE_COHORT:
        return None
    corrupt = ceil(members * sparse.max_corrupt_fraction)
    dropped = ceil(members * sparse.max_dropout_fraction)
    privacy_goal = Fraction(1, 2**sparse.privacy_bits)
    abort_goal = Fraction(1, 2**sparse.abort_bits)
    for degree in range(4, members - 1, 2):
        split = members * _all_bad(members, min(corrupt + dropped, members), degree // 2)
        if split >= privacy_goal:
            continue
        for threshold in range(degree // 2 + 1, degree + 1):
            breaking = _breaking_coalition(degree, threshold, malicious_server=malicious_server)
            privacy = split + members * upper_tail(members - 1, corrupt, degree, breaking)
            if privacy <= privacy_goal:
                # At least `threshold` of the neighbours must be left when the client itself
                # dropped and its own share went with it.
                too_many = degree - threshold + 1
                abort = members * upper_tail(members - 1, dropped, degree, too_many)
                if abort <= abort_goal:
                    return NeighbourPlan(degree, threshold, float(privacy), float(abort))
                break  # a higher threshold only aborts more often
    return None


def _breaking_coalition(degree: int, threshold: int, *, malicious_server: bool) -> int:
    """How many corrupt neighbours suffice to open one client's vector."""
    if not malicious_server:
        return threshold
    # Each of the degree + 1 - c honest holders gives one kind of share, to a lying server the
    # kind it asks for; corrupt holders give both. Both secrets fall if 2 t <= degree + 1 + c.
    return max(0, 2 * threshold - degree - 1)


def upper_tail(population: int, marked: int, draws: int, at_least: int) -> Fraction:
    """P[at least `at_least` marked among `draws` taken without replacement], exactly."""
    if at_least <= 0:
        return Fraction(1)
    ways = sum(
        comb(marked, hits) * comb(population - marked, draws - hits)
        for hits in range(at_least, min(marked, draws) + 1)
    )
    return Fraction(ways, comb(population, draws))


def _all_bad(population: int, marked: int, draws: int) -> Fraction:
    return Fraction(comb(marked, draws), comb(population, draws))


@lru_cache(maxsize=8)
def circle(seed: bytes, members: int) -> tuple[int, ...]:
    """A pseudorandom order of places 0..members-1 from a 32-byte seed.

    Sorted by 64-bit words of AES-256-CTR; ties (2^-44 for 1,000 members) keep their order.
    """
    encryptor = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
    words = np.frombuffer(encryptor.update(bytes(8 * members)), dtype="<u8")
    return tuple(int(place) for place in np.argsort(words, kind="stable"))


def neighbours(order: tuple[int, ...], place: int, degree: int) -> Iterator[int]:
    """The places joined with `place`: degree / 2 on either side of it on the circle."""
    position = order.index(place)
    for offset in range(1, degree // 2 + 1):
        yield order[position - offset]
        yield order[(position + offset) % len(order)]
