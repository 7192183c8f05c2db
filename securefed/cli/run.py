"""`securefed run`: train one model over several hospitals, here in one process."""

import json
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
    import torch

    from securefed.federation.opening import open_run, settings_of
    from securefed.federation.run_directory import RunDirectory

    resume = settings is None
    directory = RunDirectory.open(path) if resume else RunDirectory.create(path)
    settings = settings or settings_of(path)
    _log_to(directory.path / "hospitals.log")
    _announce(settings, console)
    with console.status("starting") as status:
        simulation = open_run(settings, directory, status.update, resume=resume)
    for note in simulation.notes:
        console.print(f"[yellow]note:[/] {note}")
    # From here on the hospitals compute side by side, each on a thread of its own.
    torch.set_num_threads(max(1, torch.get_num_threads() // len(simulation.clients)))
    stopped = _train(simulation, console)
    if stopped:
        done, planned = simulation.server.finished, simulation.server.plan.rounds
        raise Interrupted(
            f"stopped after round {done} of {planned}; everything so far is in {path}",
            hint=f"continue with: securefed run --resume {path}",
        )
    return _finish(simulation, console)


def _log_to(path: Path) -> None:
    # What a hospital's own log would hold (reasons of refusals); the terminal shows the round.
    handler = logging.FileHandler(path, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("securefed")
    logger.handlers = [handler]
    logger.propagate = False


def _announce(settings: Settings, console: Console) -> None:
    privacy, federation = settings.privacy, settings.federation
    source = settings.data.manifest or "phantom patients"
    console.print(
        f"[bold]{settings.configuration}[/]: {federation.clients} hospitals, "
        f"{federation.rounds} rounds, {source}"
    )
    if privacy.dp:
        console.print(
            f"privacy: epsilon at most {privacy.epsilon:g} at delta {privacy.delta:g} per "
            f"{privacy.unit} of a hospital, add/remove adjacency, {privacy.accountant.upper()}"
        )
        if privacy.seeded_noise:
            console.print("[yellow]note:[/] seeded noise: who knows the seed can remove it")
    if settings.secure_aggregation.enabled and federation.clients == 2:
        console.print(
            "[yellow]note:[/] two hospitals: each can subtract its own update from the sum and "
            "sees the other's; only the server is kept from it"
        )


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Collects Ctrl-C instead of dying; a second one stops at once."""
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _train(simulation: "Simulation", console: Console) -> bool:
    """Run the rounds; True if the user asked to stop before the last one."""
    plan = simulation.server.plan
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with (
        _stop_requests() as stop,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        task = progress.add_task("rounds", total=plan.rounds, completed=simulation.server.finished)
        for record, line in simulation.rounds():
            progress.update(task, completed=record.round)
            if record.metrics or record.dropped or record.aborted:
                progress.console.print(_round_text(line), highlight=False)
            if stop and record.round < plan.rounds:
                return True
    return False


def _round_text(line: dict[str, Any]) -> str:
    text = f"round {line['round']:>4}"
    if line["aborted"]:
        return f"{text}  aborted, nothing revealed: {line['aborted']}"
    if line["auc"] is not None:
        text += f"  loss {line['loss']:.3f}  AUC {line['auc']:.3f}"
    if line["epsilon"] is not None:
        text += f"  epsilon {line['epsilon']:.2f}"
    text += f"  {(line['bytes_up'] + line['bytes_down']) / 1000:.1f} kB  {line['wall_s']:.2f} s"
    for name, reason in line["dropped"].items():
        text += f"\n            {name} dropped: {reason}"
    return text


def _finish(simulation: "Simulation", console: Console) -> dict[str, Any]:
    from securefed.federation.baselines import train_baselines
    from securefed.federation.results import write_results
    from securefed.reporting.figures import draw_progress

    final = simulation.evaluate()
    baselines = None
    if simulation.settings.evaluation.baselines:
        with console.status("training each hospital alone"):
            baselines = train_baselines(simulation)
    summary, hospitals = write_results(simulation, final, baselines)
    directory = simulation.directory
    draw_progress(directory.read_metrics(), directory.path / "progress.svg")
    console.print(_table(summary, hospitals, simulation.settings))
    console.print(f"results: {directory.path} (summary.json, model.safetensors, progress.svg)")
    return summary


def _table(summary: dict[str, Any], hospitals: list[dict[str, Any]], settings: Settings) -> Table:
    table = Table(title="held-out patients")
    for column in ("", "patients", "AUC", "95% CI", "acc.", "sens.", "spec."):
        justify: Literal["left", "right"] = "right" if column else "left"
        table.add_column(column, justify=justify, no_wrap=True)
    alone = any(row["local_auc"] is not None for row in hospitals)
    if alone:
        table.add_column("alone", justify="right")
    if settings.privacy.dp:
        table.add_column("epsilon", justify="right")
    held_out = sum(row["held_out_patients"] for row in hospitals)
    rows = [*hospitals, {**summary, "name": "global", "held_out_patients": held_out}]
    for row in rows:
        cells = [row["name"], str(row["held_out_patients"]), _figure(row["auc"])]
        interval = row["auc_ci95"]
        cells.append(f"{interval[0]:.2f}-{interval[1]:.2f}" if interval else "-")
        cells += [_figure(row[key]) for key in ("accuracy", "sensitivity", "specificity")]
        if alone:
            cells.append(_figure(row["local_auc"]))
        if settings.privacy.dp:
            cells.append(_figure(row["epsilon"]))
        table.add_row(*cells, end_section=row is hospitals[-1])
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
