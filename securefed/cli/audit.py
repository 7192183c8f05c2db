"""`securefed audit`: attack what each observer of a run really saw, and judge it by a policy."""

from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from securefed.auditing.choices import ATTACKS, Effort, processor_minutes
from securefed.cli.folders import RUN_OPTION, run_folder
from securefed.cli.screen import Narrowing, marked, screen, show_next
from securefed.errors import ConfigurationError, Interrupted, PolicyNotMet
from securefed.exposure import OBSERVERS, Observer
from securefed.privacy.accounting import at_least, at_most
from securefed.progress import Bar
from securefed.record.audit import MORE_EFFORT, AuditFile, Judgement
from securefed.run_directory import Run
from securefed.verdict import Verdict, gravest
from securefed.wording import command_line, counted

UNSAID = ("", "identification")  # the one metric of its families

EPILOG = """\b
Examples:
  securefed audit runs/2026-01-31-120000-dp-secure
  securefed audit runs/plain --observer server --attack inversion --quick
  securefed audit runs/plain --policy configs/policies/strict.yaml --json
  securefed audit north --run trial

Results: audit.json and the folder audit/ with pictures, in the run's folder. Exit code 3 where
the policy is not met. docs/reading-an-audit.md explains every figure."""


@click.command(epilog=EPILOG)
@click.argument("folder", type=click.Path(path_type=Path))
@RUN_OPTION
@click.option(
    "--observer",
    "observers",
    multiple=True,
    type=click.Choice(OBSERVERS),
    help="Who attacks; may be given again. Default: all whose part is in the folder.",
)
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    type=click.Choice(ATTACKS),
    help="Which family; may be given again. Default: all.",
)
@click.option(
    "--quick",
    is_flag=True,
    help=f"Fewer shadow models and iterations: some {processor_minutes('quick')} for a default "
    f"run, where the default effort takes {processor_minutes('default')}.",
)
@click.option("--thorough", is_flag=True, help="More of both: an hour or so.")
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help="YAML file with thresholds and gates. Default: the built-in policy.",
)
@click.option("--json", "as_json", is_flag=True, help="Print audit.json, nothing else.")
def command(
    folder: Path,
    chosen: str | None,
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

    FOLDER is a run directory, a server's folder, or a site's. Who has one part of a run audits
    that: a hospital itself and what it saw as a peer, a server what it saw.
    """
    if quick and thorough:
        raise ConfigurationError(
            "--quick and --thorough contradict each other", hint="give one of them, or neither"
        )
    effort: Effort = "quick" if quick else "thorough" if thorough else "default"
    from securefed.auditing.audit import audit  # torch takes two seconds; --help needs none

    console, run_dir = screen(quiet=as_json), run_folder(folder, chosen)
    with Bar(console, staged=True) as bar:
        bar.reach(0.0, "reading the run")
        file = audit(
            Run.open(run_dir),
            effort=effort,
            observers=observers or None,
            attacks=attacks or ATTACKS,
            policy=policy,
            report=lambda text, share: bar.reach(share, text),
        )
    show(file, console)
    if as_json:
        click.echo(file.encode(), nl=False)
    where = run_dir / AuditFile.NAME
    if file.interrupted:
        raise Interrupted(
            f"stopped; what was finished is in {where}",
            hint="--attack and --observer run the missing parts alone",
        )
    if file.evidence:
        raise PolicyNotMet(
            f"the files of the run contradict each other, see {where}",
            hint="put back the files as the run wrote them; nothing was attacked",
        )
    advise(file, run_dir, console)
    if file.verdict is Verdict.FAIL:
        raise PolicyNotMet(
            f"policy {file.policy.name} is not met, see {where}",
            hint=f"what the lines mean: {command_line('report', run_dir)}",
        )


def advise(audit: AuditFile, run_dir: Path, console: Console) -> None:
    """What to type next: where more effort may close what is open, that."""
    more = MORE_EFFORT.get(audit.effort)
    if audit.verdict is Verdict.INCONCLUSIVE and more is not None:
        show_next(console, "audit", run_dir, *filter(None, (more,)))
    show_next(console, "report", run_dir)


def show(audit: AuditFile, console: Console) -> None:
    """The verdict and the lines behind it; what did not decide anything is counted."""
    for mismatch in audit.evidence:
        console.print(Text("contradicts the rest: ", style="bold red") + str(mismatch))
    if audit.evidence:
        return
    title = Text(f"{audit.configuration} run, {audit.effort} audit")
    table = Table(title=title, box=box.SIMPLE)
    for column in ("attack", "observer", "figure (95%)", "at most", "verdict"):
        table.add_column(column, no_wrap=column != "attack")
    lines = [line for line in audit.judgements if line.metric]
    shown = [line for line in lines if _matters(line)]
    for worst in (False, True):
        part = [line for line in shown if _is_worst(line) == worst]
        table.add_section()
        if worst and part:
            table.add_row(Text("worst case", style="bold"))
        for line in part:
            table.add_row(
                _title(line),
                line.observer or "-",
                _figures(line),
                _threshold(line),
                marked(line.verdict),
            )
    table.add_section()
    # What was tried on the program measures nothing; it came to nothing or did not.
    tried = [line for line in audit.judgements if not line.metric and line.verdict]
    for attack in dict.fromkeys(line.attack for line in tried):
        of_it = [line for line in tried if line.attack == attack]
        refused = sum(line.verdict is Verdict.PASS for line in of_it)
        told = f"{refused} of {len(of_it)} refused"
        answer = gravest(line.verdict for line in of_it)
        table.add_row(attack, of_it[0].observer, told, "", marked(answer))
    console.print(Narrowing(table, ("at most", "observer")))
    if rest := len(lines) - len(shown):
        told = f"{counted(rest, 'more line')} in audit.json: secondary attacks that decide nothing"
        console.print(f"{told}, and what does not apply", style="dim")
    for line in tried:
        if line.verdict is Verdict.FAIL:
            told = f"{line.attack}: {line.title}"
            console.print(Text("not refused: ", style="bold red") + Text(told))
    for control in audit.controls:
        if not control.met:
            console.print(Text("control off its gate: ", style="magenta") + Text(control.reason))
    for line in shown:
        if line.verdict is Verdict.INCONCLUSIVE:
            who = line.observer or "nobody"
            told = f"{_title(line)}, {who}: {line.reason}"
            console.print(Text("open: ", style="yellow") + Text(told))
            if line.remedy:
                console.print(Text("  to settle it: ", style="yellow") + Text(line.remedy))
    policy = audit.policy
    if audit.asked:
        told = f"judged on {', '.join(audit.asked)} alone; the policy asks for more"
        console.print(Text(told, style="dim"))
    console.print(marked(audit.verdict) + f" by the policy {policy.name} ({policy.set_by})")


def _matters(line: Judgement) -> bool:
    """Whether a line decides the verdict, or shows a worst case."""
    return line.decides or (line.value is not None and _is_worst(line))


def _is_worst(line: Judgement) -> bool:
    return line.scene == "worst case"


def _title(line: Judgement) -> str:
    """Family, method and, where there are several, the metric: "membership: lira, auc"."""
    said = (part for part in (line.method, line.metric) if part not in (line.attack, *UNSAID))
    return ": ".join(filter(None, (line.attack, ", ".join(said))))


def _figures(line: Judgement) -> str:
    """The figure with its limits; a lower bound on epsilon is rounded down."""
    if line.value is None:
        return ""
    if line.interval is None or line.interval == (line.value, line.value):
        return _figure(line.value)
    low, high = line.interval
    if high is None:
        return f"{at_least(line.value)} (at least)"
    return f"{_figure(line.value)} ({_figure(low)}-{_figure(high)})"


def _threshold(line: Judgement) -> str:
    """The most it may be; a claimed epsilon is rounded up."""
    if line.of_epsilon and line.threshold is not None:
        return at_most(line.threshold)
    return _figure(line.threshold)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
