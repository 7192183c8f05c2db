"""Training where a share of the shared parameters travels: the others stay, and cost nothing."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors
from securefed.model.sharing import flatten, shared_names
from securefed.privacy.noise import SeededSource
from securefed.privacy.sampling import Batch
from securefed.training.mechanism import NoNoise, OwnNoise
from securefed.training.trainer import LocalTrainer
from securefed.wire.blocks import Blocks
from securefed.wire.contribution import ContributionLayout

MakeTrainer = Callable[..., LocalTrainer]
GROUP = "fusion+classifier"
ALL = {"sampling": Batch(16), "local_steps": 1, "learning_rate": 1.0, "shared": GROUP}


def _blocks(network: FusionNetwork, share: float) -> Blocks:
    named = dict(network.named_parameters())
    parameters = len(flatten(named, shared_names(network, GROUP)))
    return Blocks.of(parameters, share, seed=2)


def _layout(blocks: Blocks) -> ContributionLayout:
    return ContributionLayout(
        blocks.sent, clients=4, value_range=4.0, max_patients=100, blocks=blocks
    )


def _vector(trainer: LocalTrainer) -> np.ndarray[Any, np.dtype[np.float32]]:
    named = dict(trainer.network.named_parameters())
    return flatten(named, shared_names(trainer.network, GROUP))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("private", [False, True])
def test_local_steps_move_the_rounds_coordinates_only(
    private: bool, optimizer: str, make_trainer: MakeTrainer, network: FusionNetwork
):
    blocks = _blocks(network, 0.2)
    layout = _layout(blocks)
    mechanism = OwnNoise(layout, 0.5, 1.0, secret_noise=False) if private else NoNoise(layout)
    trainer = make_trainer(
        mechanism=mechanism, shared=GROUP, optimizer=optimizer, local_steps=3, proximal=0.1
    )
    for number in (1, 2):  # in the second Adam remembers the first one's coordinates
        before = _vector(trainer)
        sent = trainer.contribute(number)
        change = _vector(trainer) - before
        assert sent.shape == (blocks.sent,)
        assert np.array_equal(blocks.restrict(change, number), sent)
        outside = np.delete(change, blocks.coordinates(number))
        assert not outside.any()
        assert np.count_nonzero(sent) > 0.5 * len(sent)


@pytest.mark.parametrize("private", [False, True])
def test_all_coordinates_are_the_whole_update(
    private: bool, make_trainer: MakeTrainer, network: FusionNetwork
):
    everything = _layout(_blocks(network, 1.0))
    whole = ContributionLayout(1, clients=4, value_range=4.0, max_patients=100)
    updates = []
    for layout in (everything, whole):
        mechanism = OwnNoise(layout, 0.5, 1.0, secret_noise=False) if private else NoNoise(layout)
        updates.append(make_trainer(mechanism=mechanism, shared=GROUP).contribute(1))
    np.testing.assert_allclose(updates[0], updates[1], atol=1e-6)


@pytest.mark.parametrize("clip_norm", [0.02, 1e3])
def test_each_patient_is_restricted_and_then_clipped(
    clip_norm: float,
    make_trainer: MakeTrainer,
    network: FusionNetwork,
    phantoms: PatientTensors,
):
    """Against one patient at a time, summed in double precision: everybody drawn, no noise."""
    blocks = _blocks(network, 0.1)
    mechanism = OwnNoise(_layout(blocks), clip_norm, 0.0, secret_noise=False)
    trainer = make_trainer(mechanism=mechanism, **ALL)
    oracle = make_trainer(mechanism=mechanism, **ALL).network
    trained = {n: p for n, p in oracle.named_parameters() if p.requires_grad}
    names, total, lengths = shared_names(oracle, GROUP), np.zeros(blocks.sent), []
    assert list(trained) == names
    for row in range(len(phantoms)):
        one = phantoms[row : row + 1]
        logit = oracle(one.images, one.present)
        loss = F.binary_cross_entropy_with_logits(logit, one.label)
        parts = torch.autograd.grad(loss, [trained[n] for n in names], allow_unused=True)
        whole = torch.cat(
            [
                (torch.zeros_like(trained[n]) if g is None else g).flatten()
                for n, g in zip(names, parts, strict=True)
            ]
        )
        gradient = blocks.restrict(whole.double().numpy(), 1)
        length = max(float(np.linalg.norm(gradient)), 1e-12)
        lengths.append(length)
        total += gradient * min(1.0, clip_norm * (1 - 1e-4) / length)
    assert (max(lengths) > clip_norm) == (clip_norm < 1)
    np.testing.assert_allclose(trainer.contribute(1), -total / 16, atol=2e-6, rtol=1e-3)


def test_noise_is_on_the_coordinates_that_travel_and_as_large_as_accounted(
    make_trainer: MakeTrainer, network: FusionNetwork
):
    blocks = _blocks(network, 0.5)
    mechanism = OwnNoise(_layout(blocks), 0.5, 1e4, secret_noise=False)
    trainer = make_trainer(mechanism=mechanism, **ALL)
    step, _ = trainer.draw(1, 0)
    noised = step.noised_gradient(0.5, 1e4, SeededSource(1, "noise"))
    vector = flatten(noised, shared_names(network, GROUP))
    assert not np.delete(vector, blocks.coordinates(1)).any()
    # Patients are lost in it. Its spread is within 4 deviations of k values' but once in 16,000.
    spread = blocks.restrict(vector, 1).std() / (0.5 * 1e4 / 16)
    assert abs(spread - 1) < 4 / np.sqrt(2 * blocks.sent)
