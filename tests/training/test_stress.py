"""Stress records: the same for hospital and audit, beyond the norm, and drawn like patients."""

import numpy as np
import torch

from attacks.membership.head_gradients import Drawn, HeadShape, gradients, records_of
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors, concatenate
from securefed.training.stress import stress_count, stress_records

COUNT = 10
SEED = "0123456789abcdef" * 2


def network() -> FusionNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FusionNetwork(NetworkShape(image_size=32))


def patients(count: int, slices: int) -> PatientTensors:
    images = torch.zeros(count, 2, slices, 32, 32, dtype=torch.uint8)
    present = torch.ones(count, 2, slices, dtype=torch.bool)
    return PatientTensors(("ct", "mri"), images, present, torch.ones(count))


def test_they_follow_from_the_seed_and_the_encoders_alone() -> None:
    one, again = stress_records(SEED, COUNT, network()), stress_records(SEED, COUNT, network())
    assert torch.equal(one.images, again.images)
    assert not torch.equal(one.images[:, 0], one.images[:, 1])
    assert not torch.equal(one.images, stress_records("f" * 32, COUNT, network()).images)
    assert len(one) == COUNT


def test_their_gradients_are_far_longer_than_patients() -> None:
    own = network()
    shape = HeadShape.of(own)
    parameters = dict(own.named_parameters())
    head = torch.cat([parameters[name].detach().reshape(-1) for name in shape.places])[None]
    records = records_of(tokens_of(own, patients(3, 2)), each_slice=False)
    records = records.with_tokens(stress_records(SEED, COUNT, own))
    every = torch.arange(len(records))
    rows = gradients(shape, head, records, Drawn(torch.zeros_like(every), every))
    norms = rows.norm(dim=1).numpy()
    assert len(norms) == 3 + COUNT
    assert np.median(norms[3:]) > 5 * np.median(norms[:3])


def test_they_join_patients_of_any_number_of_slices_without_changing_them() -> None:
    own = network()
    tokens, stress = tokens_of(own, patients(3, 4)), stress_records(SEED, 2, own)
    both = concatenate([tokens, stress])
    assert torch.equal(both.images[:3], tokens.images)
    assert torch.equal(both.images[3:, :, 0], stress.images[:, :, 0])
    assert both.present[3:, 0].tolist() == [[True, False, False, False]] * 2
    assert both.label.tolist() == [1, 1, 1, 0, 1]


def test_they_are_few_among_few_patients() -> None:
    assert [stress_count(n) for n in (1, 30, 100, 300, 100_000)] == [1, 1, 3, 10, 10]
