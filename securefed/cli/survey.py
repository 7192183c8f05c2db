"""`securefed survey`: what a federation holds, before it trains."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from securefed.cli.screen import screen
from securefed.config import load
from securefed.files import writing_into
from securefed.progress import Bar

if TYPE_CHECKING:
    from securefed.record.survey import Number, SurveyFile

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--config", type=_PATH, help="YAML file with settings, as of a run.")
@click.option("--data", type=_PATH, help="Manifest of the patients; phantoms without it.")
@click.option("--clients", type=int, help="Number of hospitals.")
@click.option(
    "--epsilon",
    type=click.FloatRange(0, 1000, min_open=True),
    default=1.0,
    show_default=True,
    help="That it costs every patient.",
)
@click.option(
    "--out",
    type=_PATH,
    default=Path("survey"),
    show_default=True,
    help="A new folder, for survey.json and each hospital's ledger.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
def command(
    config: Path | None,
    data: Path | None,
    clients: int | None,
    epsilon: float,
    out: Path,
    as_json: bool,
) -> None:
    """Count what hospitals hold together, before anything is trained.

    Patients by label and by what was acquired, and the grey values of their images: one sum under
    masks, with noise that protects each patient, so that nobody sees one hospital's numbers. The
    cost is in each hospital's ledger before the noise is drawn. All hospitals are in this process;
    for hospitals on machines of their own: securefed agreement make --survey EPSILON.
    """
    given = {"data.manifest": data, "federation.clients": clients}
    settings = load(config, {key: value for key, value in given.items() if value is not None})
    from securefed.record.directory import RunDirectory
    from securefed.simulation.survey import conduct

    console = screen(quiet=as_json)
    with writing_into(out), Bar(console) as bar:
        RunDirectory.create(out)  # refuses a folder that holds something
        found = conduct(settings, epsilon, out, bar.say)
    if as_json:
        click.echo(found.encode().decode(), nl=False)
        return
    show(found, screen(stderr=False))
    console.print(f"{out / found.NAME} has every number with its interval")


def show(found: "SurveyFile", console: Console) -> None:
    """Print what a survey said, and what it cost."""
    from securefed.privacy.accounting import Guarantee

    made_up = f" (simulation: {found.simulation})" if found.simulation else ""
    told = _told(found.patients["all"])
    console.print(f"{len(found.hospitals)} hospitals hold {told} patients together{made_up}")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    columns = ("all", *found.acquired)
    table.add_column("patients")
    for column in columns:
        table.add_column(column, justify="right")
    for name in found.labels:
        keys = (name, *(f"{name}, {column}" for column in columns[1:]))
        table.add_row(name, *(_told(found.patients[key]) for key in keys))
    console.print(table)
    shares: dict[str, dict[str, str]] = {}
    for each in found.greys:
        percent = f"{each.share.value:.1%} ({each.share.low:.1%} to {each.share.high:.1%})"
        shares.setdefault(f"{each.first} to {each.last}", {})[each.modality] = percent
    if shares:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("grey values")
        for modality in found.modalities:
            table.add_column(f"of a patient's {modality}", justify="right")
        for bin_, row in shares.items():
            table.add_row(bin_, *(row.get(modality, "not known") for modality in found.modalities))
        console.print(table)
    console.print("in brackets: where 95% of draws of the noise are, for each number by itself")
    if found.epsilon is None:
        console.print("no epsilon: who has the seed removes the noise")
        return
    cost = Guarantee(
        counted=found.epsilon,
        delta=found.delta,
        unit=found.privacy_unit,
        accountant=found.accountant,
        noise_from=found.noise_from,
        sampling="no",
    )
    console.print(f"cost of every patient: {cost}")


def _told(number: "Number") -> str:
    return f"{number.value:.0f} ({number.low:.0f} to {number.high:.0f})"
