"""What a weight's gradient is made of, with the patients still apart.

A layer's weight gradient is a product of two factors, the layer's input and the gradient of its
output. Each kind here gives of them what a private step needs: one gradient a patient, its length,
or the sum of all with weights (Bu, Wang, Zha & Karypis 2022, arXiv 2210.00038, section 2). All of
it is private data; nothing here clips or adds noise.
"""

from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

Steps = tuple[int, ...]  # along each axis of places


class Factors(Protocol):
    """What one parameter's gradients are made of, patient by patient: private data."""

    @property
    def patients(self) -> int: ...
    @property
    def places(self) -> int:
        """How many products are summed in a patient's gradient (T in the paper)."""
        ...

    def rows(self) -> Tensor:
        """Each patient's gradient, (patients, *parameter shape)."""
        ...

    def squares(self) -> Tensor:
        """The squared length of each patient's gradient, (patients,) float64."""
        ...

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """The sum of all patients' gradients with weights (patients,), of the parameter's shape."""
        ...


def flat(rows: Tensor) -> Tensor:
    """(patients, *shape) -> (patients, entries), also without patients and without axes."""
    return rows.reshape(len(rows), rows.shape[1:].numel())


@dataclass(frozen=True, eq=False)
class Rows:
    """Gradients that are known one by one, (patients, *parameter shape)."""

    values: Tensor = field(repr=False)
    places: int = 0

    @property
    def patients(self) -> int:
        return len(self.values)

    def rows(self) -> Tensor:
        return self.values

    def squares(self) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(flat(self.values), dim=1)
        return length.double().square()

    def weighted_sum(self, weights: Tensor) -> Tensor:
        return torch.einsum("i,i...->...", weights.to(self.values.dtype), self.values)


@dataclass(frozen=True, eq=False)
class Products:
    """A linear layer's weight: sums of outer products of grad (n, T, out) and input (n, T, in)."""

    input: Tensor = field(repr=False)
    grad: Tensor = field(repr=False)

    @property
    def patients(self) -> int:
        return len(self.input)

    @property
    def places(self) -> int:
        return self.input.shape[1]

    def rows(self) -> Tensor:
        return self.grad.transpose(1, 2) @ self.input

    def squares(self) -> Tensor:
        return _squares(self.input.transpose(1, 2), self.grad.transpose(1, 2))

    def weighted_sum(self, weights: Tensor) -> Tensor:
        weighted = self.grad * weights.to(self.grad.dtype)[:, None, None]
        return weighted.flatten(0, 1).T @ self.input.flatten(0, 1)


@dataclass(frozen=True)
class Sliding:
    """How a convolution slides, as torch.nn.functional.conv2d and conv3d take it."""

    stride: Steps
    padding: Steps
    dilation: Steps
    groups: int

    def of_input(self, grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Gradient of the input x (N, in, *places), by that of the output (N, out, *places)."""
        return self._backward(grad, x, weight, [True, False, False])[0]

    def of_weight(self, grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Gradient of the weight, summed over all N; of the weight itself only the shape counts."""
        return self._backward(grad, x, weight, [False, True, False])[1]

    def windows(self, x: Tensor, kernel: Steps) -> Tensor:
        """What each place of the output is made of: (N, in, *places) -> (N, in * kernel, T)."""
        *depth, rows, columns = zip(kernel, self.dilation, self.padding, self.stride, strict=True)
        for size, dilation, padding, stride in depth:
            # Windows along depth become channels, depths of the output images of their own.
            x = F.pad(x, (0, 0, 0, 0, padding, padding))
            last = x.shape[2] - dilation * (size - 1)
            taps = [x[:, :, tap * dilation :][:, :, :last:stride] for tap in range(size)]
            x = torch.cat(taps, dim=1)
        images = x.movedim(1, -3)  # (N, depths, channels, rows, columns), or without depths
        seen = F.unfold(images.flatten(0, -4), *zip(rows, columns, strict=True))
        return torch.unflatten(seen, 0, images.shape[:-3]).movedim(-2, 1).flatten(2)

    def _backward(
        self, grad: Tensor, x: Tensor, weight: Tensor, mask: list[bool]
    ) -> tuple[Tensor, ...]:
        nowhere = (0,) * len(self.stride)
        settings = (self.stride, self.padding, self.dilation, False, nowhere, self.groups)
        found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
            grad, x, weight, None, *settings, mask
        )
        return found


@dataclass(frozen=True, eq=False)
class Windows:
    """A convolution's weight: input (n, items, in, *places) and grad (n, items, out, *places)."""

    input: Tensor = field(repr=False)
    grad: Tensor = field(repr=False)
    weight: Tensor = field(repr=False)
    sliding: Sliding

    @property
    def patients(self) -> int:
        return len(self.input)

    @property
    def places(self) -> int:
        return self.grad[0, :, 0].numel()

    def rows(self) -> Tensor:
        # Groups of a single channel are another algorithm in torch, slow for wide windows.
        alone = self.weight.shape[1] == 1 and self.weight[0, 0].numel() > 9
        if self.patients == 1 or self.sliding.groups > 1 or alone:
            each = zip(self.grad, self.input, strict=True)
            return torch.stack([self.sliding.of_weight(*one, self.weight) for one in each])
        # As groups of one convolution the patients stay apart, without a call for each.
        grad, images = (
            t.transpose(0, 1).flatten(1, 2).contiguous() for t in (self.grad, self.input)
        )  # (items, n * channels, *places)
        weights = self.weight.repeat(self.patients, *(1,) * (self.weight.dim() - 1))
        grouped = replace(self.sliding, groups=self.patients).of_weight(grad, images, weights)
        return grouped.view(self.patients, *self.weight.shape)

    def squares(self) -> Tensor:
        if self.sliding.groups > 1:
            return Rows(self.rows()).squares()
        # (n * items, in * kernel, T)
        windows = self.sliding.windows(self.input.flatten(0, 1), self.weight.shape[2:])
        apart = windows.view(
            *self.input.shape[:2], *windows.shape[1:]
        )  # (n, items, in * kernel, T)
        return _squares(*(t.transpose(1, 2).flatten(2) for t in (apart, self.grad.flatten(3))))

    def weighted_sum(self, weights: Tensor) -> Tensor:
        each = weights.to(self.grad.dtype).view(-1, *(1,) * (self.grad.dim() - 1))
        weighted = (self.grad * each).flatten(0, 1)
        return self.sliding.of_weight(weighted, self.input.flatten(0, 1), self.weight)


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """|sum over places of b a^T|^2 = <a^T a, b^T b> (ghost norm), a (n, in, T), b (n, out, T).

    In double precision: terms of a sum that cancels may be a thousand times as large as the sum,
    and a length that came out too small would let a patient past the clipping norm.
    """
    a, b = a.double(), b.double()
    gram = (a.transpose(1, 2) @ a) * (b.transpose(1, 2) @ b)  # (n, T, T)
    return gram.sum((1, 2)).clamp(min=0.0)
