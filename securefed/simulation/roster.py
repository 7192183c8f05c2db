"""The roster of a simulation: a signature is looked at once in a process, whoever is shown it.

Each of a thousand hospitals checks two signatures of some ninety others in every round, 20 ms of
it, and in one process these are the same signatures again and again. Whether a pinned key made one
is a function of public values and has one answer, so the first that asks finds it for all. No
secret is looked at, no message is another, and nothing is accepted that would not be: only that a
signature is good is remembered, for the very key, message and signature, and one that is not is
looked at and refused every time.

A hospital on a machine of its own has the roster of `protocols.identity`: what it pays for a round
is what benchmarks/secure_aggregation_scale.py measures, not what a simulation does.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache

from protocols.identity import Roster
from securefed.wire.description import JobDescription

_A_ROUND = 2  # signatures of each hospital: over its keys, and over who survived


class SharedRoster(Roster):
    """As `Roster`, with the same answers."""

    _verified: Callable[[str, bytes, bytes], None]

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        super().__init__(keys)
        # Two rounds of a pipeline are under way at a time.
        most = 2 * _A_ROUND * len(keys)
        object.__setattr__(self, "_verified", lru_cache(maxsize=most)(super().verify))

    def verify(self, name: str, message: bytes, signature: bytes) -> None:
        self._verified(name, message, signature)


def in_one_process(job: JobDescription) -> JobDescription:
    """The job among parties that are all here; unchanged without masks."""
    return replace(job, roster=SharedRoster(job.roster.keys)) if job.roster else job
