"""The whole network: masks, padding, pooling, and gradients of single patients."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from securefed.model.encoders import ENCODERS
from securefed.model.network import Classifier, FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.training.private import refuse_batch_statistics

MakeNetwork = Callable[..., FusionNetwork]

# Which modalities of the axis are there, in each of the three slices of a patient: the query alone,
# without the query, and every other pattern of three modalities.
PATTERNS = {
    "".join("qcd"[i] if has else "-" for i, has in enumerate(pattern)): [
        [int(has)] * 3 for has in pattern
    ]
    for pattern in itertools.product([True, False], repeat=3)
    if any(pattern)
} | {"mixed and padded": [[1, 0, 0], [0, 1, 0], [1, 1, 0]]}
LEARN = ("fusion.locality_", "fusion.key_", "fusion.value_")  # of a context that is there
QUERY, CONTEXT = "ct", ("mri", "pet")


def _logits(network: FusionNetwork, group: PatientTensors) -> Tensor:
    return network(group.images, group.present)


def _gradients(network: FusionNetwork, group: PatientTensors) -> dict[str, Tensor]:
    network.zero_grad()
    F.binary_cross_entropy_with_logits(_logits(network, group), group.label).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def _patterned(phantoms: PatientTensors) -> PatientTensors:
    """A patient of each mask pattern, of three modalities; what a mask hides is junk, not zeros."""
    full = phantoms[phantoms.present[:, :, :3].all(dim=(1, 2))][: len(PATTERNS)]
    assert len(full) == len(PATTERNS)
    images = torch.cat([full.images, full.images[:, :1].flip(-1)], dim=1)[:, :, :3]
    present = torch.tensor(list(PATTERNS.values()), dtype=torch.bool)
    label = (torch.arange(len(PATTERNS)) % 2).float()
    return PatientTensors((QUERY, *CONTEXT), images, present, label)


def _other_junk(group: PatientTensors, seed: int) -> PatientTensors:
    noise = torch.randint(
        0, 256, group.images.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    return replace(group, images=torch.where(group.present[..., None, None], group.images, noise))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_one_finite_logit_per_patient_from_images_or_from_their_tokens(
    encoder: str, make_network: MakeNetwork, phantoms: PatientTensors
):
    network, group = make_network(encoder=encoder), phantoms[:2]
    with torch.no_grad():
        logits = _logits(network, group)
        tokens = network.encode(group.images.float() / 255, group.present)
        again = network(tokens, group.present, encoded=True)
    assert logits.shape == (2,)
    assert logits.isfinite().all()
    torch.testing.assert_close(again, logits)
    assert network(group.images[0], group.present[0]).shape == ()


def test_the_shape_decides_every_width(make_network: MakeNetwork):
    network = make_network(width=5, attention_width=3, head_width=7, image_size=40)
    assert network.shape == NetworkShape("compact", 40, 5, 3, 7)
    sizes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert sizes["fusion.query.weight"] == (3, 5)
    assert sizes["fusion.missing_ct"] == (5,)
    assert sizes["fusion.missing_mri"] == (3,)
    assert sizes["classifier.hidden.weight"] == (7, 8)
    more = make_network(width=5, attention_width=3, head_width=7, context=CONTEXT)
    assert more.classifier.hidden.weight.shape == (7, 5 + 2 * 3)
    assert sizes["classifier.output.weight"] == (1, 7)
    assert network.fusion.there.shape == (3, 25)


def test_the_network_holds_no_statistics_of_patients(make_network: MakeNetwork):
    network = make_network(encoder="resnet18")
    refuse_batch_statistics(network)
    assert set(network.state_dict()) == {name for name, _ in network.named_parameters()}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_patients_do_not_meet_in_a_batch(
    encoder: str, make_network: MakeNetwork, phantoms: PatientTensors
):
    network, group = make_network(encoder=encoder), phantoms[:5]
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
    network, group = make_network(context=CONTEXT), _patterned(phantoms)[row : row + 1]
    other = _other_junk(group, seed=row)
    assert not torch.equal(other.images, group.images)
    assert torch.equal(_logits(network, other), _logits(network, group))
    expected, got = _gradients(network, group), _gradients(network, other)
    assert expected.keys() == got.keys() == dict(network.named_parameters()).keys()
    for name, gradient in expected.items():
        assert gradient.isfinite().all(), name
        assert torch.equal(got[name], gradient), name


def test_only_parts_that_a_patient_has_learn_from_it(
    make_network: MakeNetwork, phantoms: PatientTensors
):
    network, group = make_network(context=CONTEXT), _patterned(phantoms)
    names = (QUERY, *CONTEXT)
    for row, pattern in enumerate(list(PATTERNS.values())[:-1]):
        has = dict(zip(names, (bool(each[0]) for each in pattern), strict=True))
        expected = {"classifier.": True, "fusion.query": any(has[name] for name in CONTEXT)}
        expected |= {f"fusion.missing_{name}": not has[name] for name in names}
        expected |= {f"{prefix}{name}": has[name] for prefix in LEARN for name in CONTEXT}
        expected |= {f"encoder_{name}": has[name] for name in names}
        gradients = _gradients(network, group[row : row + 1])
        for prefix, learns in expected.items():
            found = [bool(g.any()) for name, g in gradients.items() if name.startswith(prefix)]
            assert any(found) == learns, (prefix, has)


def test_every_mask_pattern_trains_and_predicts(
    make_network: MakeNetwork, phantoms: PatientTensors
):
    network, group = make_network(context=CONTEXT), _patterned(phantoms)
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


_PROPERTY_NETWORK = FusionNetwork(NetworkShape(image_size=32)).double()


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
        padded = _PROPERTY_NETWORK(tokens, has, encoded=True)
        bare = _PROPERTY_NETWORK(tokens[:, :real], has[:, :real], encoded=True)
    torch.testing.assert_close(padded, bare, atol=1e-6, rtol=1e-6)


@given(order=st.permutations(range(4)), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_the_order_of_slices_does_not_matter(order: list[int], seed: int):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(2, 4, 16, 8, generator=generator, dtype=torch.float64)
    has = torch.tensor([(1, 1), (1, 0), (0, 1), (0, 0)], dtype=torch.bool).T
    with torch.no_grad():
        given_order = _PROPERTY_NETWORK(tokens, has, encoded=True)
        permuted = _PROPERTY_NETWORK(tokens[:, order], has[:, order], encoded=True)
    torch.testing.assert_close(permuted, given_order, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("encoder", ["compact", "resnet18"])
def test_vmapped_gradients_are_those_of_each_patient_alone(
    encoder: str, make_network: MakeNetwork, phantoms: PatientTensors
):
    network = make_network(encoder=encoder, context=CONTEXT)
    rows = [0, 4] if encoder == "resnet18" else list(range(len(PATTERNS)))
    group = _patterned(phantoms)[torch.tensor(rows)]
    parameters = {name: p.detach() for name, p in network.named_parameters()}

    def loss(parameters: dict[str, Tensor], *patient: Tensor) -> Tensor:
        logit: Tensor = functional_call(network, parameters, patient[:2])
        return F.binary_cross_entropy_with_logits(logit, patient[2])

    each = vmap(grad(loss), in_dims=(None, 0, 0, 0))(
        parameters, group.images, group.present, group.label
    )
    for row in range(len(rows)):
        alone = _gradients(network, group[row : row + 1])
        largest = max(float(g.abs().max()) for g in alone.values())
        for name, gradient in alone.items():
            torch.testing.assert_close(
                each[name][row], gradient, atol=1e-4 * largest, rtol=1e-3, msg=name
            )
