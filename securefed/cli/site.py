"""`securefed site`: a hospital's own folder, for a federation on machines of its own."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from securefed.cli.screen import screen, show_next
from securefed.data.pseudonyms import key_place, ledger_beside
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import at_most
from securefed.wording import counted

if TYPE_CHECKING:
    from securefed.hospital.standing import Standing

_FOLDER = click.Path(path_type=Path)


@click.group(name="site", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Make a hospital's folder, and show what it has agreed to and spent.

    The folder holds the hospital's identity key, its policy, the ledger of all its runs, and what
    comes of them. Nothing in it leaves the hospital. docs/federation.md goes through a first run.

    \b
    securefed site init north --name north --data scans/manifest.csv --lifetime-epsilon 10
    securefed site show north
    """


@command.command()
@click.argument("folder", type=_FOLDER)
@click.option("--name", required=True, help="The hospital's name in agreements.")
@click.option("--data", type=_FOLDER, help="Manifest of its patients; site.yaml has it.")
@click.option(
    "--lifetime-epsilon",
    type=float,
    required=True,
    help="What its patients may spend in all runs together; later: securefed ledger budget.",
)
@click.option("--delta", type=float, default=1e-5, show_default=True, help="Of that limit.")
@click.option("--unit", type=click.Choice(("patient", "image")), default="patient", help="Of it.")
@click.option("--accountant", type=click.Choice(get_args(Accountant)), default="prv", help="Of it.")
@click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
def init(
    folder: Path,
    name: str,
    data: Path | None,
    lifetime_epsilon: float,
    delta: float,
    unit: Any,
    accountant: Accountant,
    device: str,
    as_json: bool,
) -> None:
    """Make FOLDER with a key, a policy and an empty ledger.

    policy.yaml is the hospital's own: what it takes part in at all. A run under another unit than
    the ledger's is refused, since such histories do not compose. One under another delta or
    accountant keeps to its own epsilon by these, and counts in the ledger by the ledger's.
    """
    from securefed.hospital.site import create

    made = create(
        folder,
        name,
        data,
        lifetime_epsilon=lifetime_epsilon,
        delta=delta,
        unit=unit,
        accountant=accountant,
        device=device,
    )
    if as_json:
        key = made.identity.public.hex()
        click.echo(json.dumps({"folder": str(folder), "name": name, "key": key}, indent=2))
        return
    if data and (beside := ledger_beside(key_place(data))).exists():
        click.echo(
            f"private runs on {data} in one process are counted in {beside}, and not in the new "
            "ledger: leave what they spent out of --lifetime-epsilon"
        )
    click.echo(f"{folder} is {name}'s; read {folder / 'policy.yaml'}, it is yours to change")
    show_next(screen(), "keys", "show", folder)


@command.command()
@click.argument("folder", type=_FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
def show(folder: Path, as_json: bool) -> None:
    """Show a site's agreements, what each run came to, and what is left of its budget.

    Of each run: how it stands, rounds that this hospital trained, what all its runs had spent
    before and after, what left, how the model does on its own patients, and the verdict of its own
    audit.
    """
    from securefed.hospital.site import open_site, simulation
    from securefed.hospital.standing import standing
    from securefed.record.run_file import unit_in_words

    site, made_up = open_site(folder), simulation(folder)
    ledger = site.ledger()
    spent, limit = ledger.largest(), ledger.budget
    spent = replace(spent, unit=unit_in_words(spent.unit, made_up))
    runs = [standing(site, agreement) for agreement in site.agreements()]
    if as_json:
        facts = {
            "name": site.name,
            "key": site.identity.public.hex(),
            "budget": limit,
            "spent": spent.counted,
            "delta": spent.delta,
            "simulation": made_up or None,
            "runs": [asdict(run) for run in runs],
        }
        click.echo(json.dumps(facts, indent=2))
        return
    console = screen(stderr=False)
    console.print(f"{site.name}: {folder}" + (f" (simulation: {made_up})" if made_up else ""))
    console.print(f"most that a patient has spent, over all runs: {spent}")
    console.print(f"limit of all runs: {'none' if limit is None else at_most(limit)}")
    for run in runs:
        console.print(f"{run.name}, agreement {run.agreement[:16]}: {_told(run)}")
    if not runs:
        console.print("no agreement was accepted yet")
    elif any(run.messages for run in runs):
        show_next(screen(), "report", folder, *(("--run", runs[0].name) if len(runs) > 1 else ()))


def _told(run: "Standing") -> str:
    """What came of a run, in words."""
    parts = [run.state]
    if run.jobs:
        parts.append(counted(run.jobs, "job"))
    if run.rounds:
        parts.append(f"{counted(run.rounds, 'round')} trained")
    if run.spent_after is not None and run.spent_before is not None:
        before, after = at_most(run.spent_before), at_most(run.spent_after)
        parts.append(f"epsilon {before} before and {after} after")
    if run.messages:
        parts.append(f"{counted(run.messages, 'message')} left, {run.bytes:,} bytes")
    if run.auc is not None:
        parts.append(f"AUC on its own held-out patients {run.auc:.3f}")
    if run.audit is not None:
        parts.append(f"audit {run.audit}")
    if run.never_again is not None:
        parts.append(f"no job of it any more: {run.never_again}")
    return ", ".join(parts)
