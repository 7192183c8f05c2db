"""`securefed keys`: who a hospital is to the others, and whom it does not trust any more."""

import json
from pathlib import Path

import click

from securefed.cli.screen import screen, show_next

_PATH = click.Path(path_type=Path)


@click.group(name="keys", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Show, replace and revoke the identity keys of hospitals.

    A hospital's key signs what it sends into a secure sum. Its public half stands in agreements,
    and people compare it by another way than the one it came by.

    \b
    securefed keys show north
    securefed keys roster agreement.yaml
    securefed keys revoke north KEY --reason "laptop lost, call of 3 May"
    """


@command.command()
@click.argument("folder", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
def show(folder: Path, as_json: bool) -> None:
    """Print the public half of a site's key: the line to send to who makes the agreement."""
    from securefed.hospital.site import open_site

    site = open_site(folder)
    key = site.identity.public.hex()
    if as_json:
        click.echo(json.dumps({"name": site.name, "key": key}, indent=2))
        return
    click.echo(f"{site.name}={key}")
    show_next(screen(), "agreement", "make", "agreement.yaml", "--hospital", f"{site.name}={key}")


@command.command()
@click.argument("agreement", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
def roster(agreement: Path, as_json: bool) -> None:
    """Print every hospital of an agreement with its key, and one line over all of them."""
    from securefed.wire.agreement import read

    found = read(agreement).roster
    if as_json:
        keys = {name: key.hex() for name, key in found.keys.items()}
        click.echo(json.dumps({"keys": keys, "fingerprint": found.fingerprint}, indent=2))
        return
    for name, key in found.keys.items():
        click.echo(f"{name}={key.hex()}")
    click.echo(f"fingerprint of the roster: {found.fingerprint}")


@command.command()
@click.argument("folder", type=_PATH)
@click.option("--yes", is_flag=True, help="Do not ask.")
def rotate(folder: Path, yes: bool) -> None:
    """Give a site another key; the old one is kept aside, and signs nothing any more.

    Runs under agreements that hold the old key cannot go on: make new agreements.
    """
    from securefed.hospital import keys
    from securefed.hospital.site import read_about

    name = read_about(folder).name
    if not yes:
        click.confirm(f"Replace the key of {name}? Its agreements end.", abort=True, err=True)
    kept = keys.rotate(folder)
    click.echo(f"{name} has another key; the old one is {kept or 'lost'}")
    show_next(screen(), "keys", "show", folder)


@command.command()
@click.argument("folder", type=_PATH)
@click.argument("key")
@click.option("--reason", required=True, help="Why, and who said so; kept at the site.")
def revoke(folder: Path, key: str, reason: str) -> None:
    """Have a site refuse every agreement that holds a public KEY, from now on.

    KEY is 64 hexadecimal digits, as `keys show` and `keys roster` print them.
    """
    from securefed.hospital import keys
    from securefed.hospital.site import open_site

    site = open_site(folder)
    keys.revoke(site.folder, key, reason)
    click.echo(f"{site.name} takes part in nothing that holds {key.lower()[:16]}... any more")
