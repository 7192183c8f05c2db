"""Encoders of volumes: neighbours tell, strangers and padding do not, absent slices are nothing."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.model import weight_files
from securefed.model.auc import area_of_scores
from securefed.model.encoders import ENCODERS, encode
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.model.volumes import VolumeEncoder
from securefed.training.patients import stack

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


def auc_after_training(name: str, train: PatientTensors, test: PatientTensors) -> float:
    """Of held-out patients, after three passes of Adam from the shipped weights."""
    torch.manual_seed(0)
    network = FusionNetwork(NetworkShape(encoder=name, image_size=32, head_width=32))
    weight_files.load(network, weight_files.shipped())
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(3):
        for rows in torch.randperm(len(train)).split(16):
            part = train[rows]
            logits = network(part.images, part.present)
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(logits, part.label).backward()
            optimizer.step()
    with torch.no_grad():
        scores = network(test.images, test.present)
    return area_of_scores(scores.numpy(), test.label.numpy() > 0)


def test_a_lesion_over_several_slices_is_told_from_spots_by_volumes_and_not_by_pooled_slices():
    """The phantom's scattered patients; over seeds, and in a federation, benchmarks/encoders.py."""
    spec = PhantomSpec(
        image_size=32,
        slices=(8, 8),
        scattered=1.0,
        lesion_radius=(0.18, 0.22),
        missing_query=0,
        missing_context=0,
        site_shift=0,
    )
    site = SiteProfile.draw(spec, 0, seed=0)
    group = stack([each.patient for each in generate(spec, site, 192, seed=0)], max_slices=8)
    train, test = group[:96], group[96:]
    assert auc_after_training("compact3d", train, test) > 0.9
    assert auc_after_training("compact", train, test) < 0.7
