"""A finished run of real files, masked, private and with canaries, and copies of it to spoil."""

import shutil
from pathlib import Path

import pytest

from securefed.simulation import execution
from tests.tiny import settings_with

settings = settings_with(
    privacy={"accountant": "rdp", "patients_epsilon": 2.0},  # RDP is fast
    federation={"clients": 3, "rounds": 3, "shared": "classifier", "evaluate_every": 2},
    secure_aggregation={"max_patients": 16},
    canaries={"count": 6},
)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as it was left. Nobody writes here."""
    path = tmp_path_factory.mktemp("evidence") / "run"
    execution.execute(settings(), path)
    return path


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy."""
    return Path(shutil.copytree(whole, tmp_path / "run"))
