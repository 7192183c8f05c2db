"""The rules of a job, agreed in advance, and the rules of one round that follow from them.

Every client holds the same `JobRules` and roster before the job begins. The server chooses
only the round number, the cohort and which of the job's vectors it asks for; the threshold and the
neighbours follow, and each client works them out for itself. That is how a server cannot lower a
threshold: nobody asks it. The digest of a round covers all of this, and every signature, key
and sealed share of the round is bound to it.

Thresholds (Bonawitz et al. 2017, section 6): against a curious server t > n/2 keeps two
disjoint groups from each answering; against a lying one that may control clients too, t > 2n/3
tolerates fewer than 2t - n of them.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from protocols.cohorts import CohortPlan
from protocols.errors import (
    DuplicateSender,
    InvalidRules,
    RoundsSkipped,
    RulesMismatch,
    ThresholdTooLow,
    UnknownSender,
    UnplannedCohort,
    WrongRound,
)
from protocols.graph import NeighbourPlan, SparseGraph, circle, neighbours, plan
from protocols.identity import NAME, Roster
from protocols.transcript import digest, number

MAX_VECTOR_LENGTH = 2**31
MODULUS_BITS = (8, 32)  # fewest and most


@dataclass(frozen=True, slots=True)
class JobRules:
    """What all clients agree on before a job; public.

    Attributes:
        job: a name for the job, 1 to 64 letters, digits, '.', '_' or '-'. Never use one name
            for two jobs. With a sparse graph it fixes who masks with whom in every round: whoever
            may work with the server must not choose it alone.
        vector_length: words in the vectors of a sum.
        server: "malicious" (it may lie: consistency round, threshold above two thirds) or
            "curious" (it follows the protocol: no consistency round, above one half).
        allow_two_party: permit sums over two clients, which protect against the server only:
            either client subtracts its own vector and has the other's.
        minimum_cohort: the smallest cohort a client takes part in. A server that may choose small
            cohorts from a large roster learns sums over few; set it near the number expected.
        max_rounds: the highest round number a client takes part in.
            With a sparse graph it is also how many a server may try: keep it near what is needed.
        max_gap: how many rounds may be left out between two that a client is asked for. What is
            pseudorandom about a round follows from its number, so a server that skips chooses; one
            that announces rounds and abandons them still comes to any number.
        plan: the cohort of each round; None leaves it to the server.
        modulus_bits: sums of `vector_length` words are modulo 2^modulus_bits, and a word of the
            masked vector takes that many bits on the wire; sums of other lengths have all 32.
            `fixed_point.bits_needed` says how many a sum needs.
        sparse: permit the k-regular neighbour graph; None means complete. Against a lying server
            it needs a `plan`, or rounds of the whole roster.
        other_lengths: what the vectors of a sum may have instead, where a job has sums of several
            kinds. The server announces which; all clients of a sum see the same length or none, but
            whether it is that of the question is for whoever answers it to check.

    Raises:
        InvalidRules: for a value outside these ranges.
    """

    job: str
    vector_length: int
    server: Literal["malicious", "curious"] = "malicious"
    allow_two_party: bool = False
    minimum_cohort: int = 2
    max_rounds: int = 100_000
    max_gap: int = 1_000
    plan: CohortPlan | None = None
    modulus_bits: int = 32
    sparse: SparseGraph | None = None
    other_lengths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.job):
            raise InvalidRules(f"job name {self.job!r} is not allowed")
        for length in self.vector_lengths:
            if not 1 <= length <= MAX_VECTOR_LENGTH:
                raise InvalidRules(f"vector_length must be 1 to {MAX_VECTOR_LENGTH}, got {length}")
        if self.server not in ("malicious", "curious"):
            raise InvalidRules(f"server must be 'malicious' or 'curious', got {self.server!r}")
        if self.minimum_cohort < 2:
            raise InvalidRules(f"minimum_cohort must be at least 2, got {self.minimum_cohort}")
        if not 1 <= self.max_rounds < 2**32:
            raise InvalidRules(f"max_rounds must be 1 to 2^32 - 1, got {self.max_rounds}")
        if not MODULUS_BITS[0] <= self.modulus_bits <= MODULUS_BITS[1]:
            raise InvalidRules(f"modulus_bits must be 8 to 32, got {self.modulus_bits}")
        if self.max_gap < 0:
            raise InvalidRules(f"max_gap must not be negative, got {self.max_gap}")

    def check_gap(self, newest: int, round_number: int) -> None:
        """Return only if a client whose newest round is `newest` may go on with `round_number`.

        Raises:
            RoundsSkipped: if too many lie between.
        """
        gap = round_number - newest - 1
        if gap > self.max_gap:
            raise RoundsSkipped(
                f"round {round_number} after round {newest} leaves out {gap}, where max_gap allows"
                f" {self.max_gap}",
                hint="after a long absence, join with first_round set to the job's present round",
            )

    @property
    def vector_lengths(self) -> tuple[int, ...]:
        """Every length that the vectors of a sum may have."""
        return (self.vector_length, *self.other_lengths)

    @property
    def consistency(self) -> bool:
        """Whether survivors sign whom they believe to be a survivor before unmasking."""
        return self.server == "malicious"

    def threshold(self, cohort_size: int) -> int:
        """The fewest survivors of a round, which is also the share threshold if complete.

        floor(2n/3) + 1 or floor(n/2) + 1, and never below 3 unless two-party sums are allowed.

        Raises:
            InvalidRules: for a cohort too small to hide anybody.
        """
        if cohort_size < 2:
            raise InvalidRules(
                f"a sum over {cohort_size} client hides nothing", hint="ask at least three clients"
            )
        if cohort_size == 2 and not self.allow_two_party:
            raise InvalidRules(
                "a sum over two clients shows each of them the other's vector",
                hint="set allow_two_party if protection against the server alone is enough",
            )
        parts = (2, 3) if self.server == "malicious" else (1, 2)
        return max(parts[0] * cohort_size // parts[1] + 1, 2 if self.allow_two_party else 3)

    @property
    def orders(self) -> int:
        """Rounds that differ in what the server says of them: every number that a client takes part
        in, with the plan's cohort or the whole roster, and each length."""
        cohorts = 2 if self.plan else 1
        return self.max_rounds * cohorts * len(self.vector_lengths)

    def neighbour_plan(self, cohort_size: int) -> NeighbourPlan | None:
        """Degree and threshold of the sparse graph; None for the complete one."""
        if self.sparse is None:
            return None
        return plan(cohort_size, self.sparse, malicious_server=self.consistency, orders=self.orders)

    def for_round(
        self,
        roster: Roster,
        round_number: int,
        cohort: Sequence[str],
        vector_length: int | None = None,
    ) -> "RoundRules":
        """Everything that follows for one round with this cohort, in any order.

        Args:
            vector_length: one of `vector_lengths`; None is the first.

        Raises:
            WrongRound: unless 1 <= round_number <= max_rounds.
            RulesMismatch: for another length than the job has.
            UnknownSender: for a client outside the roster.
            DuplicateSender: for a client named twice.
            InvalidRules: for a cohort too small to hide anybody.
            ThresholdTooLow: for one below minimum_cohort.
            UnplannedCohort: for one that is neither the plan's nor the whole roster.
        """
        if not 1 <= round_number <= self.max_rounds:
            raise WrongRound(f"round {round_number} is not within 1 and {self.max_rounds}")
        length = self.vector_length if vector_length is None else vector_length
        return self._for_round(roster, round_number, tuple(sorted(cohort)), length)

    # The same rules and roster give the same round, to everybody who asks in this process: the
    # work grows with the cohort, and each of its clients does it twice.
    @lru_cache(maxsize=8)  # noqa: B019  # holds what is public of a few jobs
    def _for_round(
        self, roster: Roster, round_number: int, members: tuple[str, ...], length: int
    ) -> "RoundRules":
        if length not in self.vector_lengths:
            raise RulesMismatch(
                f"round {round_number} is of vectors of {length} words, this job's have"
                f" {' or '.join(map(str, self.vector_lengths))}",
                hint="compare the settings of all hospitals and the server",
            )
        bits = self.modulus_bits if length == self.vector_length else MODULUS_BITS[1]
        for name in members:
            if name not in roster.keys:
                raise UnknownSender(f"{name!r} is asked to take part but is not in the roster")
        if len(set(members)) != len(members):
            raise DuplicateSender("a client stands twice in the cohort")
        minimum_survivors = self.threshold(len(members))
        if len(members) < self.minimum_cohort:
            raise ThresholdTooLow(
                f"a cohort of {len(members)}, where the rules demand {self.minimum_cohort}"
            )
        if self.plan and members not in (
            self.plan.cohort(roster.names, round_number),
            roster.names,
        ):
            raise UnplannedCohort(
                f"the cohort of round {round_number} is not the one that the plan gives",
                hint="compare the plan's seed and size of all clients and the server",
            )
        degree, share_threshold = len(members) - 1, minimum_survivors
        sparse = self.neighbour_plan(len(members))
        if sparse:
            if self.consistency and self.plan is None and members != roster.names:
                raise InvalidRules(
                    "a sparse graph over a cohort that the server chooses",
                    hint="set plan, ask the whole roster, or use the complete graph",
                )
            degree, share_threshold = sparse.degree, sparse.threshold
        return RoundRules(
            job=self.job,
            round_number=round_number,
            cohort=members,
            vector_length=length,
            modulus_bits=bits,
            degree=degree,
            share_threshold=share_threshold,
            minimum_survivors=minimum_survivors,
            consistency=self.consistency,
            digest=digest(
                "round",
                self.job.encode(),
                bytes.fromhex(roster.fingerprint),
                *map(number, (round_number, length, bits)),
                *map(number, (degree, share_threshold, minimum_survivors, self.consistency)),
                *(name.encode() for name in members),
            ),
        )


@dataclass(frozen=True, slots=True)
class RoundRules:
    """One round; public, the same for all. Clients are numbered by their place in `cohort`.

    Attributes:
        cohort: names in sorted order; a client's place is its index here.
        degree: neighbours of each client, len(cohort) - 1 if the graph is complete.
        share_threshold: shares that recover a secret, out of degree + 1.
        minimum_survivors: fewest vectors in a sum.
        digest: 32 bytes over all of the above, the job and the roster.
    """

    job: str
    round_number: int
    cohort: tuple[str, ...]
    vector_length: int
    modulus_bits: int
    degree: int
    share_threshold: int
    minimum_survivors: int
    consistency: bool
    digest: bytes = field(repr=False)

    def place(self, name: str) -> int:
        """Where a client sits.

        Raises:
            UnknownSender: if it is not in the cohort.
        """
        place = bisect_left(self.cohort, name)
        if self.cohort[place : place + 1] != (name,):
            raise UnknownSender(f"{name} is not in the cohort of round {self.round_number}")
        return place

    def party(self, place: int) -> tuple[bytes, bytes]:
        """Who sits at a place, as parts of a transcript: the place and the name."""
        return number(place), self.cohort[place].encode()

    @property
    def complete(self) -> bool:
        """Whether every client is every other's neighbour."""
        return self.degree == len(self.cohort) - 1

    def neighbours(self, place: int) -> frozenset[int]:
        """The places that `place` masks with and shares its secrets among."""
        if self.complete:
            return frozenset(range(len(self.cohort))) - {place}
        order = circle(self.digest, len(self.cohort))
        return frozenset(neighbours(order, place, self.degree))
