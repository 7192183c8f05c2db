"""Cross-attention: each place of one modality looks for its counterpart in each of the others.

softmax(Q K^T / sqrt(d) + locality) V with Q from the query's tokens, K and V from a context's
tokens of the same slice (Vaswani et al. 2017, section 3.2.1), written with Linear layers so that
every parameter is an ordinary one. `locality` is -softplus(a) times the squared distance between
two places, in units of places: scans of one patient are registered to about a pixel, so the right
counterpart is near. Q is one for all contexts; K, V and locality are each one's own.

Since -|x - y|^2 = 2 x.y - |y|^2 - |x|^2, and a softmax over y takes no notice of the last term, the
locality is three more features of query and key: 2 x and -1 against y and |y|^2. One product then
makes the scores, and nothing else is as large as they are.

A missing modality never enters: without a context its attended value is a learned placeholder (the
attention has nothing to attend to), without the query its features and the query come from one.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from securefed.model.products import inner, mixed


class CrossAttentionFusion(nn.Module):
    """Joins a query's features with what it attends to in each context.

    Parameters of a modality have its name: missing_NAME, and locality_NAME, key_NAME, value_NAME of
    a context.

    Args:
        query, context: names of the modalities, in the order of the inputs.
        width: features per token of every modality.
        attention_width: width of Q, K and V.
        side: places along one edge of the feature map.
    """

    def __init__(
        self, query: str, context: tuple[str, ...], width: int, attention_width: int, side: int
    ) -> None:
        super().__init__()
        self._context = context
        self.query = nn.Linear(width, attention_width, bias=False)
        for name in context:
            self.register_parameter(f"locality_{name}", nn.Parameter(torch.tensor(1.0)))
        widths = (width, *(attention_width for _ in context))
        for name, entries in zip((query, *context), widths, strict=True):
            self.register_parameter(f"missing_{name}", nn.Parameter(torch.zeros(entries)))
        projections = [self.query]
        for name in context:
            key, value = (nn.Linear(width, attention_width, bias=False) for _ in range(2))
            # The attended value starts as the context's own features of about the same place, for
            # every seed: a random projection can lose them, and few noisy steps do not find them
            # again.
            nn.init.eye_(value.weight)
            self.add_module(f"key_{name}", key)
            self.add_module(f"value_{name}", value)
            projections.append(key)
        for projection in projections:
            nn.init.normal_(projection.weight, std=0.1 / width**0.5)
        self._missing_query = f"missing_{query}"
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

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Fuse the tokens of each slice.

        Args:
            tokens: (..., modalities, slices, places, width), the query first.
            present: (..., modalities, slices) bool; where False the tokens are not looked at.

        Returns:
            (..., slices, places, width + contexts * attention_width).
        """
        own, query = self._asked(tokens, present)
        attended = [
            self._attended(name, query, other, has)
            for name, other, has in zip(
                self._context, tokens.unbind(-4)[1:], present.unbind(-2)[1:], strict=True
            )
        ]
        return torch.cat([own, *attended], dim=-1)

    def attention(self, tokens: Tensor, present: Tensor) -> dict[str, Tensor]:
        """Where each place of the query looks in each context, by name.

        Returns:
            (..., slices, places, places): of each place of the query, how its attention is shared
            out over the context's places; where the context is missing this has no meaning.
        """
        _, query = self._asked(tokens, present)
        others = zip(self._context, tokens.unbind(-4)[1:], strict=True)
        return {name: self._weights(name, query, other) for name, other in others}

    def _asked(self, tokens: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """The query's own features, and what it asks for (..., attention_width, places)."""
        there = present.select(-2, 0)[..., None, None]
        own = torch.where(there, tokens.select(-4, 0), getattr(self, self._missing_query))
        return own, self.query(own).transpose(-1, -2)

    def _attended(self, name: str, q: Tensor, tokens: Tensor, has: Tensor) -> Tensor:
        """What the query (..., attention_width, places) finds in a context, places first."""
        v = getattr(self, f"value_{name}")(tokens).transpose(-1, -2)
        attended = mixed(v, self._weights(name, q, tokens)).transpose(-1, -2)
        return torch.where(has[..., None, None], attended, getattr(self, f"missing_{name}"))

    def _weights(self, name: str, q: Tensor, tokens: Tensor) -> Tensor:
        """(..., places, places), each row a softmax over the context's places."""
        k = getattr(self, f"key_{name}")(tokens).transpose(-1, -2)
        strength = F.softplus(getattr(self, f"locality_{name}"))
        here = (strength * self.here).expand(*q.shape[:-2], -1, -1)
        query = torch.cat([q / q.shape[-2] ** 0.5, here], dim=-2)
        key = torch.cat([k, self.there.expand(*k.shape[:-2], -1, -1)], dim=-2)
        return torch.softmax(inner(query, key), dim=-1)
