"""model.safetensors: the network with the final shared parameters, which anybody may be given."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import torch
from pydantic import ValidationError
from torch import Tensor

from securefed.config import ModelSettings, Settings, TaskSettings
from securefed.errors import RunError
from securefed.model.calibration import Calibration
from securefed.model.likeness import Reference
from securefed.model.network import FusionNetwork
from securefed.privacy.accounting import Guarantee
from securefed.record.directory import SCHEMA, read_about, read_tensors, save_tensors
from securefed.record.json_file import decode

NAME = "model.safetensors"
REFERENCE = "reference."  # how names of tensors begin that are no parameters


def write(
    folder: Path,
    network: FusionNetwork,
    settings: Settings,
    guarantee: Guarantee | None,
    simulation: str,
    run: str,
    *,
    canaries: int = 0,
    calibration: Calibration | None = None,
    reference: Reference | None = None,
) -> None:
    """Write the released network.

    Args:
        settings: the run's; what using the network takes of them is written with it.
        guarantee: the weakest of any hospital; None without DP.
        simulation: what it was trained on if not real patients; "" for these.
        canaries: made-up records among the patients, for an audit.
        run: its identity, as in ledgers.
        reference: what public scans of the kind that it was trained on look like; None where there
            are none.
        calibration: where held-out patients were scored and whoever writes knows their total.
    """
    about = {
        "schema": str(SCHEMA),
        "run": run,
        # Where weights lay is a path of whoever trained; using the network does not take it.
        "shape": settings.model.model_copy(update={"weights": ()}).model_dump_json(),
        "task": settings.task.model_dump_json(),
        "max_slices": str(settings.training.max_slices),
        "noise": guarantee.noise if guarantee else "none",
        "privacy": str(guarantee) if guarantee else "no differential privacy: no epsilon",
    }
    if simulation:
        about["simulation"] = simulation
    if canaries:
        about["canaries"] = f"{canaries}: trained for auditing, not for use"
    if carried := released_calibration(settings, calibration):
        about["calibration"] = msgspec.json.encode(carried).decode()
    arrays = reference.arrays() if reference else {}
    references = {f"{REFERENCE}{name}": torch.from_numpy(each) for name, each in arrays.items()}
    save_tensors(folder / NAME, network.state_dict() | references, about)


def released_calibration(settings: Settings, calibration: Calibration | None) -> Calibration | None:
    """What of a calibration a model takes along: all of it, or None.

    Held-out patients of a run with differential privacy whose counts are exact have no epsilon, and
    the file is for anybody.
    """
    unpaid = settings.privacy.dp and settings.privacy.evaluation_epsilon is None
    return None if unpaid else calibration


def read(folder: Path) -> dict[str, Tensor]:
    """The released parameters, by name.

    Raises:
        RunError: the run is not finished, or the file is damaged.
    """
    if not (folder / NAME).exists():
        raise RunError(
            f"{folder} holds no released model (no {NAME})",
            hint=f"finish the run: securefed run --resume {folder}",
        )
    return read_parameters(folder / NAME)


def read_parameters(file: Path) -> dict[str, Tensor]:
    """The network's parameters in a model file, by name; RunError as `read`."""
    tensors = read_tensors(file)
    return {name: each for name, each in tensors.items() if not name.startswith(REFERENCE)}


def read_reference(file: Path, modalities: Sequence[str]) -> Reference | None:
    """What scans like those of the training look like; None where the file does not say.

    Raises:
        RunError: missing or damaged, or not of these modalities.
    """
    tensors = {
        name.removeprefix(REFERENCE): each.numpy()
        for name, each in read_tensors(file).items()
        if name.startswith(REFERENCE)
    }
    if not tensors:
        return None
    try:
        return Reference.of_arrays(tensors, modalities)
    except RunError as error:
        raise RunError(f"{file}: {error}", hint="take the file as its run wrote it") from None


def read_calibration(file: Path) -> Calibration | None:
    """How the released probabilities fit held-out patients; None where the file does not say.

    Args:
        file: the model's, or the folder that it is in.

    Raises:
        RunError: missing, damaged, or what it says is no calibration.
    """
    path = file / NAME if file.is_dir() else file
    told = read_about(path).get("calibration")
    if told is None:
        return None
    return decode(told.encode(), Calibration, f"the calibration in {path}")


def load(
    folder: Path, initial: FusionNetwork, personal: Mapping[str, Tensor] | None = None
) -> FusionNetwork:
    """The released network: a copy of `initial` with its parameters, on the same device.

    Args:
        personal: a hospital's own parameters, which take the place of the released ones.

    Raises:
        RunError: as `read`, or the file is of a network of another shape.
    """
    network = copy.deepcopy(initial)
    try:
        network.load_state_dict({**read(folder), **(personal or {})})
    except RuntimeError as error:
        raise RunError(
            f"{folder / NAME} does not fit the run's settings: {str(error).splitlines()[0]}",
            hint="the files are not of one run",
        ) from None
    return network


def described(about: Mapping[str, str], file: Path) -> tuple[ModelSettings, TaskSettings, int]:
    """How a model file says it is to be used: its shape, its task, slices of an example.

    Raises:
        RunError: it does not say.
    """
    try:
        settings = ModelSettings.model_validate_json(about["shape"])
        # Files from before there was a choice are of patients.
        task = TaskSettings.model_validate_json(about.get("task", "{}"))
        max_slices = int(about["max_slices"])
    except (KeyError, ValueError, ValidationError):
        raise RunError(
            f"{file} does not say how it is to be used",
            hint="a model file of this version of securefed does; train it again",
        ) from None
    if not 1 <= max_slices <= 512:
        raise RunError(f"{file} takes {max_slices} slices of an example; it is damaged")
    return settings, task, max_slices


def cautions(about: Mapping[str, str]) -> tuple[str, ...]:
    """Why a model is not to be used on patients, by what its file says; none where it is."""
    found = []
    if "simulation" in about:
        found.append(f"it was trained on made-up patients ({about['simulation']})")
    if "canaries" in about:
        found.append("made-up records were among its patients, for an audit")
    if about.get("noise") == "seeded":
        found.append("who has the seed removes its noise: it protects nobody")
    return tuple(found)
