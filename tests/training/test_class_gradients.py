"""Gradients of single patients with several classes, against plain autograd in double precision.

The patient stays the record: of however many examples and classes, its gradient is one vector.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from securefed.errors import DataError
from securefed.model import task
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.privacy.noise import SeededSource
from securefed.training import per_patient
from securefed.training.per_patient import trained_parameters
from tests.training.conftest import MakeTrainer
from tests.training.test_example_gradients import group_of, step_of

CLASSES = ("healthy", "glioma", "meningioma", "pituitary")
SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=5)  # examples of each patient
WAYS = {"ghost norms": 0, "rows": 10**12, "by shape": per_patient.GHOST}


def network_of_classes(seed: int, head_width: int = 4) -> FusionNetwork:
    torch.manual_seed(seed)
    network = FusionNetwork(
        NetworkShape(
            image_size=32, width=4, attention_width=4, head_width=head_width, classes=CLASSES
        )
    ).double()
    for encoder in network.encoders:
        encoder.requires_grad_(False)
    for parameter in network.fusion.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return network


def with_classes(sizes: list[int], seed: int) -> PatientTensors:
    group = group_of(sizes, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    label = torch.randint(len(CLASSES), (len(group),), generator=generator).double()
    return PatientTensors(group.modalities, group.images, group.present, label, group.owner)


def naive_rows(network: FusionNetwork, group: PatientTensors) -> Tensor:
    """Each patient's gradient, example by example.  # (patients, entries)"""
    parameters, rows = list(trained_parameters(network).values()), []
    for number in range(group.patients):
        losses = [
            F.cross_entropy(
                network(group.images[row], group.present[row], encoded=True)[None],
                group.label[row].long()[None],
            )
            for row in torch.nonzero(group.patient == number).flatten()
        ]
        found = torch.autograd.grad(torch.stack(losses).mean(), parameters)
        rows.append(torch.cat([each.flatten() for each in found]))
    return torch.stack(rows)


@pytest.mark.parametrize("way", WAYS)
@given(sizes=SIZES, seed=st.integers(0, 2**20))
@settings(max_examples=8, deadline=None)
def test_the_gradient_of_a_patient_is_that_of_its_examples_mean_cross_entropy(
    way: str, sizes: list[int], seed: int
) -> None:
    before, per_patient.GHOST = per_patient.GHOST, WAYS[way]
    try:
        network, group = network_of_classes(seed, head_width=6), with_classes(sizes, seed)
        step = step_of(network, group)
        ours = torch.cat([torch.from_numpy(rows) for rows in step.gradient_rows()])
        expected = naive_rows(network, group)
        # Patients stand in the order in which they go through the network.
        assert close(sorted_rows(ours), sorted_rows(expected))
        summed = step.mean_gradient()
        whole = torch.cat([summed[name].flatten() for name in step.shared]) * step.expected
        assert close(whole, expected.sum(dim=0))
    finally:
        per_patient.GHOST = before


@given(sizes=SIZES, seed=st.integers(0, 2**20))
@settings(max_examples=8, deadline=None)
def test_a_patient_is_clipped_once_whatever_it_has(sizes: list[int], seed: int) -> None:
    network, group = network_of_classes(seed), with_classes(sizes, seed)
    step, clip_norm = step_of(network, group), 0.05
    found = step.noised_gradient(clip_norm, 0.0, SeededSource(1, "test"))
    vector = torch.cat([found[name].flatten() for name in step.shared]) * step.expected
    rows = naive_rows(network, group)
    scale = (clip_norm / rows.norm(dim=1)).clamp(max=1.0)
    # The clip keeps a margin for rounding.
    assert close(vector, (rows * scale[:, None]).sum(dim=0), within=2e-4)
    assert vector.norm() <= clip_norm * len(sizes) * (1 + 1e-9)


def close(ours: Tensor, expected: Tensor, within: float = 1e-6) -> bool:
    largest = float(expected.abs().max())
    return bool((ours - expected).abs().max() <= within * largest)


def sorted_rows(rows: Tensor) -> Tensor:
    return rows[rows[:, 0].argsort()]


def test_two_labels_cost_what_they_did() -> None:
    torch.manual_seed(3)
    logits, weights = torch.randn(9), torch.rand(9)
    labels = (torch.rand(9) < 0.5).float()
    expected = F.binary_cross_entropy_with_logits(logits, labels, weight=weights, reduction="sum")
    assert torch.equal(task.loss(logits, labels, weights), expected)


def test_an_answer_nobody_has_a_logit_for_is_refused(
    make_trainer: MakeTrainer, phantoms: PatientTensors
) -> None:
    odd = PatientTensors(
        phantoms.modalities, phantoms.images, phantoms.present, phantoms.label * 3, None
    )
    with pytest.raises(DataError, match="labels go from 0 to 3, and the model knows 0 to 1"):
        make_trainer(train=odd)
