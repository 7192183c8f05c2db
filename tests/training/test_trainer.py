"""A hospital's training: reserved first, repeatable bit for bit, personal parameters at home."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from securefed.errors import BudgetExceeded, ConfigurationError, PrivacyError, RunError
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors
from securefed.model.scores import count_scores, score
from securefed.model.sharing import SHARED_GROUPS, flatten, shared_names
from securefed.privacy.accounting import Event
from securefed.privacy.ledger import Ledger
from securefed.privacy.noise import KeystreamSource, SeededSource
from securefed.privacy.sampling import Batch
from securefed.training import step
from securefed.training import trainer as local
from securefed.training.mechanism import Mechanism, NoNoise, OwnNoise
from securefed.training.patients import one_slice_records
from securefed.training.private import poisson_sample
from securefed.training.trainer import LocalTrainer
from securefed.wire.contribution import ContributionLayout

MakeTrainer = Callable[..., LocalTrainer]

LAYOUT = ContributionLayout(1, clients=4, value_range=4.0, max_patients=100)
PLAIN = NoNoise(LAYOUT)
PRIVATE = OwnNoise(LAYOUT, clip_norm=0.5, noise_multiplier=1.0, secret_noise=False)


def _parameters(trainer: LocalTrainer) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in trainer.network.named_parameters()}


def _assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def _own_ledger(trainer: LocalTrainer) -> Ledger:
    ledger = trainer._ledger
    assert ledger is not None
    return ledger


# ---- one round -------------------------------------------------------------------------------


@pytest.mark.parametrize("group", sorted(SHARED_GROUPS))
def test_the_update_is_the_change_of_the_shared_parameters_alone(
    group: str, make_trainer: MakeTrainer
):
    trainer = make_trainer(shared=group, train_encoders=True, sampling=Batch(4))
    names = shared_names(trainer.network, group)
    before = _parameters(trainer)
    update = trainer.contribute(1)
    after = _parameters(trainer)
    assert update.dtype == np.float32
    assert np.array_equal(update, flatten(after, names) - flatten(before, names))
    assert update.any()
    # Everything trains, and what is not shared is personal.
    personal = trainer.personal()
    assert personal.keys() == after.keys() - set(names)
    for name, value in personal.items():
        assert torch.equal(value, after[name])
        assert not torch.equal(value, before[name]), name


def test_frozen_encoders_stay_as_they_came_and_are_not_personal(make_trainer: MakeTrainer):
    trainer = make_trainer()
    before = _parameters(trainer)
    trainer.contribute(1)
    for name, value in _parameters(trainer).items():
        assert torch.equal(value, before[name]) == name.startswith("encoder_"), name
    assert {name.split(".")[0] for name in trainer.personal()} == {"fusion"}
    assert not any("encoder" in name for name in trainer.state())


def test_a_received_vector_becomes_the_shared_parameters(make_trainer: MakeTrainer):
    trainer = make_trainer()
    names = shared_names(trainer.network, "classifier")
    before = _parameters(trainer)
    vector = np.linspace(-1, 1, len(flatten(before, names)), dtype=np.float32)
    trainer.receive(vector)
    assert np.array_equal(flatten(_parameters(trainer), names), vector)
    with pytest.raises(RunError, match="non-finite"):
        trainer.receive(np.full_like(vector, np.nan))
    assert np.array_equal(flatten(_parameters(trainer), names), vector)


def _plain_step(
    trainer: LocalTrainer, group: PatientTensors, rate: float, step: int, seed: int
) -> dict[str, Tensor]:
    """Mean gradient of the Poisson batch of a step, by plain autograd over single patients."""
    rows = poisson_sample(len(group), rate, SeededSource(seed, "training", "clinic", 1, step))
    network, total = trainer.network, dict[str, Tensor]()
    for row in rows:
        network.zero_grad()
        one = group[int(row) : int(row) + 1]
        logit = network(one.images, one.present)
        F.binary_cross_entropy_with_logits(logit, one.label).backward()
        for name, parameter in network.named_parameters():
            if parameter.grad is not None:
                gradient = total.get(name, 0) + parameter.grad / (rate * len(group))
                total[name] = gradient.clone()
    network.zero_grad()
    return total


def test_a_plain_round_is_sgd_on_poisson_batches_over_the_expected_batch_size(
    make_trainer: MakeTrainer, phantoms: PatientTensors
):
    trainer, oracle = (make_trainer(mechanism=PLAIN, local_steps=2) for _ in range(2))
    trainer.contribute(1)
    for number in range(2):
        gradients = _plain_step(oracle, phantoms, 6 / 16, number, seed=11)
        with torch.no_grad():
            for name, parameter in oracle.network.named_parameters():
                if name in gradients:
                    parameter.sub_(0.5 * gradients[name])
    expected = _parameters(oracle)
    for name, value in _parameters(trainer).items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("train_encoders", [False, True])
@pytest.mark.parametrize("unit", ["patient", "image"])
def test_huge_clipping_and_vanishing_noise_give_the_plain_round(
    unit: str, train_encoders: bool, make_trainer: MakeTrainer
):
    settings: dict[str, Any] = {
        "unit": unit,
        "train_encoders": train_encoders,
        "sampling": Batch(4),
    }
    plain = make_trainer(mechanism=PLAIN, **settings)
    private = make_trainer(mechanism=OwnNoise(LAYOUT, 1e3, 1e-10, secret_noise=False), **settings)
    update = plain.contribute(1)
    assert np.abs(update).max() > 1e-3
    np.testing.assert_allclose(private.contribute(1), update, atol=2e-6, rtol=1e-4)
    for name, value in private.personal().items():
        torch.testing.assert_close(value, plain.personal()[name], atol=2e-6, rtol=1e-4)


def test_clipping_bounds_a_noiseless_private_step_and_not_a_plain_one(make_trainer: MakeTrainer):
    clip_norm = 1e-3
    settings: dict[str, Any] = {"local_steps": 1, "sampling": Batch(16), "learning_rate": 1.0}
    private = make_trainer(
        mechanism=OwnNoise(LAYOUT, clip_norm, 0.0, secret_noise=False), **settings
    )
    plain = make_trainer(mechanism=PLAIN, **settings)
    lengths = []
    for trainer in (private, plain):
        before = _parameters(trainer)
        trainer.contribute(1)
        change = [value - before[name] for name, value in _parameters(trainer).items()]
        lengths.append(float(torch.cat([c.flatten() for c in change]).norm()))
    # sample_rate is 1: sixteen gradients of at most clip_norm, over sixteen.
    assert 0.1 * clip_norm < lengths[0] <= clip_norm * (1 + 1e-5)
    assert lengths[1] > 10 * clip_norm


def test_an_empty_draw_is_a_step_of_noise_alone(make_trainer: MakeTrainer):
    settings: dict[str, Any] = {"sampling": Batch(1), "local_steps": 1, "seed": 3}
    rows = poisson_sample(16, 1 / 16, SeededSource(3, "training", "clinic", 1, 0))
    assert len(rows) == 0
    assert not make_trainer(mechanism=PLAIN, **settings).contribute(1).any()
    assert make_trainer(**settings).contribute(1).all()
    assert make_trainer(**settings, train_encoders=True).contribute(1).all()


@pytest.mark.parametrize("private", [PLAIN, PRIVATE], ids=["plain", "private"])
def test_the_proximal_pull_is_mu_times_the_distance_after_clipping_and_noise(
    private: Mechanism, make_trainer: MakeTrainer
):
    """Two SGD steps: the first starts at the received parameters, where there is no pull.

    So u2(mu) = u2(0) - rate * mu * u1, exactly, for the shared parameters and no others.
    """
    mu, rate = 0.4, 0.5
    one = make_trainer(
        mechanism=private, local_steps=1, proximal=mu, learning_rate=rate
    ).contribute(1)
    without = make_trainer(mechanism=private, local_steps=2, learning_rate=rate)
    pulled = make_trainer(mechanism=private, local_steps=2, proximal=mu, learning_rate=rate)
    free, update = without.contribute(1), pulled.contribute(1)
    assert np.abs(rate * mu * one).max() > 1e-3
    np.testing.assert_allclose(update, free - rate * mu * one, atol=1e-6, rtol=1e-4)
    _assert_equal(pulled.personal(), without.personal())


def test_modality_dropout_shows_records_with_one_modality_and_leaves_the_patients_whole(
    make_trainer: MakeTrainer, phantoms: PatientTensors
):
    settings: dict[str, Any] = {"mechanism": PRIVATE, "sampling": Batch(64)}
    whole = make_trainer(**settings)
    dropping, again = (make_trainer(**settings, modality_dropout=0.999999) for _ in range(2))
    drawn = dropping.draw(1, 0)[0].patients
    assert len(drawn) == len(whole.draw(1, 0)[0].patients) > 1  # who is drawn is no matter of it
    assert (drawn.present.any(dim=-1).sum(dim=1) == 1).all()
    assert (phantoms.present.any(dim=-1).sum(dim=1) == 2).any()
    update = dropping.contribute(1)
    assert update.tobytes() == again.contribute(1).tobytes()
    assert update.tobytes() != whole.contribute(1).tobytes()


def test_augmentation_changes_what_is_seen_of_the_drawn_and_not_who_is_drawn(
    make_trainer: MakeTrainer,
):
    settings: dict[str, Any] = {"mechanism": PRIVATE, "sampling": Batch(16), "train_encoders": True}
    as_they_are = make_trainer(**settings)
    changing, again = (make_trainer(**settings, augment=True) for _ in range(2))
    drawn, changed = (each.draw(1, 0)[0].patients for each in (as_they_are, changing))
    assert torch.equal(drawn.label, changed.label)
    assert torch.equal(drawn.present, changed.present)
    assert not torch.equal(drawn.images, changed.images)
    assert changing.contribute(1).tobytes() == again.contribute(1).tobytes()


# ---- repeatable ------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_seeded_private_round_repeats_bit_for_bit(optimizer: str, make_trainer: MakeTrainer):
    first, again = (make_trainer(optimizer=optimizer) for _ in range(2))
    assert first.contribute(1).tobytes() == again.contribute(1).tobytes()
    _assert_equal(first.state(), again.state())


def test_rounds_hospitals_and_seeds_differ_in_their_noise(make_trainer: MakeTrainer):
    updates = [
        make_trainer().contribute(1),
        make_trainer().contribute(2),
        make_trainer(name="other").contribute(1),
        make_trainer(seed=12).contribute(1),
    ]
    assert len({update.tobytes() for update in updates}) == 4


def test_noise_from_the_operating_system_never_repeats(make_trainer: MakeTrainer):
    private = replace(PRIVATE, secret_noise=True)
    first, again = (make_trainer(mechanism=private).contribute(1) for _ in range(2))
    assert (first != again).all()


@pytest.mark.parametrize("private", [PLAIN, PRIVATE], ids=["plain", "private"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_restored_hospital_continues_bit_for_bit(
    optimizer: str, private: Mechanism, make_trainer: MakeTrainer
):
    settings: dict[str, Any] = {"optimizer": optimizer, "mechanism": private, "proximal": 0.1}
    whole, stopped = make_trainer(**settings), make_trainer(**settings)
    shared: np.ndarray = np.zeros(0, np.float32)
    for number in (1, 2, 3):
        if number == 3:
            state = {name: tensor.clone() for name, tensor in stopped.state().items()}
            resumed = make_trainer(**settings)
            resumed.restore(state)
            _assert_equal(resumed.state(), stopped.state())
        updates = [
            t.contribute(number) for t in ((whole, stopped) if number < 3 else (whole, resumed))
        ]
        assert updates[0].tobytes() == updates[1].tobytes()
        assert updates[0].tobytes() != shared.tobytes()
        shared = updates[0]
    _assert_equal(whole.state(), resumed.state())


def test_a_saved_state_does_not_move_with_the_training_that_follows(make_trainer: MakeTrainer):
    trainer = make_trainer(optimizer="adam")
    trainer.contribute(1)
    state = trainer.state()
    frozen = {name: tensor.clone() for name, tensor in state.items()}
    trainer.contribute(2)
    _assert_equal(state, frozen)
    assert any(name.startswith("optimizer.exp_avg.fusion.") for name in state)


# ---- the ledger ------------------------------------------------------------------------------


def test_a_round_is_spent_before_the_first_gradient_even_if_training_then_fails(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
):
    trainer = make_trainer()
    seen: list[list[Event]] = []

    def fail(*_: Any, **__: Any) -> dict[str, Tensor]:
        seen.append(_own_ledger(trainer).history())
        raise RuntimeError("out of memory")

    monkeypatch.setattr(step, "private_gradients", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer.contribute(1)
    assert trainer.event == Event(noise_multiplier=1.0, sample_rate=6 / 16, steps=2)
    assert seen == [[trainer.event]]
    assert _own_ledger(trainer).history() == [trainer.event]


def test_a_round_over_the_budget_is_refused_before_anything_is_drawn_or_moved(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
):
    trainer = make_trainer(budget=1.0)  # one round would cost far more
    before, state = _parameters(trainer), trainer.state()
    monkeypatch.setattr(local, "poisson_sample", lambda *_: pytest.fail("patients were drawn"))
    with pytest.raises(BudgetExceeded, match="budget"):
        trainer.contribute(1)
    _assert_equal(_parameters(trainer), before)
    _assert_equal(trainer.state(), state)
    assert _own_ledger(trainer).history() == []


def test_rounds_add_up_in_one_history(make_trainer: MakeTrainer):
    trainer = make_trainer()
    spent = []
    for number in (1, 2, 3):
        trainer.contribute(number)
        spent.append(_own_ledger(trainer).spent())
    assert _own_ledger(trainer).history() == [trainer.event] * 3
    assert spent[0] < spent[1] < spent[2] < 3 * spent[0]


def test_the_same_seeded_round_again_is_no_second_release_and_another_start_is(
    make_trainer: MakeTrainer, phantoms: PatientTensors
):
    first = make_trainer()
    ledger = _own_ledger(first)
    first.contribute(1)
    make_trainer(ledger=ledger).contribute(
        1
    )  # the process died and came back: same state, same noise
    assert len(ledger.history()) == 1
    moved = make_trainer(ledger=ledger)
    moved.receive(np.full(len(flatten(_parameters(moved), moved._shared)), 0.1, np.float32))
    moved.contribute(1)
    assert len(ledger.history()) == 2
    make_trainer(ledger=ledger, train=phantoms[1:]).contribute(1)
    assert len(ledger.history()) == 3
    make_trainer(ledger=ledger, learning_rate=0.1).contribute(1)
    assert len(ledger.history()) == 4


def test_fresh_noise_is_a_second_release_each_time(make_trainer: MakeTrainer):
    private = replace(PRIVATE, secret_noise=True)
    first = make_trainer(mechanism=private)
    ledger = _own_ledger(first)
    first.contribute(1)
    make_trainer(mechanism=private, ledger=ledger).contribute(1)
    assert len(ledger.history()) == 2


def test_a_private_plan_without_ledger_and_a_ledger_without_private_plan_are_refused(
    make_trainer: MakeTrainer, network: FusionNetwork, phantoms: PatientTensors
):
    private, plain = make_trainer(), make_trainer(mechanism=PLAIN)
    for plan, ledger in ((private._plan, None), (plain._plan, _own_ledger(private))):
        with pytest.raises(ValueError, match="needs a ledger"):
            LocalTrainer("clinic", network, phantoms, phantoms, plan, ledger, "run-1")


# ---- records and scores ----------------------------------------------------------------------


def test_the_sample_rate_is_the_expected_batch_over_the_records_and_never_above_one():
    assert Batch(100).rate(300) == 100 / 300
    assert Batch(100).rate(60) == 1.0


def test_unit_image_draws_slices_but_the_weight_stays_patients(
    make_trainer: MakeTrainer, phantoms: PatientTensors, monkeypatch: pytest.MonkeyPatch
):
    slices = int(phantoms.real.sum())
    assert slices > len(phantoms)
    trainer = make_trainer(unit="image")
    assert trainer.event == Event(1.0, 6 / slices, 2)
    assert trainer.patients == len(phantoms)
    drawn = []
    original = trainer.draw

    def observed(round_number: int, number: int) -> tuple[step.Step, KeystreamSource]:
        sample, source = original(round_number, number)
        drawn.append(sample.patients)
        return sample, source

    monkeypatch.setattr(trainer, "draw", observed)
    trainer.contribute(1)
    assert all(batch.real.all() for batch in drawn)
    assert all(batch.slices == 1 for batch in drawn)


def test_tokens_of_frozen_encoders_are_those_of_the_images(
    network: FusionNetwork, phantoms: PatientTensors
):
    tokens = tokens_of(network, phantoms)
    assert torch.equal(tokens.present, phantoms.present)
    torch.testing.assert_close(
        score(network, tokens, encoded=True), score(network, phantoms, encoded=False)
    )
    assert len(tokens_of(network, phantoms[:0])) == 0


@pytest.mark.parametrize("train_encoders", [False, True])
def test_evaluation_scores_the_held_out_patients_and_changes_nothing(
    train_encoders: bool, make_trainer: MakeTrainer, held_out: PatientTensors
):
    trainer = make_trainer(train_encoders=train_encoders)
    trainer.contribute(1)
    before, state = _parameters(trainer), trainer.state()
    counts = trainer.evaluate()
    logits = score(trainer.network, held_out, encoded=False)
    assert int(counts.sum()) == len(held_out)
    # Tokens and images may differ in the last bit, so that a score on an edge changes its bin.
    assert np.abs(np.cumsum(counts - count_scores(logits, held_out.label))).max() <= 1
    assert np.array_equal(trainer.evaluate(), counts)
    _assert_equal(_parameters(trainer), before)
    _assert_equal(trainer.state(), state)


def test_evaluation_between_two_rounds_does_not_move_the_second(make_trainer: MakeTrainer):
    quiet, scored = make_trainer(), make_trainer()
    for trainer in (quiet, scored):
        trainer.contribute(1)
    scored.evaluate()
    assert quiet.contribute(2).tobytes() == scored.contribute(2).tobytes()


def test_batch_statistics_and_undeclared_frozen_parts_are_refused(
    make_trainer: MakeTrainer, network: FusionNetwork, phantoms: PatientTensors
):
    plan, ledger = make_trainer()._plan, _own_ledger(make_trainer())
    network.fusion.get_parameter("locality_mri").requires_grad_(False)
    with pytest.raises(PrivacyError, match=r"fusion\.locality_mri"):
        LocalTrainer("clinic", network, phantoms, phantoms, plan, ledger, "run-1")
    network.get_submodule("encoder_ct.layers").register_module("1", nn.BatchNorm2d(16))
    with pytest.raises(ConfigurationError, match=r"encoder_ct\.layers\.1"):
        LocalTrainer("clinic", network, phantoms, phantoms, plan, ledger, "run-1")


def test_records_of_one_slice_train_like_patients_of_one_slice(
    make_trainer: MakeTrainer, phantoms: PatientTensors
):
    """The unit only changes what a record is, not what is done with it."""
    records = one_slice_records(phantoms)
    by_image = make_trainer(unit="image", mechanism=PLAIN)
    by_patient = make_trainer(unit="patient", mechanism=PLAIN, train=records)
    np.testing.assert_allclose(
        by_image.contribute(1), by_patient.contribute(1), atol=1e-6, rtol=1e-4
    )
