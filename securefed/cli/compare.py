"""`securefed compare`: the same federation under several configurations, side by side."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.text import Text

from securefed.auditing.choices import PROCESSOR_SECONDS, Effort, processor_minutes
from securefed.cli.compare_tables import tables
from securefed.cli.screen import duration, screen, show_next
from securefed.config import Settings, load
from securefed.errors import ConfigurationError, Interrupted
from securefed.progress import Bar
from securefed.record.comparison import CompareFile
from securefed.wording import counted

if TYPE_CHECKING:
    from securefed.comparison.plan import Plan

DATA_SHARES = (0.1, 0.25, 0.5)

EPILOG = """\b
Examples:
  securefed compare --seeds 1 --quick
  securefed compare --configurations plain,dp+secure --epsilons 1,2,4,8 --out runs/sweep
  securefed compare --epsilons 1,2,4,8 --dry-run
  securefed compare --config configs/report.yaml --no-audit --json

The same command again continues where it was stopped. docs/compare.md explains every figure."""


@click.command(epilog=EPILOG)
@click.option("--config", type=click.Path(path_type=Path), help="YAML file with settings.")
@click.option(
    "--configurations",
    default="plain,dp,secure,dp+secure",
    show_default=True,
    help="Which to compare.",
)
@click.option("--epsilons", help="Budgets of the private ones, as 1,2,4,8; or as configured.")
@click.option("--seeds", default=3, show_default=True, help="Repetitions, each all anew.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/compare"),
    show_default=True,
    help="Directory of the comparison.",
)
@click.option(
    "--baselines",
    type=click.Choice(["none", "plain", "all"]),
    default="plain",
    show_default=True,
    help="Without DP, or also at each epsilon.",
)
@click.option("--data-shares", is_flag=True, help="Also train on 10, 25 and 50% of the patients.")
@click.option("--no-audit", is_flag=True, help="Do not audit the runs.")
@click.option(
    "--quick",
    "effort",
    flag_value="quick",
    help=f"Audit each run in {processor_minutes('quick')}.",
)
@click.option(
    "--thorough", "effort", flag_value="thorough", help="Audit each run for an hour or so."
)
@click.option("--dry-run", is_flag=True, help="Say what there is to do, and how long it takes.")
@click.option("--json", "as_json", is_flag=True, help="Print compare.json, nothing else.")
def command(
    config: Path | None,
    configurations: str,
    epsilons: str | None,
    seeds: int,
    out: Path,
    baselines: str,
    data_shares: bool,
    no_audit: bool,
    effort: Effort | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Compare configurations: utility, cost, and what each observer can find out.

    Runs the same federation under each configuration, on the same patients, splits and initial
    weights, once per seed; audits every run; trains what it is compared with (each hospital alone,
    all data in one place, one modality, late fusion). Finished runs in --out are used again.
    Ctrl-C keeps what is finished; the same command continues.
    """
    if no_audit and effort:
        raise ConfigurationError(
            f"--no-audit and --{effort} contradict each other", hint="give one of them"
        )
    settings = load(config, {})
    # Imported here: torch takes two seconds, and --help does not need it.
    from securefed.comparison.plan import plan

    planned = plan(
        settings,
        [name.strip() for name in configurations.split(",") if name.strip()],
        _numbers(epsilons) if epsilons is not None else [settings.privacy.epsilon],
        seeds,
        baselines=baselines,
        data_shares=DATA_SHARES if data_shares else (),
    )
    console = screen(quiet=as_json)
    audits = None if no_audit else effort or "default"
    if dry_run:
        left = _left(planned, out, audits)
        _announce(planned, left, audits, console)
        if as_json:
            click.echo(json.dumps({**left, "seconds": _expected(planned, left, audits)}))
        return
    compared = _compare(planned, out, audits, console)
    if as_json:
        click.echo(compared.encode(), nl=False)
        return
    for table in tables(compared):
        console.print(table)
    console.print(f"results: {out} (compare.json, one run directory per row and seed)")
    show_next(console, "report", out)


def _left(plan: "Plan", out: Path, effort: Effort | None) -> dict[str, float]:
    from securefed.comparison.comparison import work_left

    return work_left(plan, out, effort)


def _compare(plan: "Plan", out: Path, effort: Effort | None, console: Console) -> CompareFile:
    from securefed.comparison.comparison import compare

    left = _left(plan, out, effort)
    _announce(plan, left, effort, console)
    try:
        with Bar(console) as bar:
            return compare(plan, out, _Screen(bar, left, _seconds(plan, effort)), effort)
    except (KeyboardInterrupt, Interrupted):
        raise Interrupted(
            f"stopped; everything finished is in {out}, its table so far in compare.json",
            hint="the same command continues",
        ) from None


# Measured with the default settings on two cores; an audit takes its processor time at most.
SECONDS = {"run": 60.0, "baselines": 160.0, "share": 60.0}


def _seconds(plan: "Plan", effort: Effort | None) -> dict[str, float]:
    """What one piece of each kind of work takes, about: training in proportion to its steps."""
    steps, usual = (
        each.federation.rounds
        * (each.federation.clients_per_round or each.federation.clients)
        * each.training.local_steps
        for each in (plan.base, Settings())
    )
    training = {kind: seconds * steps / usual for kind, seconds in SECONDS.items()}
    return {**training, "audit": PROCESSOR_SECONDS[effort] if effort else 0.0, "ready": 0.0}


def _expected(plan: "Plan", left: dict[str, float], effort: Effort | None) -> float:
    """Seconds that all that is left takes, about."""
    each = _seconds(plan, effort)
    return sum(each[kind] * pieces for kind, pieces in left.items())


def _announce(
    plan: "Plan", left: dict[str, float], effort: Effort | None, console: Console
) -> None:
    names = ", ".join(case.name for case in plan.cases)
    counts = f"{counted(len(plan.seeds), 'seed')}, {counted(plan.runs, 'run')}"
    console.print(Text("compare", style="bold") + f": {names}; {counts}")
    each = _seconds(plan, effort)
    todo = {
        "run": counted(left["run"], "run"),
        "audit": counted(left["audit"], f"{effort} audit"),
        "baselines": f"baselines {counted(left['baselines'], 'time')}",
        "share": f"{counted(left['share'], 'run')}' worth of shares",
    }
    parts = [
        f"{text} ({duration(each[kind] * left[kind])})" for kind, text in todo.items() if left[kind]
    ]
    total = duration(_expected(plan, left, effort))
    text = f"{', '.join(parts)}; about {total} on two cores" if parts else "nothing, all is there"
    console.print(f"to do: {text}")


class _Screen:
    """One bar over everything, in expected seconds, and what is being done."""

    def __init__(self, bar: Bar, left: dict[str, float], seconds: dict[str, float]) -> None:
        self._bar = bar
        self._seconds = seconds
        self._total = sum(self._seconds[kind] * pieces for kind, pieces in left.items()) or 1.0
        self._done = self._current = 0.0
        self._text = ""

    def begin(self, kind: str, text: str, size: float) -> None:
        self._done += self._current
        self._current = self._seconds[kind] * size
        self._text = text
        self._bar.reach(self._done / self._total, text)
        if kind != "ready":
            self._bar.line(text)

    def share(self, finished: float) -> None:
        self._bar.reach((self._done + finished * self._current) / self._total)

    def say(self, text: str) -> None:
        self._bar.say(f"{self._text}: {text}")

    def note(self, text: str) -> None:
        self._bar.note(text)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ConfigurationError(
            f"--epsilons must be numbers with commas between, got {text!r}",
            hint="for instance 1,2,4,8",
        ) from None
