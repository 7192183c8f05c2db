"""`securefed run`: train one model over several hospitals, here in one process."""

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from securefed.config import Settings, load
from securefed.errors import ConfigurationError

if TYPE_CHECKING:
    from securefed.simulation.simulation import Simulation

EPILOG = """\b
Examples:
  securefed run --dp-epsilon 8
  securefed run --no-dp --rounds 20 --out runs/plain
  securefed run --config configs/report.yaml --data my/manifest.csv
  securefed run --dp-epsilon 8 --no-secure --canaries 200 --out runs/to-audit
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
@click.option("--canaries", type=int, help="Records to test epsilon with: a run for auditing.")
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
    canaries: int | None,
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
        "canaries.count": canaries,
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
    from securefed.simulation.execution import execute
    from securefed.simulation.opening import settings_of

    used = settings or settings_of(path)
    _announce(used, console)
    with _Screen(console) as screen:
        summary = execute(
            settings,
            path,
            resume=settings is None,
            say=screen.say,
            on_open=screen.open,
            on_round=screen.round,
            stop_on_ctrl_c=True,
        )
    console.print(_table(summary, _hospitals(path), used))
    console.print(f"results: {path} (summary.json, model.safetensors, progress.svg)")
    return summary


class _Screen:
    """What the user sees while a run goes: what is being done, then a bar over the rounds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("starting")
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )

    def __enter__(self) -> "_Screen":
        self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._status.stop()
        self._progress.stop()

    def say(self, text: str) -> None:
        """The run prepares or finishes."""
        self._progress.stop()
        self._status.update(text)
        self._status.start()

    def open(self, simulation: "Simulation") -> None:
        """The rounds begin."""
        self._status.stop()
        for note in simulation.notes:
            self._console.print(f"[yellow]note:[/] {note}")
        server = simulation.server
        self._task = self._progress.add_task(
            "rounds", total=server.plan.rounds, completed=server.finished
        )
        self._progress.start()

    def round(self, line: dict[str, Any]) -> None:
        """A round is on disk."""
        self._progress.update(self._task, completed=line["round"])
        if line["loss"] is not None or line["dropped"] or line["aborted"]:
            self._console.print(_round_text(line), highlight=False)


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


def _hospitals(path: Path) -> list[dict[str, Any]]:
    # Shown to whoever runs all of them in one process; each file is the hospital's own.
    names = json.loads((path / "run.json").read_text())["data"]["hospitals"]
    folders = (path / "hospitals" / name for name in names)
    return [json.loads((folder / "summary.json").read_text()) for folder in folders]


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
