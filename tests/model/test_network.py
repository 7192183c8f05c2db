"""The whole network: masks, padding, pooling, and gradients of single patients."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from securefed.model.network import Classifier, DualEncoderNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.training.private import refuse_batch_statistics

MakeNetwork = Callable[..., DualEncoderNetwork]

# (CT there, MRI there) of the three slices of a patient
PATTERNS = {
    "both": ([1, 1, 1], [1, 1, 1]),
    "ct only": ([1, 1, 1], [0, 0, 0]),
    "mri only": ([0, 0, 0], [1, 1, 1]),
    "mixed and padded": ([1, 0, 0], [0, 1, 0]),
}


def _logits(network: DualEncoderNetwork, group: PatientTensors) -> Tensor:
    return network(group.ct, group.mri, group.has_ct, group.has_mri)


def _gradients(network: DualEncoderNetwork, group: PatientTensors) -> dict[str, Tensor]:
    network.zero_grad()
    F.binary_cross_entropy_with_logits(_logits(network, group), group.label).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def _patterned(phantoms: PatientTensors) -> PatientTensors:
    """Four patients, one of each mask pattern; what a mask hides is junk, not zeros."""
    has_ct, has_mri = (
        torch.tensor([pattern[i] for pattern in PATTERNS.values()], dtype=torch.bool)
        for i in (0, 1)
    )
    full = phantoms[(phantoms.has_ct & phantoms.has_mri)[:, :3].all(dim=1)][:4]
    assert len(full) == 4
    return PatientTensors(
        full.ct[:, :3], full.mri[:, :3], has_ct, has_mri, torch.tensor([1.0, 0.0, 1.0, 0.0])
    )


def _other_junk(group: PatientTensors, seed: int) -> PatientTensors:
    noise = torch.randint(
        0, 256, group.ct.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    return replace(
        group,
        ct=torch.where(group.has_ct[..., None, None], group.ct, noise),
        mri=torch.where(group.has_mri[..., None, None], group.mri, noise),
    )


@pytest.mark.parametrize("encoder", ["compact", "resnet18"])
def test_one_finite_logit_per_patient_from_images_or_from_their_tokens(
    encoder: str, make_network: MakeNetwork, phantoms: PatientTensors
):
    network, group = make_network(encoder=encoder), phantoms[:2]
    with torch.no_grad():
        logits = _logits(network, group)
        tokens = network.encode(group.ct.float() / 255, group.mri.float() / 255)
        again = network(*tokens, group.has_ct, group.has_mri, encoded=True)
    assert logits.shape == (2,)
    assert logits.isfinite().all()
    torch.testing.assert_close(again, logits)
    assert network(group.ct[0], group.mri[0], group.has_ct[0], group.has_mri[0]).shape == ()


def test_the_shape_decides_every_width(make_network: MakeNetwork):
    network = make_network(width=5, attention_width=3, head_width=7, image_size=40)
    assert network.shape == NetworkShape("compact", 40, 5, 3, 7)
    sizes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert sizes["fusion.query.weight"] == (3, 5)
    assert sizes["fusion.missing_ct"] == (5,)
    assert sizes["fusion.missing_mri"] == (3,)
    assert sizes["classifier.hidden.weight"] == (7, 8)
    assert sizes["classifier.output.weight"] == (1, 7)
    assert network.fusion.there.shape == (3, 25)


def test_the_network_holds_no_statistics_of_patients(make_network: MakeNetwork):
    network = make_network(encoder="resnet18")
    refuse_batch_statistics(network)
    assert set(network.state_dict()) == {name for name, _ in network.named_parameters()}


def test_patients_do_not_meet_in_a_batch(make_network: MakeNetwork, phantoms: PatientTensors):
    network, group = make_network(), phantoms[:5]
    with torch.no_grad():
        together = _logits(network.train(), group)
        alone = torch.cat([_logits(network, group[row : row + 1]) for row in range(5)])
        torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(_logits(network.eval(), group), together)


def test_a_logit_is_the_log_mean_exp_over_places_of_real_slices():
    torch.manual_seed(0)
    head = Classifier(5, 4).double()
    joined = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    has_slice = torch.tensor([[True, True, False], [True, False, False]])
    with torch.no_grad():
        places = head.output(torch.relu(head.hidden(joined)))[..., 0]
        pooled = head(joined, has_slice)
    first = torch.log(torch.exp(places[0, :2]).mean())
    second = torch.log(torch.exp(places[1, :1]).mean())
    torch.testing.assert_close(pooled, torch.stack([first, second]))
    assert places[0, :2].mean() < pooled[0] < places[0, :2].max()  # a smooth maximum


@pytest.mark.parametrize("pattern", list(PATTERNS)[1:])
def test_content_behind_a_false_mask_moves_no_logit_and_no_gradient_by_one_bit(
    pattern: str, make_network: MakeNetwork, phantoms: PatientTensors
):
    row = list(PATTERNS).index(pattern)
    network, group = make_network(), _patterned(phantoms)[row : row + 1]
    other = _other_junk(group, seed=row)
    assert not (torch.equal(other.ct, group.ct) and torch.equal(other.mri, group.mri))
    assert torch.equal(_logits(network, other), _logits(network, group))
    expected, got = _gradients(network, group), _gradients(network, other)
    assert expected.keys() == got.keys() == dict(network.named_parameters()).keys()
    for name, gradient in expected.items():
        assert gradient.isfinite().all(), name
        assert torch.equal(got[name], gradient), name


def test_only_parts_that_a_patient_has_learn_from_it(
    make_network: MakeNetwork, phantoms: PatientTensors
):
    network, group = make_network(), _patterned(phantoms)
    parts = {
        "ct only": ("encoder_ct.", "fusion.missing_mri", "classifier."),
        "mri only": ("encoder_mri.", "fusion.missing_ct", "fusion.value", "classifier."),
    }
    silent = {
        "ct only": (
            "encoder_mri.",
            "fusion.missing_ct",
            "fusion.query",
            "fusion.key",
            "fusion.value",
        ),
        "mri only": ("encoder_ct.", "fusion.missing_mri"),
    }
    for pattern in parts:
        row = list(PATTERNS).index(pattern)
        gradients = _gradients(network, group[row : row + 1])
        for prefix in parts[pattern]:
            assert any(g.any() for n, g in gradients.items() if n.startswith(prefix)), prefix
        for prefix in silent[pattern]:
            assert not any(g.any() for n, g in gradients.items() if n.startswith(prefix)), prefix


def test_all_four_mask_patterns_train_and_predict(
    make_network: MakeNetwork, phantoms: PatientTensors
):
    network, group = make_network(), _patterned(phantoms)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    with torch.no_grad():
        before = F.binary_cross_entropy_with_logits(_logits(network, group), group.label)
    for _ in range(60):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(_logits(network, group), group.label).backward()
        optimizer.step()
    with torch.no_grad():
        logits = _logits(network, group)
    assert F.binary_cross_entropy_with_logits(logits, group.label) < 0.5 * before
    assert torch.equal(logits > 0, group.label.bool())


_PROPERTY_NETWORK = DualEncoderNetwork(NetworkShape(image_size=32)).double()


@given(
    real=st.integers(1, 5),
    padding=st.integers(1, 4),
    masks=st.lists(st.sampled_from([(1, 1), (1, 0), (0, 1)]), min_size=5, max_size=5),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_padding_slices_have_no_say(
    real: int, padding: int, masks: list[tuple[int, int]], seed: int
):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(2, real + padding, 16, 8, generator=generator, dtype=torch.float64)
    has = torch.tensor(masks[:real] + [(0, 0)] * padding, dtype=torch.bool).T  # (2, slices)
    with torch.no_grad():
        padded = _PROPERTY_NETWORK(*tokens, *has, encoded=True)
        bare = _PROPERTY_NETWORK(*tokens[:, :real], *has[:, :real], encoded=True)
    torch.testing.assert_close(padded, bare, atol=1e-6, rtol=1e-6)


@given(order=st.permutations(range(4)), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_the_order_of_slices_does_not_matter(order: list[int], seed: int):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(2, 4, 16, 8, generator=generator, dtype=torch.float64)
    has = torch.tensor([(1, 1), (1, 0), (0, 1), (0, 0)], dtype=torch.bool).T
    with torch.no_grad():
        given_order = _PROPERTY_NETWORK(*tokens, *has, encoded=True)
        permuted = _PROPERTY_NETWORK(*tokens[:, order], *has[:, order], encoded=True)
    torch.testing.assert_close(permuted, given_order, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("encoder", ["compact", "resnet18"])
def test_vmapped_gradients_are_those_of_each_patient_alone(
    encoder: str, make_network: MakeNetwork, phantoms: PatientTensors
):
    network = make_network(encoder=encoder)
    rows = [0, 1] if encoder == "resnet18" else [0, 1, 2, 3]
    group = _patterned(phantoms)[torch.tensor(rows)]
    parameters = {name: p.detach() for name, p in network.named_parameters()}

    def loss(parameters: dict[str, Tensor], *patient: Tensor) -> Tensor:
        logit: Tensor = functional_call(network, parameters, patient[:4])
        return F.binary_cross_entropy_with_logits(logit, patient[4])

    each = vmap(grad(loss), in_dims=(None, 0, 0, 0, 0, 0))(
        parameters, group.ct, group.mri, group.has_ct, group.has_mri, group.label
    )
    for row in range(len(rows)):
        alone = _gradients(network, group[row : row + 1])
        largest = max(float(g.abs().max()) for g in alone.values())
        for name, gradient in alone.items():
            torch.testing.assert_close(
                each[name][row], gradient, atol=1e-4 * largest, rtol=1e-3, msg=name
            )
