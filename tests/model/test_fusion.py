"""Cross-attention against a loop over places in double precision, and the masks' exact effect."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from securefed.model.fusion import CrossAttentionFusion

WIDTH, ATTENTION, SIDE = 3, 2, 3
PLACES = SIDE * SIDE
Context = tuple[str, ...]


def _fusion(seed: int = 0, scale: float = 0.7, context: Context = ("mri",)) -> CrossAttentionFusion:
    torch.manual_seed(seed)
    fusion = CrossAttentionFusion("ct", context, WIDTH, ATTENTION, SIDE)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return fusion


def _tokens(*lead: int, seed: int) -> Tensor:
    return torch.randn(*lead, PLACES, WIDTH, generator=torch.Generator().manual_seed(seed))


def _fused(fusion: CrossAttentionFusion, *tokens: Tensor) -> Tensor:
    """Of tokens (..., slices, places, width) of each modality, all there."""
    together = torch.stack(tokens, dim=-4)
    return fusion(together, torch.ones(together.shape[:-2], dtype=torch.bool))


def _naive(fusion: CrossAttentionFusion, own: Tensor, name: str, other: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d) - softplus(a) distance^2) V of one slice, one place at a time."""
    layers = (fusion.query, *(getattr(fusion, f"{kind}_{name}") for kind in ("key", "value")))
    query, key, value = (layer.weight.double().tolist() for layer in layers)
    strength = math.log1p(math.exp(getattr(fusion, f"locality_{name}").item()))

    def project(weight: list[list[float]], token: list[float]) -> list[float]:
        return [sum(w * t for w, t in zip(row, token, strict=True)) for row in weight]

    attended = []
    for i, here in enumerate(own.double().tolist()):
        q = project(query, here)
        exponents = []
        for j, there in enumerate(other.double().tolist()):
            k = project(key, there)
            dot = sum(a * b for a, b in zip(q, k, strict=True))
            distance2 = (i // SIDE - j // SIDE) ** 2 + (i % SIDE - j % SIDE) ** 2
            exponents.append(dot / math.sqrt(ATTENTION) - strength * distance2)
        weights = [math.exp(e) for e in exponents]
        values = [project(value, there) for there in other.double().tolist()]
        attended.append(
            [
                sum(w * v[c] for w, v in zip(weights, values, strict=True)) / sum(weights)
                for c in range(ATTENTION)
            ]
        )
    return torch.tensor(attended, dtype=torch.float64)


@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(0.0, 1.5),
    context=st.sampled_from([("mri",), ("mri", "pet"), ("t1", "t2", "flair")]),
)
@settings(max_examples=25, deadline=None)
def test_fusion_equals_the_formula_place_by_place(seed: int, scale: float, context: Context):
    fusion = _fusion(seed, scale, context).double()
    own, *others = (_tokens(1, seed=seed + i).double() for i in range(1 + len(context)))
    with torch.no_grad():
        joined = _fused(fusion, own, *others)[0]
    torch.testing.assert_close(joined[:, :WIDTH], own[0], atol=0, rtol=0)
    parts = joined[:, WIDTH:].split(ATTENTION, dim=1)
    for name, other, part in zip(context, others, parts, strict=True):
        expected = _naive(fusion, own[0], name, other[0])
        torch.testing.assert_close(part, expected, atol=1e-6, rtol=1e-6)


def test_joined_features_are_the_querys_then_what_each_context_gave_for_every_slice():
    fusion = _fusion(context=("mri", "pet"))
    joined = _fused(fusion, *(_tokens(2, 4, seed=seed) for seed in (1, 2, 3)))
    assert joined.shape == (2, 4, PLACES, WIDTH + 2 * ATTENTION)


def test_a_context_moves_only_its_own_attended_part():
    fusion, ct, mri = _fusion(context=("mri", "pet")), _tokens(2, seed=1), _tokens(2, seed=4)
    first, second = (_fused(fusion, ct, _tokens(2, seed=s), mri) for s in (2, 3))
    own, attended, other = first.split([WIDTH, ATTENTION, ATTENTION], dim=-1)
    own_2, attended_2, other_2 = second.split([WIDTH, ATTENTION, ATTENTION], dim=-1)
    assert torch.equal(own, own_2)
    assert torch.equal(other, other_2)
    assert (attended != attended_2).all()


def test_queries_come_from_the_query_and_values_do_not():
    fusion, mri = _fusion(), _tokens(2, seed=2)
    here, there = (_fused(fusion, _tokens(2, seed=s), mri) for s in (1, 3))
    assert not torch.allclose(here[..., WIDTH:], there[..., WIDTH:])
    with torch.no_grad():
        fusion.query.weight.zero_()  # now CT can move no weight, and there is no other way in
    here, there = (_fused(fusion, _tokens(2, seed=s), mri) for s in (1, 3))
    assert torch.equal(here[..., WIDTH:], there[..., WIDTH:])


@pytest.mark.parametrize("silent", ["query", "key_mri"])
def test_without_scores_attention_follows_locality_alone(silent: str):
    fusion = _fusion()
    with torch.no_grad():
        getattr(fusion, silent).weight.zero_()
        fusion.get_parameter("value_mri.weight").copy_(torch.eye(ATTENTION, WIDTH))
    mri = torch.zeros(1, PLACES, WIDTH)
    mri[0, 4, 0] = 1.0  # the middle place alone carries a one: attended[i] is the weight i gives it
    weights = _fused(fusion, _tokens(1, seed=1), mri)[0, :, WIDTH].reshape(SIDE, SIDE)
    middle, edge, corner = weights[1, 1], weights[0, 1], weights[0, 0]
    assert middle > edge > corner > 0
    decay = F.softplus(fusion.get_parameter("locality_mri"))
    # At the middle itself: one place at distance 0, four at 1, four at 2 (squared).
    expected = 1 / (1 + 4 * torch.exp(-decay) + 4 * torch.exp(-2 * decay))
    torch.testing.assert_close(middle, expected)


def test_missing_modalities_become_the_placeholders_whatever_stands_in_the_tokens():
    """Every pattern of three modalities, the query's absence among them, one a slice."""
    fusion = _fusion(context=("mri", "pet"))
    present = torch.tensor(list(itertools.product([True, False], repeat=3))).T  # (3, 8)
    tokens = _tokens(3, 8, seed=1)
    joined = fusion(tokens, present)
    widths = [WIDTH, ATTENTION, ATTENTION]
    for name, part, has in zip(
        ("ct", "mri", "pet"), joined.split(widths, -1), present, strict=True
    ):
        placeholder = getattr(fusion, f"missing_{name}").expand(4, PLACES, -1)
        assert torch.equal(part[~has], placeholder), name
        assert (part[has] != placeholder).any(), name
    junk = torch.where(present[..., None, None], tokens, -1e3 * tokens)
    assert torch.equal(fusion(junk, present), joined)


def test_a_new_network_attends_to_about_the_same_place_and_passes_its_features_on():
    for seed in range(20):
        torch.manual_seed(seed)
        fusion = CrossAttentionFusion("ct", ("mri", "pet"), PLACES, PLACES, SIDE)
        # With the unit vectors as context's tokens the attended features are the attention weights.
        there = torch.eye(PLACES)[None]
        joined = _fused(fusion, torch.randn(1, PLACES, PLACES), there, there)
        for weights in joined[0, :, PLACES:].split(PLACES, dim=1):
            assert torch.equal(weights.argmax(dim=1), torch.arange(PLACES))
            torch.testing.assert_close(weights.sum(dim=1), torch.ones(PLACES))


def test_the_distances_are_no_parameter_and_not_in_the_saved_state():
    assert not {"here", "there"} & set(_fusion().state_dict())
    assert set(_fusion().state_dict()) == {name for name, _ in _fusion().named_parameters()}
