"""`securefed budget`: what privacy will cost, before anything runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from securefed.cli.screen import Narrowing, screen
from securefed.config import Settings, load
from securefed.errors import ConfigurationError
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import at_most
from securefed.progress import Bar
from securefed.wording import counted

if TYPE_CHECKING:
    from securefed.budget import Budget

EXPENDABLE = ("steps", "rate", "patients", "images")  # columns, first ones first

EPILOG = """\b
Examples:
  securefed budget                                 noise for epsilon 8 over the default run
  securefed budget --epsilon 2 --patients 300,120,80
  securefed budget --noise-multiplier 1.5          what 80 rounds with this noise cost
  securefed budget --noise-multiplier 1.5 --epsilon 4     how many rounds epsilon 4 pays for
  securefed budget --data my/manifest.csv --plot budget.svg

Every epsilon is an upper bound. docs/budget.md explains the figures."""

SHOWN_POINTS = 6  # of the curve, in the terminal
MOST_DRAWN = 6  # hospitals in the plot


@click.command(epilog=EPILOG)
@click.option("--config", type=click.Path(path_type=Path), help="YAML file with settings.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Count the patients of this manifest."
)
@click.option("--patients", help="Training patients: one number, or one per hospital: 300,120.")
@click.option("--epsilon", "--dp-epsilon", type=float, help="Budget of the whole run.")
@click.option("--noise-multiplier", type=float, help="Noise over clipping norm; solved if not set.")
@click.option("--rounds", type=int, help="Rounds of training.")
@click.option("--batch-size", type=int, help="Patients per step, on average.")
@click.option("--sample-rate", type=float, help="Chance to enter a step, in place of a batch.")
@click.option("--local-steps", type=int, help="Steps per round.")
@click.option("--delta", type=float, help="Must be below 1 / patients.")
@click.option(
    "--accountant", type=click.Choice(get_args(Accountant)), help="Which of the two decides."
)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw epsilon over rounds: SVG, PNG.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
def command(
    config: Path | None,
    data: Path | None,
    patients: str | None,
    epsilon: float | None,
    noise_multiplier: float | None,
    rounds: int | None,
    batch_size: int | None,
    sample_rate: float | None,
    local_steps: int | None,
    delta: float | None,
    accountant: str | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Plan privacy before running: noise, epsilon and rounds from each other.

    Give an epsilon to get the noise, a noise multiplier to get the epsilon, or both to get the
    rounds they pay for. What is not given comes from --config, or the defaults of a run. Nothing
    is trained, and no budget is spent.
    """
    solve_rounds = noise_multiplier is not None and epsilon is not None
    if solve_rounds and rounds is not None:
        raise ConfigurationError(
            "--noise-multiplier and --epsilon together determine the rounds, --rounds is too much",
            hint="leave one of the three out",
        )
    if data is not None and patients is not None:
        raise ConfigurationError(
            "--data and --patients both say how many patients there are", hint="give one of them"
        )
    given = {
        "privacy.epsilon": epsilon,
        "privacy.delta": delta,
        "privacy.accountant": accountant,
        "data.manifest": data,
        "federation.rounds": rounds,
        "training.batch_size": batch_size,
        "training.sample_rate": sample_rate,
        "training.local_steps": local_steps,
    }
    overrides = {key: value for key, value in given.items() if value is not None}
    settings = load(config, {**overrides, "privacy.dp": True})
    sizes = None if patients is None else _sizes(patients, settings.federation.clients)
    console = screen(quiet=as_json)
    # Imported here: torch and matplotlib take seconds, and --help does not need them.
    from securefed.budget import plan_budget

    if plot is not None:
        from securefed.reporting.budget_figure import require_format

        require_format(plot)
    with Bar(console) as bar:
        bar.say("planning")
        budget = plan_budget(
            settings,
            sizes=sizes,
            noise_multiplier=noise_multiplier,
            solve_rounds=solve_rounds,
            say=bar.say,
        )
        if plot is not None:
            _draw(budget, plot)
    if as_json:
        click.echo(json.dumps(budget.as_json(), indent=2))
        return
    _show(budget, settings)
    if plot is not None:
        console.print(f"plot: {plot}")


def _sizes(text: str, clients: int) -> dict[str, int]:
    """Hospital -> patients, of `300` or `300,120,80`."""
    parts = text.split(",")
    if not all(part.strip().isascii() and part.strip().isdigit() for part in parts):
        raise ConfigurationError(
            f"--patients must be whole numbers with commas between, got {text!r}",
            hint="for example --patients 300, or --patients 300,120,80",
        )
    counts = [int(part) for part in parts]
    if len(counts) == 1:
        return {f"each of {clients}": counts[0]}
    return {f"hospital-{number}": count for number, count in enumerate(counts, start=1)}


def _draw(budget: "Budget", path: Path) -> None:
    from securefed.reporting.budget_figure import draw_budget

    ordered = sorted(budget.hospitals, key=lambda each: each.guarantee.counted, reverse=True)
    # Many hospitals make no readable picture: the dearest and the cheapest bound the others.
    shown = ordered if len(ordered) <= MOST_DRAWN else [ordered[0], ordered[-1]]
    curves = {each.training.name: each.curve() for each in shown}
    draw_budget(curves, budget.dearest.guarantee, budget.target_epsilon, path)


def _show(budget: "Budget", settings: Settings) -> None:
    console = screen(stderr=False)
    dearest = budget.dearest
    one = dearest.training
    console.print(
        Text(_asked(budget), style="bold")
        + f" ({one.sampling}, {counted(one.local_steps, 'step')} a round)"
    )
    console.print(Narrowing(_hospital_table(budget), EXPENDABLE))
    console.print(f"largest: {dearest.guarantee}")
    if budget.shared_noise is None:
        noise = dearest.noise_of_mean
        console.print(f"noise in the mean gradient of its step: {noise:.4f} clipping norms")
    console.print(_compared(budget))
    console.print(f"over rounds, {one.name}:")
    console.print(_curve_table(budget))
    if budget.shared_noise:
        shared = budget.shared_noise
        console.print(
            f"shared noise: each of {shared.hospitals} hospitals adds a share of "
            f"{shared.share:.3f} clipping norms; epsilon counts on {shared.counted} of them "
            f"(privacy.colluding: {settings.privacy.colluding}); the sum carries "
            f"{shared.of_the_sum:.3f}"
        )
    for note in budget.notes:
        console.print(f"note: {note}")


def _compared(budget: "Budget") -> str:
    noises = [f"{noise:.4f} with {each} noise" for each, noise in budget.noise_of_update.items()]
    told = "noise in the mean gradient of a round, in clipping norms: " + ", ".join(noises)
    return f"{told}; {budget.quieter} is quieter" if budget.quieter else told


def _asked(budget: "Budget") -> str:
    if budget.target_epsilon is None:
        return f"epsilon of {budget.rounds} rounds"
    if budget.question == "rounds":
        return f"rounds that epsilon {budget.target_epsilon:g} pays for: {budget.rounds}"
    return f"noise for epsilon {budget.target_epsilon:g} over {budget.rounds} rounds"


def _hospital_table(budget: "Budget") -> Table:
    unit = budget.hospitals[0].training.unit
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    columns = ["hospital", f"{unit}s", "rate", "steps", "noise", "epsilon PRV", "epsilon RDP"]
    if budget.question == "rounds":
        columns.append("affords")
    for column in columns:
        justify: Literal["left", "right"] = "left" if column == "hospital" else "right"
        table.add_column(column, justify=justify)
    for each in budget.hospitals:
        own, end = each.training, each.after(each.rounds)
        cells = [own.name, str(own.records), f"{own.sample_rate:.4f}"]
        cells += [str(own.steps(each.rounds)), f"{each.noise_multiplier:.4f}"]
        cells += [at_most(end.prv), at_most(end.rdp)]
        if each.affordable is not None:
            cells.append(str(each.affordable))
        table.add_row(*cells)
    return table


def _curve_table(budget: "Budget") -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("rounds", "epsilon PRV", "epsilon RDP"):
        table.add_column(column, justify="right")
    for point in budget.dearest.curve(SHOWN_POINTS):
        table.add_row(str(point.rounds), at_most(point.prv), at_most(point.rdp))
    return table
