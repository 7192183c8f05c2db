"""An imprint spread over rounds: short steps, patients who were drawn, and nobody else."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from attacks.head.controls import ONE_PLACE, _random_patients
from attacks.head.features import head_gradient, signatures
from attacks.head.imprint import quiet_imprint, vector_of
from attacks.head.scattered import _read, harvest
from attacks.head.updates import PLAIN, client_update
from attacks.statistics.targets import Floats
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors
from securefed.model.sharing import shared_names

THIRD = 24
Scene = tuple[FusionNetwork, list[str], PatientTensors]


@pytest.fixture(scope="module")
def scene() -> Scene:
    torch.manual_seed(3)
    network = FusionNetwork(replace(ONE_PLACE, head_width=64)).eval()
    images = _random_patients(3 * THIRD, 1, ONE_PLACE.image_size, np.random.default_rng(3))
    return network, shared_names(network, "fusion+classifier"), tokens_of(network, images)


def harvested(scene: Scene, rates: Floats, noise_std: float = 0.0, rounds: int = 6):
    network, shared, patients = scene
    people = (patients[: len(rates)], patients[THIRD : 2 * THIRD], patients[2 * THIRD :])
    mechanism = replace(PLAIN, noise_std=noise_std)
    rng = np.random.default_rng(0)
    return harvest(network, shared, people, rates, mechanism, 0.0, rounds, rng)


def test_most_who_were_drawn_are_told_apart_and_nobody_else(scene: Scene):
    got = harvested(scene, np.repeat([0.25, 0.0], THIRD))
    near = got.nearest < 0.1
    assert not got.drawn[THIRD:].any()
    assert near[got.drawn].mean() > 0.6
    assert not near[~got.drawn].any()
    assert got.found[got.drawn].mean() > 0.6


def test_more_rounds_tell_more_patients_apart(scene: Scene):
    rates = np.full(THIRD, 0.5)
    few, many = (harvested(scene, rates, rounds=rounds) for rounds in (1, 8))
    assert (many.nearest < 0.1).sum() > (few.nearest < 0.1).sum()


def test_noise_leaves_nothing_to_read(scene: Scene):
    got = harvested(scene, np.full(THIRD, 0.25), noise_std=2.0)
    assert not np.isfinite(got.nearest).any()
    assert not got.found.any()


def test_imprints_are_near_to_the_network_and_nearer_to_each_other(scene: Scene):
    network, shared, patients = scene
    sent = [
        vector_of(quiet_imprint(network, patients[:THIRD], 8, number), shared)
        for number in range(4)
    ]
    steps = [float(np.linalg.norm(b - a)) for a, b in pairwise(sent)]
    own = float(network.classifier.hidden.weight.detach().norm())
    away = float(np.linalg.norm(sent[0] - vector_of(network, shared)))
    assert away < 2 * own
    assert max(steps) < 0.1 * away
    assert min(steps) > 0
    # Unit 0, the output and everything before the classifier are as they were.
    changed = quiet_imprint(network, patients[:THIRD], 8, 0)
    assert torch.equal(changed.classifier.hidden.weight[0], network.classifier.hidden.weight[0])
    assert torch.equal(changed.classifier.output.weight, network.classifier.output.weight)


def test_what_is_read_is_the_gradient_of_the_clients_own_step(scene: Scene):
    network, shared, patients = scene
    imprinted = quiet_imprint(network, patients[2 * THIRD :], 4, 1)
    batch = patients[:4]
    update = client_update(imprinted, shared, batch, PLAIN, np.random.default_rng(0), encoded=True)
    summed = update.astype(np.float64) * (-4 / PLAIN.learning_rate)
    gradient = head_gradient(imprinted, shared, summed)
    output = imprinted.classifier.output.weight[0].detach().double().numpy()
    rows = gradient.rows / output[:, None]
    upper = np.concatenate([rows[2:], np.zeros_like(rows[:1])])
    everybody = np.ones(4, np.bool_)
    seen = _read(signatures(imprinted, batch), everybody, output, 1e-9, np.random.default_rng(0))
    assert np.allclose(seen.weight, (rows[1:] - upper)[:, -1], atol=1e-4)
