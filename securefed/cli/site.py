"""`securefed site`: a hospital's own folder, for a federation on machines of its own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click

from securefed.cli.screen import screen, show_next
from securefed.data.pseudonyms import key_place, ledger_beside
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import at_most

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
    """Show a site's agreements, what each run came to, and what is left of its budget."""
    from securefed.hospital.site import open_site, simulation
    from securefed.record import memberships
    from securefed.record.run_file import unit_in_words

    site, made_up = open_site(folder), simulation(folder)
    ledger = site.ledger()
    spent, limit = ledger.largest(), ledger.budget
    spent = replace(spent, unit=unit_in_words(spent.unit, made_up))
    runs = []
    for agreement in site.agreements():
        joined = memberships.read(site.jobs(agreement.run))
        state = joined[-1].outcome if joined else "not begun"
        runs.append(
            {
                "name": agreement.name,
                "agreement": agreement.digest,
                "hospitals": list(agreement.roster.names),
                "state": "interrupted" if state in ("joined", "trained") else state,
                "jobs": max((each.number for each in joined), default=0),
            }
        )
    if as_json:
        facts = {
            "name": site.name,
            "key": site.identity.public.hex(),
            "budget": limit,
            "spent": spent.counted,
            "delta": spent.delta,
            "simulation": made_up or None,
            "runs": runs,
        }
        click.echo(json.dumps(facts, indent=2))
        return
    console = screen(stderr=False)
    console.print(f"{site.name}: {folder}" + (f" (simulation: {made_up})" if made_up else ""))
    console.print(f"most that a patient has spent, over all runs: {spent}")
    console.print(f"limit of all runs: {'none' if limit is None else at_most(limit)}")
    for run in runs:
        jobs = run["jobs"]
        console.print(
            f"{run['name']}, agreement {str(run['agreement'])[:16]}: {run['state']}"
            + (f", {jobs} job{'' if jobs == 1 else 's'}" if jobs else "")
        )
    if not runs:
        console.print("no agreement was accepted yet")
