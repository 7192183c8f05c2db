"""Shadow models repeat what the product does, step for step, and are dealt fairly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from attacks.errors import TooFewTargets
from attacks.membership.federation_replay import ReplayPlan, replay
from attacks.membership.head_gradients import (
    Drawn,
    HeadShape,
    gradients,
    records_of,
    summed_gradients,
)
from attacks.membership.shadow_models import (
    NoShadows,
    Shadows,
    balanced_membership,
    pool_of,
    prepare,
    replay_plan,
    train,
)
from attacks.parallel import side_by_side
from attacks.result import Effort
from attacks.subject import Hospital, Subject, Training
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.model.sharing import flatten, shared_names
from securefed.model.strategies.fedadam import FedAdam
from securefed.model.strategies.fedavg import FedAvg
from securefed.model.strategies.fedprox import FedProx
from securefed.model.strategies.strategy import State
from securefed.privacy.noise import SourceKind
from securefed.privacy.sampling import Batch
from securefed.training.mechanism import NoNoise
from securefed.training.noising_optimizer import CLIPPED
from securefed.training.patients import one_slice_records
from securefed.training.private import private_gradients
from securefed.training.trainer import LocalPlan, LocalTrainer
from securefed.wire.contribution import ContributionLayout

SHAPE = NetworkShape(
    image_size=32, width=4, attention_width=3, head_width=5, context=("mri", "pet")
)
ROUNDS = 4
PLAIN = Training(
    rounds=ROUNDS,
    local_steps=1,
    optimizer="sgd",
    learning_rate=0.3,
    clip_norm=None,
    unit="patient",
    shared_noise=False,
    strategy=FedAdam(0.03),
    delta=1e-5,
)


def some_patients(count: int, seed: int) -> PatientTensors:
    """Patients of 1 to 3 slices, some without one of the modalities."""
    draw = torch.Generator().manual_seed(seed)
    shape = (count, len(SHAPE.modalities), 3, 32, 32)
    images = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)
    slices = torch.randint(1, 4, (count, 1), generator=draw)
    real = torch.arange(3) < slices
    kind = torch.randint(0, 5, (count, 1), generator=draw)
    label = torch.randint(0, 2, (count,), generator=draw).float()
    present = torch.stack([real & (kind != i) for i in range(len(SHAPE.modalities))], dim=1)
    return PatientTensors(SHAPE.modalities, images, present, label)


def some_network() -> FusionNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = FusionNetwork(SHAPE)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.startswith(("fusion.", "classifier.")):
                    parameter.add_(0.3 * torch.randn_like(parameter))
    for encoder in network.encoders:
        encoder.requires_grad_(False)
    return network


def subject_of(
    training: Training, shared: str = "fusion+classifier", noise: float = 0.0
) -> Subject:
    network = some_network()
    hospitals = tuple(
        Hospital(f"h{i}", some_patients(n, i), some_patients(4, 9 + i), 1.0, noise, None, n, n)
        for i, n in enumerate((6, 10))
    )
    return Subject(
        configuration="plain",
        network=network,
        shared=tuple(shared_names(network, shared)),
        encoders_train=False,
        hospitals=hospitals,
        training=training,
        seed=7,
    )


def loss_of_patient(forward, patient):
    inputs = (patient[name] for name in ("images", "present"))
    return F.binary_cross_entropy_with_logits(forward(*inputs, encoded=True), patient["label"])


def product_gradients(
    network: FusionNetwork, group: PatientTensors, clip_norm: float
) -> torch.Tensor:
    """The product's own clipped sum over a group, without noise, as one vector."""
    tokens = tokens_of(network, group)
    names = ("images", "present", "label")
    found = private_gradients(
        network,
        loss_of_patient,
        [{name: getattr(tokens, name) for name in names}],
        clip_norm=clip_norm,
        noise_multiplier=0.0,
        expected_batch_size=1.0,
        source=_Silence(),
    )
    return torch.cat([value.reshape(-1) for value in found.values()])


class _Silence:
    """A source of noise that is asked for standard deviation 0 only."""

    kind: SourceKind = "seeded"

    def uniform(self, count):
        raise AssertionError("nothing is sampled here")

    def normal(self, shape, std, dtype=torch.float32):
        assert std == 0
        return torch.zeros(tuple(shape), dtype=dtype)


@pytest.mark.parametrize("clip_norm", [0.05, 0.5, 1e6])
def test_clipped_sum_is_that_of_dp_sgd(clip_norm: float) -> None:
    network, group = some_network(), some_patients(9, 1)
    records = records_of(tokens_of(network, group), each_slice=False)
    shape = HeadShape.of(network)
    head = replay_plan(subject_of(PLAIN)).initial[None]
    drawn = Drawn(torch.zeros(9, dtype=torch.long), torch.arange(9))
    with torch.no_grad():
        found = summed_gradients(shape, head, records, drawn, CLIPPED * clip_norm)[0]
    expected = product_gradients(network, group, clip_norm)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_many_models_at_once_equal_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    network, group = some_network(), some_patients(9, 1)
    records = records_of(tokens_of(network, group), each_slice=False)
    shape = HeadShape.of(network)
    draw = torch.Generator().manual_seed(0)
    heads = torch.randn(3, shape.size, generator=draw)
    model, record = torch.nonzero(torch.rand(3, 9, generator=draw) < 0.6, as_tuple=True)
    monkeypatch.setattr("attacks.membership.head_gradients.CHUNK", 700)  # several chunks
    together = summed_gradients(shape, heads, records, Drawn(model, record), 0.5)
    monkeypatch.undo()
    for index in range(3):
        own = record[model == index]
        alone = gradients(
            shape, heads[index : index + 1], records, Drawn(torch.zeros_like(own), own)
        )
        clipped = alone * (0.5 / (alone.norm(dim=1, keepdim=True) + 1e-6)).clamp(max=1.0)
        torch.testing.assert_close(together[index], clipped.sum(0), rtol=1e-4, atol=1e-6)


def test_slices_as_records_are_those_of_the_product() -> None:
    network, group = some_network(), some_patients(5, 2)
    records = records_of(tokens_of(network, group), each_slice=True)
    alone = one_slice_records(group)
    assert torch.equal(records.label, alone.label)
    drawn = Drawn(torch.zeros(len(alone), dtype=torch.long), torch.arange(len(alone)))
    head = replay_plan(subject_of(PLAIN)).initial[None]
    found = summed_gradients(HeadShape.of(network), head, records, drawn, 0.1)[0]
    torch.testing.assert_close(found, product_gradients(network, alone, 0.1), rtol=1e-4, atol=1e-6)


def federation_by_the_product(subject: Subject, shared: str) -> np.ndarray:
    """The released shared parameters, by the real trainers and strategy, everybody in each step."""
    training = subject.training
    trainers = []
    for hospital in subject.hospitals:
        plan = LocalPlan(
            shared=shared,
            train_encoders=False,
            optimizer=training.optimizer,
            learning_rate=training.learning_rate,
            local_steps=training.local_steps,
            sampling=Batch(100),
            proximal=training.strategy.proximal,
            unit=training.unit,
            seed=0,
            mechanism=NoNoise(ContributionLayout(1, 2, 4.0, 100)),
        )
        network = some_network()
        trainers.append(
            LocalTrainer(
                hospital.name, network, hospital.train, hospital.held_out, plan, None, "run"
            )
        )
    names = shared_names(some_network(), shared)
    released = flatten(dict(some_network().named_parameters()), names).astype(np.float64)
    strategy, state = training.strategy, State()
    weights = np.array([len(h.train) for h in subject.hospitals], dtype=np.float64)
    for number in range(1, training.rounds + 1):
        updates = []
        for trainer in trainers:
            trainer.receive(released.astype(np.float32))
            updates.append(trainer.contribute(number).astype(np.float64))
        mean = np.average(updates, axis=0, weights=weights)
        released, state = strategy.step(released, mean, state)
    return released


@pytest.mark.parametrize("shared", ["fusion+classifier", "classifier"])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"strategy": FedAvg(), "local_steps": 3},
        {"strategy": FedProx(0.5), "local_steps": 2},
        {"optimizer": "adam", "learning_rate": 0.01, "strategy": FedAvg(), "local_steps": 2},
    ],
)
def test_replay_ends_where_the_federation_ends(change: dict[str, object], shared: str) -> None:
    subject = subject_of(replace(PLAIN, **change), shared)  # type: ignore[arg-type]
    plan, pool = replay_plan(subject), pool_of(subject.network, subject)
    released = replay(plan, pool, pool.is_member[None], [1], lambda: None)[0]
    expected = federation_by_the_product(subject, shared)
    moved = np.abs(expected - plan.initial[plan.shared].numpy()).max()
    assert moved > 0.01, "nothing was trained"
    np.testing.assert_allclose(released[plan.shared], expected, atol=2e-3 * moved)
    assert torch.equal(released[~plan.shared], plan.initial[~plan.shared])


def released_without_gradients(training: Training, noise: float) -> torch.Tensor:
    """64 shadows after one round of FedAvg in which nobody was drawn."""
    subject = subject_of(training, noise=noise)
    hospitals = tuple(replace(h, sample_rate=1e-9) for h in subject.hospitals)
    plan = replace(replay_plan(subject), hospitals=hospitals)
    pool = pool_of(subject.network, subject)
    heads = replay(plan, pool, pool.is_member.repeat(64, 1), list(range(64)), lambda: None)
    return heads - plan.initial


def test_noise_of_hospitals_adds_up_as_in_fedavg() -> None:
    # FedAvg of per-hospital noise: std = lr * sigma * clip * sqrt(sum (n / N / expected)^2). With
    # 64 models of 90 entries the estimate is within 6 % but for chance of 1e-9.
    training = replace(PLAIN, rounds=1, clip_norm=0.5, strategy=FedAvg(), learning_rate=1.0)
    moved = released_without_gradients(training, noise=2.0)
    each = np.hypot(1 / 16, 1 / 16)  # n / N / expected, both hospitals
    assert moved.double().std().item() == pytest.approx(2.0 * 0.5 * each, rel=0.06)


def test_shared_noise_is_one_step_over_the_union() -> None:
    training = replace(
        PLAIN, rounds=1, clip_norm=0.5, strategy=FedAvg(), learning_rate=1.0, shared_noise=True
    )
    moved = released_without_gradients(training, noise=2.0)
    expected = 2.0 * 0.5 * np.sqrt(2) / 16
    assert moved.double().std().item() == pytest.approx(expected, rel=0.06)


def test_every_patient_is_in_and_out_of_as_many_shadows() -> None:
    subject = subject_of(PLAIN)
    pool = pool_of(subject.network, subject)
    inside = balanced_membership(pool, 16, 5)
    for hospital, members in enumerate((6, 10)):
        here = inside[:, pool.hospital == hospital]
        assert (here.sum(1) == members).all()
        counts = here.sum(0)
        assert int(counts.max() - counts.min()) <= 1
    assert not torch.equal(inside, balanced_membership(pool, 16, 6))


def test_same_seed_gives_the_same_shadows() -> None:
    training = replace(PLAIN, rounds=2, clip_norm=1.0)
    subject = subject_of(training, noise=1.0)
    plan, pool = replay_plan(subject), pool_of(subject.network, subject)
    inside = balanced_membership(pool, 10, 0)
    first, again, other = (train(plan, pool, inside, s, lambda _: None) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_quick_shadows_that_stop_early_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subject_of(PLAIN)
    released = flatten(dict(subject.network.named_parameters()), list(subject.shared))
    monkeypatch.setattr("attacks.membership.shadow_models.AFFORDABLE", {Effort.QUICK: 1200.0})
    shadows = prepare(subject, released, Effort.QUICK, lambda _: None)
    assert isinstance(shadows, Shadows)
    assert shadows.plan.training.rounds < ROUNDS
    assert f"of {ROUNDS} rounds" in shadows.caveats[0]
    assert shadows.losses.shape == (16, 24)


def test_encoders_that_are_trained_and_kept_leave_nothing_to_query() -> None:
    subject = replace(subject_of(PLAIN), encoders_train=True)
    answer = prepare(subject, np.zeros(1, np.float32), Effort.QUICK, lambda _: None)
    assert isinstance(answer, NoShadows)
    assert "encoders" in answer.reason


def test_a_run_without_held_out_patients_is_refused() -> None:
    subject = subject_of(PLAIN)
    nobody = tuple(replace(h, held_out=h.train[:0]) for h in subject.hospitals)
    with pytest.raises(TooFewTargets, match="held-out"):
        pool_of(subject.network, replace(subject, hospitals=nobody))


def test_pieces_of_work_end_when_one_fails() -> None:
    def work(item: int, told):
        for _ in range(1000):
            if item == 1:
                raise ValueError("broken")
            told()

    torch.set_num_threads(2)  # the work sets one
    with pytest.raises(ValueError, match="broken"):
        side_by_side(work, [1, 2], steps=1000, progress=lambda _: None)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_plan_takes_every_parameter_of_the_head() -> None:
    plan = replay_plan(subject_of(PLAIN, "classifier"))
    assert isinstance(plan, ReplayPlan)
    assert 0 < int(plan.shared.sum()) < plan.shape.size
