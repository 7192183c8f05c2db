"""run.json: what a run was made of, so that it can be repeated, audited and compared."""

import platform
import uuid
from importlib.metadata import version
from typing import Any

import torch

from securefed import __version__
from securefed.config import Settings
from securefed.data.load import FederatedData
from securefed.errors import RunError
from securefed.record.directory import SCHEMA

PACKAGES = ("torch", "opacus", "numpy", "cryptography", "safetensors", "msgspec")


def describe(
    settings: Settings,
    data: FederatedData,
    weights_sha256: str | None,
    shared_parameters: int,
    device: torch.device,
) -> dict[str, Any]:
    """The content of run.json.

    Args:
        weights_sha256: of the public weights the encoders start from, None if they are random.
        shared_parameters: how many parameters travel.
    """
    if not settings.privacy.dp:
        noise = "none"
    else:
        noise = "seeded" if settings.privacy.seeded_noise else "cryptographic"
    return {
        "schema": SCHEMA,
        "run": uuid.uuid4().hex,
        "securefed": __version__,
        "configuration": settings.configuration,
        "settings": settings.model_dump(mode="json"),
        "data": {
            "kind": "phantom" if settings.data.manifest is None else "manifest",
            "fingerprint": data.fingerprint,
            "hospitals": {
                each.name: {"train": len(each.train), "test": len(each.test)}
                for each in data.hospitals
            },
            "warnings": data.warnings,
        },
        "model": {
            "initialisation": settings.model.initialisation,
            "public_weights_sha256": weights_sha256,
            "shared_parameters": shared_parameters,
        },
        "randomness": {
            "seed": settings.seed,
            "dp_noise_and_sampling": noise,
            "secure_aggregation": "operating system"
            if settings.secure_aggregation.enabled
            else "none",
        },
        "environment": {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "device": str(device),
            "threads": torch.get_num_threads(),
            "packages": {name: version(name) for name in PACKAGES},
        },
    }


def require_same_run(recorded: dict[str, Any], now: dict[str, Any]) -> None:
    """RunError unless a run.json and what would be written now agree on all that shapes results."""
    for key, what in (("settings", "settings"), ("data", "patients"), ("model", "public weights")):
        if recorded.get(key) != now[key]:
            raise RunError(
                f"the {what} differ from those this run started with (run.json: {key})",
                hint="start a new run instead",
            )
