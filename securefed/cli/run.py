"""`securefed run`: train one model over several hospitals, here in one process."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal

import click
from rich.console import Console
from rich.table import Table

from securefed.config import Settings, load
from securefed.errors import ConfigurationError
from securefed.privacy.accounting import at_most
from securefed.progress import Bar, Rounds
from securefed.record.metrics import RoundLine
from securefed.record.summary import HospitalSummary, Summary
from securefed.run_directory import Run

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
    done = _run(settings, directory, console)
    if as_json:
        click.echo(done.summary.encode(), nl=False)


def _run(settings: Settings | None, path: Path, console: Console) -> Run:
    # Imported here: torch takes two seconds, and --help does not need it.
    from securefed.simulation import execution

    work: Callable[..., object]
    if settings:
        work = partial(execution.execute, settings, path)
        _announce(settings, console)
    else:
        begun = Run.open(path)
        work = partial(execution.resume, begun)
        _announce(begun.settings, console)
    with Bar(console) as bar:
        rounds = Rounds(bar)

        def on_round(line: RoundLine) -> None:
            rounds.round(line)
            if line.loss is not None or line.dropped or line.aborted:
                bar.line(_round_text(line))

        work(
            say=rounds.say,
            on_open=rounds.open,
            on_round=on_round,
            stop_on_ctrl_c=True,
        )
    done = Run.open(path).complete()
    console.print(_table(done))
    if done.guarantee:
        console.print(f"largest: {done.guarantee}", highlight=False, soft_wrap=True)
    console.print(f"results: {path} (summary.json, model.safetensors, progress.svg)")
    return done


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


def _round_text(line: RoundLine) -> str:
    text = f"round {line.round:>4}"
    if line.aborted:
        return f"{text}  aborted: {line.aborted}"
    if line.auc is not None:
        text += f"  loss {line.loss:.3f}  AUC {line.auc:.3f}"
    if line.epsilon is not None:
        text += f"  epsilon {at_most(line.epsilon)}"
    text += f"  {(line.bytes_up + line.bytes_down) / 1000:.1f} kB  {line.wall_s:.2f} s"
    for name, reason in line.dropped.items():
        text += f"\n            {name} dropped: {reason}"
    return text


def _table(run: Run) -> Table:
    made_up = run.summary.simulation
    table = Table(title=f"held-out patients{f' (simulation: {made_up})' if made_up else ''}")
    for column in ("", "patients", "AUC", "95% CI", "acc.", "sens.", "spec."):
        justify: Literal["left", "right"] = "right" if column else "left"
        table.add_column(column, justify=justify, no_wrap=True)
    # Each hospital's own; shown to whoever runs all of them in one process.
    hospitals = run.hospital_results
    alone = any(each.local_auc is not None for each in hospitals)
    if alone:
        table.add_column("alone", justify="right")
    if run.settings.privacy.dp:
        table.add_column("epsilon", justify="right")

    def add(name: str, held_out: int, row: Summary | HospitalSummary, *, last: bool) -> None:
        interval = row.auc_ci95
        cells = [name, str(held_out), _figure(row.auc)]
        cells.append(f"{interval[0]:.2f}-{interval[1]:.2f}" if interval else "-")
        cells += [_figure(each) for each in (row.accuracy, row.sensitivity, row.specificity)]
        if alone:
            cells.append(_figure(row.local_auc))
        if run.settings.privacy.dp:
            cells.append(at_most(row.epsilon))
        table.add_row(*cells, end_section=last)

    for each in hospitals:
        add(each.name, each.held_out_patients, each, last=each is hospitals[-1])
    add("global", sum(each.held_out_patients for each in hospitals), run.summary, last=True)
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
