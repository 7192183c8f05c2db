"""Encoders of volumes: neighbours tell, strangers and padding do not, absent slices are nothing."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from securefed.model import weight_files
from securefed.model.auc import area_of_scores
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


@torch.no_grad()
def test_weights_of_slices_make_of_volumes_what_they_made_of_slices():
    """Of the shipped file: neighbours have no say yet, and get one by training."""
    flat, volumes_of = (
        FusionNetwork(NetworkShape(encoder=name, image_size=32))
        for name in ("compact", "compact3d")
    )
    for network in (flat, volumes_of):
        weight_files.load(network, weight_files.shipped())
    images = volumes(2, 5)
    for mine, theirs in zip(flat.encoders, volumes_of.encoders, strict=True):
        torch.testing.assert_close(encode(theirs, images), encode(mine, images), atol=1e-5, rtol=0)


def spots(seed: int) -> tuple[Tensor, Tensor]:
    """96 volumes of 8 slices, (n, 1, slices, size, size), and labels.

    Four slices of each have a square: all at one place (1), or each at another (0). The law of a
    slice is the same for both.
    """
    generator = torch.Generator().manual_seed(seed)
    images = 80 + 10 * torch.randn(96, 1, 8, 32, 32, generator=generator)
    label = torch.arange(96) % 2
    for volume, together in zip(images, label, strict=True):
        places = torch.randint(25, (8, 2), generator=generator)
        for number in range(2, 6):
            row, column = places[0 if together else number]
            volume[0, number, row : row + 7, column : column + 7] = 180
    return images.clip(0, 255).byte(), label.float()


def auc_after_training(name: str) -> float:
    """Of volumes held out, after three passes of Adam from the shipped weights."""
    torch.manual_seed(0)
    shape = NetworkShape(query="ct", context=(), encoder=name, image_size=32, head_width=32)
    network = FusionNetwork(shape)
    weight_files.load(network, weight_files.shipped())
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    images, label = spots(1)
    present = torch.ones(96, 1, 8, dtype=torch.bool)
    for _ in range(3):
        for rows in torch.randperm(96).split(16):
            logits = network(images[rows], present[rows])
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(logits, label[rows]).backward()
            optimizer.step()
    images, label = spots(2)
    with torch.no_grad():
        scores = network(images, present)
    return area_of_scores(scores.numpy(), label.numpy() > 0)


def test_a_spot_that_goes_on_over_slices_is_told_by_volumes_and_not_by_pooled_slices():
    """Of phantoms, over seeds: benchmarks/volumes.py."""
    assert auc_after_training("compact3d") > 0.95
    assert auc_after_training("compact") < 0.7
