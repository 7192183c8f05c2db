"""Products of small matrices in the layout that is fast: features first, places last.

Attention multiplies matrices of many places and few features. A product whose *last* axis is
features (eleven of them) takes three to five times as long as one whose last axis is places, and
the derivatives that torch knows have features last. So the two products have derivatives of their
own, and each is made of the two products again: they can be differentiated as often as one likes,
and inside torch.func.
"""

from typing import Any, cast

import torch
from torch import Tensor


class _OverPatients(torch.autograd.Function):
    """What torch.func.vmap maps over is one more axis in front: a product has any number of them.

    torch can find such a rule itself (`generate_vmap_rule`); that takes it three times as long as
    the products of a small head.
    """

    @classmethod
    def vmap(cls, info: Any, in_dims: Any, *factors: Tensor) -> tuple[Tensor, int]:
        each = zip(factors, in_dims, strict=True)
        first = [
            t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)
            for t, dim in each
        ]
        return cast(Tensor, cls.apply(*first)), 0  # type: ignore[no-untyped-call]


class _Inner(_OverPatients):
    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        return a.contiguous().transpose(-1, -2) @ b.contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        return mixed(b, grad), mixed(a, grad.transpose(-1, -2))


class _Mixed(_OverPatients):
    @staticmethod
    def forward(v: Tensor, w: Tensor) -> Tensor:
        return v.contiguous() @ w.transpose(-1, -2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        v, w = ctx.saved_tensors
        return mixed(grad, w.transpose(-1, -2)), inner(grad, v)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of places: (..., f, p), (..., f, q) -> (..., p, q)."""
    return cast(Tensor, _Inner.apply(a, b))  # type: ignore[no-untyped-call]


def mixed(v: Tensor, w: Tensor) -> Tensor:
    """Features mixed by weights: (..., f, q), (..., p, q) -> (..., f, p)."""
    return cast(Tensor, _Mixed.apply(v, w))  # type: ignore[no-untyped-call]
