"""Tokens of patients are kept with their data set, in no run directory, and change no result."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attacks.membership.shadow_models import pool_of
from securefed.auditing.subject import subject_of
from securefed.comparison.held_out import HeldOut
from securefed.data.phantom import PhantomSpec
from securefed.data.phantom_files import write_phantoms
from securefed.hospital.tokens import kept_with
from securefed.model import encoding
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors
from securefed.record.directory import read_tensors
from securefed.record.model_file import NAME
from securefed.run_directory import Run
from securefed.simulation import execution
from securefed.simulation.baselines import alone
from securefed.simulation.patients import load_data
from tests.tiny import settings_with, start

settings = settings_with(
    privacy={"dp": False},
    federation={"clients": 2, "rounds": 1, "shared": "fusion+classifier"},
    secure_aggregation={"enabled": False},
)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of drawn patients."""
    folder = tmp_path / "site" / "scans"
    folder.parent.mkdir()
    write_phantoms(folder, PhantomSpec(image_size=32), 1, 40, seed=3)
    return folder


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many patients were encoded each time; the nobody that tells shapes does not count."""
    numbers: list[int] = []
    slices = encoding._slices

    def counting(
        network: FusionNetwork, group: PatientTensors, count: Callable[[int], None]
    ) -> Tensor:
        if len(group):
            numbers.append(len(group))
        return slices(network, group, count)

    monkeypatch.setattr(encoding, "_slices", counting)
    return numbers


def test_an_audit_of_a_run_encodes_no_hospital_again(
    scans: Path, tmp_path: Path, computed: list[int]
) -> None:
    chosen = settings(data={"manifest": str(scans / "manifest.csv")})
    execution.execute(chosen, tmp_path / "run")
    computed.clear()
    subject = subject_of(Run.open(tmp_path / "run"))
    pool = pool_of(subject.network, subject)
    assert len(pool) == 40
    assert sum(computed) == 0


def test_the_next_run_on_a_data_set_encodes_nobody_and_comes_to_the_same_bits(
    scans: Path, tmp_path: Path, computed: list[int]
) -> None:
    chosen = settings(data={"manifest": str(scans / "manifest.csv")})
    execution.execute(chosen, tmp_path / "first")
    kept = list((scans.parent / "scans.tokens").iterdir())
    assert len(kept) == 4  # two hospitals, two sides
    assert sum(computed) == 40
    computed.clear()
    execution.execute(chosen, tmp_path / "second")
    assert sum(computed) == 0
    # The files say of which run each is.
    first, second = (read_tensors(tmp_path / each / NAME) for each in ("first", "second"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not [each for run in ("first", "second") for each in (tmp_path / run).rglob("*.tokens")]


def test_tokens_lie_beside_the_key_that_tells_the_patients_apart(
    scans: Path, tmp_path: Path
) -> None:
    key = tmp_path / "keys" / "ours.site-key"
    key.parent.mkdir()
    chosen = settings(data={"manifest": str(scans / "manifest.csv"), "site_key": str(key)})
    execution.execute(chosen, tmp_path / "run")
    assert (key.parent / "ours.tokens").is_dir()
    assert not (scans.parent / "scans.tokens").exists()


@pytest.mark.parametrize(("named", "absolute"), [("{}", True), ("here", False), ("", False)])
def test_phantoms_have_theirs_in_the_users_cache(
    named: str, absolute: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", named.format(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    execution.execute(settings(), tmp_path / "run")
    base = tmp_path / "cache" if absolute else tmp_path / "home" / ".cache"
    assert list((base / "securefed" / "phantom.tokens").iterdir())


def test_patients_from_elsewhere_are_kept_nowhere() -> None:
    assert kept_with(settings(), "") is tokens_of


def test_frozen_encoders_at_random_weights_are_told_of(tmp_path: Path) -> None:
    model = {"encoder": "resnet18", "initialisation": "random", "image_size": 32}
    told = [
        note for note in start(settings(model=model), tmp_path / "run").notes if "random" in note
    ]
    assert len(told) == 1
    assert "encoders stay at random weights" in told[0]


def test_hospitals_alone_and_a_comparison_take_up_what_the_run_kept(
    scans: Path, tmp_path: Path, computed: list[int]
) -> None:
    chosen = settings(data={"manifest": str(scans / "manifest.csv")})
    execution.execute(chosen, tmp_path / "run")
    computed.clear()
    data = load_data(chosen)
    alone(chosen, data, tmp_path / "alone")
    HeldOut(chosen, data).counts(Run.open(tmp_path / "run"))
    assert sum(computed) == 0
