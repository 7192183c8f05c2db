"""The smallest federation that can learn: 32-pixel phantoms, ten patients in each hospital.

A file of tests says once what its federation has beside that, and each test what it changes:

    settings = settings_with(federation={"rounds": 3})

    def test_...(tmp_path):
        finish(start(settings(seed=5), tmp_path / "run"))

Sections are merged key by key; what a key holds is replaced whole. The product is imported where it
is used, so that tests of the command line alone need not wait for torch. The fixtures are in
conftest.py.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from securefed.config import Settings
from securefed.run_directory import Run

if TYPE_CHECKING:
    from securefed.data.load import FederatedData
    from securefed.server.rounds import RoundRecord
    from securefed.simulation.simulation import Simulation

BASE: dict[str, Any] = {
    "data": {"phantom": {"patients": 10, "test_patients": 4}},
    "model": {"image_size": 32},
    "training": {"batch_size": 5, "max_slices": 4},
    # Noise that hides one of three hundred patients would drown ten; tests of it ask for it.
    "privacy": {"delta": 1e-3, "patients_epsilon": None, "evaluation_epsilon": None},
    "federation": {"timeout_s": 60.0},
}


def changed(values: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """Settings as a file holds them, with other values in some sections."""
    merged = dict(values)
    for name, value in sections.items():
        merged[name] = {**merged.get(name, {}), **value} if isinstance(value, dict) else value
    return merged


def tiny(**sections: Any) -> dict[str, Any]:
    """A tiny federation's settings as a file holds them."""
    return changed(BASE, **sections)


def settings_with(**sections: Any) -> Callable[..., Settings]:
    """What makes settings of a tiny federation that has these values, unless told others."""
    return lambda **others: Settings.model_validate(changed(tiny(**sections), **others))


def start(settings: Settings, path: Path, data: "FederatedData | None" = None) -> "Simulation":
    """A run in a new directory; of the patients that the settings give, unless told of others."""
    from securefed.record.directory import RunDirectory
    from securefed.simulation import opening

    return opening.start(settings, RunDirectory.create(path), lambda text: None, data=data)


def resume(path: Path, data: "FederatedData | None" = None) -> "Simulation":
    """The run of a directory, from where it stopped."""
    from securefed.simulation import opening

    return opening.resume(Run.open(path), lambda text: None, data=data)


def finish(simulation: "Simulation") -> "list[RoundRecord]":
    """Play the rounds that are left."""
    return [record for record, _ in simulation.rounds()]
