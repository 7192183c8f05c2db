"""The whole network: one patient's slices in, one logit out, or one for each of several classes.

    query's slices   -> its encoder -> tokens --Q--.
                                              cross-attention -> joined -> classifier -> place
    context's slices -> its encoder -> tokens --K,V'                       logits, pooled to one

One modality asks, and attends to each of the others: by default CT to MRI.
Each place of each slice gets a logit from the feed-forward head; a patient's logit is their
log-mean-exp, a smooth maximum (multiple-instance pooling, Pinheiro & Collobert 2015), because a
tumour shows in some places of some slices. The sigmoid of the logit is the predicted probability.
Of several classes each has its own logit, pooled alike, and their softmax is what is predicted:
where one place speaks for a class, it outdoes what all other places say for health.

A patient is one record: the network pools over slices, so that the gradient of a patient's loss
is one vector, which DP-SGD clips once.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from securefed.model.encoders import ENCODERS, encode
from securefed.model.fusion import CrossAttentionFusion
from securefed.model.volumes import VolumeEncoder

ENCODER = "encoder_"  # how names of encoders, and of their parameters, begin


@dataclass(frozen=True)
class NetworkShape:
    """What determines the parameters' shapes.

    Attributes:
        encoder: a key of ENCODERS.
        image_size: edge of a slice in pixels.
        width: features per place of each encoder.
        attention_width: width of query, key and value.
        head_width: hidden units of the classifier.
        query: the modality whose places are classified.
        context: the modalities that it attends to, at least one.
        classes: names of what is told apart, a logit each; none: one logit, of a tumour.
    """

    encoder: str = "compact"
    image_size: int = 64
    width: int = 8
    attention_width: int = 8
    head_width: int = 8
    query: str = "ct"
    context: tuple[str, ...] = ("mri",)
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: object, task: object) -> "NetworkShape":
        """What a run's settings come to, which have these names among others."""
        names = [each.name for each in fields(cls)]
        return cls(**{name: getattr(task if name == "classes" else model, name) for name in names})

    @property
    def answer(self) -> tuple[int, ...]:
        """Shape of the logits of one example: (), or (classes,)."""
        return (len(self.classes),) if self.classes else ()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Of the network's inputs, in their order."""
        return (self.query, *self.context)


def encoder_of(modality: str) -> str:
    """What a modality's encoder is called in the network."""
    return f"{ENCODER}{modality}"


class Classifier(nn.Module):
    """Feed-forward head: joined features of each place to one logit per patient, or per class."""

    def __init__(self, width: int, hidden: int, classes: int = 0) -> None:
        super().__init__()
        self.several = classes > 0
        self.hidden = nn.Linear(width, hidden)
        self.output = nn.Linear(hidden, classes or 1)

    def places(self, joined: Tensor) -> Tensor:
        """(..., slices, places, width) -> (..., slices, places) logits; of classes a last axis."""
        logits: Tensor = self.output(torch.relu(self.hidden(joined)))
        return logits if self.several else logits.squeeze(-1)

    def forward(self, joined: Tensor, has_slice: Tensor) -> Tensor:
        """(..., slices, places, width), (..., slices) bool -> (...) logits, or (..., classes)."""
        place = self.places(joined)
        if self.several:
            place, has_slice = place.movedim(-1, -3), has_slice.unsqueeze(-2)
        place = place.masked_fill(~has_slice[..., None], -math.inf)
        count = has_slice.sum(-1) * place.shape[-1]
        return torch.logsumexp(place.flatten(-2), dim=-1) - torch.log(count)


class FusionNetwork(nn.Module):
    """An encoder for each modality, cross-attention fusion, classifier."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        for name in shape.modalities:
            self.add_module(encoder_of(name), ENCODERS[shape.encoder](shape.width))
        with torch.no_grad():
            probe = encode(self.encoders[0], torch.zeros(1, shape.image_size, shape.image_size))
        self.fusion = CrossAttentionFusion(
            shape.query,
            shape.context,
            shape.width,
            shape.attention_width,
            math.isqrt(probe.shape[-2]),
        )
        joined = shape.width + len(shape.context) * shape.attention_width
        self.classifier = Classifier(joined, shape.head_width, len(shape.classes))

    @property
    def encoders(self) -> list[nn.Module]:
        """One a modality, in their order."""
        return [self.get_submodule(encoder_of(name)) for name in self.shape.modalities]

    @property
    def of_volumes(self) -> bool:
        """Whether what an encoder makes of a slice depends on its neighbours."""
        return isinstance(self.encoders[0], VolumeEncoder)

    def encode(self, images: Tensor, present: Tensor | None = None) -> Tensor:
        """Tokens (..., modalities, slices, places, width).

        Args:
            images: (..., modalities, slices, size, size) in [0, 1].
            present: (..., modalities, slices) bool, as `encoders.encode` has it.
        """
        there = [None] * images.shape[-4] if present is None else present.unbind(-2)
        parts = zip(self.encoders, images.unbind(-4), there, strict=True)
        return torch.stack([encode(*part) for part in parts], dim=-4)

    def forward(self, images: Tensor, present: Tensor, *, encoded: bool = False) -> Tensor:
        """Logits (...) of patients, or with several classes (..., classes).

        Args:
            images: (..., modalities, slices, size, size) uint8, or with `encoded` the tokens that
                `encode` made of them; modalities as in the shape.
            present: (..., modalities, slices) bool; a slice without any is padding and has no say.
            encoded: inputs are tokens: frozen encoders need not run again at every step.
        """
        tokens = images if encoded else self.encode(images.float() / 255, present)
        logits: Tensor = self.classifier(self.fusion(tokens, present), present.any(dim=-2))
        return logits
