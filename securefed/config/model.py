"""What is asked of the scans, and the network that answers."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from securefed.config.section import Modality, Section

File = Annotated[Path, Field(strict=False)]
Encoder = Literal[
    "compact",
    "resnet18",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "squeezenet1_1",
    "shufflenet_v2_x1_0",
    "compact3d",
    "r3d_18",
]
ClassName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
SHIPPED_FOR = ("compact", "compact3d")  # encoders that the shipped weights are of, or fit
VOLUME_ENCODERS = ("compact3d", "r3d_18")  # what they make of a slice, its neighbours tell too


class TaskSettings(Section):
    """What is asked of the scans."""

    example: Literal["patient", "study", "slice"] = Field(
        "patient",
        description="What a label is of: the patient as a whole, each study (the manifest's column "
        "study), or each slice. A patient's examples train as one record: the mean of their "
        "losses, clipped once.",
    )
    classes: tuple[ClassName, ...] = Field(
        (),
        max_length=16,
        strict=False,
        description="What is told apart, three classes or more: labels are these names, or 0, 1, "
        "... in their order; what is healthy first. Empty: two labels, 0 and 1 (tumour).",
    )


class ModelSettings(Section):
    """The network."""

    query: Modality = Field(
        "ct",
        description="The modality whose places are classified: NAME of the manifest's NAME_path.",
    )
    context: tuple[Modality, ...] = Field(
        ("mri",),
        min_length=1,
        max_length=5,
        strict=False,
        description="The modalities that the query attends to, one to five; what it finds in each "
        "is joined with its own features.",
    )
    encoder: Encoder = Field(
        "compact",
        description="Encoder of each modality; compact3d and r3d_18 see volumes, all others each "
        "slice alone.",
    )
    image_size: int = Field(
        64, ge=32, le=512, description="Slices are resized to this edge, pixels."
    )
    harmonise: bool = Field(
        False,
        description="Bring each scan but CT to a public standard scale of grey values, by its own "
        "deciles; no statistic of other patients.",
    )
    width: int = Field(8, ge=4, le=512, description="Features per place of an encoder's map.")
    attention_width: int = Field(8, ge=2, le=512, description="Width of query, key and value.")
    head_width: int = Field(8, ge=2, le=512, description="Hidden units of the classifier.")
    initialisation: Literal["public", "random"] = Field(
        "public",
        description="Encoders start from public weights, or at random.",
    )
    weights: tuple[File, ...] = Field(
        (),
        max_length=6,
        strict=False,
        description="Files of those weights (safetensors), from securefed pretrain or "
        "convert-weights; none: the shipped ones. None of the patients may have been used for "
        "them.",
    )
    train_encoders: bool = Field(
        False, description="Train the encoders too, not only fusion and classifier."
    )

    @property
    def modalities(self) -> tuple[str, ...]:
        """All of them, the query first."""
        return (self.query, *self.context)
