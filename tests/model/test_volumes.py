"""Encoders of volumes: neighbours tell, strangers and padding do not, absent slices are nothing."""

import pytest
import torch
from torch import Tensor

from securefed.model.encoders import ENCODERS, encode
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.model.volumes import VolumeEncoder

VOLUMES = ("compact3d", "r3d_18")


@pytest.fixture(params=VOLUMES)
def encoder(request: pytest.FixtureRequest) -> VolumeEncoder:
    torch.manual_seed(1)
    made = ENCODERS[request.param](4)
    assert isinstance(made, VolumeEncoder)
    return made


def volumes(*shape: int) -> Tensor:
    return torch.rand(*shape, 32, 32, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_the_map_of_a_slice_is_told_by_its_neighbours_in_their_order(encoder: VolumeEncoder):
    volume = volumes(5)
    middle = encode(encoder, volume)[2]
    for order in ([1, 0, 2, 3, 4], [0, 1, 2, 4, 3], [0, 0, 2, 3, 4]):
        assert not torch.allclose(encode(encoder, volume[order])[2], middle, atol=1e-4)
    assert not torch.allclose(encode(encoder, volume[2:3])[0], middle, atol=1e-4)


@torch.no_grad()
def test_absent_slices_are_nothing_whatever_they_hold_and_however_many(encoder: VolumeEncoder):
    volume = volumes(2, 6)
    there = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 0, 1, 1, 0, 1]], dtype=torch.bool)
    tokens = encode(encoder, volume, there)
    noise = torch.where(there[..., None, None], volume, 9.0)
    assert torch.equal(encode(encoder, noise, there)[there], tokens[there])
    alone = encode(encoder, volume[:1, :3])
    torch.testing.assert_close(alone[0], tokens[0, :3], atol=1e-5, rtol=1e-4)
    # What lies beyond an absent slice is still as far away as it was.
    nearer = encode(encoder, volume[1:, [0, 2, 3, 5]])
    assert not torch.allclose(nearer[0, 1], tokens[1, 2], atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", VOLUMES)
def test_tokens_kept_are_those_of_the_images_and_padding_is_zeros(
    name: str, phantoms: PatientTensors
):
    torch.manual_seed(0)
    network = FusionNetwork(NetworkShape(encoder=name, image_size=32))
    tokens = tokens_of(network, phantoms)
    direct = network(phantoms.images, phantoms.present)
    kept = network(tokens.images, tokens.present, encoded=True)
    torch.testing.assert_close(kept, direct, atol=1e-5, rtol=1e-4)
    assert not phantoms.present.all()
    assert not tokens.images[~phantoms.present].any()
    assert tokens_of(network, phantoms[:0]).images.shape[1:] == tokens.images.shape[1:]


@torch.no_grad()
def test_r3d_keeps_every_slice_where_a_video_would_lose_seven_of_eight():
    assert encode(ENCODERS["r3d_18"](4), volumes(9)).shape == (9, 4, 4)
