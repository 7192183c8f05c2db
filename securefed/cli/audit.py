"""`securefed audit`: attack what each observer of a run really saw, and judge it by a policy."""

import json
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from securefed.auditing.choices import ATTACKS, Effort
from securefed.errors import ConfigurationError, Interrupted, PolicyNotMet
from securefed.exposure import OBSERVERS, Observer

EPILOG = """\b
Examples:
  securefed audit runs/2026-01-31-120000-dp-secure
  securefed audit runs/plain --observer server --attack inversion --quick
  securefed audit runs/plain --policy configs/policies/strict.yaml --json

Results: audit.json and the folder audit/ with pictures, in the run directory. Exit code 3 where
the policy is not met. docs/reading-an-audit.md explains every figure."""


@click.command(epilog=EPILOG)
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option(
    "--observer",
    "observers",
    multiple=True,
    type=click.Choice(OBSERVERS),
    help="Who attacks; may be given again. Default: all four.",
)
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    type=click.Choice(ATTACKS),
    help="Which family; may be given again. Default: all.",
)
@click.option("--quick", is_flag=True, help="Fewer shadow models and iterations; two minutes.")
@click.option("--thorough", is_flag=True, help="More of both: up to an hour.")
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help="YAML file with thresholds and gates. Default: the built-in policy.",
)
@click.option("--json", "as_json", is_flag=True, help="Print audit.json, nothing else.")
def command(
    run_dir: Path,
    observers: tuple[Observer, ...],
    attacks: tuple[str, ...],
    quick: bool,
    thorough: bool,
    policy: Path | None,
    as_json: bool,
) -> None:
    """Attack a finished run with what each observer saw of it.

    Every attack comes with a positive control, where it must succeed, and a null control, where it
    must fail; without them its answer does not count. The policy turns findings into PASS, FAIL,
    INCONCLUSIVE or INVALID. A PASS says that these attacks found little, not that none could.
    """
    if quick and thorough:
        raise ConfigurationError("--quick and --thorough contradict each other")
    effort: Effort = "quick" if quick else "thorough" if thorough else "default"
    from securefed.auditing.audit import audit_run  # torch takes two seconds; --help needs none

    console = Console(stderr=True, quiet=as_json)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading the run", total=1.0)

        def report(text: str, share: float) -> None:
            progress.update(task, description=text, completed=share)

        audit = audit_run(
            run_dir,
            effort=effort,
            observers=observers or OBSERVERS,
            attacks=attacks or ATTACKS,
            policy=policy,
            report=report,
        )
    show(audit, console)
    if as_json:
        click.echo(json.dumps(audit, indent=2))
    where = run_dir / "audit.json"
    if audit["interrupted"]:
        raise Interrupted(
            f"stopped; what was finished is in {where}",
            hint="--attack and --observer run the missing parts alone",
        )
    if audit["verdict"] == "FAIL":
        raise PolicyNotMet(f"policy {audit['policy']['name']} is not met, see {where}")


def show(audit: dict[str, Any], console: Console) -> None:
    """The verdict and the lines behind it; what did not decide anything is counted."""
    colour = {"PASS": "green", "FAIL": "bold red", "INVALID": "magenta", "INCONCLUSIVE": "yellow"}
    policy, verdict = audit["policy"], audit["verdict"]
    table = Table(title=f"{audit['configuration']} run, {audit['effort']} audit", box=box.SIMPLE)
    for column in ("attack", "observer", "figure (95%)", "at most", "verdict"):
        table.add_column(column, no_wrap=column != "attack")
    lines = [line for line in audit["judgements"] if line["metric"]]
    shown = [line for line in lines if _matters(line)]
    for worst in (False, True):
        table.add_section()
        if worst:
            table.add_row("[bold]worst case[/]")
        for line in (line for line in shown if _is_worst(line) == worst):
            table.add_row(
                _title(line),
                line["observer"] or "-",
                f"{_figure(line['value'])} {_limits(line['interval'])}",
                _figure(line["threshold"]),
                f"[{colour.get(line['verdict'], 'dim')}]{line['verdict'] or 'reported'}[/]",
            )
    table.add_section()
    # What was tried on the program measures nothing; it came to nothing or did not.
    tried = [line for line in audit["judgements"] if not line["metric"] and line["verdict"]]
    for attack in dict.fromkeys(line["attack"] for line in tried):
        of_it = [line for line in tried if line["attack"] == attack]
        refused = sum(line["verdict"] == "PASS" for line in of_it)
        answer = "PASS" if refused == len(of_it) else "FAIL"
        table.add_row(
            attack,
            of_it[0]["observer"],
            f"{refused} of {len(of_it)} refused",
            "",
            f"[{colour[answer]}]{answer}[/]",
        )
    console.print(table)
    if rest := len(lines) - len(shown):
        console.print(f"[dim]{rest} more lines in audit.json: secondary attacks that decide "
                      "nothing, and what does not apply[/]")  # fmt: skip
    for line in tried:
        if line["verdict"] == "FAIL":
            told = f"{line['attack']}: {line['method']}"
            console.print(f"[bold red]not refused:[/] {told}", highlight=False)
    for control in audit["controls"]:
        if not control["met"]:
            console.print(f"[magenta]control off its gate:[/] {control['reason']}")
    for line in shown:
        if line["verdict"] == "INCONCLUSIVE":
            who = line["observer"] or "nobody"
            console.print(
                f"[yellow]open:[/] {_title(line)}, {who}: {line['reason']}", highlight=False
            )
    console.print(
        f"[{colour[verdict]}]{verdict}[/] by the policy {policy['name']} ({policy['set_by']})"
    )


def _matters(line: dict[str, Any]) -> bool:
    """Whether a line decides the verdict, or shows a worst case."""
    return bool(line["decides"] or (line["value"] is not None and _is_worst(line)))


def _is_worst(line: dict[str, Any]) -> bool:
    return bool(line["scene"] == "worst case")


def _title(line: dict[str, Any]) -> str:
    """Family, method and, where there are several, the metric: "membership: lira, auc"."""
    parts = dict.fromkeys((line["method"], line["metric"]))
    said = [part for part in parts if part not in ("", "identification", line["attack"])]
    return ": ".join(filter(None, (line["attack"], ", ".join(said))))


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _limits(interval: list[float | None] | None) -> str:
    if interval is None:
        return ""
    low, high = interval
    return f"({_figure(low)}-{_figure(high)})" if high is not None else "(at least)"
