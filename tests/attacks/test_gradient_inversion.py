"""The search: it finds what a gradient determines, matches its parts' definitions, and refuses."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.errors import InvalidScores
from attacks.inversion.controls import NOISE, PLAIN, PRIVATE, controls
from attacks.inversion.gradient_inversion import (
    Recipe,
    Simulate,
    _add_variation_slope,
    _slope,
    count_labelled,
    infer_labels,
    invert,
)
from attacks.inversion.local_updates import LocalSteps, Presence, trained_names, updates_of
from attacks.inversion.reference_lenet import ReferenceLeNet, gradients_of, smooth_picture
from attacks.result import Effort
from attacks.verdicts import gate_complaint
from securefed.auditing.policy import read_policy
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.sharing import shared_names

SIDE = 32
SHARED = "fusion+classifier"


def network(seed: int = 0) -> FusionNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FusionNetwork(NetworkShape(image_size=SIDE, width=4, attention_width=4))


def presence(problems: int, patients: int = 1, *, mri: bool = True) -> Presence:
    present = torch.ones(problems, patients, 2, 1, dtype=torch.bool)
    present[:, :, 1] = mri
    label = (torch.arange(patients) % 2).float().expand(problems, patients)
    return Presence(present, label)


def linear(matrix: Tensor) -> Simulate:
    """An update that is linear in the image: the search has one right direction."""
    return lambda images: images.flatten(1) @ matrix


def test_the_slope_is_autograds_own_of_the_cosine_distance() -> None:
    drawn = torch.Generator().manual_seed(0)
    matrix = torch.randn(16, 30, generator=drawn, dtype=torch.float64)
    images = torch.rand(3, 1, 4, 4, generator=drawn, dtype=torch.float64).requires_grad_(True)
    target = F.normalize(torch.randn(3, 30, generator=drawn, dtype=torch.float64))
    distance = 1 - F.cosine_similarity(images.flatten(1) @ matrix, target)
    (expected,) = torch.autograd.grad(distance.sum(), images)
    assert torch.allclose(_slope(linear(matrix), target, images), expected, atol=1e-12)


def test_the_slope_of_total_variation_is_autograds_own() -> None:
    images = torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    images.requires_grad_(True)
    framed = F.pad(images, (1, 1, 1, 1))  # black beyond the edges
    down = (framed[..., 1:, :] - framed[..., :-1, :]).abs().sum()
    across = (framed[..., 1:] - framed[..., :-1]).abs().sum()
    (expected,) = torch.autograd.grad(0.7 * (down + across) / images[0].numel(), images)
    slope = torch.zeros_like(images)
    _add_variation_slope(slope, images.detach(), 0.7)
    assert torch.allclose(slope, expected, atol=1e-7)


def test_problems_are_solved_independently() -> None:
    matrix = torch.randn(16, 40, generator=torch.Generator().manual_seed(1))
    true = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    observed = true.flatten(1) @ matrix
    around = torch.full((1, 4, 4), 0.5)
    recipe = Recipe(30)
    both = invert(linear(matrix), observed, (1, 4, 4), recipe, 0, around=around)
    scaled = observed * torch.tensor([[1.0], [1e3]])  # only directions count
    other = invert(linear(matrix), scaled, (1, 4, 4), recipe, 0, around=around)
    alone = invert(linear(matrix), observed[:1], (1, 4, 4), recipe, 0, around=around)
    assert torch.allclose(both.images, other.images, atol=1e-4)
    assert torch.allclose(both.images[:1], alone.images, atol=1e-4)


def test_the_same_seed_gives_the_same_images_and_stays_in_the_box() -> None:
    matrix = torch.randn(16, 40, generator=torch.Generator().manual_seed(1))
    observed = torch.randn(2, 40, generator=torch.Generator().manual_seed(3))
    runs = [
        invert(linear(matrix), observed, (1, 4, 4), Recipe(20), seed).images for seed in (5, 5, 6)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert runs[0].min() >= 0
    assert runs[0].max() <= 1


def test_more_restarts_never_fit_worse() -> None:
    matrix = torch.randn(16, 40, generator=torch.Generator().manual_seed(1)).relu()
    observed = torch.randn(4, 40, generator=torch.Generator().manual_seed(3))
    once = invert(linear(matrix), observed, (1, 4, 4), Recipe(10), 0)
    thrice = invert(linear(matrix), observed, (1, 4, 4), Recipe(10, restarts=3), 0)
    assert (thrice.distance <= once.distance + 1e-6).all()


def test_steps_fall_linearly_to_zero() -> None:
    seen: list[Tensor] = []

    def identity(images: Tensor) -> Tensor:
        seen.append(images.detach().clone())
        return images.flatten(1)

    # Uphill in one pixel, downhill in the other, until the box ends it: the sign never changes.
    observed = torch.tensor([[1.0, -1.0]])
    around = torch.full((1, 1, 2), 0.5)
    invert(identity, observed, (1, 1, 2), Recipe(10, 0.05, 0.0), 0, around=around)
    moved = torch.stack(seen).diff(dim=0).flatten(1)  # (10, 2)
    expected = 0.05 * (1 - torch.arange(10) / 10)
    assert torch.allclose(moved, torch.stack([expected, -expected], dim=1), atol=1e-6)


def test_progress_ends_at_one_and_never_falls() -> None:
    seen: list[float] = []
    matrix = torch.eye(16)
    observed = torch.ones(1, 16)
    invert(linear(matrix), observed, (1, 4, 4), Recipe(5, restarts=2), 0, None, seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize("seed", [3, 8])  # two of the least favourable of 0 to 15
def test_the_controls_meet_the_policys_gates(seed: int) -> None:
    result = controls(Effort.QUICK, seed, lambda share: None)
    gates = [gate for gate in read_policy().gates if gate.attack == "inversion"]
    assert len(gates) == 4
    assert [gate_complaint(gate, result.controls) for gate in gates] == [None] * 4
    assert result.details[PLAIN][0]["label_right"] == 1.0
    assert result.details[PLAIN][0]["ssim"] > 0.6
    assert max(result.details[name][0]["ssim"] for name in (NOISE, PRIVATE)) < 0.3


def test_a_softmax_bias_gradient_names_the_label_of_every_class() -> None:
    net, labels = ReferenceLeNet(0), torch.arange(10)
    pictures = torch.stack([smooth_picture(i) for i in range(10)])
    gradients = gradients_of(net, labels)(pictures).detach()
    assert torch.equal(infer_labels(gradients[:, -10:]), labels)


def test_the_sign_of_a_sigmoid_bias_gradient_is_the_label() -> None:
    net, names = network(), shared_names(network(), SHARED)
    seen = presence(1, 2)
    images = torch.rand(2, 1, 2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    both = Presence(seen.present[:, :1].expand(2, 1, 2, 1), torch.tensor([[0.0], [1.0]]))
    change = updates_of(net, names, names, both, LocalSteps())(images).detach()
    assert infer_labels(-change[:, -1:]).tolist() == [0, 1]


@pytest.mark.parametrize("positive", [0, 3, 8])
def test_positives_in_a_batch_are_counted_from_the_bias_gradient(positive: int) -> None:
    probabilities = np.linspace(0.3, 0.6, 8)
    labels = np.arange(8) < positive
    gradient = float(np.mean(probabilities - labels))
    assert count_labelled(gradient, 8, float(probabilities.mean())) == positive


def test_one_unrolled_step_is_minus_the_gradient() -> None:
    net, seen = network(), presence(1, 2)
    names = shared_names(net, SHARED)
    images = torch.rand(1, 2, 2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    change = updates_of(net, names, names, seen, LocalSteps())(images)[0]
    logits = net(images[0] * 255, seen.present[0])
    loss = F.binary_cross_entropy_with_logits(logits, seen.label[0])
    gradient = torch.autograd.grad(loss, [net.get_parameter(name) for name in names])
    expected = -torch.cat([part.flatten() for part in gradient])
    assert torch.allclose(change, expected, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_unrolled_steps_are_those_of_torchs_optimizer(optimizer: str) -> None:
    net, seen = network(), presence(1, 2)
    names = shared_names(net, SHARED)
    images = torch.rand(1, 2, 2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    steps = LocalSteps(optimizer, 0.05, 3, proximal=0.1)
    change = updates_of(net, names, names, seen, steps)(images)[0]
    parameters = [net.get_parameter(name) for name in names]
    start = [p.detach().clone() for p in parameters]
    rule = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
    torchs = rule(parameters, lr=0.05)
    for _ in range(3):
        logits = net(images[0] * 255, seen.present[0])
        torchs.zero_grad()
        F.binary_cross_entropy_with_logits(logits, seen.label[0]).backward()
        for p, s in zip(parameters, start, strict=True):
            assert p.grad is not None
            p.grad += 0.1 * (p.detach() - s)
        torchs.step()
    moved = torch.cat([(p.detach() - s).flatten() for p, s in zip(parameters, start, strict=True)])
    # Adam divides by its own root: where a gradient is near 0 the corner is rounded off.
    assert torch.allclose(change, moved, atol=1e-5 if optimizer == "sgd" else 2e-2)
    assert F.cosine_similarity(change, moved, dim=0) > 0.999


def test_trained_encoders_are_part_of_the_update() -> None:
    net = network()
    names = trained_names(net, encoders_train=True)
    images = torch.rand(1, 1, 2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    change = updates_of(net, names, names, presence(1), LocalSteps())(images)[0]
    assert len(change) == sum(p.numel() for p in net.parameters())
    assert change[: net.state_dict()["encoder_ct.layers.0.weight"].numel()].abs().max() > 0


def test_a_missing_modality_is_not_searched() -> None:
    net, seen = network(), presence(1, mri=False)
    names = shared_names(net, SHARED)
    true = torch.rand(1, 1, 2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    simulate = updates_of(net, names, names, seen, LocalSteps())
    observed = simulate(true).detach()
    found = invert(simulate, observed, (1, 2, 1, SIDE, SIDE), Recipe(5), 0, seen.pixels)
    assert (found.images[:, :, 1] == 0.5).all()
    assert found.images[:, :, 0].std() > 0.1


def test_an_update_of_several_steps_is_inverted_better_by_unrolling_them() -> None:
    net, seen = network(), presence(1)
    names = shared_names(net, SHARED)
    true = torch.rand(1, 1, 2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    several = updates_of(net, names, names, seen, LocalSteps("sgd", 3.0, 4))
    one = updates_of(net, names, names, seen, LocalSteps())
    observed = several(true).detach()
    exact = invert(several, observed, (1, 2, 1, SIDE, SIDE), Recipe(25), 0)
    assert F.cosine_similarity(several(true), observed) > F.cosine_similarity(one(true), observed)
    assert exact.distance < 1 - F.cosine_similarity(one(true), observed).detach()


@pytest.mark.parametrize(
    ("observed", "said"),
    [
        (torch.zeros(1, 16), "zero everywhere"),
        (torch.full((1, 16), torch.nan), "not finite"),
        (torch.ones(16), "shape"),
        (torch.ones(1, 15), "simulated updates have shape"),
    ],
)
def test_updates_without_a_direction_or_of_another_size_are_refused(
    observed: Tensor, said: str
) -> None:
    with pytest.raises(InvalidScores, match=said):
        invert(linear(torch.eye(16)), observed, (1, 4, 4), Recipe(1), 0)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InvalidScores, match="find nothing"):
        Recipe(0)
    with pytest.raises(InvalidScores, match="find nothing"):
        Recipe(5, restarts=0)
    with pytest.raises(InvalidScores, match="step size"):
        Recipe(5, step_size=-1.0)
    with pytest.raises(InvalidScores, match="cannot unroll"):
        LocalSteps("lbfgs")
    with pytest.raises(InvalidScores, match="cannot count"):
        count_labelled(float("nan"), 8, 0.5)
    with pytest.raises(InvalidScores, match="bias gradients"):
        infer_labels(torch.ones(3))
    net, names = network(), shared_names(network(), SHARED)
    simulate = updates_of(net, names, names, presence(1), LocalSteps())
    with pytest.raises(InvalidScores, match="labels of shape"):
        simulate(torch.ones(2, 1, 2, 1, SIDE, SIDE))
    with pytest.raises(InvalidScores, match="2 images for 1 labels"):
        gradients_of(ReferenceLeNet(0), torch.tensor([1]))(torch.ones(2, 3, 32, 32))
