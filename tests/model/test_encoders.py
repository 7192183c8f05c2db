"""Encoders: shapes, no mixing of images, exact per-image gradients under torch.func."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from securefed.config import VOLUME_ENCODERS, Encoder
from securefed.model.conversion import group_norm
from securefed.model.encoders import ENCODERS, CompactEncoder, encode
from securefed.model.volumes import VolumeEncoder

SIDE = {"compact": 8, "squeezenet1_1": 3, "compact3d": 8, "r3d_18": 4}  # of 64 pixels; else 2


@pytest.fixture(params=sorted(ENCODERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def encoder(name: str) -> nn.Module:
    torch.manual_seed(1)
    return ENCODERS[name](4)


def _images(*shape: int) -> Tensor:
    return torch.rand(*shape, 32, 32, generator=torch.Generator().manual_seed(2))


def test_the_settings_know_every_encoder_and_which_see_volumes(name: str, encoder: nn.Module):
    assert list(ENCODERS) == list(get_args(Encoder))
    assert isinstance(encoder, VolumeEncoder) == (name in VOLUME_ENCODERS)


def test_a_map_has_the_stated_size_and_one_channel_comes_in(name: str, encoder: nn.Module):
    assert encode(encoder, torch.zeros(2, 3, 64, 64)).shape == (2, 3, SIDE.get(name, 2) ** 2, 4)
    first = next(m for m in encoder.modules() if isinstance(m, nn.Conv2d | nn.Conv3d))
    assert first.in_channels == 1


def test_the_maps_of_an_odd_image_size_are_square(encoder: nn.Module):
    places = encode(encoder, torch.zeros(1, 50, 50)).shape[-2]
    assert math.isqrt(places) ** 2 == places > 1


def test_no_layer_keeps_or_mixes_statistics_of_several_images(name: str, encoder: nn.Module):
    norms = [m for m in encoder.modules() if "Norm" in type(m).__name__ and not list(m.children())]
    assert bool(norms) == (name != "squeezenet1_1")  # which has none
    assert all(isinstance(m, nn.GroupNorm) for m in norms)
    assert not list(encoder.buffers())


def test_no_layer_is_random_or_overwrites_its_input(encoder: nn.Module):
    kinds = {type(module).__name__ for module in encoder.modules()}
    assert not [kind for kind in kinds if "Drop" in kind or "Stochastic" in kind]
    assert not [module for module in encoder.modules() if getattr(module, "inplace", False)]
    images = _images(1, 1)
    before = images.clone()
    with torch.no_grad():
        first = encode(encoder.train(), images)
        assert torch.equal(encode(encoder, images), first)
    assert torch.equal(images, before)


def test_another_image_beside_it_does_not_change_the_map_of_an_image(encoder: nn.Module):
    images = _images(3, 1)
    others = images.clone()
    others[1] = 1000 * torch.rand(1, 32, 32)
    with torch.no_grad():
        before, after = encode(encoder.train(), images), encode(encoder, others)
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    assert not torch.equal(after[1], before[1])


def test_an_image_is_encoded_alike_alone_and_in_a_batch_and_in_both_modes(encoder: nn.Module):
    images = _images(3, 1)
    with torch.no_grad():
        together = encode(encoder, images)
        alone = encode(encoder, images[1:2])
        torch.testing.assert_close(alone, together[1:2], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(encode(encoder.eval(), images), together)


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (4, 4), (8, 8), (16, 8), (48, 8), (58, 2), (116, 4)]
)
def test_group_norm_has_at_most_eight_groups_that_divide_the_channels(channels: int, groups: int):
    assert group_norm(channels).num_groups == groups


class Encoding(nn.Module):
    """`encode` as a module, whose parameters torch.func can replace."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        return encode(self.encoder, images)


def test_vmapped_gradients_are_those_of_each_image_by_plain_autograd(encoder: nn.Module):
    images = _images(2, 1).double()  # in float32 a unit at its ReLU's kink may fall either way
    parameters = {f"encoder.{n}": p.detach() for n, p in encoder.double().named_parameters()}

    def loss(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        out: Tensor = functional_call(Encoding(encoder), parameters, (image,))
        return out.square().mean()

    each = vmap(grad(loss), in_dims=(None, 0))(parameters, images)
    for row in range(2):
        encoder.zero_grad()
        encode(encoder, images[row]).square().mean().backward()
        for key, parameter in encoder.named_parameters():
            assert parameter.grad is not None, key
            scale = float(parameter.grad.abs().max())
            torch.testing.assert_close(
                each[f"encoder.{key}"][row], parameter.grad, atol=1e-9 * scale, rtol=1e-6, msg=key
            )


def test_tokens_are_the_places_of_the_centred_images_map_row_by_row():
    torch.manual_seed(0)
    encoder = CompactEncoder(4)
    images = _images(2, 3)  # (patients, slices, 32, 32)
    with torch.no_grad():
        tokens = encode(encoder, images)
        feature_map = encoder(4 * images[1, 2, None, None] - 2)  # (1, 4, 4, 4)
    assert tokens.shape == (2, 3, 16, 4)
    for row in range(4):
        for column in range(4):
            torch.testing.assert_close(
                tokens[1, 2, 4 * row + column], feature_map[0, :, row, column]
            )


def test_slices_of_one_patient_and_of_nobody_encode_too():
    encoder = CompactEncoder(4)
    assert encode(encoder, _images(3)).shape == (3, 16, 4)
    assert encode(encoder, _images(0, 3)).shape == (0, 3, 16, 4)
