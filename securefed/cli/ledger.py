"""`securefed ledger`: what patients have spent over all runs, and the limit on it."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from securefed.cli.screen import Narrowing, screen
from securefed.data.pseudonyms import key_place, ledger_beside
from securefed.errors import ConfigurationError, PrivacyError
from securefed.privacy import ledger_file
from securefed.progress import Bar
from securefed.wording import counted

if TYPE_CHECKING:
    from securefed.privacy.accountant import Accountant
    from securefed.privacy.accounting import Guarantee
    from securefed.privacy.ledger import Ledger

SHOWN_OF_RUN = 12  # characters of a run's identifier; JSON has the whole
_EXISTING = click.Path(path_type=Path)


@click.group(name="ledger", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Show what patients have spent, set their budget, copy the ledger and check copies.

    A ledger holds every round that touched its patients, written before the round and never taken
    back, and who took part in which run. A round that would pass the budget of any patient is
    refused.

    \b
    securefed ledger show runs/mine                          every hospital of a run
    securefed ledger show hospital-1/ledger.sqlite --json
    securefed ledger budget hospital-1/ledger.sqlite --epsilon 10 --reason "board, minute 7"
    securefed ledger export hospital-1/ledger.sqlite /backup/hospital-1.sqlite
    securefed ledger verify hospital-1/ledger.sqlite --copy /backup/hospital-1.sqlite
    """


@command.command()
@click.argument("where", metavar="FOLDER_OR_FILE", type=_EXISTING)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
def show(where: Path, as_json: bool) -> None:
    """Show budget, spent epsilon and runs of one ledger, or of every ledger of a run.

    FOLDER_OR_FILE is a ledger, the folder of one hospital, of a data set that was trained on, or a
    run directory. Epsilon is that of the patient of whom most was released, over all runs that it
    took part in, composed as one history: figures of single runs do not add up to it. A run of
    which the ledger does not know who took part counts for everybody. The accountant that decides
    about the next round stands first.
    """
    with Bar(screen(quiet=as_json)) as bar:
        bar.say("composing")
        facts = [_facts(path) for path in _ledgers(where)]
    if as_json:
        click.echo(json.dumps({"ledgers": facts}, indent=2))
        return
    for each in facts:
        _show(each)


@command.command()
@click.argument("where", metavar="FOLDER_OR_FILE", type=_EXISTING)
@click.option("--epsilon", type=float, required=True, help="The new limit, of all runs together.")
@click.option("--reason", required=True, help="Who allows it, and why; kept in the ledger.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
def budget(where: Path, epsilon: float, reason: str, yes: bool, as_json: bool) -> None:
    """Set another limit on epsilon, from now on.

    This is for whoever answers for the patients: a higher limit allows every later run to learn
    more about them. The old limit and the reason stay in the ledger. A limit below what is spent is
    refused, since nothing takes back what was released.
    """
    file = _only(where)
    ledger = _open(file)
    console = screen(quiet=as_json and yes)
    with Bar(console) as bar:
        bar.say("composing")
        spent = ledger.largest()
    old = ledger.budget
    console.print(f"{ledger.client}: {file}")
    console.print(f"spent:  {spent}")
    console.print(f"budget: {_limit(old)} -> {_limit(epsilon)}")
    if not yes:
        click.confirm("Set the new budget?", abort=True, err=True)
    ledger.amend_budget(epsilon, reason)
    if as_json:
        changed = {"client": ledger.client, "old_budget": old, "new_budget": epsilon}
        click.echo(json.dumps({"path": str(file), **changed, "reason": reason}, indent=2))
        return
    click.echo(f"the budget of {ledger.client} is {_limit(epsilon)} now")


@command.command()
@click.argument("where", metavar="FOLDER_OR_FILE", type=_EXISTING)
@click.argument("to", type=_EXISTING)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
def export(where: Path, to: Path, as_json: bool) -> None:
    """Copy a ledger to TO, with what its log (ledger.sqlite-wal) holds.

    The right way to back a ledger up, also while a run goes on: a copy of the file alone may lack
    the last rounds. Make one after each run; a run refuses to go on with a copy that is older than
    its last round. TO must not exist.
    """
    from securefed.privacy.ledger_copy import export as copy

    file = _only(where)
    held = copy(file, to)
    if as_json:
        about = {"client": held.client, "reservations": len(held.reservations)}
        click.echo(json.dumps({"path": str(file), "copy": str(to), **about}, indent=2))
        return
    reservations = counted(len(held.reservations), "reservation")
    click.echo(f"{to} holds {reservations} of {held.client}, as the ledger does now")


@command.command()
@click.argument("where", metavar="FOLDER_OR_FILE", type=_EXISTING)
@click.option("--copy", "copy_file", type=_EXISTING, help="Also: may this copy take its place?")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
def verify(where: Path, copy_file: Path | None, as_json: bool) -> None:
    """Say whether ledgers are whole; of a run, whether they hold every round that was trained.

    FOLDER_OR_FILE is a ledger, the folder of one hospital, or a run directory. Nothing is changed.
    With --copy, a copy is held against the one ledger: it must have all reservations and budgets.
    """
    from securefed.privacy import ledger_copy, statement

    paths = _ledgers(where)
    held = {path: statement.read(path) for path in paths}
    wrong = _against_the_run(where)
    if copy_file:
        lacking = ledger_copy.difference(held[_only(where)], statement.read(copy_file))
        wrong += [f"{copy_file}: {lacking}"] if lacking else []
    if as_json:
        facts = [
            {"path": str(path), "client": one.client, "reservations": len(one.reservations)}
            for path, one in held.items()
        ]
        click.echo(json.dumps({"ledgers": facts, "wrong": wrong}, indent=2))
    else:
        for path, one in held.items():
            click.echo(
                f"{one.client}: {path} is whole, {counted(len(one.reservations), 'reservation')}"
            )
    if wrong:
        raise PrivacyError(
            "not as it must be:" + "".join(f"\n  {each}" for each in wrong),
            hint="put back the newest copy (securefed ledger export), and look for what changed it",
        )


def _against_the_run(where: Path) -> list[str]:
    """What evidence says of the ledgers of a run directory; nothing of other places."""
    from securefed.record.run_file import RunFile

    if not (where / RunFile.NAME).is_file():
        return []
    from securefed.evidence.checks import mismatches
    from securefed.run_directory import Run

    found = mismatches(Run.open(where))
    return [str(each) for each in found if each.file.endswith(ledger_file.NAME)]


def _ledgers(where: Path) -> list[Path]:
    """The ledger files meant by a file, a hospital's folder, a data set or a run directory."""
    if not where.is_dir():
        return [where]
    if (beside := ledger_beside(key_place(where))).is_file():
        return [beside]
    if (where / ledger_file.NAME).is_file():
        return [where / ledger_file.NAME]
    paths = sorted((where / "hospitals").glob(f"*/{ledger_file.NAME}"))
    if not paths:
        raise PrivacyError(
            f"there is no ledger in {where}",
            hint="name a ledger, a hospital's folder, a data set or a run directory; a run without "
            "DP has none",
        )
    return paths


def _only(where: Path) -> Path:
    """The one ledger that is meant."""
    paths = _ledgers(where)
    if len(paths) > 1:
        raise ConfigurationError(
            f"{where} has {len(paths)} ledgers", hint=f"name the one, such as {paths[0]}"
        )
    return paths[0]


def _open(path: Path) -> "Ledger":
    # Imported here: --help needs no accountant.
    from securefed.privacy.ledger import Ledger

    return Ledger.open(path)


def _facts(path: Path) -> dict[str, Any]:
    """One ledger as it goes into JSON; an epsilon without bound is null there."""
    from securefed.privacy import spread
    from securefed.record.run_file import unit_in_words

    ledger, made_up = _open(path), _simulation(path)
    first: Accountant = ledger.accountant
    second: Accountant = "rdp" if first == "prv" else "prv"
    limit = ledger.budgets()[-1]
    held = ledger.statement()
    own, evaluation = held.largest(), held.evaluation()
    spent = {first: own, second: _spent(ledger, second)}
    return {
        "path": str(path),
        "client": ledger.client,
        "unit": ledger.unit,
        "delta": ledger.delta,
        "accountant": ledger.accountant,
        "budget": limit.epsilon,
        "budgets": [vars(each) for each in ledger.budgets()],
        "left": None if limit.epsilon is None else max(0.0, limit.epsilon - own.counted),
        "patients": [
            {**vars(each), "up_to": each.up_to if math.isfinite(each.up_to) else None}
            for each in spread.of(held)
        ],
        "spent": {
            name: each.epsilon if each and math.isfinite(each.counted) else None
            for name, each in spent.items()
        },
        "noise": own.noise,
        "guarantees": [
            str(replace(each, unit=unit_in_words(each.unit, made_up)))
            for each in spent.values()
            if each
        ],
        "evaluation": vars(evaluation) if evaluation else None,
        "reservations": len(ledger.history()),
        "noise_from": own.noise_from,
        "runs": [vars(each) for each in ledger.runs()],
    }


def _simulation(path: Path) -> str | None:
    """What the patients of a ledger are, if not people, as far as its place says; else None."""
    from securefed.hospital import site
    from securefed.record.run_file import RunFile

    if (path.parent / site.NAME).is_file():
        return site.simulation(path.parent) or None
    folders = path.resolve().parents  # RUN/hospitals/NAME/ledger.sqlite
    if len(folders) < 3 or not (folders[2] / RunFile.NAME).is_file():
        return None
    return RunFile.read(folders[2]).data.simulation


def _spent(ledger: "Ledger", accountant: "Accountant") -> "Guarantee | None":
    """What is spent by the accountant that does not decide; None where it has no figure."""
    try:
        return ledger.largest(accountant)
    except PrivacyError:
        return None


def _show(facts: dict[str, Any]) -> None:
    from securefed.privacy.accounting import Guarantee, at_least

    console = screen(stderr=False)
    console.print(Text(facts["client"], style="bold") + f": {facts['path']}")
    limit = facts["budgets"][-1]
    since = f"since {_minute(limit['set_at'])} UTC: {limit['reason']}"
    console.print(f"budget: {_limit(limit['epsilon'])}, {since}")
    for guarantee in facts["guarantees"]:
        console.print(f"spent:  {guarantee}")
    if facts["evaluation"]:
        console.print(f"beside: {Guarantee(**facts['evaluation'])}")
    if facts["left"] is not None:
        console.print(f"left:   epsilon {at_least(facts['left'])} to the limit")
    for cell in facts["patients"]:
        up_to = "" if cell["up_to"] is None else f" and at most {cell['up_to']:g}"
        console.print(f"        {cell['patients']} patients: above {cell['above']:g}{up_to}")
    if facts["noise_from"] > 1:
        console.print(
            f"noise:  of {facts['noise_from']} hospitals together; it holds if they keep to the "
            "protocol"
        )
    if not facts["runs"]:
        console.print("runs:   none yet")
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("run")
    for column in ("rounds", "reservations", "steps"):
        table.add_column(column, justify="right")
    table.add_column("last (UTC)")
    for run in facts["runs"]:
        counts = (run["rounds"], run["reservations"], run["steps"])
        table.add_row(run["run"][:SHOWN_OF_RUN], *map(str, counts), _minute(run["last"]))
    console.print(Narrowing(table, ("steps", "last (UTC)", "reservations")))


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def _limit(epsilon: float | None) -> str:
    return "no limit" if epsilon is None else f"epsilon {epsilon:g}"
