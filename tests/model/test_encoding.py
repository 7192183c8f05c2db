"""Tokens of patients: what the encoders make of each slice that is there."""

import pytest
import torch
from torch import Tensor, nn

from securefed.model import encoding
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors


@pytest.fixture
def network() -> FusionNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FusionNetwork(NetworkShape(image_size=32)).eval()


@pytest.fixture
def group() -> PatientTensors:
    """Four patients of three slices; some lack a modality or slices, one shows nothing."""
    draw = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (4, 2, 3, 32, 32), generator=draw).byte()
    present = torch.rand(4, 2, 3, generator=draw) < 0.6
    present[3] = False
    return PatientTensors(("ct", "mri"), images, present, torch.ones(4))


@pytest.mark.parametrize("chunk", [2, 64])
def test_slices_that_are_there_have_the_tokens_of_their_encoder(
    chunk: int, network: FusionNetwork, group: PatientTensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "CHUNK", chunk)
    tokens, there = tokens_of(network, group).images, group.present
    with torch.no_grad():
        whole = network.encode(group.images.float() / 255)
    torch.testing.assert_close(tokens[there], whole[there])
    assert not tokens[~there].any()


def test_only_slices_that_are_there_are_encoded(
    network: FusionNetwork, group: PatientTensors
) -> None:
    encoded = []

    def note(encoder: nn.Module, inputs: tuple[Tensor]) -> None:
        encoded.append(len(inputs[0]))

    for encoder in network.encoders:
        encoder.register_forward_pre_hook(note)
    tokens_of(network, group)
    assert encoded == group.present.sum(dim=(0, 2)).tolist()


def test_nobody_has_tokens_of_the_same_shape(network: FusionNetwork, group: PatientTensors) -> None:
    assert tokens_of(network, group[:0]).images.shape == (0, 2, 3, 16, 8)


def test_it_is_told_how_far_it_is(
    network: FusionNetwork, group: PatientTensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "CHUNK", 2)
    told: list[tuple[int, int]] = []
    tokens_of(network, group, lambda done, total: told.append((done, total)))
    shown = int(group.present.sum())
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (shown, shown)
    assert len(told) > 3
