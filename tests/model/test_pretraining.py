"""Public pretraining: learns, repeats bit for bit, and standardises without changing its logits."""

from collections.abc import Callable
from functools import cache
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from securefed.model import pretraining
from securefed.model.encoders import encode
from securefed.model.pretraining import Readout, Schedule, pretrain

Slices = tuple[NDArray[np.uint8], NDArray[np.bool_]]


@cache
def _slices() -> Slices:
    """Noise, half of it with a bright square somewhere: evidence that a few epochs find."""
    rng = np.random.default_rng(3)
    images = rng.integers(60, 120, (96, 32, 32)).astype(np.uint8)
    evidence = np.arange(96) % 2 == 0
    for index in np.flatnonzero(evidence):
        row, column = rng.integers(0, 24, 2)
        images[index, row : row + 8, column : column + 8] = 250
    return images, evidence


def _train(
    seed: int = 1, epochs: int = 6, progress: Callable[[float], None] = lambda share: None
) -> tuple[nn.Module, Readout]:
    schedule = Schedule(epochs=epochs, batch_size=16, learning_rate=3e-3)
    return pretrain("compact", 4, *_slices(), seed, schedule, progress)


def _logits(network: nn.Module, readout: Readout, images: NDArray[np.uint8]) -> torch.Tensor:
    with torch.no_grad():
        return readout(encode(network, torch.from_numpy(images).float() / 255))


def test_the_readout_is_a_log_mean_exp_of_linear_evidence():
    readout = Readout(3)
    tokens = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    place = tokens @ readout.evidence.weight[0] + readout.evidence.bias
    torch.testing.assert_close(readout(tokens), place.exp().mean(dim=1).log())


def test_pretraining_finds_the_evidence():
    images, evidence = _slices()
    logits = _logits(*_train(), images)
    target = torch.from_numpy(evidence).float()
    assert F.binary_cross_entropy_with_logits(logits, target) < 0.3  # chance is 0.69


def test_equal_seeds_give_equal_weights_whatever_was_drawn_before_and_other_seeds_others():
    first, _ = _train(seed=1, epochs=1)
    torch.rand(7)
    again, _ = _train(seed=1, epochs=1)
    other, _ = _train(seed=2, epochs=1)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_features_are_standardised_over_the_public_slices():
    network, _ = _train(epochs=1)
    with torch.no_grad():
        tokens = encode(network, torch.from_numpy(_slices()[0]).float() / 255).flatten(0, -2)
    torch.testing.assert_close(tokens.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(tokens.std(0), torch.ones(4), atol=1e-4, rtol=0)


def test_standardising_leaves_the_readouts_logits_as_they_were(monkeypatch: pytest.MonkeyPatch):
    before = []
    standardise = pretraining._standardise

    def observed(network, readout, images):
        before.append(_logits(network, readout, images))
        standardise(network, readout, images)

    monkeypatch.setattr(pretraining, "_standardise", observed)
    network, readout = _train(epochs=1)
    images, _ = _slices()
    assert before[0].std() > 0.01
    torch.testing.assert_close(_logits(network, readout, images), before[0], atol=1e-4, rtol=1e-4)


def test_a_feature_that_never_varies_stays_finite():
    network, readout = _train(epochs=1)
    constant = np.full((4, 32, 32), 128, np.uint8)
    bottleneck = cast(nn.Conv2d, cast(nn.Sequential, network.layers)[-1])
    with torch.no_grad():
        bottleneck.weight.zero_()
    pretraining._standardise(network, readout, constant)
    assert all(p.isfinite().all() for p in network.parameters())


def test_progress_rises_to_one():
    shares: list[float] = []
    _train(epochs=2, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) == 2 * (96 // 16)
