"""Training at each hospital."""

from typing import Any, Literal

from pydantic import Field, model_validator

from securefed.config.section import Section
from securefed.errors import ConfigurationError
from securefed.privacy.sampling import Batch, Rate, Sampling


class TrainingSettings(Section):
    """Local training of each hospital."""

    optimizer: Literal["adam", "sgd"] = Field("sgd", description="Local optimizer.")
    learning_rate: float = Field(0.3, gt=0, le=100, description="Local learning rate.")
    local_steps: int = Field(1, ge=1, le=100_000, description="Optimizer steps per round.")
    batch_size: int | None = Field(
        100,
        ge=1,
        le=1_000_000,
        description="Expected number of patients per step. With privacy.dp it is what every noised "
        "sum is divided by, and the least that a hospital declares. Not set where "
        "training.sample_rate is.",
    )
    sample_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Instead of training.batch_size: chance of each patient to enter a step, the "
        "same in every hospital. A noised sum is divided by that share of the declared number, "
        "which is no smaller than one over it.",
    )
    max_slices: int = Field(
        12, ge=1, le=512, description="Slices per example (task.example); more are subsampled."
    )
    modality_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Chance of an example (task.example) of several modalities to be shown to a "
        "step with one of them only, so that the model learns to do with what a hospital has.",
    )
    augment: bool = Field(
        False,
        description="Show each drawn example mirrored or not, turned, scaled and moved, and in "
        "other grey values, as another scanner would have given it. Encoders have to train.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_quantity(cls, values: Any) -> Any:
        # A rate alone is enough: the default batch is nobody's wish.
        if isinstance(values, dict) and values.get("sample_rate") is not None:
            return {"batch_size": None, **values}
        return values

    @property
    def sampling(self) -> Sampling:
        """How a step draws, whichever of the two is set."""
        if self.sample_rate is not None:
            return Rate(self.sample_rate)
        if self.batch_size is not None:
            return Batch(self.batch_size)
        raise ConfigurationError(
            "training.batch_size: nothing says how many patients a step draws",
            hint="set training.batch_size or training.sample_rate",
        )
