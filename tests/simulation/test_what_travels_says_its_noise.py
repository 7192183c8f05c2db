"""Whatever leaves a run says what noise it has: of seeded noise no epsilon is claimed anywhere.

Whoever has the seed computes the noise and subtracts it, so an epsilon beside it is none.
"""

import json
from pathlib import Path

import pytest

from securefed.data.load import FederatedData
from securefed.record.directory import read_about
from securefed.record.summary import HospitalSummary
from securefed.run_directory import Run
from securefed.simulation import execution
from tests.tiny import settings_with

settings = settings_with(
    privacy={"dp": True, "accountant": "rdp", "seeded_noise": True},
    federation={"shared": "classifier", "rounds": 2},
    secure_aggregation={"enabled": False},
)


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory, patients: FederatedData) -> Run:
    path = tmp_path_factory.mktemp("seeded") / "run"
    execution.execute(settings(), path, data=patients)
    return Run.open(path)


def test_no_file_of_a_run_with_seeded_noise_holds_an_epsilon(seeded: Run) -> None:
    assert (seeded.summary.noise, seeded.summary.epsilon) == ("seeded", None)
    assert seeded.summary.epsilon_by_client is None
    lines = [json.loads(text) for text in (seeded.path / "metrics.jsonl").read_text().splitlines()]
    assert {(line["noise"], line["epsilon"]) for line in lines} == {("seeded", None)}
    for name in seeded.hospitals:
        own = HospitalSummary.read(seeded.hospital(name))
        assert (own.noise, own.epsilon) == ("seeded", None)


def test_the_model_itself_says_that_its_noise_can_be_removed(seeded: Run) -> None:
    about = read_about(seeded.path / "model.safetensors")
    assert about["noise"] == "seeded"
    assert about["privacy"].startswith("no epsilon: who has the seed removes the seeded noise")


def test_the_guarantee_counts_and_promises_nothing(seeded: Run) -> None:
    guarantee = seeded.guarantee
    assert guarantee is not None
    assert guarantee.epsilon is None
    assert 0 < guarantee.counted <= 8
    assert str(guarantee).startswith("no epsilon")


def test_cryptographic_noise_is_claimed_in_the_same_places(
    tmp_path: Path, patients: FederatedData
) -> None:
    real = settings(privacy={"seeded_noise": False})
    execution.execute(real, tmp_path / "run", data=patients)
    run = Run.open(tmp_path / "run")
    assert run.guarantee is not None
    assert run.guarantee.epsilon == run.summary.epsilon == run.rounds[-1].epsilon
    about = read_about(run.path / "model.safetensors")
    assert about["noise"] == run.summary.noise == "cryptographic"
    assert about["privacy"] == str(run.guarantee)
