"""Gradients of single patients against plain autograd, one patient at a time, in double precision.

Rows, lengths and weighted sums are three ways through the same factors, and each parameter may go
by factors or by rows; all of them are held to 1e-6 of the largest entry.
"""

import warnings
from collections.abc import Mapping
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from securefed.errors import PrivacyError
from securefed.model.encoders import ENCODERS
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.training import per_patient
from securefed.training.factors import Products, Rows, Windows
from securefed.training.per_patient import Forward, PatientGradients, differentiate

WAYS = {"ghost norms": 0, "rows": 10**12, "by shape": per_patient.GHOST}
ALIKE_OF_R3D = tuple(
    f"network.encoder_{name}.layers.4.{block}"
    for name in ("ct", "mri")
    for block in ("0.conv2", "1.conv1", "1.conv2")
)
MASKS = st.sampled_from([(True, True), (True, False), (False, True), (False, False)])


class InDouble(nn.Module):
    """The whole network from images in double precision; its own forward makes them float32."""

    def __init__(self, encoder: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = FusionNetwork(NetworkShape(encoder, 32, 4, 4, 4)).double()
        with torch.no_grad():
            for parameter in self.network.fusion.parameters():
                parameter.add_(0.5 * torch.randn_like(parameter))

    def forward(self, images: Tensor, present: Tensor) -> Tensor:
        tokens = self.network.encode(images, present)
        logit: Tensor = self.network(tokens, present, encoded=True)
        return logit


@cache
def network_in_double(encoder: str) -> InDouble:
    return InDouble(encoder)


def network_loss(forward: Forward, patient: Mapping[str, Tensor]) -> Tensor:
    inputs = (patient[name] for name in ("images", "present"))
    return F.binary_cross_entropy_with_logits(forward(*inputs), patient["label"])


def patients_of(masks: list[list[tuple[bool, bool]]], seed: int) -> dict[str, Tensor]:
    """Random images, with the modalities that `masks` has for each slice of each patient."""
    generator = torch.Generator().manual_seed(seed)
    count, slices = len(masks), len(masks[0])
    images = torch.rand(2, count, slices, 32, 32, generator=generator, dtype=torch.float64)
    has = torch.tensor(masks)
    has[:, 0, 0] |= ~has.any(dim=2).any(dim=1)  # nobody is nothing but padding
    label = (torch.rand(count, generator=generator) < 0.5).double()
    return {"images": images.transpose(0, 1), "present": has.transpose(1, 2), "label": label}


def require_plain_autograd(
    model: nn.Module, loss, batch: Mapping[str, Tensor], gradients: PatientGradients
) -> None:
    """Rows, lengths and weighted sum of `gradients` are those of patients one after the other."""
    count = len(next(iter(batch.values())))
    weights = torch.linspace(0.1, 1.0, count, dtype=torch.float64)
    rows, sums = gradients.rows(), gradients.weighted_sum(weights)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert list(rows) == list(sums) == list(trained)
    # Nothing holds on to the graph, and with it to a part's activations.
    assert not any(g.requires_grad for g in (gradients.lengths, *rows.values(), *sums.values()))
    totals = {name: torch.zeros_like(p) for name, p in trained.items()}
    for row in range(count):
        value = loss(model, {name: tensor[row] for name, tensor in batch.items()})
        plain = torch.autograd.grad(value, list(trained.values()), materialize_grads=True)
        length = torch.stack([g.norm() for g in plain]).norm()
        torch.testing.assert_close(gradients.lengths[row], length, rtol=1e-6, atol=1e-12)
        for (name, total), gradient in zip(totals.items(), plain, strict=True):
            scale = float(gradient.abs().max())
            torch.testing.assert_close(
                rows[name][row], gradient, rtol=0, atol=1e-6 * scale + 1e-13, msg=name
            )
            total += weights[row] * gradient
    for name, total in totals.items():
        scale = float(total.abs().max())
        torch.testing.assert_close(sums[name], total, rtol=0, atol=1e-6 * scale + 1e-13, msg=name)


@pytest.mark.parametrize("way", WAYS)
@given(
    masks=st.integers(1, 3).flatmap(
        lambda slices: st.lists(
            st.lists(MASKS, min_size=slices, max_size=slices), min_size=1, max_size=4
        )
    ),
    seed=st.integers(0, 1000),
)
@settings(max_examples=12, deadline=None)
def test_every_parameter_of_the_network_has_the_gradient_of_plain_autograd(
    way: str, masks: list[list[tuple[bool, bool]]], seed: int
) -> None:
    """Several slices, missing modalities, padding; placeholders and scalars are parameters too."""
    model, batch = network_in_double("compact"), patients_of(masks, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(per_patient, "GHOST", WAYS[way])
        gradients = differentiate(model, network_loss, batch)
    require_plain_autograd(model, network_loss, batch, gradients)


@pytest.mark.parametrize("encoder", [name for name in ENCODERS if name != "compact"])
def test_so_has_every_parameter_of_every_encoder(encoder: str) -> None:
    masks = [[(True, True), (True, False)], [(False, True), (False, False)]]
    model, batch = network_in_double(encoder), patients_of(masks, 1)
    # Three of 20 convolutions alike stay out, for the memory of one gradient a patient.
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(ALIKE_OF_R3D))
    with warnings.catch_warnings():
        # What torch.func has no rule for goes patient by patient, slowly, and says so.
        warnings.simplefilter("error")
        gradients = differentiate(model, network_loss, batch)
    kinds = {type(factors) for factors in gradients._parts.values()}
    assert kinds == ({Rows} if encoder == "compact3d" else {Rows, Windows})  # both ways are tested
    require_plain_autograd(model, network_loss, batch, gradients)


class Odd(nn.Module):
    """What a model may do with layers and parameters besides calling each layer once."""

    def __init__(self) -> None:
        super().__init__()
        self.strided = nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2))
        self.depthwise = nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False)
        self.same = nn.Conv2d(8, 4, 3, padding="same")
        self.norm = nn.GroupNorm(2, 4)
        self.flat_norm = nn.GroupNorm(2, 4)
        self.layer_norm = nn.LayerNorm(4)
        self.twice = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.twice.weight
        self.half_frozen = nn.Linear(4, 4)
        self.half_frozen.weight.requires_grad_(False)
        self.unused = nn.Linear(2, 2)
        self.gain = nn.Parameter(torch.tensor(0.7))

    def forward(self, images: Tensor) -> Tensor:
        """(slices, 2, size, size) -> ()."""
        maps = self.same(self.depthwise(self.strided(images)).relu())
        maps = self.norm(maps)
        maps += 1.0  # in place, as residual connections do
        tokens = self.layer_norm(self.flat_norm(maps.mean((2, 3))))  # (slices, 4)
        tokens = self.tied(self.twice(self.twice(tokens)).tanh())
        tokens = self.half_frozen(tokens) * self.gain
        # A weight that is used beside its layer too.
        return tokens.square().mean() + 0.1 * (self.twice.weight @ tokens.T).sin().sum()


def odd_loss(forward: Forward, patient: Mapping[str, Tensor]) -> Tensor:
    return forward(patient["images"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("patients", "slices"), [(1, 1), (1, 3), (4, 1), (3, 2)])
def test_whatever_a_model_does_with_its_parameters_nothing_of_a_gradient_is_lost(
    way: str, patients: int, slices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = Odd().double()
    batch = {"images": torch.randn(patients, slices, 2, 7, 7, dtype=torch.float64)}
    monkeypatch.setattr(per_patient, "GHOST", WAYS[way])
    require_plain_autograd(model, odd_loss, batch, differentiate(model, odd_loss, batch))


def test_the_way_follows_from_shapes() -> None:
    """A wide layer of few places keeps factors, one of many places makes rows, one patient too."""
    torch.manual_seed(0)
    model = nn.Linear(40, 50, bias=False)

    def kind(patients: int, places: int) -> type:
        batch = {"x": torch.randn(patients, places, 40)}
        gradients = differentiate(model, lambda forward, p: forward(p["x"]).square().sum(), batch)
        return type(gradients._parts["weight"])

    assert kind(2, 3) is Products  # 200 * 9 < 2,000; torch alone would hand over rows
    assert kind(2, 4) is Rows
    assert kind(1, 3) is Rows


def test_a_length_is_right_where_nearly_all_of_a_gradient_cancels() -> None:
    """In single precision a ghost norm of what cancels can come out too small, and clip nobody."""
    torch.manual_seed(0)
    token = torch.randn(2, 1, 300).expand(2, 16, 300)
    signs = torch.tensor([1.0, -1.0]).repeat(8)[:, None]
    grad = signs * torch.randn(1, 1, 300) + 1e-4 * torch.randn(2, 16, 300)
    factors = Products(token.contiguous(), grad.contiguous())
    exact = Products(token.double(), grad.double()).rows().square().sum((1, 2))
    torch.testing.assert_close(factors.squares(), exact, rtol=1e-5, atol=0)
    single = (token @ token.transpose(1, 2)) * (grad @ grad.transpose(1, 2))
    assert bool(((single.sum((1, 2)) / exact - 1).abs() > 0.01).all())  # positive control
    terms = factors.input.norm(dim=2) * factors.grad.norm(dim=2)  # (2, 16)
    assert bool((terms.sum(1) > 1e3 * exact.sqrt()).all())  # the cancelling is real


def test_a_patient_that_is_not_finite_leaves_the_others_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.GroupNorm(1, 5), nn.Conv2d(5, 2, 3), nn.Flatten(0))

    def loss(forward: Forward, patient: Mapping[str, Tensor]) -> Tensor:
        return forward(patient["images"]).square().mean()

    images = torch.randn(4, 1, 3, 8, 8)
    healthy = differentiate(model, loss, {"images": images}).rows()
    images[1] = float("nan")
    images[2, 0, 0, 0, 0] = float("inf")
    rows = differentiate(model, loss, {"images": images}).rows()
    for name, values in rows.items():
        torch.testing.assert_close(values[[0, 3]], healthy[name][[0, 3]])


def test_gradients_that_are_known_join_as_they_are() -> None:
    rows = {"a": torch.randn(3, 2, 2), "b": torch.randn(3)}
    known = PatientGradients.of_rows(rows)
    lengths = torch.cat([rows["a"].flatten(1), rows["b"][:, None]], dim=1).norm(dim=1)
    torch.testing.assert_close(known.lengths.float(), lengths)
    total = known.weighted_sum(torch.tensor([1.0, 0.0, 2.0]))
    torch.testing.assert_close(total["b"], rows["b"][0] + 2 * rows["b"][2])
    nobody = PatientGradients.of_rows({name: values[:0] for name, values in rows.items()})
    assert not nobody.weighted_sum(nobody.lengths)["a"].any()


def test_a_loss_without_parameters_gives_zeros_and_one_that_goes_around_forward_is_refused() -> (
    None
):
    model, batch = nn.Linear(2, 1), {"x": torch.ones(3, 2)}
    still = differentiate(model, lambda forward, patient: patient["x"].sum(), batch)
    assert not still.lengths.any()
    with pytest.raises(PrivacyError, match="other than through forward"):
        differentiate(model, lambda forward, patient: model(patient["x"]).sum(), batch)
