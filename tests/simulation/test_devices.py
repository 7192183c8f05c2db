"""A run on a GPU, stopped, resumed and audited, against one on the CPU; the CPU against itself."""

from pathlib import Path

import pytest
import torch

from securefed.auditing.audit import audit
from securefed.errors import Interrupted
from securefed.record.metrics import RoundLine
from securefed.run_directory import Run
from securefed.simulation.execution import execute, resume
from tests.tiny import settings_with

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU"),
    ),
]
TOLERANCE = 1e-4  # of the largest parameter, after two rounds: sums are in another order

settings = settings_with(
    privacy={"epsilon": 8.0, "seeded_noise": True}, federation={"clients": 3, "rounds": 2}
)


def parameters(path: Path) -> torch.Tensor:
    network = Run.open(path).network()
    return torch.cat([each.detach().cpu().flatten() for each in network.parameters()])


def stop(line: RoundLine) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("train_encoders", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_a_run_gives_the_model_of_the_cpu_though_it_was_stopped_and_resumed(
    device: str, train_encoders: bool, tmp_path: Path
) -> None:
    model = {"train_encoders": train_encoders}
    execute(settings(device="cpu", model=model), tmp_path / "cpu")
    with pytest.raises(Interrupted):
        execute(settings(device=device, model=model), tmp_path / "run", on_round=stop)
    assert not Run.open(tmp_path / "run").finished
    resume(Run.open(tmp_path / "run"))
    here, there = parameters(tmp_path / "cpu"), parameters(tmp_path / "run")
    assert float((here - there).abs().max()) <= TOLERANCE * float(here.abs().max())
    found = audit(Run.open(tmp_path / "run"), effort="quick", attacks=("direct tests",))
    assert not found.interrupted


@pytest.mark.parametrize("device", DEVICES)
def test_noise_is_cryptographic_on_every_device(device: str, tmp_path: Path) -> None:
    execute(
        settings(device=device, privacy={"epsilon": 8.0, "seeded_noise": False}), tmp_path / "run"
    )
    run = Run.open(tmp_path / "run")
    assert run.summary.noise == "cryptographic"
    assert bool(torch.isfinite(parameters(tmp_path / "run")).all())
