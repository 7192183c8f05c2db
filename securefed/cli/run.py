"""`securefed run`: train one model over several hospitals, here in one process."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from securefed.cli.loading import loading
from securefed.cli.screen import Narrowing, screen, show_next
from securefed.config import Settings, load
from securefed.errors import ConfigurationError, NothingLearned
from securefed.privacy.accounting import at_most
from securefed.progress import Bar, Rounds
from securefed.record.metrics import RoundLine
from securefed.record.run_file import unit_in_words
from securefed.record.summary import ClassScores, HospitalSummary, Scores, Summary
from securefed.run_directory import Run
from securefed.wording import counted

if TYPE_CHECKING:
    from securefed.simulation.simulation import Simulation

EPILOG = """\b
Examples:
  securefed run --dp-epsilon 8
  securefed run --no-dp --rounds 20 --out runs/plain
  securefed run --config configs/report.yaml --data my/manifest.csv
  securefed run --dp-epsilon 8 --no-secure --canaries 200 --out runs/to-audit
  securefed run --resume runs/2026-01-31-120000

The result is a run directory: summary.json, model.safetensors, a ledger per hospital. What the
patients of --data have spent in all runs is in a ledger beside them (securefed ledger show DATA).
Every key of the configuration file is explained in docs/configuration.md."""

EXPENDABLE = ("spec.", "sens.", "acc.", "patients", "alone", "95% CI")  # columns, first ones first


@click.command(epilog=EPILOG)
@click.option("--config", type=click.Path(path_type=Path), help="YAML file with settings.")
@click.option("--dp-epsilon", type=float, help="Train with this privacy budget per hospital.")
@click.option("--no-dp", is_flag=True, help="Train without differential privacy.")
@click.option("--secure/--no-secure", default=None, help="Secure aggregation on or off.")
@click.option("--data", type=click.Path(path_type=Path), help="Manifest or folder of real scans.")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    multiple=True,
    help="File of public weights that encoders start from; several: once for each.",
)
@click.option("--clients", type=int, help="Number of hospitals.")
@click.option("--rounds", type=int, help="Rounds of training.")
@click.option("--seed", type=int, help="Seed of data, initial weights and cohorts.")
@click.option("--seeded-noise", is_flag=True, help="Reproducible noise: research only.")
@click.option("--baselines", is_flag=True, help="Also train every hospital alone.")
@click.option("--canaries", type=int, help="Records to test epsilon with: a run for auditing.")
@click.option("--out", type=click.Path(path_type=Path), help="Run directory to make.")
@click.option("--resume", type=click.Path(path_type=Path), help="Run directory to continue.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where to train.")
@click.option(
    "--engine",
    type=click.Choice(["process", "ray"]),
    default="process",
    show_default=True,
    help="Where hospitals work: in this process, or on Ray's workers.",
)
@click.option("--address", help="Of a running Ray cluster; without it, Ray is started here.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json with the run's notes.")
def command(
    config: Path | None,
    dp_epsilon: float | None,
    no_dp: bool,
    secure: bool | None,
    data: Path | None,
    weights: tuple[Path, ...],
    clients: int | None,
    rounds: int | None,
    seed: int | None,
    seeded_noise: bool,
    baselines: bool,
    canaries: int | None,
    out: Path | None,
    resume: Path | None,
    device: str | None,
    engine: str,
    address: str | None,
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
    if address is not None and engine != "ray":
        raise ConfigurationError(
            "--address is of a Ray cluster, and hospitals are to work in this process",
            hint="give --engine ray with it",
        )
    if engine == "ray":  # before anything is announced
        from securefed.engine.ray.cluster import require_ray

        require_ray()
    given = {
        "privacy.dp": False if no_dp else (True if dp_epsilon is not None else None),
        "privacy.epsilon": dp_epsilon,
        "privacy.seeded_noise": seeded_noise or None,
        "secure_aggregation.enabled": secure,
        "data.manifest": data,
        "model.weights": weights or None,
        "model.initialisation": "public" if weights else None,
        "federation.clients": clients,
        "federation.rounds": rounds,
        "evaluation.baselines": baselines or None,
        "canaries.count": canaries,
        "seed": seed,
        "device": device,
    }
    overrides = {key: value for key, value in given.items() if value is not None}
    console = screen(quiet=as_json)
    if resume is not None:
        if overrides or config or out:
            raise ConfigurationError(
                "--resume continues a run with its own settings",
                hint="leave the other options out (only --engine, --address and --json go with it)",
            )
        begun = Run.open(resume)
        _announce(begun.settings, console)
        if begun.finished:
            console.print(f"finished already, nothing is changed: {resume}")
        _, go_on = _engine(engine, address, begun.settings)
        work: Callable[..., object] = partial(go_on, begun)
        _to_its_end(work, begun.settings, resume, console, as_json)
        return
    settings = load(config, overrides)
    _announce(settings, console)
    begin, _ = _engine(engine, address, settings)
    from securefed.record.directory import named_by_date

    place = named_by_date(settings.configuration) if out is None else nullcontext(out)
    with place as path:
        _to_its_end(partial(begin, settings, path), settings, path, console, as_json)


def _engine(
    name: str, address: str | None, settings: Settings
) -> tuple[Callable[..., object], Callable[..., object]]:
    """How a run is begun, and how one goes on."""
    with loading():  # only now: torch takes a second, and neither --help nor a mistake needs it
        if settings.privacy.dp:
            from securefed.privacy import composition  # noqa: F401  # all that Opacus brings
        from securefed.simulation import execution

        if name == "ray":
            from securefed.engine.ray import runs

            return partial(runs.execute, address=address), partial(runs.resume, address=address)
    return execution.execute, execution.resume


def _to_its_end(
    work: Callable[..., object], settings: Settings, path: Path, console: Console, as_json: bool
) -> None:
    """Do the work, show its rounds, and its results from the directory that it was done in."""
    every = settings.federation.evaluate_every  # scored or not: how often there is a line
    with Bar(console) as bar:
        rounds = Rounds(bar)

        def on_open(simulation: "Simulation") -> None:
            for line in _promises(settings, simulation.data.simulation):
                bar.line(line)
            rounds.open(simulation)

        def on_round(line: RoundLine) -> None:
            rounds.round(line)
            if (line.round - 1) % every == 0 or line.dropped or line.aborted:
                bar.line(_round_text(line))

        try:
            work(
                say=rounds.say,
                on_open=on_open,
                on_round=on_round,
                stop_on_ctrl_c=True,
            )
        except NothingLearned:
            if as_json:
                _tell(Run.open(path), rounds.notes)
            raise
    done = Run.open(path).complete()
    if as_json:
        _tell(done, [*rounds.notes, *_lasting(done)])
        return
    _show(done, console)


def _tell(run: Run, notes: Sequence[str]) -> None:
    """summary.json, and beside it what the operator alone is told: it may name patients."""
    click.echo(json.dumps({**json.loads(run.summary.encode()), "notes": notes}, indent=2))


def _show(done: Run, console: Console) -> None:
    from securefed.reporting.calibrated import calibration_in_words
    from securefed.reporting.utility import cautions_of, choice

    console.print(Narrowing(_table(done), EXPENDABLE))
    if (of := done.settings.task.example) != "patient":
        console.print(f"labels are of each {of}: a patient counts one, shared out over its own")
    scored = done.held_out
    if scored:
        for caution in cautions_of(done.summary, scored):
            console.print(f"note: {caution}", style="yellow")
        if scored.calibration:
            console.print(calibration_in_words(scored.calibration))
    if done.evaluation:
        console.print(f"held-out patients: {done.evaluation}")
    if done.guarantee:
        console.print(f"largest: {done.guarantee}")
    for line in _lasting(done):
        console.print(line)
    summary = done.summary
    if kept := choice(done):
        console.print(kept)
    if summary.rounds_aborted:
        console.print(
            f"{counted(summary.rounds_aborted, 'round')} of {summary.rounds} aborted, and moved "
            f"nothing: metrics.jsonl has the reasons",
            style="yellow",
        )
    if done.held_out is None:
        console.print("the final model was not scored: see metrics.jsonl", style="yellow")
    console.print(f"results: {done.path} (summary.json, model.safetensors, progress.svg)")
    # An audit reads what was recorded.
    audits = done.settings.exposures.record and done.settings.auditable
    show_next(console, "audit" if audits else "report", done.path)


def _lasting(done: Run) -> list[str]:
    """What the patients of a data set have spent in all runs, and what is left."""
    from securefed.privacy.ledger import Ledger
    from securefed.simulation import lifetime

    place = lifetime.place(done.settings)
    if place is None or not place.exists():
        return []
    return [lifetime.told(Ledger.open(place), done.summary.simulation)]


def _announce(settings: Settings, console: Console) -> None:
    federation = settings.federation
    source = settings.data.manifest or "phantom patients"
    console.print(
        Text(settings.configuration, style="bold")
        + Text(
            f": {counted(federation.clients, 'hospital')}, {counted(federation.rounds, 'round')}, "
            f"{source}"
        )
    )


def _promises(settings: Settings, simulation: str) -> Iterator[str]:
    """What a run will cost, once it is known whether its patients are any."""
    privacy = settings.privacy
    if not privacy.dp:
        return
    unit, patients = (unit_in_words(each, simulation) for each in (privacy.unit, "patient"))
    yield (
        f"privacy: epsilon at most {privacy.epsilon:g} at delta {privacy.delta:g} per {unit} of a "
        f"hospital, add/remove adjacency, {privacy.accountant.upper()}"
    )
    if privacy.evaluation_epsilon is not None:
        yield (
            f"held out: epsilon at most {privacy.evaluation_epsilon:g} per {patients} beside it; "
            "the final model is scored once, with noise"
        )


def _round_text(line: RoundLine) -> str:
    text = f"round {line.round:>4}"
    if line.aborted:
        return f"{text}  aborted: {line.aborted}"
    if line.auc is not None:
        text += f"  loss {line.loss:.3f}  AUC {line.auc:.3f}"
    if line.auc_by_class:
        each = ", ".join(f"{name} {_figure(auc)}" for name, auc in line.auc_by_class.items())
        text += f" ({each})"
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

    def add(name: str, held_out: str, row: Summary | HospitalSummary, *, last: bool) -> None:
        cells = [name, held_out, *_ranked(row)]
        cells += [_figure(each) for each in (row.accuracy, row.sensitivity, row.specificity)]
        if alone:
            cells.append(_figure(row.local_auc))
        if run.settings.privacy.dp:
            cells.append(at_most(row.epsilon))
        table.add_row(*cells, end_section=last)

    for each in hospitals:
        add(each.name, str(each.held_out_patients), each, last=each is hospitals[-1])
    scored = run.held_out
    # What the global figures were made from, not what the hospitals' own come to.
    about = "~" if scored and scored.noise is not None else ""
    add("global", f"{about}{scored.patients}" if scored else "-", run.summary, last=True)
    called = {one.name: sum(one.called) for one in scored.classes} if scored else {}
    for one in run.summary.classes:
        count = f"{about}{called[one.name]:.0f}" if one.name in called else "-"
        cells = [one.name, count, *_ranked(one), "-"]
        table.add_row(*cells, _figure(one.sensitivity), _figure(one.specificity))
    return table


def _ranked(row: Scores | ClassScores) -> tuple[str, str]:
    """AUC and its interval."""
    interval = row.auc_ci95
    return _figure(row.auc), f"{interval[0]:.2f}-{interval[1]:.2f}" if interval else "-"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
