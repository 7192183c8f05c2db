"""What a run is made of, gathered when it begins: the content of run.json."""

import platform
from importlib.metadata import version

import torch

from securefed import __version__
from securefed.errors import RunError
from securefed.record.run_file import Data, Environment, Model, Party, Randomness, RunFile, Weights
from securefed.wire.description import JobDescription

PACKAGES = ("torch", "opacus", "numpy", "cryptography", "safetensors", "msgspec")


def about_run(
    job: JobDescription,
    data: Data,
    device: torch.device,
    *,
    party: Party = "everybody",
    hospital: str | None = None,
) -> RunFile:
    """What a run is made of, as one party, or everybody in one process, knows it."""
    settings = job.settings
    masked = settings.secure_aggregation.enabled
    return RunFile(
        party=party,
        hospital=hospital,
        run=job.run,
        securefed=__version__,
        configuration=settings.configuration,
        settings=settings.model_dump(mode="json"),
        data=data,
        model=Model(
            initialisation=settings.model.initialisation,
            public_weights_sha256=job.weights_sha256,
            weights=tuple(Weights(**vars(each)) for each in job.weights),
            shared_parameters=job.parameters,
        ),
        randomness=Randomness(
            seed=settings.seed,
            dp_noise_and_sampling=settings.privacy.noise,
            secure_aggregation="operating system" if masked else "none",
        ),
        environment=Environment(
            python=platform.python_version(),
            machine=platform.machine(),
            device=str(device),
            threads=torch.get_num_threads(),
            packages={name: version(name) for name in PACKAGES},
        ),
    )


def require_same(recorded: RunFile, now: RunFile) -> None:
    """RunError unless a recorded run and what would begin now agree on all that shapes results."""
    parts = (
        ("settings", "settings", recorded.settings, now.settings),
        ("data", "patients", recorded.data, now.data),
        ("model", "public weights", recorded.model, now.model),
    )
    for key, what, before, after in parts:
        if before != after:
            raise RunError(
                f"the {what} differ from those this run started with (run.json: {key})",
                hint="start a new run instead",
            )
