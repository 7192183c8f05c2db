"""The two products against einsum: values, first and second derivatives, under torch.func."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, vmap

from securefed.model.products import inner, mixed

INNER, MIXED = "...fp,...fq->...pq", "...fq,...pq->...fp"
CASES = [(inner, INNER, (3, 4), (3, 5)), (mixed, MIXED, (3, 5), (4, 5))]
Product = Callable[[Tensor, Tensor], Tensor]


def _pair(left: tuple[int, ...], right: tuple[int, ...], *lead: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    first, second = (
        torch.randn(*lead, *shape, generator=generator, dtype=torch.float64)
        for shape in (left, right)
    )
    return first.requires_grad_(), second.requires_grad_()


@pytest.mark.parametrize(("product", "formula", "left", "right"), CASES)
def test_a_product_is_its_formula_and_so_are_two_derivatives(
    product: Product, formula: str, left: tuple[int, ...], right: tuple[int, ...]
):
    pair = _pair(left, right, 2)
    torch.testing.assert_close(product(*pair), torch.einsum(formula, *pair))
    assert gradcheck(product, pair)
    assert gradgradcheck(product, pair)


@pytest.mark.parametrize(("product", "formula", "left", "right"), CASES)
def test_a_product_has_the_same_gradients_inside_torch_func(
    product: Product, formula: str, left: tuple[int, ...], right: tuple[int, ...]
):
    first, second = _pair(left, right, 6)

    def ours(a: Tensor, b: Tensor) -> Tensor:
        return product(a, b).tanh().sum()

    def plain(a: Tensor, b: Tensor) -> Tensor:
        return torch.einsum(formula, a, b).tanh().sum()

    for argument in (0, 1):
        each, expected = (vmap(grad(f, argument))(first, second) for f in (ours, plain))
        torch.testing.assert_close(each, expected)
    # One side alike for all, as parameters are.
    each, expected = (vmap(grad(f), in_dims=(0, None))(first, second[0]) for f in (ours, plain))
    torch.testing.assert_close(each, expected)
