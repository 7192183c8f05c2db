"""The run directory: the contract between `run`, `audit`, `compare` and `report`.

    run.json                 resolved settings, versions, seeds, data fingerprint, RNG kinds
    metrics.jsonl            one line per round (client null) and per round and client
    summary.json             flat and stable, for scripts
    model.safetensors        the network with the final shared parameters
    checkpoint.json          the round to resume from; checkpoint-N.safetensors beside it
    openings.jsonl           the questions whose sums were opened; each hospital has its own
    hospitals/NAME/          that hospital's own: ledger.sqlite, personal.safetensors, check point
    exposures/               what crossed the wire (securefed.record.recording)
    writer.lock              while a process writes here

Everything is written whole and then renamed, so a crash leaves the old or the new file.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save as arrays_to_bytes
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save as tensors_to_bytes

from securefed.errors import RunError
from securefed.files import LOCK, gone_if_empty, write_atomically, writing_into
from securefed.record.json_file import decode

SCHEMA = 1


class RunDirectory:
    """The folders of a run that is being written; `Run` reads one (securefed.run_directory)."""

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
            if any(each.name != LOCK for each in path.iterdir()):
                raise RunError(
                    f"{path} is not empty",
                    hint=f"choose another --out, or continue that run with --resume {path}",
                )
        except OSError as error:
            raise RunError(f"cannot make {path}: {error.strerror}") from None
        return cls(path)

    @classmethod
    @contextmanager
    def new(cls, path: Path) -> Iterator["RunDirectory"]:
        """As `create`, with nobody else in it; a folder that is made and stays empty goes again.

        Raises:
            RunError: as `create`, or somebody else is beginning a run there.
        """
        with writing_into(path):
            yield cls.create(path)

    def clear(self) -> None:
        """Take away what a start that failed has left.

        Nothing was trained and no message was sent: a number that a hospital declared was seen by
        nobody, and goes with the ledger that paid for it.
        """
        for each in self.path.iterdir():
            if each.is_dir():
                shutil.rmtree(each)
            elif each.name != LOCK:
                each.unlink()

    def hospital(self, name: str) -> Path:
        """The folder that stays in hospital `name`, its owner's alone: exact figures are in it."""
        folder = self.path / "hospitals" / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    @property
    def exposures(self) -> Path:
        return self.path / "exposures"


@contextmanager
def named_by_date(configuration: str) -> Iterator[Path]:
    """A new folder runs/DATE-CONFIGURATION; it goes again if nothing is put into it.

    It is made at once: of runs that begin in one second each has a name of its own.
    """
    name = f"{datetime.now():%Y-%m-%d-%H%M%S}-{configuration.replace('+', '-')}"
    parent = Path("runs")
    made = [parent] if not parent.exists() else []
    for number in count(1):
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            continue
        except OSError as error:
            raise RunError(f"cannot make {path}: {error.strerror}", hint="give --out") from None
    with gone_if_empty([path, *made]):
        yield path


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


def read_about(path: Path) -> dict[str, str]:
    """What `save_tensors` was told about a file.

    Raises:
        RunError: missing, damaged, or with characters that would act on a terminal.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            told = (file.metadata() or {}).get("about", "{}")
    except (OSError, SafetensorError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}") from None
    about = decode(told.encode(), dict[str, str], f"what {path} says about itself")
    for name, text in about.items():
        # A model comes from anybody, and what it says is printed and put onto pages.
        if not text.isprintable():
            raise RunError(f"{path} is damaged: its {name!r} holds control characters")
    return about


def save_arrays(path: Path, arrays: Mapping[str, NDArray[np.float64]]) -> None:
    """Arrays to a safetensors file."""
    write_atomically(path, arrays_to_bytes(dict(arrays)))


def read_arrays(path: Path) -> dict[str, NDArray[np.float64]]:
    """A safetensors file; RunError if missing or damaged."""
    try:
        return dict(load_arrays(path))
    except (OSError, SafetensorError) as error:
        raise RunError(f"cannot read {path}: {error}") from None
