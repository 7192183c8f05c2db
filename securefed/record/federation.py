"""federation.json: how a run on machines of its own went, as its server knows it.

No number of any hospital's patients is in it, and no fingerprint of any data.
"""

from typing import ClassVar

from securefed.privacy.accounting import Noise
from securefed.record.json_file import SCHEMA, JsonFile, Schema
from securefed.record.summary import Scores


class FederationSummary(JsonFile, Scores, frozen=True, kw_only=True):
    """The content of federation.json: written when the run is finished.

    Attributes:
        agreement: digest of agreement.yaml.
        memberships: jobs that it took; one more for each time that somebody rejoined.
        rounds, rounds_aborted: trained, and those of them that no sum came of.
        survivors_by_round: how many hospitals each round's sum is of.
        simulation: what hospitals say that their patients are; None for people's own scans.
        noise, epsilon, delta, privacy_unit, accountant: what every hospital holds this run to,
            each in a ledger of its own; epsilon is None without DP and with seeded noise.
    """

    NAME: ClassVar[str] = "federation.json"
    schema: Schema = SCHEMA

    name: str
    agreement: str
    configuration: str
    hospitals: tuple[str, ...]
    memberships: int
    rounds: int
    rounds_aborted: int
    survivors_by_round: tuple[int, ...]
    simulation: str | None
    noise: Noise
    epsilon: float | None
    delta: float | None
    privacy_unit: str | None
    accountant: str | None
