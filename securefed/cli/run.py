"""`securefed run`: train one model over several hospitals, here in one process."""

import json
import logging
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from securefed.config import Settings, load
from securefed.errors import ConfigurationError, Interrupted

if TYPE_CHECKING:
    from securefed.federation.simulation import Simulation

EPILOG = """\b
Examples:
  securefed run --dp-epsilon 8
  securefed run --no-dp --rounds 20 --out runs/plain
  securefed run --config configs/report.yaml --data my/manifest.csv
  securefed run --resume runs/2026-01-31-120000

The result is a run directory: summary.json, model.safetensors, a ledger per hospital.
Every key of the configuration file is explained in docs/configuration.md."""


@click.command(epilog=EPILOG)
@click.option("--config", type=click.Path(path_type=Path), help="YAML file with settings.")
@click.option("--dp-epsilon", type=float, help="Train with this privacy budget per hospital.")
@click.option("--no-dp", is_flag=True, help="Train without differential privacy.")
@click.option("--secure/--no-secure", default=None, help="Secure aggregation on or off.")
@click.option("--data", type=click.Path(path_type=Path), help="Manifest or folder of real scans.")
@click.option("--clients", type=int, help="Number of hospitals.")
@click.option("--rounds", type=int, help="Rounds of training.")
@click.option("--seed", type=int, help="Seed of data, initial weights and cohorts.")
@click.option("--seeded-noise", is_flag=True, help="Reproducible noise: research only.")
@click.option("--baselines", is_flag=True, help="Also train every hospital alone.")
@click.option("--out", type=click.Path(path_type=Path), help="Run directory to make.")
@click.option("--resume", type=click.Path(path_type=Path), help="Run directory to continue.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where to train.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json, nothing else.")
def command(
    config: Path | None,
    dp_epsilon: float | None,
    no_dp: bool,
    secure: bool | None,
    data: Path | None,
    clients: int | None,
    rounds: int | None,
    seed: int | None,
    seeded_noise: bool,
    baselines: bool,
    out: Path | None,
    resume: Path | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Train one diagnostic model over several hospitals.

    Without --data the hospitals hold built-in phantom patients. By default each hospital trains
    with differential privacy (epsilon 8) and masks its update, so that the server sees only the
    sum. Settings come from the defaults, then --config, then the options here.
    """
    if no_dp and dp_epsilon is not None:
        raise ConfigurationError(
            "--no-dp and --dp-epsilon contradict each other", hint="give one of them"
        )
    given = {
        "privacy.dp": False if no_dp else (True if dp_epsilon is not None else None),
        "privacy.epsilon": dp_epsilon,
        "privacy.seeded_noise": seeded_noise or None,
        "secure_aggregation.enabled": secure,
        "data.manifest": data,
        "federation.clients": clients,
        "federation.rounds": rounds,
        "evaluation.baselines": baselines or None,
        "seed": seed,
        "device": device,
    }
    overrides = {key: value for key, value in given.items() if value is not None}
    console = Console(stderr=True, quiet=as_json)
    if resume is not None:
        if overrides or config or out:
            raise ConfigurationError(
                "--resume continues a run with its own settings",
                hint="leave the other options out (only --json goes with it)",
            )
        directory, settings = resume, None
    else:
        settings = load(config, overrides)
        directory = out or Path("runs") / (
            datetime.now().strftime("%Y-%m-%d-%H%M%S-") + settings.configuration.replace("+", "-")
        )
    summary = _run(settings, directory, console)
    if as_json:
        click.echo(json.dumps(summary, indent=2))


def _run(settings: Settings | None, path: Path, console: Console) -> dict[str, Any]:
    # Imported here: torch takes two seconds, and --help does not need it.
    from securefed.federation.run_directory import RunDirectory
    from securefed.federation.simulation import open_run, settings_of

    _log_to_console(console)
    start = time.perf_counter()
    resume = settings is None
    directory = RunDirectory.open(path) if resume else RunDirectory.create(path)
    settings = settings or settings_of(path)
    _announce(settings, console)
    with console.status("starting") as status, _one_line_for_bad_tensors():
        simulation = open_run(
            settings, directory, lambda text: status.update(text), resume=resume
        )
    for warning in simulation.data.warnings:
        console.print(f"note: {warning}", style="yellow")
    stopped = _train(simulation, console)
    return _finish(simulation, console, start, stopped)
