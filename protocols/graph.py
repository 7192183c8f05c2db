"""Who masks with whom: the complete graph, or the k-regular one of Bell et al. (2020).

In a large cohort a client need not mask with everybody: Bell, Bonawitz, Gascon, Lepoint and
Raykova, "Secure single-server aggregation with (poly)logarithmic overhead" (CCS 2020), place
the clients on a circle in random order and join each with the k/2 nearest on either side. The
degree k then grows like log n. What can go wrong is random and has a probability, computed
here exactly (hypergeometric tails, union bound over clients):

- an adversary's clients hold enough of one client's shares (privacy);
- the circle is cut in two places, and the server learns the sum over a piece (privacy);
- too many neighbours of one client drop, and its mask cannot be rebuilt (the round aborts).

*Cuts by a server that only looks.* Half a degree of places in a row must be corrupt or gone; who
drops has nothing to do with the order.

*Cuts by a lying server.* It chooses who drops, and which boxes it withholds from whom, after it has
seen the order. But each honest client answers only if `threshold` of its degree + 1 holders are
there: it misses at most degree + 1 - threshold neighbours. For the client at either end of the
smaller piece all k/2 places on its outer side must be missing or corrupt, so at least k/2 less
those are corrupt: two disjoint windows of k/2 places with that many corrupt ones. Counts in
disjoint windows of a random order are negatively associated (Joag-Dev and Proschan, 1983), so with
p the tail for one window the probability of two is at most (n p)^2 / 2.

*Who chooses the order.* Nobody after the job has begun: it follows from the digest of the round,
and that from the job's rules, the roster and what the server says of a round. There it has a
choice, and can look at all of it without asking anybody: any number, since it may announce rounds
and abandon them; the plan's cohort or the whole roster; one of the job's lengths. So the bounds are
over all the `orders` that a job can have, together (`JobRules.orders`), and the choice must end
there: sparse graphs against a lying server need a public plan, or the whole roster. They hold for
clients that were corrupted without knowing the job's name, which fixes every order.
docs/decisions/0028 says why the order does not come from what clients draw in the round.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, exp, fsum, lgamma

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocols.errors import InvalidRules

# Below this, every client is worth a neighbour: masks are cheap, and a twentieth of a small
# cohort is too few to speak of fractions.
SMALLEST_SPARSE_COHORT = 64
# Nobody masks with more: demands that need it are answered with the complete graph.
LARGEST_DEGREE = 1024


@dataclass(frozen=True, slots=True)
class SparseGraph:
    """Permission to use the k-regular graph, and what it must withstand.

    Attributes:
        max_corrupt_fraction: of the cohort, clients that collude with the server; below 1/2.
        max_dropout_fraction: of the cohort, clients that stop answering; below 1/2.
        privacy_bits: a job leaks in any of its rounds with probability at most 2^-privacy_bits.
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
        privacy_failure: upper bound for all rounds that a job can have, together.
        abort_failure: upper bound for one round.
    """

    degree: int
    threshold: int
    privacy_failure: float
    abort_failure: float


@lru_cache(maxsize=256)
def plan(
    members: int, sparse: SparseGraph, *, malicious_server: bool, orders: int = 1
) -> NeighbourPlan | None:
    """The smallest degree that meets the demands of `sparse`; None if only complete will do.

    Takes well under a second for 65,535 members.

    Args:
        orders: how many a job can have.
    """
    if members < SMALLEST_SPARSE_COHORT:
        return None
    corrupt = ceil(members * sparse.max_corrupt_fraction)
    dropped = ceil(members * sparse.max_dropout_fraction)
    privacy_goal = 2.0**-sparse.privacy_bits / orders
    # Up to half of the cohort: beyond, the windows on either side of a piece overlap.
    for degree in range(4, min(members // 2, LARGEST_DEGREE) + 1, 2):

        def privacy(threshold: int, degree: int = degree) -> float:
            breaking = _breaking_coalition(degree, threshold, malicious_server=malicious_server)
            opening = members * upper_tail(members - 1, corrupt, degree, breaking)
            if malicious_server:
                bad = degree // 2 - (degree + 1 - threshold)
                one = members * upper_tail(members, corrupt, degree // 2, bad)
                return opening + one * one / 2
            gone = min(corrupt + dropped, members)
            return opening + members * upper_tail(members, gone, degree // 2, degree // 2)

        # A higher threshold is more private and aborts more often.
        lowest, highest = degree // 2 + 1, degree
        if privacy(highest) > privacy_goal:
            continue
        threshold = lowest + bisect_left(
            range(lowest, highest + 1), True, key=lambda each: privacy(each) <= privacy_goal
        )
        # At least `threshold` of the neighbours must be left when the client itself dropped and
        # its own share went with it.
        too_many = degree - threshold + 1
        abort = members * upper_tail(members - 1, dropped, degree, too_many)
        if abort <= 2.0**-sparse.abort_bits:
            return NeighbourPlan(degree, threshold, orders * privacy(threshold), abort)
    return None


def _breaking_coalition(degree: int, threshold: int, *, malicious_server: bool) -> int:
    """How many corrupt neighbours suffice to open one client's vector."""
    if not malicious_server:
        return threshold
    # Each of the degree + 1 - c honest holders gives one kind of share, to a lying server the
    # kind it asks for; corrupt holders give both. Both secrets fall if 2 t <= degree + 1 + c.
    return max(0, 2 * threshold - degree - 1)


def upper_tail(population: int, marked: int, draws: int, at_least: int) -> float:
    """P[at least `at_least` marked among `draws` taken without replacement], never too small.

    A sum of hypergeometric terms by their logarithms, each to better than a millionth for
    populations below 2^16; a millionth is added.
    """
    if at_least <= 0:
        return 1.0
    whole = _log_comb(population, draws)
    terms = (
        exp(_log_comb(marked, hits) + _log_comb(population - marked, draws - hits) - whole)
        for hits in range(max(at_least, draws - population + marked), min(marked, draws) + 1)
    )
    return min(1.0, fsum(terms) * (1 + 1e-6))


def _log_comb(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


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
    position = _positions(order)[place]
    for offset in range(1, degree // 2 + 1):
        yield order[position - offset]
        yield order[(position + offset) % len(order)]


@lru_cache(maxsize=8)
def _positions(order: tuple[int, ...]) -> dict[int, int]:
    return {place: position for position, place in enumerate(order)}
