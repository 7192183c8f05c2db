"""A patient of several examples is one record: one gradient, of the mean of their losses.

Held against plain autograd in double precision, patient by patient and example by example.
"""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors, concatenate
from securefed.privacy.noise import SeededSource
from securefed.privacy.sampling import Batch
from securefed.training.patients import by_patient, one_slice_records, parts_alike
from securefed.training.per_patient import trained_parameters
from securefed.training.step import Step
from tests.training.conftest import PRIVATE, MakeTrainer

WIDTH, PLACES = 4, 16  # of the fixture's network at 32 pixels
SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=5)  # examples of each patient


def group_of(sizes: list[int], seed: int, slices: int = 2) -> PatientTensors:
    """Tokens of patients with so many examples, whose rows stand mixed; masks at random."""
    generator = torch.Generator().manual_seed(seed)
    owner = torch.cat([torch.full((n,), 7 * k) for k, n in enumerate(sizes)])
    owner = owner[torch.randperm(len(owner), generator=generator)]
    rows = len(owner)
    present = torch.rand(rows, 2, slices, generator=generator) < 0.7
    present[:, 0, 0] |= ~present.flatten(1).any(dim=1)  # no example is nothing but padding
    tokens = torch.rand(rows, 2, slices, PLACES, WIDTH, generator=generator, dtype=torch.float64)
    label = (torch.rand(rows, generator=generator) < 0.5).double()
    return PatientTensors(("ct", "mri"), tokens, present, label, owner)


def step_of(network: FusionNetwork, group: PatientTensors) -> Step:
    trained = trained_parameters(network)
    return Step(network, trained, group, None, torch.tensor([]), list(trained), True, expected=3.0)


def in_double(initial: FusionNetwork) -> FusionNetwork:
    network = copy.deepcopy(initial).double()
    for encoder in network.encoders:
        encoder.requires_grad_(False)
    for parameter in network.fusion.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return network


def naive_rows(network: FusionNetwork, group: PatientTensors) -> Tensor:
    """Each patient's gradient: the mean over examples, one by one.  # (patients, entries)"""
    parameters = list(trained_parameters(network).values())
    rows = []
    for number in range(group.patients):
        losses = [
            F.binary_cross_entropy_with_logits(
                network(group.images[row], group.present[row], encoded=True), group.label[row]
            )
            for row in torch.nonzero(group.patient == number).flatten()
        ]
        found = torch.autograd.grad(torch.stack(losses).mean(), parameters)
        rows.append(torch.cat([each.flatten() for each in found]))
    return torch.stack(rows)


@given(sizes=SIZES, seed=st.integers(0, 2**20))
@settings(max_examples=15, deadline=None)
def test_the_gradient_of_a_patient_is_that_of_the_mean_of_its_examples_losses(
    initial: FusionNetwork, sizes: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    network, group = in_double(initial), group_of(sizes, seed)
    ours = torch.cat([torch.from_numpy(rows) for rows in step_of(network, group).gradient_rows()])
    expected = naive_rows(network, group)
    largest = expected.abs().max()
    # Parts go by size; lengths and sums do not depend on the order.
    near = torch.cdist(ours, expected).min(dim=1)
    assert near.values.max() <= 1e-6 * largest
    assert sorted(near.indices.tolist()) == list(range(group.patients))
    mean = step_of(network, group).mean_gradient()
    total = torch.cat([value.flatten() for value in mean.values()])
    assert (total - expected.sum(0) / 3.0).abs().max() <= 1e-6 * largest


@given(sizes=SIZES, seed=st.integers(0, 2**20), clip=st.floats(0.01, 1.0))
@settings(max_examples=10, deadline=None)
def test_a_patient_of_many_examples_is_clipped_once(
    initial: FusionNetwork, sizes: list[int], seed: int, clip: float
) -> None:
    torch.manual_seed(seed)
    network, group = in_double(initial), group_of(sizes, seed)
    rows = naive_rows(network, group)
    # Opacus adds 1e-6 to a length.
    factor = (clip * (1 - 1e-4) / (rows.norm(dim=1) + 1e-6)).clamp(max=1.0)
    step = step_of(network, group)
    found = step.noised_gradient(clip, 0.0, SeededSource(1, "none"))
    total = torch.cat([value.flatten() for value in found.values()])
    expected = (rows * factor[:, None]).sum(0) / 3.0
    assert (total - expected).abs().max() <= 1e-6 * expected.abs().max()


@given(sizes=SIZES, seed=st.integers(0, 2**20), most=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_parts_hold_every_patient_once_and_whole(sizes: list[int], seed: int, most: int) -> None:
    group = group_of(sizes, seed)
    assert group.owner is not None
    group.images[:, 0, 0, 0, 0] = group.owner  # parts number their patients anew
    owners: list[float] = []
    for part in parts_alike(group, most):
        filled = by_patient(part)
        size = filled["present"].shape[0] * filled["weight"][0].numel() * part.slices
        assert part.patients == 1 or size <= most
        whose = part.images[:, 0, 0, 0, 0]
        for number in range(part.patients):
            own = whose[part.patient == number]
            assert len(own.unique()) == 1
            assert len(own) == (group.owner == own[0]).sum()
            owners.append(float(own[0]))
    assert sorted(owners) == sorted(set(group.owner.tolist()))


@given(sizes=SIZES, seed=st.integers(0, 2**20))
@settings(max_examples=40, deadline=None)
def test_weights_of_a_patient_add_up_to_one_and_padding_has_none(
    sizes: list[int], seed: int
) -> None:
    group = group_of(sizes, seed)
    filled = by_patient(group)
    assert filled["weight"].sum(-1).tolist() == pytest.approx([1.0] * len(sizes))
    assert (filled["weight"] > 0).sum() == len(group)
    shares = group.shares(128)
    assert (
        torch.zeros(len(sizes), dtype=torch.int64).index_add(0, group.patient, shares).eq(128).all()
    )
    for number in range(len(sizes)):
        own = shares[group.patient == number]
        assert own.max() - own.min() <= 1


def test_one_example_each_takes_no_other_way() -> None:
    """Nothing is gathered and no axis is added: runs of before give the same bits."""
    group = replace(group_of([1, 1, 1], 3), owner=None)
    filled = by_patient(group)
    assert filled["images"] is group.images
    assert filled["label"].shape == filled["weight"].shape == (3,)
    assert filled["weight"].tolist() == [1.0] * 3


def test_with_images_as_records_every_slice_stands_alone() -> None:
    group = group_of([2, 3], 1)
    records = one_slice_records(group)
    assert records.patients == len(records) == int(group.real.sum())
    assert records.owner is None


def test_groups_behind_one_another_keep_their_patients_apart() -> None:
    first, second = group_of([2, 1], 1), group_of([3], 2)
    both = concatenate([first, second, replace(group_of([1, 1], 3), owner=None)])
    assert both.patients == 2 + 1 + 2
    assert torch.equal(both.patient[:3], first.patient)
    assert both.patient[3:].tolist() == [2, 2, 2, 3, 4]


def test_a_step_draws_whole_patients_and_counts_patients(
    make_trainer: MakeTrainer, phantoms: PatientTensors
) -> None:
    owner = torch.arange(len(phantoms)) // 4  # sixteen rows of four patients
    trainer = make_trainer(
        train=replace(phantoms, owner=owner), mechanism=PRIVATE, sampling=Batch(2), local_steps=1
    )
    assert (trainer.patients, trainer.declared.records) == (4, 4)
    assert trainer.expected_batch == 2
    drawn = [trainer.draw(number, 0)[0].patients for number in range(12)]
    assert {each.patients for each in drawn} > {1, 2}
    for each in drawn:
        assert len(each) == 4 * each.patients
