"""The DP-SGD step against a loop over patients, and the traps that Opacus leaves open."""

import copy
import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from securefed.errors import ConfigurationError, PrivacyError
from securefed.privacy.accounting import Event, epsilon
from securefed.privacy.ledger import Ledger
from securefed.privacy.noise import CryptographicSource, RandomSource, SeededSource
from securefed.training.noising_optimizer import CLIPPED
from securefed.training.per_patient import Forward, patient_gradients
from securefed.training.private import (
    poisson_sample,
    private_gradients,
    refuse_batch_statistics,
    require_declared_public,
)

FALSE_ALARM = 1e-4  # of each statistical test, over a newly drawn seed


class SliceNetwork(nn.Module):
    """Convolution, GroupNorm, attention over slices by Linear layers, one logit per patient."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 3), nn.GroupNorm(2, width), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.query = nn.Linear(width, width)
        self.head = nn.Linear(width, 1)
        self.temperature = nn.Parameter(torch.tensor(1.0))  # a parameter without axes

    def forward(self, slices: Tensor, present: Tensor) -> Tensor:
        """(slices, size, size), (slices,) bool -> () logit."""
        tokens = self.encoder(slices[:, None]).flatten(1)  # (slices, width)
        scores = self.query(tokens) @ tokens.T * self.temperature
        weights = torch.softmax(scores.masked_fill(~present, -1e9), dim=-1)
        return self.head((weights @ tokens).mean(0)).squeeze(-1)


def _loss(forward: Forward, patient: Mapping[str, Tensor]) -> Tensor:
    logit = forward(patient["slices"], patient["present"])
    return F.binary_cross_entropy_with_logits(logit, patient["label"])


def _network(seed: int = 0) -> SliceNetwork:
    torch.manual_seed(seed)
    return SliceNetwork()


def _batch(patients: int, slices: int = 3, seed: int = 0, scale: float = 1.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(patients, slices, generator=generator) < 0.8
    return {
        "slices": scale * torch.randn(patients, slices, 6, 6, generator=generator),
        "present": present,
        "label": (torch.rand(patients, generator=generator) < 0.5).float(),
    }


def _step(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    *,
    clip_norm: float = 1.0,
    noise_multiplier: float = 0.0,
    expected_batch_size: float = 1.0,
    source: RandomSource | None = None,
    chunk: int | None = None,
    loss=_loss,
) -> dict[str, Tensor]:
    size = chunk or max(1, *(len(tensor) for tensor in batch.values()))
    starts = range(0, max(1, *(len(tensor) for tensor in batch.values())), size)
    return private_gradients(
        model,
        loss,
        ({name: tensor[at : at + size] for name, tensor in batch.items()} for at in starts),
        clip_norm=clip_norm,
        noise_multiplier=noise_multiplier,
        expected_batch_size=expected_batch_size,
        source=source or SeededSource(1),
    )


def _norm(gradients: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradients.values()))


def _naive_clipped_sum(
    model: nn.Module, batch: Mapping[str, Tensor], clip_norm: float
) -> dict[str, Tensor]:
    """One patient after the other in double precision, by plain autograd."""
    model = copy.deepcopy(model).double()
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for row in range(len(batch["label"])):
        patient = {
            n: t[row].double() if t.is_floating_point() else t[row] for n, t in batch.items()
        }
        model.zero_grad()
        _loss(model, patient).backward()
        gradient = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        assert gradient.keys() == total.keys()
        factor = min(1.0, CLIPPED * clip_norm / _norm(gradient))
        for name, value in gradient.items():
            total[name] += factor * value
    return total


@given(
    patients=st.integers(0, 7),
    slices=st.integers(1, 4),
    clip_norm=st.floats(0.01, 10),
    chunk=st.none() | st.integers(1, 9),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_step_without_noise_is_the_naive_sum_of_clipped_gradients(
    patients: int, slices: int, clip_norm: float, chunk: int | None, seed: int
) -> None:
    model, batch = _network(seed), _batch(patients, slices, seed)
    ours = _step(model, batch, clip_norm=clip_norm, expected_batch_size=2.5, chunk=chunk)
    naive = _naive_clipped_sum(model, batch, clip_norm)
    assert ours.keys() == naive.keys()
    for name, value in naive.items():
        torch.testing.assert_close(
            ours[name].double(), value / 2.5, rtol=1e-4, atol=2e-5 * clip_norm
        )


@given(
    patients=st.integers(0, 5),
    clip_norm=st.floats(0.01, 5),
    scale=st.sampled_from([0.1, 1.0, 100.0, 1e4]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_one_patient_more_moves_the_sum_by_at_most_the_clip_norm(
    patients: int, clip_norm: float, scale: float, seed: int
) -> None:
    """The sensitivity that the accountant assumes, under add/remove adjacency."""
    model, batch = _network(seed), _batch(patients + 1, seed=seed, scale=scale)
    without = _step(model, {n: t[:-1] for n, t in batch.items()}, clip_norm=clip_norm)
    everyone = _step(model, batch, clip_norm=clip_norm)
    moved = _norm({name: everyone[name].double() - without[name].double() for name in everyone})
    assert moved <= clip_norm


def test_the_bound_holds_exactly_over_a_million_parameters() -> None:
    """Norm and sum are in single precision, whose rounding nothing accounts for."""
    torch.manual_seed(0)
    wide = nn.Linear(1_500_000, 1, bias=False)
    x = torch.randn(2, 1_500_000) * torch.logspace(-3, 3, 1_500_000)
    batch = {"x": x, "y": torch.ones(2)}

    def loss(forward: Forward, patient: Mapping[str, Tensor]) -> Tensor:
        return (forward(patient["x"]).squeeze(-1) - patient["y"]).square()

    one = _step(wide, {name: tensor[:1] for name, tensor in batch.items()}, loss=loss)
    both = _step(wide, batch, loss=loss)
    assert 0.999 < _norm(one) <= 1.0
    assert 0.999 < _norm({n: both[n].double() - one[n].double() for n in both}) <= 1.0


def test_clipping_bounds_the_patient_not_the_slice() -> None:
    """Twice the slices of a patient are still one clip_norm."""
    model, batch = _network(), _batch(1, slices=2, scale=50.0)
    more = {"slices": batch["slices"].repeat(1, 8, 1, 1), "present": batch["present"].repeat(1, 8)}
    clip_norm = 0.5 * _norm({n: g[0] for n, g in patient_gradients(model, _loss, batch).items()})
    assert _norm(_step(model, batch, clip_norm=clip_norm)) == pytest.approx(clip_norm, rel=2e-4)
    assert _norm(_step(model, {**batch, **more}, clip_norm=clip_norm)) <= clip_norm


def test_chunks_do_not_change_the_step() -> None:
    model, batch = _network(), _batch(11)
    whole = _step(model, batch, noise_multiplier=1.0)
    for chunk in (1, 4, 11, 50):
        parts = _step(model, batch, noise_multiplier=1.0, chunk=chunk)
        for name, value in whole.items():
            torch.testing.assert_close(parts[name], value, rtol=0, atol=2e-3)  # two grid steps


# Noise


def _no_gradient(forward: Forward, patient: Mapping[str, Tensor]) -> Tensor:
    return 0.0 * forward(patient["x"]).sum()


def _wide() -> nn.Module:
    return nn.Linear(300, 300)


def test_noise_has_the_stated_scale_and_is_added_once_over_all_chunks() -> None:
    """Standard deviation noise_multiplier * clip_norm / expected_batch_size."""
    gradients = _step(
        _wide(),
        {"x": torch.ones(6, 300)},
        loss=_no_gradient,
        clip_norm=0.7,
        noise_multiplier=1.9,
        expected_batch_size=4.0,
        source=SeededSource(5, "scale"),
        chunk=2,
    )
    noise = torch.cat([g.flatten() for g in gradients.values()]).double().numpy()
    scale = 1.9 * 0.7 / 4.0
    spread = float((noise**2).sum()) / scale**2
    assert FALSE_ALARM < stats.chi2.cdf(spread, len(noise)) < 1 - FALSE_ALARM
    # The grid of add_gaussian makes ties, far below what this many draws can resolve.
    assert stats.kstest(noise, "norm", args=(0, scale)).pvalue > FALSE_ALARM


def test_noise_is_divided_by_the_expected_batch_not_the_drawn_one() -> None:
    model, source = _wide(), lambda: SeededSource(3)
    few, many = (
        _step(
            model,
            {"x": torch.ones(patients, 300)},
            loss=_no_gradient,
            noise_multiplier=1.0,
            expected_batch_size=8.0,
            source=source(),
        )
        for patients in (1, 20)
    )
    assert all(torch.equal(few[name], many[name]) for name in few)


def test_parameters_get_independent_noise() -> None:
    model = nn.Sequential(nn.Linear(100, 100, bias=False), nn.Linear(100, 100, bias=False))
    first, second = _step(
        model, {"x": torch.ones(1, 100)}, loss=_no_gradient, noise_multiplier=1.0
    ).values()
    correlation = stats.pearsonr(first.flatten().numpy(), second.flatten().numpy())
    assert correlation.pvalue > FALSE_ALARM


def test_seeded_step_repeats_bit_for_bit_and_cryptographic_one_never() -> None:
    model, batch = _network(), _batch(5)
    again = [_step(model, batch, noise_multiplier=1.0, source=SeededSource(9, 3)) for _ in range(2)]
    assert all(torch.equal(again[0][name], again[1][name]) for name in again[0])
    fresh = [
        _step(model, batch, noise_multiplier=1.0, source=CryptographicSource()) for _ in range(2)
    ]
    assert not any(torch.equal(fresh[0][name], fresh[1][name]) for name in ("head.weight",))


# Sampling


def test_poisson_sampling_draws_each_patient_with_the_accounted_probability() -> None:
    rate, patients, draws = 0.3, 50, 4_000
    source = SeededSource(7, "sampling")
    counts = np.zeros(patients, int)
    sizes = []
    for _ in range(draws):
        drawn = poisson_sample(patients, rate, source)
        counts[drawn] += 1
        sizes.append(len(drawn))
    cdf = stats.binom.cdf(counts.sum(), patients * draws, rate)
    assert FALSE_ALARM < cdf < 1 - FALSE_ALARM
    per_patient = stats.norm.sf(abs(counts - rate * draws) / math.sqrt(draws * rate * (1 - rate)))
    assert 2 * per_patient.min() * patients > FALSE_ALARM  # Bonferroni
    # Batch sizes vary as a binomial does: fixed-size batches would be another mechanism.
    dispersion = np.var(sizes, ddof=1) * (draws - 1) / (patients * rate * (1 - rate))
    assert FALSE_ALARM < stats.chi2.cdf(dispersion, draws - 1) < 1 - FALSE_ALARM


def test_poisson_sampling_at_the_ends() -> None:
    assert poisson_sample(5, 1.0, SeededSource(1)).tolist() == [0, 1, 2, 3, 4]
    assert poisson_sample(0, 0.5, SeededSource(1)).tolist() == []
    assert poisson_sample(1000, 1e-9, SeededSource(1)).tolist() == []


@pytest.mark.parametrize("rate", [-0.1, 0.0, 1.1, math.nan])
def test_impossible_sampling_rate_is_refused(rate: float) -> None:
    with pytest.raises(ConfigurationError, match="sample_rate must be in"):
        poisson_sample(10, rate, SeededSource(1))


# The traps of Opacus


def test_trap_loss_of_shape_n_by_1_is_refused() -> None:
    """Ghost clipping broadcasts such a loss and silently stops clipping."""

    def column(forward: Forward, patient: Mapping[str, Tensor]) -> Tensor:
        return _loss(forward, patient).reshape(1)

    with pytest.raises(PrivacyError, match=r"must be a single number, got shape \(1,\)"):
        _step(_network(), _batch(3), loss=column)


def test_trap_bfloat16_autocast_keeps_to_the_clip_norm() -> None:
    def autocast(forward: Forward, patient: Mapping[str, Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logit = forward(patient["slices"], patient["present"])
        return F.binary_cross_entropy_with_logits(logit.float(), patient["label"])

    model, batch = _network(), _batch(24, scale=50.0)
    raw = patient_gradients(model, autocast, batch)
    norms, half = [], []
    for row in range(24):
        patient = {name: tensor[row : row + 1] for name, tensor in batch.items()}
        norms.append(_norm(_step(model, patient, loss=autocast, clip_norm=1e-3)))
        squares = torch.stack([g[row].bfloat16().square().sum() for g in raw.values()])
        true = _norm({name: g[row] for name, g in raw.items()})
        half.append(true / float(squares.sum().sqrt()))
    assert max(norms) <= 1e-3
    assert min(norms) > 0.99e-3  # every patient here is clipped, so the bound is put to the test
    assert max(half) > 1 + 1e-3  # positive control: norms in bfloat16 would let more through


def test_trap_parameters_in_half_precision_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"is torch\.bfloat16; clipping needs single"):
        _step(_network().bfloat16(), _batch(2))


def test_trap_fedprox_term_inside_the_loss_is_refused_not_dropped() -> None:
    model = _network()

    def with_proximal_term(forward: Forward, patient: Mapping[str, Tensor]) -> Tensor:
        term = sum((p - 1.0).square().sum() for p in model.parameters())
        return _loss(forward, patient) + 0.1 * term

    with pytest.raises(PrivacyError, match="other than through forward") as caught:
        _step(model, _batch(3), loss=with_proximal_term)
    assert "proximal" in (caught.value.hint or "")


def test_trap_fedprox_term_added_after_the_noise_arrives_whole() -> None:
    """The result is in p.grad's place: any torch optimizer takes it."""
    model = _network()
    start = {name: p.detach() - 3.0 for name, p in model.named_parameters()}
    gradients = _step(model, _batch(0), clip_norm=0.01)
    for name, parameter in model.named_parameters():
        parameter.grad = gradients[name] + 0.5 * (parameter.detach() - start[name])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name] - 0.1 * 0.5 * 3.0)


def test_trap_every_round_adds_to_one_history(tmp_path) -> None:
    """A new engine per round reports the same epsilon each round; the ledger spans them."""
    event, model = Event(1.5, 0.5, 1), _network()
    reported = []
    for round_number in range(3):  # everything but the file is made anew
        path = tmp_path / "ledger.sqlite"
        ledger = (
            Ledger.open(path)
            if path.exists()
            else Ledger.create(path, client="h", unit="patient", delta=1e-5, budget_epsilon=None)
        )
        ledger.reserve(round_number, event, run="r")
        _step(model, _batch(4), noise_multiplier=1.5, expected_batch_size=4)
        reported.append(ledger.spent())
    assert reported == [epsilon([Event(1.5, 0.5, n)], 1e-5) for n in (1, 2, 3)]
    assert reported[0] < reported[1] < reported[2]


def test_trap_sampling_rate_is_batch_over_patients() -> None:
    """Opacus takes 1/len(loader): for 1,000 patients in batches of 300 that is 1/4, not 0.3."""
    patients, batch_size = 1_000, 300
    source = SeededSource(8, "rate")
    drawn = sum(len(poisson_sample(patients, batch_size / patients, source)) for _ in range(400))
    low, high = stats.binom.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], 400 * patients, 0.3)
    assert low <= drawn <= high
    assert 400 * patients / math.ceil(patients / batch_size) < low


@pytest.mark.parametrize("chunk", [None, 4])
def test_trap_empty_poisson_batch_is_a_step_of_noise_alone(chunk: int | None) -> None:
    model = _network()
    gradients = _step(model, _batch(0), noise_multiplier=2.0, expected_batch_size=4.0, chunk=chunk)
    assert gradients.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        assert gradients[name].shape == parameter.shape
        assert bool((gradients[name] != 0).any())
    silent = _step(model, _batch(0), noise_multiplier=0.0)
    assert _norm(silent) == 0.0


def test_trap_multihead_attention_needs_no_special_layer() -> None:
    """Opacus refuses nn.MultiheadAttention; gradients by torch.func have no layer rules."""

    class Attentive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.head = nn.Linear(4, 1)

        def forward(self, tokens: Tensor) -> Tensor:
            attended, _ = self.attention(tokens[None], tokens[None], tokens[None])
            return self.head(attended.mean((0, 1))).squeeze()

    def loss(forward: Forward, patient: Mapping[str, Tensor]) -> Tensor:
        return forward(patient["tokens"]).square()

    torch.manual_seed(0)
    model, tokens = Attentive(), torch.randn(3, 5, 4)
    rows = patient_gradients(model, loss, {"tokens": tokens})
    for row in range(3):
        model.zero_grad()
        loss(model, {"tokens": tokens[row]}).backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(rows[name][row], parameter.grad, rtol=1e-4, atol=1e-6)


def test_trap_names_carry_no_module_prefix_and_nothing_stays_behind() -> None:
    """The model is neither wrapped nor hooked, and no patient's gradient is left on it."""
    model = _network()
    names = list(model.state_dict())
    gradients = _step(model, _batch(3), noise_multiplier=1.0)
    assert list(model.state_dict()) == names
    assert list(gradients) == [name for name, _ in model.named_parameters()]
    for parameter in model.parameters():
        assert parameter.grad is None
        assert not hasattr(parameter, "grad_sample")
        assert not hasattr(parameter, "summed_grad")
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks


def test_trap_nothing_stays_behind_after_a_failure_either() -> None:
    model, calls = _network(), []

    def fails_in_the_second_chunk(forward: Forward, patient: Mapping[str, Tensor]) -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return _loss(forward, patient)

    with pytest.raises(RuntimeError, match="out of memory"):
        _step(model, _batch(4), loss=fails_in_the_second_chunk, chunk=2)
    assert not any(hasattr(parameter, "summed_grad") for parameter in model.parameters())
    expected = _step(_network(), _batch(4))
    after = _step(model, _batch(4))
    assert all(torch.equal(after[name], expected[name]) for name in expected)


def test_trap_frozen_encoder_must_be_declared_public() -> None:
    """DP on the head alone is no DP if the encoder saw private data without it."""
    model = _network()
    model.encoder.requires_grad_(False)
    with pytest.raises(PrivacyError, match=r"encoder\.0\.weight is frozen but not declared public"):
        require_declared_public(model, [])
    with pytest.raises(PrivacyError, match=r"encoder\.0\.bias is frozen"):
        require_declared_public(model, ["encoder.0.weight"])
    require_declared_public(model, ["encoder"])
    require_declared_public(_network(), [])


def test_declaration_of_an_unknown_part_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'encode' is declared public"):
        require_declared_public(_network(), ["encode"])


def test_frozen_parameters_get_no_gradient_and_are_not_clipped_against() -> None:
    model, batch = _network(), _batch(4, scale=30.0)
    model.encoder.requires_grad_(False)
    gradients = _step(model, batch, noise_multiplier=1.0)
    assert not any(name.startswith("encoder.") for name in gradients)
    head = patient_gradients(model, _loss, batch)
    assert set(head) == {
        "query.weight", "query.bias", "head.weight", "head.bias", "temperature",
    }  # fmt: skip


def test_opacus_own_sum_of_clipped_gradients_is_ours() -> None:
    """Side by side with Opacus' GradSampleModule on a plain network, without noise."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 1))
    x, y = torch.randn(8, 5, requires_grad=True), torch.randn(8)  # Opacus' hooks warn without
    ours = _step(
        model,
        {"x": x, "y": y},
        loss=lambda forward, p: (forward(p["x"]).squeeze(-1) - p["y"]).square(),
        clip_norm=0.3,
        expected_batch_size=8.0,
    )
    wrapped = GradSampleModule(copy.deepcopy(model))
    optimizer = DPOptimizer(
        torch.optim.SGD(wrapped.parameters(), lr=0.0),
        noise_multiplier=0.0,
        max_grad_norm=CLIPPED * 0.3,
        expected_batch_size=8,
    )
    (wrapped(x).squeeze(-1) - y).square().mean().backward()
    optimizer.pre_step()
    for name, parameter in wrapped._module.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-5, atol=1e-7)


# Damaged patients and refusals


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_patient_with_a_gradient_that_is_not_finite_contributes_zero(bad: float) -> None:
    model, batch = _network(), _batch(4)
    healthy = _step(model, {name: tensor[1:] for name, tensor in batch.items()})
    batch["slices"][0] = bad
    model_output = _step(model, batch)
    if math.isfinite(bad):  # large, yet finite: clipped like any other
        moved = _norm({name: model_output[name] - healthy[name] for name in healthy})
        assert moved <= 1 + 1e-5
    else:
        for name, value in healthy.items():
            torch.testing.assert_close(model_output[name], value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("layer", "refused"),
    [
        (nn.BatchNorm2d(4), True),
        (nn.BatchNorm1d(4), True),
        (nn.SyncBatchNorm(4), True),
        (nn.InstanceNorm2d(4, track_running_stats=True), True),
        (nn.InstanceNorm2d(4), False),
        (nn.GroupNorm(2, 4), False),
        (nn.LayerNorm(4), False),
    ],
)
def test_layers_with_statistics_over_patients_are_refused_by_name(
    layer: nn.Module, refused: bool
) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(layer))
    if not refused:
        refuse_batch_statistics(model)
        return
    with pytest.raises(ConfigurationError, match=rf"layer 1\.0 \({type(layer).__name__}\)"):
        refuse_batch_statistics(model)
    with pytest.raises(ConfigurationError, match="statistics over patients"):
        _step(model, {"x": torch.ones(2, 3)}, loss=_no_gradient)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"clip_norm": 0.0}, "clip_norm must be positive and finite, got 0.0"),
        ({"clip_norm": math.inf}, "clip_norm must be positive"),
        ({"clip_norm": math.nan}, "clip_norm must be positive"),
        ({"noise_multiplier": -1.0}, "noise_multiplier must be finite"),
        ({"noise_multiplier": math.nan}, "noise_multiplier must be finite"),
        ({"expected_batch_size": 0.0}, "expected_batch_size must be positive"),
    ],
)
def test_impossible_settings_are_refused(setting: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        _step(_network(), _batch(2), **setting)


def test_batch_of_unequal_lengths_is_refused() -> None:
    batch = _batch(3)
    batch["label"] = batch["label"][:2]
    with pytest.raises(ConfigurationError, match="differ in their first axis"):
        _step(_network(), batch)


def test_model_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no trainable parameters"):
        _step(_network().requires_grad_(False), _batch(2))
