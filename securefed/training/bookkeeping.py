"""Layers that write down what a weight's gradient is made of, in place of summing it away.

Book-keeping (Bu, Wang, Zha & Karypis 2022, arXiv 2210.00038, section 2): on the way back a layer
computes the gradient of its input as always, and of its weight it hands the factors to a book
(`factors`). One pass over the network gives lengths and sum.

Linear and convolutional layers and GroupNorm are met where they are called, in torch.nn.functional:
the model is neither wrapped nor hooked. Whatever else a model computes with a parameter is not seen
here, and torch differentiates it as always; `per_patient` adds both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from securefed.training.factors import Factors, Products, Rows, Sliding, Steps, Windows


class Book(Protocol):
    """Takes the factors of a parameter; once for each use of it."""

    def write(self, parameter: str, factors: Factors) -> None: ...
    def keeps_factors(self, parameter: str, places: int) -> bool:
        """Whether factors of so many places are kept, or made into one gradient a patient."""
        ...


@dataclass(frozen=True)
class _Layer:
    """One call of a layer; its parameters' names, None for those that do not train.

    What goes through it are items, whatever axes the model has before: tokens, images, maps.
    """

    book: Book = field(repr=False)
    weight: str | None
    bias: str | None

    def _write(self, weight: Factors, of_bias: Callable[[], Tensor]) -> None:
        if self.weight is not None:
            self.book.write(self.weight, weight)
        if self.bias is not None:
            self.book.write(self.bias, Rows(of_bias()))


class _Linear(_Layer):
    axes = 1  # of an item: (in,)

    def output(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
        return (F.linear(x, weight, bias),)

    def gradient(
        self, patients: int, wanted: bool, grad: Tensor, x: Tensor, weight: Tensor
    ) -> Tensor | None:
        tokens, of_output = (t.view(patients, -1, t.shape[-1]) for t in (x, grad))  # (n, T, width)
        self._write(Products(tokens, of_output), lambda: of_output.sum(1))
        return grad @ weight if wanted else None


@dataclass(frozen=True)
class _Convolution(_Layer):
    sliding: Sliding
    axes: int  # of an item: (in, *places)

    def output(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
        way = self.sliding
        convolve = F.conv2d if self.axes == 3 else F.conv3d
        return (convolve(x, weight, bias, way.stride, way.padding, way.dilation, way.groups),)

    def gradient(
        self, patients: int, wanted: bool, grad: Tensor, x: Tensor, weight: Tensor
    ) -> Tensor | None:
        images, of_output = (t.view(patients, -1, *t.shape[1:]) for t in (x, grad))
        factors = Windows(images, of_output, weight, self.sliding)
        self._write(factors, lambda: of_output.transpose(1, 2).flatten(2).sum(2))
        return self.sliding.of_input(grad, x, weight) if wanted else None


@dataclass(frozen=True)
class _GroupNorm(_Layer):
    groups: int
    eps: float
    axes: int  # of an item: (channels, ...)

    def output(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
        sizes = (len(x), x.shape[1], x[0, 0].numel())
        return torch.native_group_norm(x.contiguous(), weight, bias, *sizes, self.groups, self.eps)

    def gradient(
        self,
        patients: int,
        wanted: bool,
        grad: Tensor,
        x: Tensor,
        weight: Tensor,
        mean: Tensor,
        rstd: Tensor,
    ) -> Tensor | None:
        items, channels = x.shape[:2]
        # As channels of a single item the items stay apart: torch's own sums over places, kept.
        of_input, of_weight, of_bias = torch.ops.aten.native_group_norm_backward(
            grad.contiguous(),
            x.contiguous(),
            mean,
            rstd,
            weight.repeat(items),
            1,
            items * channels,
            x[0, 0].numel(),
            items * self.groups,
            [wanted, True, True],
        )
        rows = [t.view(patients, -1, channels).sum(1) for t in (of_weight, of_bias)]
        self._write(Rows(rows[0]), lambda: rows[1])
        return of_input.view_as(x) if wanted else None


class _Kept(torch.autograd.Function):
    """A layer whose backward pass writes its factors down; items of all patients in order."""

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor | None, layer: Any, patients: int
    ) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = layer.output(x, weight, bias)
        return outputs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, _, ctx.layer, ctx.patients = inputs
        ctx.save_for_backward(x, weight, *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor, *_: Tensor
    ) -> tuple[Tensor | None, None, None, None, None]:
        # Detached: sums are made of them later, when torch would note down a graph of its own.
        x, weight, *rest = (saved.detach() for saved in ctx.saved_tensors)
        # Under autocast inputs and gradients come in half precision; lengths are not taken in it.
        of_input = ctx.layer.gradient(
            ctx.patients,
            ctx.needs_input_grad[0],
            *(each.to(weight.dtype).contiguous() for each in (grad, x)),
            weight,
            *rest,
        )
        return None if of_input is None else of_input.to(x.dtype), None, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, x: Tensor, weight: Tensor, bias: Any, layer: Any, patients: int
    ) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
        """The patients are what torch.func.vmap maps over; parameters are alike for all."""
        count = info.batch_size
        x = x.expand(count, *x.shape) if in_dims[0] is None else x.movedim(in_dims[0], 0)
        one = [
            tensor if dim is None else tensor.select(dim, 0)
            for tensor, dim in zip((weight, bias), in_dims[1:3], strict=True)
        ]
        items = x.reshape(-1, *x.shape[-layer.axes :])
        out, *rest = _Kept.apply(items, *one, layer, count)  # type: ignore[no-untyped-call]
        out = out.view(*x.shape[: -layer.axes], *out.shape[1:])
        return (out, *rest), (0, *(None for _ in rest))


class BookKeeping(TorchFunctionMode):
    """While entered, layers of the given parameters write into the book on the way back.

    Args:
        names: id of each trained parameter as the model holds it -> its name.
    """

    def __init__(self, book: Book, names: Mapping[int, str]) -> None:
        super().__init__()
        self._book, self._names = book, names

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        call = _CALLS.get(func)
        kept = call(self, *args, **(kwargs or {})) if call else None
        return func(*args, **(kwargs or {})) if kept is None else kept

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
        name = self._names.get(id(weight))
        if name and not self._book.keeps_factors(name, x.shape[:-1].numel()):
            # With a weight for each patient torch makes one gradient a patient as fast, and without
            # what a function of our own costs in Python: a third of a step of the default head.
            return None
        return self._apply(x, weight, bias, _Linear)

    def convolution(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | Steps = 1,
        padding: int | Steps | str = 0,
        dilation: int | Steps = 1,
        groups: int = 1,
    ) -> Tensor | None:
        if isinstance(padding, str):
            return None
        axes = weight.dim() - 2
        sliding = Sliding(
            _along(axes, stride), _along(axes, padding), _along(axes, dilation), groups
        )
        return self._apply(x, weight, bias, _Convolution, sliding, axes + 1)

    def group_norm(
        self,
        x: Tensor,
        groups: int,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
    ) -> Tensor | None:
        if weight is None or x.dim() < 2:
            return None
        return self._apply(x, weight, bias, _GroupNorm, groups, eps, x.dim() - 1)

    def _apply(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, kind: Any, *rest: Any
    ) -> Tensor | None:
        names = [self._names.get(id(parameter)) for parameter in (weight, bias)]
        if names == [None, None]:
            return None
        layer = kind(self._book, *names, *rest)
        out: Tensor = _Kept.apply(x, weight, bias, layer, 1)[0]  # type: ignore[no-untyped-call]
        return out


def _along(axes: int, value: int | Steps) -> Steps:
    return (value,) * axes if isinstance(value, int) else value


_CALLS: dict[Any, Callable[..., Tensor | None]] = {
    F.linear: BookKeeping.linear,
    F.conv2d: BookKeeping.convolution,
    F.conv3d: BookKeeping.convolution,
    F.group_norm: BookKeeping.group_norm,
}
