"""What an audit knows of a run: the truth of that very run, or a refusal."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from securefed.auditing.exposures import exposures_of
from securefed.auditing.subject import canaries_of, subject_of
from securefed.config import Settings
from securefed.errors import PrivacyError, RunError
from securefed.model.sharing import flatten
from securefed.model.strategies.fedadam import FedAdam
from securefed.run_directory import Run
from securefed.simulation.patients import load_data
from securefed.simulation.results import write_results
from securefed.simulation.simulation import Simulation
from securefed.training import canaries
from securefed.training.noising_optimizer import CLIPPED
from securefed.wire.contribution import Contribution
from securefed.wire.description import layout_of
from tests.tiny import finish, settings_with, start

settings = settings_with(
    training={"max_slices": 2},
    federation={"rounds": 2},
    secure_aggregation={"max_patients": 16},
    seed=4,
)


def run(wanted: Settings, path: Path) -> Simulation:
    simulation = start(wanted, path)
    finish(simulation)
    write_results(simulation, simulation.evaluate(), None)
    return simulation


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return run(settings(), tmp_path_factory.mktemp("subject") / "run")


@pytest.fixture
def copy(finished: Simulation, tmp_path: Path) -> Path:
    shutil.copytree(finished.directory.path, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("settings", [None, {"seed": "x"}, {"new": 1}])
def test_a_run_whose_settings_cannot_be_read_is_refused_by_name(
    copy: Path, settings: dict[str, object] | None
) -> None:
    about = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(about | {"settings": settings}))
    with pytest.raises(RunError, match=r"run\.json (does not hold the settings|is damaged)"):
        subject_of(Run.open(copy))


def test_the_subject_is_the_run(finished: Simulation) -> None:
    subject = subject_of(Run.open(finished.directory.path))
    assert subject.configuration == "dp+secure"
    assert subject.seed == 4
    assert not subject.encoders_train
    assert (subject.training.rounds, subject.training.local_steps) == (2, 1)
    assert (subject.training.strategy, subject.training.optimizer) == (FedAdam(0.03), "sgd")
    assert (subject.training.clip_norm, subject.training.delta) == (1.0, 1e-3)
    assert subject.training.clipped_to == CLIPPED < 1, "shadows clip where the product does"
    assert not subject.training.shared_noise
    for hospital, source in zip(subject.hospitals, load_data(settings()).hospitals, strict=True):
        trainer = finished.hospitals[hospital.name].trainer
        assert hospital.name == source.name
        assert (len(hospital.train), len(hospital.held_out)) == (10, 4)
        labels = [patient.label for patient in source.train]
        assert hospital.train.label.tolist() == labels
        assert hospital.train.images.dtype == torch.uint8
        event = trainer.event
        assert event is not None
        assert hospital.sample_rate == event.sample_rate == 0.5
        assert hospital.noise_multiplier == event.noise_multiplier > 0
        assert hospital.claimed_epsilon == finished.group.guarantees()[hospital.name].counted
        assert 0 < hospital.claimed_epsilon <= 8


def test_an_encoding_error_is_that_of_the_ring_that_the_run_used(finished: Simulation) -> None:
    wanted, parameters = finished.job.settings, 1000
    layout = layout_of(wanted, parameters, None)
    values = np.random.default_rng(0).normal(size=parameters).astype(np.float32)
    for hospital in subject_of(Run.open(finished.directory.path)).hospitals:
        words = layout.encode(Contribution(values, hospital.weight, 5))
        decoded = layout.decode(words, 1).mean_update
        assert decoded is not None
        error = np.abs(decoded - values).max()
        assert 0.9 * hospital.encoding_error < error <= 1.01 * hospital.encoding_error


def test_the_network_is_the_one_that_the_run_began_with(finished: Simulation) -> None:
    state = torch.get_rng_state()
    subject = subject_of(Run.open(finished.directory.path))
    assert torch.equal(torch.get_rng_state(), state), "an audit leaves torch's generator alone"
    ours, theirs = subject.network.state_dict(), finished.job.network.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    vector = flatten(dict(subject.network.named_parameters()), list(subject.shared))
    first = exposures_of(Run.open(finished.directory.path), ["server"])["server"].rounds[0]
    assert np.array_equal(first.shared, vector)


def test_nothing_of_a_patient_is_in_the_repr(finished: Simulation) -> None:
    text = repr(subject_of(Run.open(finished.directory.path)))
    assert "tensor" not in text.lower()
    assert len(text) < 2000


def test_every_observer_has_its_exposure(finished: Simulation) -> None:
    found = exposures_of(
        Run.open(finished.directory.path), ["server", "peer", "coalition", "outsider"]
    )
    assert [seen.observer for seen in found.values()] == list(found)
    assert found["peer"].members == ("hospital-2",)
    assert found["coalition"].members == ("hospital-2", "hospital-3", "hospital-4")


def test_without_privacy_nothing_is_claimed(tmp_path: Path) -> None:
    run(settings(privacy={"dp": False}), tmp_path / "run")
    subject = subject_of(Run.open(tmp_path / "run"))
    assert subject.training.clip_norm is None
    for hospital in subject.hospitals:
        assert (hospital.claimed_epsilon, hospital.noise_multiplier) == (None, 0.0)
        assert hospital.sample_rate == 0.5


def test_with_slices_as_records_the_rate_is_per_slice(tmp_path: Path) -> None:
    simulation = run(settings(privacy={"unit": "image"}), tmp_path / "run")
    for hospital in subject_of(Run.open(tmp_path / "run")).hospitals:
        event = simulation.hospitals[hospital.name].trainer.event
        assert event is not None
        assert hospital.sample_rate == event.sample_rate < 0.5


def test_under_shared_noise_a_hospital_adds_its_share(tmp_path: Path) -> None:
    run(settings(privacy={"epsilon": 50.0, "placement": "distributed"}), tmp_path / "run")
    subject = subject_of(Run.open(tmp_path / "run"))
    assert subject.training.shared_noise
    assert subject.training.clipped_to == 1.0, "the ring code clips to the norm itself"
    (share,) = {hospital.noise_multiplier for hospital in subject.hospitals}
    noise = json.loads((tmp_path / "run" / "exposures" / "jobs.jsonl").read_text())["noise"]
    assert share == noise["share_sigma"] / noise["clip_steps"]
    # Two counted shares (three survivors less one colluder) make up the whole noise.
    assert noise["counted"] == 2


def test_canaries_choose_the_victim(tmp_path: Path, finished: Simulation) -> None:
    assert canaries_of(Run.open(finished.directory.path)) is None
    run(settings(canaries={"count": 8, "hospital": 3}), tmp_path / "run")
    held = canaries_of(Run.open(tmp_path / "run"))
    assert held is not None
    assert (held.hospital, held.included.size) == ("hospital-3", 8)
    found = exposures_of(Run.open(tmp_path / "run"), ["peer", "coalition"])
    assert found["coalition"].members == ("hospital-1", "hospital-2", "hospital-4")
    assert found["peer"].members == ("hospital-4",)
    # Canaries are no patients: the truth is what it was.
    assert [len(each.train) for each in subject_of(Run.open(tmp_path / "run")).hospitals] == [
        10
    ] * 4
    (tmp_path / "run" / "hospitals" / "hospital-3" / canaries.FILE).unlink()
    with pytest.raises(RunError):
        canaries_of(Run.open(tmp_path / "run"))


def test_other_patients_are_refused(copy: Path) -> None:
    about = json.loads((copy / "run.json").read_text())
    about["settings"]["seed"] = 5
    (copy / "run.json").write_text(json.dumps(about))
    with pytest.raises(RunError, match="patients differ") as refused:
        subject_of(Run.open(copy))
    assert "very same scans" in str(refused.value.hint)


def test_an_unfinished_run_and_a_missing_ledger_are_refused(copy: Path) -> None:
    (copy / "hospitals" / "hospital-2" / "ledger.sqlite").unlink()
    with pytest.raises(PrivacyError, match=r"there is no ledger at .*/hospital-2/"):
        subject_of(Run.open(copy))
    (copy / "summary.json").unlink()
    with pytest.raises(RunError, match="not finished") as refused:
        subject_of(Run.open(copy))
    assert "--resume" in str(refused.value.hint)
