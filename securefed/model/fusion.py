"""Cross-attention: each place of the CT looks for its counterpart in the MRI.

softmax(Q K^T / sqrt(d) + locality) V with Q from CT tokens, K and V from MRI tokens of the same
slice (Vaswani et al. 2017, section 3.2.1), written with Linear layers so that every parameter is an
ordinary one. `locality` is -softplus(a) times the squared distance between two places, in units of
places: scans of one patient are registered to about a pixel, so the right counterpart is near.

A missing modality never enters: without MRI the attended value is a learned placeholder (the
attention has nothing to attend to), without CT the features and the query come from one.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
        axis = torch.arange(side, dtype=torch.float32)
        place = torch.cartesian_prod(axis, axis)  # (places, 2)
        self.register_buffer("distance2", torch.cdist(place, place).square(), persistent=False)
        self.distance2: Tensor

    def forward(self, ct: Tensor, mri: Tensor, has_ct: Tensor, has_mri: Tensor) -> Tensor:
        """Fuse the tokens of each slice.

        Args:
            ct, mri: (..., slices, places, width).
            has_ct, has_mri: (..., slices) bool; where False the tokens are not looked at.

        Returns:
            (..., slices, places, width + attention_width).
        """
        ct = torch.where(has_ct[..., None, None], ct, self.missing_ct)
        q, k, v = self.query(ct), self.key(mri), self.value(mri)  # (..., places, attention_width)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5  # (..., places, places)
        weights = torch.softmax(scores - F.softplus(self.locality) * self.distance2, dim=-1)
        attended = torch.where(has_mri[..., None, None], weights @ v, self.missing_mri)
        return torch.cat([ct, attended], dim=-1)
