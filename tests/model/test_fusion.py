"""Cross-attention against a loop over places in double precision, and the masks' exact effect."""

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


def _fusion(seed: int = 0, scale: float = 0.7) -> CrossAttentionFusion:
    torch.manual_seed(seed)
    fusion = CrossAttentionFusion(WIDTH, ATTENTION, SIDE)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return fusion


def _tokens(*lead: int, seed: int) -> Tensor:
    return torch.randn(*lead, PLACES, WIDTH, generator=torch.Generator().manual_seed(seed))


def _all(*lead: int, value: bool = True) -> Tensor:
    return torch.full(lead, value)


def _naive(fusion: CrossAttentionFusion, ct: Tensor, mri: Tensor) -> list[list[float]]:
    """softmax(Q K^T / sqrt(d) - softplus(a) distance^2) V of one slice, one place at a time."""
    query, key, value = (
        layer.weight.double().tolist() for layer in (fusion.query, fusion.key, fusion.value)
    )
    strength = math.log1p(math.exp(fusion.locality.item()))

    def project(weight: list[list[float]], token: list[float]) -> list[float]:
        return [sum(w * t for w, t in zip(row, token, strict=True)) for row in weight]

    attended = []
    for i, here in enumerate(ct.double().tolist()):
        q = project(query, here)
        exponents = []
        for j, there in enumerate(mri.double().tolist()):
            k = project(key, there)
            dot = sum(a * b for a, b in zip(q, k, strict=True))
            distance2 = (i // SIDE - j // SIDE) ** 2 + (i % SIDE - j % SIDE) ** 2
            exponents.append(dot / math.sqrt(ATTENTION) - strength * distance2)
        weights = [math.exp(e) for e in exponents]
        values = [project(value, there) for there in mri.double().tolist()]
        attended.append(
            [
                sum(w * v[c] for w, v in zip(weights, values, strict=True)) / sum(weights)
                for c in range(ATTENTION)
            ]
        )
    return attended


@given(seed=st.integers(0, 10_000), scale=st.floats(0.0, 1.5))
@settings(max_examples=25, deadline=None)
def test_fusion_equals_the_formula_place_by_place(seed: int, scale: float):
    fusion = _fusion(seed, scale).double()
    ct, mri = _tokens(1, seed=seed).double(), _tokens(1, seed=seed + 1).double()
    with torch.no_grad():
        joined = fusion(ct, mri, _all(1), _all(1))[0]
    expected = torch.tensor(_naive(fusion, ct[0], mri[0]), dtype=torch.float64)
    torch.testing.assert_close(joined[:, :WIDTH], ct[0], atol=0, rtol=0)
    torch.testing.assert_close(joined[:, WIDTH:], expected, atol=1e-6, rtol=1e-6)


def test_joined_features_are_ct_then_attended_for_every_slice():
    joined = _fusion()(_tokens(2, 4, seed=1), _tokens(2, 4, seed=2), _all(2, 4), _all(2, 4))
    assert joined.shape == (2, 4, PLACES, WIDTH + ATTENTION)


def test_mri_moves_only_the_attended_half():
    fusion, ct = _fusion(), _tokens(2, seed=1)
    first, second = (fusion(ct, _tokens(2, seed=s), _all(2), _all(2)) for s in (2, 3))
    assert torch.equal(first[..., :WIDTH], second[..., :WIDTH])
    assert (first[..., WIDTH:] != second[..., WIDTH:]).all()


def test_queries_come_from_ct_and_values_do_not():
    fusion, mri = _fusion(), _tokens(2, seed=2)
    here, there = (fusion(_tokens(2, seed=s), mri, _all(2), _all(2)) for s in (1, 3))
    assert not torch.allclose(here[..., WIDTH:], there[..., WIDTH:])
    with torch.no_grad():
        fusion.query.weight.zero_()  # now CT can move no weight, and there is no other way in
    here, there = (fusion(_tokens(2, seed=s), mri, _all(2), _all(2)) for s in (1, 3))
    assert torch.equal(here[..., WIDTH:], there[..., WIDTH:])


@pytest.mark.parametrize("silent", ["query", "key"])
def test_without_scores_attention_follows_locality_alone(silent: str):
    fusion = _fusion()
    with torch.no_grad():
        getattr(fusion, silent).weight.zero_()
        fusion.value.weight.copy_(torch.eye(ATTENTION, WIDTH))
    mri = torch.zeros(1, PLACES, WIDTH)
    mri[0, 4, 0] = 1.0  # the middle place alone carries a one: attended[i] is the weight i gives it
    weights = fusion(_tokens(1, seed=1), mri, _all(1), _all(1))[0, :, WIDTH].reshape(SIDE, SIDE)
    middle, edge, corner = weights[1, 1], weights[0, 1], weights[0, 0]
    assert middle > edge > corner > 0
    decay = F.softplus(fusion.locality)
    # At the middle itself: one place at distance 0, four at 1, four at 2 (squared).
    expected = 1 / (1 + 4 * torch.exp(-decay) + 4 * torch.exp(-2 * decay))
    torch.testing.assert_close(middle, expected)


def test_missing_modalities_become_the_placeholders_whatever_stands_in_the_tokens():
    fusion = _fusion()
    ct, mri = _tokens(1, 2, seed=1), _tokens(1, 2, seed=2)
    has_ct, has_mri = torch.tensor([[True, False]]), torch.tensor([[False, True]])
    joined = fusion(ct, mri, has_ct, has_mri)
    assert torch.equal(joined[0, 0, :, WIDTH:], fusion.missing_mri.expand(PLACES, -1))
    assert torch.equal(joined[0, 1, :, :WIDTH], fusion.missing_ct.expand(PLACES, -1))
    swapped = fusion(
        torch.where(has_ct[..., None, None], ct, 1e3 * ct),
        torch.where(has_mri[..., None, None], mri, -1e3 * mri),
        has_ct,
        has_mri,
    )
    assert torch.equal(swapped, joined)


def test_a_new_network_attends_to_about_the_same_place_and_passes_its_features_on():
    for seed in range(20):
        torch.manual_seed(seed)
        fusion = CrossAttentionFusion(PLACES, PLACES, SIDE)
        # With the unit vectors as MRI tokens the attended features are the attention weights.
        mri = torch.eye(PLACES)[None]
        weights = fusion(torch.randn(1, PLACES, PLACES), mri, _all(1), _all(1))[0, :, PLACES:]
        assert torch.equal(weights.argmax(dim=1), torch.arange(PLACES))
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(PLACES))


def test_the_distances_are_no_parameter_and_not_in_the_saved_state():
    assert not {"here", "there"} & set(_fusion().state_dict())
    assert set(_fusion().state_dict()) == {name for name, _ in _fusion().named_parameters()}
