"""Canaries among the records: drawn, clipped and noised with patients; nothing else moves."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from securefed.data.load import FederatedData
from securefed.errors import ConfigurationError, RunError
from securefed.privacy.distributed import calibrate
from securefed.privacy.ring_code import RingCode, padded
from securefed.privacy.sampling import Batch
from securefed.simulation.patients import load_data
from securefed.training.canaries import FILE, LENGTH, CanarySecret, draw, read, save
from securefed.training.mechanism import NoNoise, OwnNoise, SharedNoise
from securefed.training.trainer import LocalTrainer
from securefed.wire.contribution import ContributionLayout
from tests.tiny import resume, settings_with, start

MakeTrainer = Callable[..., LocalTrainer]

LAYOUT = ContributionLayout(1, clients=4, value_range=4.0, max_patients=100)
QUIET = OwnNoise(LAYOUT, clip_norm=0.5, noise_multiplier=1e-4, secret_noise=False)
EVERYBODY = {"local_steps": 1, "sampling": Batch(16), "learning_rate": 1.0}  # rate 1: 16 patients


def secret_for(trainer: LocalTrainer, count: int = 12, included: Any = None) -> CanarySecret:
    """Canaries of a fixed seed; every second one is in."""
    coins = np.arange(count) % 2 == 0 if included is None else included
    size = sum(p.numel() for n, p in trainer.network.named_parameters() if n in trainer._shared)
    return CanarySecret("clinic", size, "5" * 32, coins)


def with_canaries(make: MakeTrainer, secret: CanarySecret, **changes: Any) -> LocalTrainer:
    """A trainer of the fixtures, rebuilt with canaries."""
    plain = make(**changes)
    return LocalTrainer(
        plain.name,
        plain.network,
        make.patients,  # type: ignore[attr-defined]
        make.patients,  # type: ignore[attr-defined]
        plain._plan,
        plain._ledger,
        "run-1",
        secret,
    )


@pytest.fixture
def make(make_trainer: MakeTrainer, phantoms: Any) -> MakeTrainer:
    make_trainer.patients = phantoms  # type: ignore[attr-defined]
    return make_trainer


def update(trainer: LocalTrainer) -> np.ndarray:
    return trainer.contribute(1).astype(np.float64)


# --- what a canary does -------------------------------------------------------------------------


def test_directions_are_a_public_formula_at_right_angles_and_of_length_one():
    secret = CanarySecret("clinic", 50, "0123456789abcdef" * 2, np.ones(49, np.bool_))
    rows = secret.directions()
    assert rows.shape == (49, 50)
    np.testing.assert_allclose(rows @ rows.T, np.eye(49), atol=1e-6)
    assert np.array_equal(rows, secret.directions())
    other = CanarySecret("clinic", 50, "0123456789abcde0" * 2, secret.included).directions()
    assert np.abs(rows @ other.T).max() < 0.999
    # Dense: no parameter carries a canary alone.
    assert np.abs(rows).max() < 0.21


@pytest.mark.parametrize("group", ["classifier", "fusion+classifier"])
def test_each_included_canary_adds_its_clipped_direction_and_the_others_nothing(
    group: str, make: MakeTrainer
):
    changes = {"shared": group, "mechanism": QUIET, **EVERYBODY}
    without = update(make(**changes))
    secret = secret_for(make(**changes))
    difference = update(with_canaries(make, secret, **changes)) - without
    # Ten clipping norms long, it counts as one; the step is 1 over an expected batch of 16.
    along = -(secret.directions().astype(np.float64) @ difference) * 16 / 0.5
    assert LENGTH > 1
    np.testing.assert_allclose(along, secret.included.astype(float), atol=5e-3)
    rest = difference - (along * -0.5 / 16) @ secret.directions()
    assert np.abs(rest).max() < 1e-4


def test_without_dp_a_canary_adds_a_direction_of_length_one(make: MakeTrainer):
    changes = {"mechanism": NoNoise(LAYOUT), **EVERYBODY}
    without = update(make(**changes))
    secret = secret_for(make(**changes))
    difference = update(with_canaries(make, secret, **changes)) - without
    expected = -secret.directions()[secret.included].sum(axis=0) / 16
    np.testing.assert_allclose(difference, expected, atol=1e-6)


def test_canaries_are_drawn_at_the_patients_rate_each_for_itself(make: MakeTrainer):
    changes = {"mechanism": QUIET, **EVERYBODY, "sampling": Batch(4)}  # rate 1/4
    secret = secret_for(make(**changes), count=20, included=np.ones(20, np.bool_))
    trainer = with_canaries(make, secret, **changes)
    drawn = np.array(
        [len(trainer.draw(round_number, 0)[0].drawn_canaries) for round_number in range(400)]
    )
    # 8,000 draws at rate 1/4 from a fixed seed: sd of the mean count .097, of the variance .27.
    assert drawn.mean() == pytest.approx(5, abs=5 * 0.097)
    assert drawn.var() == pytest.approx(20 * 0.25 * 0.75, abs=5 * 0.27)


def test_rate_event_weight_and_expected_batch_are_those_of_the_patients(make: MakeTrainer):
    trainer = make(mechanism=QUIET)
    audited = with_canaries(make, secret_for(trainer), mechanism=QUIET)
    assert audited.event == trainer.event
    assert audited.patients == trainer.patients
    assert audited.expected_batch == trainer.expected_batch


def test_none_included_is_a_run_without_canaries(make: MakeTrainer):
    changes = {"mechanism": QUIET, **EVERYBODY}
    none = secret_for(make(**changes), included=np.zeros(12, np.bool_))
    assert np.allclose(update(make(**changes)), update(with_canaries(make, none, **changes)))


def test_encoders_that_train_have_canaries_too(make: MakeTrainer):
    changes = {"mechanism": QUIET, "train_encoders": True, **EVERYBODY}
    without = update(make(**changes))
    secret = secret_for(make(**changes), count=4)
    difference = update(with_canaries(make, secret, **changes)) - without
    along = -(secret.directions() @ difference) * 16 / 0.5
    np.testing.assert_allclose(along, secret.included.astype(float), atol=2e-2)


def test_shared_noise_carries_canaries_through_the_ring(make: MakeTrainer):
    size = sum(
        p.numel()
        for n, p in make(shared="fusion+classifier").network.named_parameters()
        if not n.startswith("encoder")
    )
    noise = calibrate(
        1e-2, dimension=padded(size), rounds=1, counted=1, hospitals=1, expected_batch=16
    )
    ring = RingCode(size, 0.5, noise)
    mechanism = SharedNoise(LAYOUT, ring, secret_noise=False)
    changes = {"mechanism": mechanism, "shared": "fusion+classifier", **EVERYBODY}
    secret = CanarySecret("clinic", size, "5" * 32, np.arange(12) % 2 == 0)
    sums = [
        ring.decode(trainer.contribute(1).astype(np.uint32), 1)
        for trainer in (make(**changes), with_canaries(make, secret, **changes))
    ]
    along = secret.directions() @ (sums[1] - sums[0]) / 0.5
    np.testing.assert_allclose(along, secret.included.astype(float), atol=0.2)


def test_canaries_of_another_network_are_refused(make: MakeTrainer):
    wrong = CanarySecret("clinic", 7, "5" * 32, np.ones(3, np.bool_))
    with pytest.raises(RunError, match="7 parameters"):
        with_canaries(make, wrong)


# --- coins and their file -----------------------------------------------------------------------


def test_coins_are_fair_and_new_each_time():
    coins = np.stack([draw("north", 64, 100).included for _ in range(500)])
    # 32,000 tosses: sd of the share .0028; six of them is a false alarm in 5e8.
    assert coins.mean() == pytest.approx(0.5, abs=6 * 0.0028)
    assert len({draw("north", 8, 100).seed for _ in range(20)}) == 20


@pytest.mark.parametrize(("count", "parameters"), [(0, 100), (100, 100), (101, 100), (3, 2**28)])
def test_no_room_for_canaries_is_refused_with_a_way_out(count: int, parameters: int):
    with pytest.raises(ConfigurationError) as refused:
        draw("north", count, parameters)
    assert refused.value.hint


def test_the_file_comes_back_and_only_its_owner_may_read_it(tmp_path: Path):
    secret = draw("north", 20, 100)
    save(secret, tmp_path)
    again = read(tmp_path)
    assert (again.hospital, again.parameters, again.seed) == ("north", 100, secret.seed)
    assert np.array_equal(again.included, secret.included)
    assert np.array_equal(again.directions(), secret.directions())
    assert stat.S_IMODE(os.stat(tmp_path / FILE).st_mode) == 0o600


def test_canaries_are_never_replaced_and_never_shown(tmp_path: Path):
    secret = draw("north", 20, 100)
    save(secret, tmp_path)
    with pytest.raises(RunError, match="cannot write"):
        save(draw("north", 20, 100), tmp_path)
    assert secret.seed not in repr(secret)
    assert "True" not in repr(secret)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"coins": "01x"},
        {"coins": ""},
        {"coins": "0" * 100},
        {"seed": "zz"},
        {"parameters": 1},
        {"parameters": True},
        {"more": 1},
        {"hospital": 3},
    ],
)
def test_a_damaged_file_is_refused_without_telling_its_coins(
    change: dict[str, Any], tmp_path: Path
):
    good = {"schema": 1, "hospital": "n", "parameters": 50, "seed": "a" * 32, "coins": "0110" * 5}
    (tmp_path / FILE).write_text(json.dumps(good))
    read(tmp_path)
    (tmp_path / FILE).write_text(json.dumps({**good, **change}))
    with pytest.raises(RunError) as refused:
        read(tmp_path)
    assert "0110" not in str(refused.value)
    assert "a" * 32 not in str(refused.value)


def test_a_missing_or_endless_file_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match="cannot read"):
        read(tmp_path)
    (tmp_path / FILE).write_bytes(b" " * (2**20 + 1))
    with pytest.raises(RunError, match="over"):
        read(tmp_path)


# --- a whole run --------------------------------------------------------------------------------

settings = settings_with(
    privacy={"seeded_noise": True},
    secure_aggregation={"enabled": False},
    federation={"rounds": 2, "clients": 2},
    canaries={"count": 6, "hospital": 2},
)


@pytest.fixture(scope="module")
def patients() -> FederatedData:
    return load_data(settings())


def test_a_run_keeps_its_canaries_with_their_hospital_and_says_what_it_is(
    tmp_path: Path, patients: FederatedData
):
    simulation = start(settings(), tmp_path / "run", patients)
    holder = simulation.data.hospitals[1].name
    assert any("for auditing" in note and holder in note for note in simulation.notes)
    assert [p.parent.name for p in (tmp_path / "run").rglob(FILE)] == [holder]
    secret = read(tmp_path / "run" / "hospitals" / holder)
    assert secret.parameters == simulation.job.parameters
    recorded = (tmp_path / "run" / "run.json").read_text()
    assert json.loads(recorded)["settings"]["canaries"] == {"count": 6, "hospital": 2}
    assert secret.seed not in recorded


def test_a_resumed_run_continues_with_the_same_canaries_or_not_at_all(
    tmp_path: Path, patients: FederatedData
):
    simulation = start(settings(), tmp_path / "run", patients)
    next(simulation.rounds())
    folder = tmp_path / "run" / "hospitals" / simulation.data.hospitals[1].name
    before = (folder / FILE).read_bytes()
    torch.manual_seed(0)
    resumed = resume(tmp_path / "run", patients)
    assert [record.round for record, _ in resumed.rounds()] == [2]
    assert (folder / FILE).read_bytes() == before
    (folder / FILE).unlink()
    with pytest.raises(RunError, match=FILE):
        resume(tmp_path / "run", patients)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"canaries": {"hospital": 3}}, "2 hospitals"),
        ({"canaries": {"count": 5000}}, "room"),
        ({"evaluation": {"baselines": True}}, "baselines"),
    ],
)
def test_a_run_that_cannot_hold_the_canaries_does_not_start(
    change: dict[str, Any], message: str, tmp_path: Path, patients: FederatedData
):
    with pytest.raises(ConfigurationError, match=message):
        start(settings(**change), tmp_path / "run", patients)
    assert not list((tmp_path / "run").rglob("ledger.sqlite"))
