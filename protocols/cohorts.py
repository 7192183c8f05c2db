"""Which hospitals a round asks, from a public seed: a plan that clients check.

A server that may pick cohorts can pick two that differ by one hospital, and subtract two sums, or
one with hospitals that work for it. Under a plan it has no choice: everybody works the cohort out
of the seed, which the hospitals agree on before the job (after the roster is fixed, and not the
server alone), and refuses any other. Everybody at once is always allowed: it leaves no choice.

It could still choose among plans by skipping rounds; `JobRules.max_gap` bounds that.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from protocols.errors import InvalidRules
from protocols.transcript import digest, number

SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class CohortPlan:
    """Cohorts of one size, a new pseudorandom one for each round; public.

    Attributes:
        seed: 32 bytes.
        size: hospitals in a round.

    Raises:
        InvalidRules: for a seed of another length, or a size below two.
    """

    seed: bytes
    size: int

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES:
            raise InvalidRules(f"a plan's seed has {SEED_BYTES} bytes, got {len(self.seed)}")
        if self.size < 2:
            raise InvalidRules(f"a plan's cohorts have at least 2 clients, got {self.size}")

    def cohort(self, names: Iterable[str], round_number: int) -> tuple[str, ...]:
        """The cohort of a round, sorted: those whose hash with the seed and the round is smallest.

        Args:
            names: the roster's; each is drawn with the same probability, whoever else is in it.
        """

        def rank(name: str) -> bytes:
            return digest("cohort", self.seed, number(round_number), name.encode())

        return tuple(sorted(sorted(names, key=rank)[: self.size]))
