"""A run that was trained a little, and patients it has not seen."""

from pathlib import Path

import pytest

from securefed.data.phantom import PhantomSpec
from securefed.data.phantom_files import write_phantoms
from tests.tiny import settings_with


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run without noise."""
    from securefed.simulation.execution import execute

    settings = settings_with(privacy={"dp": False}, federation={"clients": 3, "rounds": 12})
    path = tmp_path_factory.mktemp("trained") / "run"
    execute(settings(), path)
    return path


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of other phantoms, of two sites; some lack a modality."""
    folder = tmp_path_factory.mktemp("strangers") / "patients"
    write_phantoms(folder, PhantomSpec(image_size=32), 2, 20, seed=77)
    return folder / "manifest.csv"
