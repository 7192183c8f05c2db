"""`securefed ledger`: what patients have spent over all runs, and the limit on it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from securefed.cli import ledger_shown
from securefed.cli.screen import screen
from securefed.data.pseudonyms import key_place, ledger_beside
from securefed.errors import ConfigurationError, PrivacyError
from securefed.privacy import ledger_file
from securefed.progress import Bar
from securefed.wording import counted

if TYPE_CHECKING:
    from securefed.privacy.ledger import Ledger

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
        facts = [ledger_shown.facts_of(path) for path in _ledgers(where)]
    if as_json:
        click.echo(json.dumps({"ledgers": facts}, indent=2))
        return
    for each in facts:
        ledger_shown.show(each)


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
    console.print(f"budget: {ledger_shown.limit_of(old)} -> {ledger_shown.limit_of(epsilon)}")
    if not yes:
        click.confirm("Set the new budget?", abort=True, err=True)
    ledger.amend_budget(epsilon, reason)
    if as_json:
        changed = {"client": ledger.client, "old_budget": old, "new_budget": epsilon}
        click.echo(json.dumps({"path": str(file), **changed, "reason": reason}, indent=2))
        return
    click.echo(f"the budget of {ledger.client} is {ledger_shown.limit_of(epsilon)} now")


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

    FOLDER_OR_FILE is a ledger, the folder of one hospital, of a data set, or a run directory.
    Nothing is changed. Each row holds the hash of the one before: a row that was changed or taken
    out is named. Two ledgers with as many rows and the same digits hold the same.
    With --copy, a copy is held against the one ledger: it must have all reservations and budgets.
    """
    from securefed.privacy import ledger_copy, statement

    paths = _ledgers(where)
    whole = {path: statement.read_whole(path) for path in paths}
    wrong = _against_the_run(where)
    if copy_file:
        lacking = ledger_copy.difference(whole[_only(where)][0], statement.read(copy_file))
        wrong += [f"{copy_file}: {lacking}"] if lacking else []
    if as_json:
        facts = [
            {
                "path": str(path),
                "client": one.client,
                "reservations": len(one.reservations),
                "rows": head.rows,
                "head": head.hash,
            }
            for path, (one, head) in whole.items()
        ]
        click.echo(json.dumps({"ledgers": facts, "wrong": wrong}, indent=2))
    else:
        for path, (one, head) in whole.items():
            click.echo(
                f"{one.client}: {path} is whole, {counted(len(one.reservations), 'reservation')}, "
                f"{head.rows} rows, {head.hash[:16]}"
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
    if (where / ledger_file.NAME).is_file():
        return [where / ledger_file.NAME]
    beside = ledger_beside(key_place(where))
    paths = sorted((where / "hospitals").glob(f"*/{ledger_file.NAME}"))
    if not paths and beside.is_file():
        return [beside]
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
