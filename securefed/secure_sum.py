"""What a run's settings mean for its secure sums: the rules of the job, and what they hide.

Every client enforces the rules. What they hide, and from how many, is said before a run and on its
page, by one sentence from here.
"""

import uuid

from protocols.graph import SparseGraph
from protocols.hiding import Hiding, hiding
from protocols.parameters import JobRules
from securefed.config import Settings


def secure_rules(
    settings: Settings,
    vector_length: int,
    *others: int,
    modulus_bits: int = 32,
    job: str | None = None,
) -> JobRules:
    """The rules of a new job that every client enforces; its sums are of vectors so long.

    Args:
        job: its name, which no other job has; None makes one up.
    """
    secure = settings.secure_aggregation
    return JobRules(
        job=job or uuid.uuid4().hex,
        vector_length=vector_length,
        allow_two_party=secure.allow_two_party,
        # No client answers for a sum over fewer hospitals than every round has.
        minimum_cohort=cohort_size(settings),
        # Sums are numbered apart from the plan's steps: each has one, and may have announced one
        # more that came to nothing.
        max_rounds=2
        * (
            2 * settings.federation.rounds
            + 1
            + bool(settings.federation.patience)
            + 2 * settings.privacy.describes
        ),
        sparse=SparseGraph() if secure.graph == "sparse" else None,
        # Of two kinds of the same length the rules cannot tell which is narrow.
        modulus_bits=32 if vector_length in others else modulus_bits,
        other_lengths=tuple(others),
    )


def hiding_of(settings: Settings) -> Hiding | None:
    """What masks hide in a run with these settings, and from how many; None without them."""
    if not settings.secure_aggregation.enabled:
        return None
    lengths = range(1, 3 + settings.privacy.describes)  # as many as a run has
    rules = secure_rules(settings, *lengths)
    return hiding(rules, cohort_size(settings))


def fewest_hospitals(settings: Settings) -> int:
    """How many a round needs: what is agreed, and no fewer than open a sum of everybody asked."""
    fewest = settings.federation.minimum_clients
    if not settings.secure_aggregation.enabled:
        return fewest
    return max(fewest, secure_rules(settings, 1).threshold(cohort_size(settings)))


def cohort_size(settings: Settings) -> int:
    """Hospitals that are asked in a training round."""
    return settings.federation.clients_per_round or settings.federation.clients
