"""Cross-attention: each place of the CT looks for its counterpart in the MRI.

softmax(Q K^T / sqrt(d) + locality) V with Q from CT tokens, K and V from MRI tokens of the same
slice (Vaswani et al. 2017, section 3.2.1), written with Linear layers so that every parameter is an
ordinary one. `locality` is -softplus(a) times the squared distance between two places, in units of
places: scans of one patient are registered to about a pixel, so the right counterpart is near.

Since -|x - y|^2 = 2 x.y - |y|^2 - |x|^2, and a softmax over y takes no notice of the last term, the
locality is three more features of query and key: 2 x and -1 against y and |y|^2. One product then
makes the scores, and nothing else is as large as they are.

A missing modality never enters: without MRI the attended value is a learned placeholder (the
attention has nothing to attend to), without CT the features and the query come from one.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from securefed.model.products import inner, mixed


class CrossAttentionFusion(nn.Module):
    """Joins CT features with the MRI they attend to.

    Args:
        width: features per token of either modality.
        attention_width: width of Q, K and V.
        side: places along one edge of the feature map.
    """

    def __init__(self, width: int, attention_width: int, side: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, attention_width, bias=False)
        self.key = nn.Linear(width, attention_width, bias=False)
        self.value = nn.Linear(width, attention_width, bias=False)
        # The attended value starts as the MRI's own features of about the same place, for every
        # seed: a random projection can lose them, and few noisy steps do not find them again.
        nn.init.eye_(self.value.weight)
        for projection in (self.query, self.key):
            nn.init.normal_(projection.weight, std=0.1 / width**0.5)
        self.locality = nn.Parameter(torch.tensor(1.0))
        self.missing_ct = nn.Parameter(torch.zeros(width))
        self.missing_mri = nn.Parameter(torch.zeros(attention_width))
        # Centred: the smaller the coordinates, the less of a distance is lost to rounding.
        axis = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
        place = torch.cartesian_prod(axis, axis).T  # (2, places)
        square = place.square().sum(0, keepdim=True)
        self.register_buffer(
            "here", torch.cat([2 * place, -torch.ones_like(square)]), persistent=False
        )
        self.register_buffer("there", torch.cat([place, square]), persistent=False)
        self.here: Tensor  # (3, places)
        self.there: Tensor  # (3, places)

    def forward(self, ct: Tensor, mri: Tensor, has_ct: Tensor, has_mri: Tensor) -> Tensor:
        """Fuse the tokens of each slice.

        Args:
            ct, mri: (..., slices, places, width).
            has_ct, has_mri: (..., slices) bool; where False the tokens are not looked at.

        Returns:
            (..., slices, places, width + attention_width).
        """
        ct = torch.where(has_ct[..., None, None], ct, self.missing_ct)
        q, k, v = (
            layer(tokens).transpose(-1, -2)  # (..., attention_width, places)
            for layer, tokens in ((self.query, ct), (self.key, mri), (self.value, mri))
        )
        here = (F.softplus(self.locality) * self.here).expand(*q.shape[:-2], -1, -1)
        query = torch.cat([q / q.shape[-2] ** 0.5, here], dim=-2)
        key = torch.cat([k, self.there.expand(*k.shape[:-2], -1, -1)], dim=-2)
        weights = torch.softmax(inner(query, key), dim=-1)  # (..., places, places)
        attended = mixed(v, weights).transpose(-1, -2)  # (..., places, attention_width)
        attended = torch.where(has_mri[..., None, None], attended, self.missing_mri)
        return torch.cat([ct, attended], dim=-1)
