"""How hospitals work together: rounds, who takes part, and what hides a hospital's update."""

from typing import Annotated, Literal

from pydantic import Field

from securefed.config.section import MOST_HOSPITALS, OneOf, Section
from securefed.model.strategies import STRATEGIES

#: With everybody masking with everybody the server holds 1.3 kB for each pair of them.
MOST_IN_COMPLETE_GRAPH = 1_000


class FederationSettings(Section):
    """Rounds, participation and aggregation."""

    clients: int = Field(4, ge=2, le=MOST_HOSPITALS, description="Number of hospitals.")
    rounds: int = Field(80, ge=1, le=100_000, description="Rounds of training.")
    shared: Literal["classifier", "fusion+classifier", "all"] = Field(
        "fusion+classifier",
        description="Parameters that are aggregated; the rest stays in the hospital.",
    )
    sent_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the shared parameters that are trained and sent in a round, drawn in "
        "blocks for each round, the same for all hospitals (rand-k); 1 sends all.",
    )
    strategy: Annotated[str, OneOf(STRATEGIES)] = Field(
        "fedadam", description="How the server uses the mean update."
    )
    proximal: float = Field(0.01, ge=0, le=100, description="FedProx mu.")
    server_learning_rate: float = Field(0.03, gt=0, le=10, description="FedAdam step size.")
    clients_per_round: int | None = Field(
        None,
        ge=2,
        le=MOST_HOSPITALS,
        description="Hospitals asked per round, in even turns; not set: all.",
    )
    minimum_clients: int = Field(
        2, ge=2, le=MOST_HOSPITALS, description="Fewer survivors abort the round."
    )
    timeout_s: float = Field(
        600.0, gt=0, le=86_400, description="A slower client is dropped, seconds."
    )
    evaluate_every: int = Field(
        5,
        ge=1,
        le=100_000,
        description="Rounds between lines on the terminal, and between evaluations where scores "
        "are exact (privacy.evaluation_epsilon).",
    )
    patience: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Evaluations in a row without a better AUC after which training ends; the best "
        "of all that were scored is the final model. Needs exact scores. Not set: all rounds are "
        "trained, and the last parameters are final.",
    )


class SecureAggregationSettings(Section):
    """Masking of updates by pairwise keys."""

    enabled: bool = Field(True, description="The server sees only the sum of updates.")
    value_range: float = Field(
        4.0, gt=0, le=1e6, description="Largest absolute value of one weighted update entry."
    )
    max_patients: int = Field(
        10_000, ge=1, le=1_000_000, description="Largest number of training patients of a hospital."
    )
    rounding_error: float = Field(
        1e-5,
        gt=0,
        le=1,
        description="Largest error that rounding may add to an entry of the mean update, where "
        "hospitals have training.batch_size patients on average (or one over "
        "training.sample_rate); with more of them it is smaller. Masked words have as few bits as "
        "that takes, 32 at most.",
    )
    allow_two_party: bool = Field(
        False, description="Allow two hospitals, where each can subtract its own update."
    )
    graph: Literal["complete", "sparse"] = Field(
        "complete",
        description="Who masks with whom: everybody with everybody, or from 64 hospitals on each "
        "with a few. Sparse needs every hospital in every round.",
    )
