"""The family: what each observer can be attacked with, what is said where it cannot, and how."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from attacks.inversion import attack as inversion
from attacks.inversion.attack import Plan, attack, visible_updates
from attacks.inversion.gradient_inversion import Recipe
from attacks.inversion.matching import (
    Distances,
    Gallery,
    Trial,
    candidate_distances,
    draw_trials,
    images_of,
)
from attacks.inversion.scenes import worst_case
from attacks.result import AttackResult, Effort
from attacks.subject import Hospital, Subject, Training
from securefed.exposure import Exposure, Observer, RoundView
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.model.sharing import flatten, shared_names
from securefed.model.strategies.fedavg import FedAvg

SIDE = 32
TINY = Plan(updates=2, trials=2, dummies=2, single=2, everything=1, recipe=Recipe(2))


def patients(count: int, seed: int) -> PatientTensors:
    """Smooth random blobs; every fifth patient has no MRI."""
    drawn = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2 * count, 2, 4, 4, generator=drawn)
    fine = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")
    images = (fine * 255).byte().view(2, count, 2, SIDE, SIDE).transpose(0, 1)
    present = torch.ones(count, 2, 2, dtype=torch.bool)
    present[:, 1] = (torch.arange(count) % 5 != 0)[:, None]
    return PatientTensors(("ct", "mri"), images, present, (torch.arange(count) % 2).float())


def subject(held_out: int = 70, clip_norm: float | None = None, **changes: Any) -> Subject:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = FusionNetwork(NetworkShape(image_size=SIDE, width=4, attention_width=4))
    noise = 0.0 if clip_norm is None else 1e4
    hospitals = tuple(
        Hospital(name, patients(8, i), patients(held_out, 9 + i), 0.5, noise, None, 8, 4)
        for i, name in enumerate(("north", "south"))
    )
    training = Training(
        rounds=2,
        local_steps=1,
        optimizer="sgd",
        learning_rate=0.3,
        clip_norm=clip_norm,
        unit="patient",
        shared_noise=False,
        strategy=FedAvg(),
        delta=1e-5,
    )
    training = dataclasses.replace(training, **changes)
    names = tuple(shared_names(network, "fusion+classifier"))
    return Subject("plain", network, names, False, hospitals, training, 0)


def exposure(of: Subject, observer: Observer, *, updates: bool, mean: bool) -> Exposure:
    vector = flatten(dict(of.network.named_parameters()), list(of.shared))
    rng = np.random.default_rng(0)
    changes = {h.name: rng.normal(0, 0.1, vector.shape).astype(np.float32) for h in of.hospitals}
    view = RoundView(
        1,
        vector,
        changes if updates else {},
        dict.fromkeys(changes, 8) if updates else {},
        np.mean(list(changes.values()), axis=0) if mean else None,
        tuple(changes) if mean else (),
    )
    return Exposure(observer, (), "plain", (view,), vector)


@pytest.fixture(autouse=True)
def _tiny_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inversion, "PLANS", dict.fromkeys(Effort, TINY))


def run(of: Subject, seen: Exposure) -> AttackResult:
    return attack(of, seen, Effort.QUICK, lambda share: None)


def test_a_server_that_sees_updates_is_measured_in_both_scenes() -> None:
    of = subject()
    result = run(of, exposure(of, "server", updates=True, mean=True))
    configured, worst = result.findings
    assert (configured.scene, worst.scene) == ("as configured", "worst case")
    assert {f.metric for f in result.findings} == {"identification"}
    assert result.details["as configured"]["trials"] == 4
    assert result.details["as configured"]["updates"] == ["round 1: north", "round 1: south"]
    assert result.details["worst case"]["candidates"] == 51
    assert len(result.pictures) == 2
    assert all(each.true.shape == (SIDE, SIDE) for each in result.pictures)


def test_the_same_seed_gives_the_same_findings() -> None:
    of = subject()
    seen = exposure(of, "server", updates=True, mean=True)
    one, two = run(of, seen), run(of, seen)
    assert one.details == two.details
    assert np.array_equal(one.pictures[0].reconstruction, two.pictures[0].reconstruction)


def test_where_updates_are_masked_the_mean_is_attacked_and_named_as_such() -> None:
    of = subject()
    result = run(of, exposure(of, "server", updates=False, mean=True))
    assert "mean over north, south" in result.details["as configured"]["updates"][0]
    assert result.findings[0].estimate is not None


def test_an_observers_own_update_is_not_attacked() -> None:
    of = subject()
    seen = exposure(of, "peer", updates=True, mean=True)
    mine = dataclasses.replace(seen, members=("north",))
    assert [each.hospitals for each in visible_updates(mine, 9, None)] == [("south",)]


def test_an_update_of_an_empty_batch_is_passed_over() -> None:
    of = subject()
    seen = exposure(of, "server", updates=True, mean=False)
    seen.rounds[0].updates["north"][:] = 0
    assert [each.hospitals for each in visible_updates(seen, 9, None)] == [("south",)]


@pytest.mark.parametrize(
    ("observer", "mean", "changes", "said"),
    [
        ("outsider", True, {}, "released model only"),
        ("server", False, {}, "saw no update"),
        ("server", True, {"optimizer": "adam", "local_steps": 21}, "too many to unroll"),
    ],
)
def test_what_cannot_be_attacked_is_said_in_both_scenes(
    observer: Observer, mean: bool, changes: dict[str, Any], said: str
) -> None:
    of = subject(**changes)
    result = run(of, exposure(of, observer, updates=False, mean=mean))
    assert len(result.findings) == 2
    assert all(f.estimate is None and said in str(f.absent) for f in result.findings)


def test_too_few_held_out_patients_are_said_not_hidden() -> None:
    of = subject(held_out=20)
    result = run(of, exposure(of, "server", updates=True, mean=True))
    assert all("50 held-out decoys" in str(f.absent) for f in result.findings)


def test_local_adam_is_attacked_in_round_one_only() -> None:
    of = subject(optimizer="adam", learning_rate=0.01)
    seen = exposure(of, "server", updates=True, mean=True)
    assert run(of, seen).findings[0].estimate is not None
    later = dataclasses.replace(seen, rounds=(dataclasses.replace(seen.rounds[0], number=2),))
    assert "only round 1" in str(run(of, later).findings[0].absent)


def test_trials_have_fifty_decoys_with_the_targets_modalities_its_own_hospital_first() -> None:
    of = subject(held_out=70)  # 56 of each hospital have both modalities, 14 have CT only
    trials = draw_trials(of.hospitals, ["north"], 99, np.random.default_rng(0))
    assert len(trials) == 6  # of 8 patients 2 lack MRI, and 28 decoys are too few for them
    for trial in trials:
        assert len(trial.candidates) == 51
        assert trial.candidates.present[:, 1].all()
        own = {image.numpy().tobytes() for image in of.hospitals[0].held_out.images}
        assert all(image.numpy().tobytes() in own for image in trial.candidates.images[1:])


def distances(of: Subject, images: torch.Tensor, trial: Trial) -> Distances:
    return candidate_distances(of.network, images, trial.candidates, trial.keys, {})


def test_known_features_change_no_distance() -> None:
    of = subject()
    gallery: Gallery = {}
    image = torch.rand(1, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    for trial in draw_trials(of.hospitals, ["north"], 3, np.random.default_rng(0)):
        shared = candidate_distances(of.network, image, trial.candidates, trial.keys, gallery)
        assert np.allclose(shared, distances(of, image, trial), atol=1e-6)
    assert 51 < len(gallery) <= 59  # 56 decoys at most, and three targets


def test_a_perfect_reconstruction_is_nearest_to_its_patient_and_chance_is_one_in_51() -> None:
    of = subject()
    trial = draw_trials(of.hospitals, ["north"], 1, np.random.default_rng(0))[0]
    true = images_of(trial.candidates[:1])[0]  # (slices, 2, size, size)
    assert distances(of, true[:1], trial).argmin() == 0
    # A reconstruction of noise names the target in 1 of 51; 7 or more of 60 would be a false
    # alarm with probability 2e-4. The seed is fixed.
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(10):
        for each in draw_trials(of.hospitals, ["north", "south"], 6, rng):
            noise = torch.from_numpy(rng.random((1, 2, SIDE, SIDE), dtype=np.float32))
            hits += int(distances(of, noise, each).argmin() == 0)
    assert hits < 7


def test_the_worst_case_is_clipped_and_noised_as_the_run_is() -> None:
    plain, private = subject(), subject(clip_norm=1.0)
    vector = flatten(dict(plain.network.named_parameters()), list(plain.shared))
    trials = draw_trials(plain.hospitals, ["north"], 1, np.random.default_rng(0))
    recipe = Recipe(30)
    clear = worst_case(plain, vector, trials, recipe, 0, lambda share: None)[0]
    drowned = worst_case(private, vector, trials, recipe, 0, lambda share: None)[0]
    assert clear.psnr_db != drowned.psnr_db
    assert drowned.psnr_db < clear.psnr_of_start_db + 1
