"""The run directory: the contract between `run`, `audit`, `compare` and `report`.

    run.json                 resolved settings, versions, seeds, data fingerprint, RNG kinds
    metrics.jsonl            one line per round (client null) and per round and client
    summary.json             flat and stable, for scripts
    model.safetensors        the network with the final shared parameters
    checkpoint.json          the round to resume from; checkpoint-N.safetensors beside it
    hospitals/NAME/          that hospital's own: ledger.sqlite, personal.safetensors, check point
    exposures/               what crossed the wire (securefed.record.recording)

Everything is written whole and then renamed, so a crash leaves the old or the new file.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save as arrays_to_bytes
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save as tensors_to_bytes

from securefed.config import Settings
from securefed.errors import RunError
from securefed.files import write_atomically

SCHEMA = 1


class RunDirectory:
    """Paths and atomic writes of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> "RunDirectory":
        """A new, empty run directory.

        Raises:
            RunError: the directory exists and is not empty, or cannot be made.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise RunError(
                    f"{path} is not empty",
                    hint=f"choose another --out, or continue that run with --resume {path}",
                )
        except OSError as error:
            raise RunError(f"cannot make {path}: {error.strerror}") from None
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """An existing run.

        Raises:
            RunError: there is no run in it.
        """
        if not (path / "run.json").is_file():
            raise RunError(
                f"{path} holds no run (no run.json)", hint="give the directory that --out named"
            )
        return cls(path)

    def hospital(self, name: str) -> Path:
        """The folder that stays in hospital `name`."""
        folder = self.path / "hospitals" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def exposures(self) -> Path:
        return self.path / "exposures"

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON object, indented and with sorted keys left as given."""
        write_atomically(self.path / name, (json.dumps(value, indent=2) + "\n").encode())

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON object.

        Raises:
            RunError: missing or not a JSON object.
        """
        try:
            value = json.loads((self.path / name).read_bytes())
        except (OSError, ValueError) as error:
            raise RunError(f"cannot read {self.path / name}: {error}") from None
        if not isinstance(value, dict):
            raise RunError(f"{self.path / name} does not hold a JSON object")
        return value


def settings_of(directory: Path) -> Settings:
    """The settings a run was made with.

    Raises:
        RunError: no run there, or run.json does not hold settings of this version.
    """
    recorded = RunDirectory.open(directory).read_json("run.json")
    try:
        return Settings.model_validate_json(json.dumps(recorded["settings"]))
    except (KeyError, TypeError, ValidationError) as error:
        raise RunError(
            f"{directory / 'run.json'} does not hold the settings of a run",
            hint="it is damaged, or another version of securefed wrote it; make the run again",
        ) from error


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], about: dict[str, str]) -> None:
    """Tensors to a safetensors file, with `about` as JSON in its metadata."""
    # One key: the library writes several in no fixed order, and files should compare equal.
    metadata = {"about": json.dumps(about, sort_keys=True)}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, tensors_to_bytes(plain, metadata=metadata))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """A safetensors file; RunError if missing or damaged."""
    try:
        return dict(load_tensors(path))
    except (OSError, SafetensorError) as error:
        raise RunError(f"cannot read {path}: {error}") from None


def save_arrays(path: Path, arrays: Mapping[str, NDArray[np.float64]]) -> None:
    """Arrays to a safetensors file."""
    write_atomically(path, arrays_to_bytes(dict(arrays)))


def read_arrays(path: Path) -> dict[str, NDArray[np.float64]]:
    """A safetensors file; RunError if missing or damaged."""
    try:
        return dict(load_arrays(path))
    except (OSError, SafetensorError) as error:
        raise RunError(f"cannot read {path}: {error}") from None
