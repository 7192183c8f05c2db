"""Training at each hospital."""

from typing import Literal

from pydantic import Field

from securefed.config.section import Section


class TrainingSettings(Section):
    """Local training of each hospital."""

    optimizer: Literal["adam", "sgd"] = Field("sgd", description="Local optimizer.")
    learning_rate: float = Field(0.3, gt=0, le=100, description="Local learning rate.")
    local_steps: int = Field(1, ge=1, le=100_000, description="Optimizer steps per round.")
    batch_size: int = Field(
        100,
        ge=1,
        le=1_000_000,
        description="Expected number of patients per step. With privacy.dp it is what every noised "
        "sum is divided by, and the least that a hospital declares.",
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
