"""The whole network: one patient's slices in, one logit out.

    CT slices  -> encoder_ct  -> tokens --Q--.
                                             cross-attention -> joined -> classifier -> place logits
    MRI slices -> encoder_mri -> tokens --K,V'                              pooled to one logit

Each place of each slice gets a logit from the feed-forward head; a patient's logit is their
log-mean-exp, a smooth maximum (multiple-instance pooling, Pinheiro & Collobert 2015), because a
tumour shows in some places of some slices. The sigmoid of the logit is the predicted probability.

A patient is one record: the network pools over slices, so that the gradient of a patient's loss
is one vector, which DP-SGD clips once.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from securefed.model.encoders import ENCODERS, encode
from securefed.model.fusion import CrossAttentionFusion


@dataclass(frozen=True)
class NetworkShape:
    """What determines the parameters' shapes.

    Attributes:
        encoder: a key of ENCODERS.
        image_size: edge of a slice in pixels.
        width: features per place of each encoder.
        attention_width: width of query, key and value.
        head_width: hidden units of the classifier.
    """

    encoder: str = "compact"
    image_size: int = 64
    width: int = 8
    attention_width: int = 8
    head_width: int = 8


class Classifier(nn.Module):
    """Feed-forward head: joined features of each place to one logit per patient."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.output = nn.Linear(hidden, 1)

    def forward(self, joined: Tensor, has_slice: Tensor) -> Tensor:
        """(..., slices, places, width), (..., slices) bool -> (...) logits."""
        place = self.output(torch.relu(self.hidden(joined))).squeeze(-1)  # (..., slices, places)
        place = place.masked_fill(~has_slice[..., None], -math.inf)
        count = has_slice.sum(-1) * place.shape[-1]
        return torch.logsumexp(place.flatten(-2), dim=-1) - torch.log(count)


class DualEncoderNetwork(nn.Module):
    """Two encoders, cross-attention fusion, classifier."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder_ct = ENCODERS[shape.encoder](shape.width)
        self.encoder_mri = ENCODERS[shape.encoder](shape.width)
        with torch.no_grad():
            probe = self.encoder_ct(torch.zeros(1, 1, shape.image_size, shape.image_size))
        self.fusion = CrossAttentionFusion(shape.width, shape.attention_width, probe.shape[-1])
        self.classifier = Classifier(shape.width + shape.attention_width, shape.head_width)

    def encode(self, ct: Tensor, mri: Tensor) -> tuple[Tensor, Tensor]:
        """(..., slices, size, size) in [0, 1] twice -> (..., slices, places, width) twice."""
        return encode(self.encoder_ct, ct), encode(self.encoder_mri, mri)

    def forward(
        self, ct: Tensor, mri: Tensor, has_ct: Tensor, has_mri: Tensor, *, encoded: bool = False
    ) -> Tensor:
        """Logits (...) of patients.

        Args:
            ct, mri: (..., slices, size, size) uint8 images, or with `encoded` the tokens that
                `encode` made of them.
            has_ct, has_mri: (..., slices) bool; a slice with neither is padding and has no say.
            encoded: inputs are tokens: frozen encoders need not run again at every step.
        """
        if not encoded:
            ct, mri = self.encode(ct.float() / 255, mri.float() / 255)
        joined = self.fusion(ct, mri, has_ct, has_mri)
        logits: Tensor = self.classifier(joined, has_ct | has_mri)
        return logits
