"""`securefed deploy`: certificates for the connections of a federation, made where they belong."""

import shutil
from pathlib import Path

import click

from securefed.cli.screen import screen, show_next
from securefed.progress import Bar

_PATH = click.Path(path_type=Path)


@click.group(name="deploy", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Connect hospitals with a server: keys stay where they are made, requests travel.

    Needs the extra `engine` (NVIDIA FLARE). One inbound port at the server; hospitals dial out.

    \b
    at the server    securefed deploy server coordinator --agreement agreement.yaml --host fl.example.org
    at a hospital    securefed deploy request north         -> send the file that it names
    at the server    securefed deploy approve coordinator north.request.zip   -> send it back
    at a hospital    securefed deploy install north north.signed.zip --fingerprint 15:E3:...
    """  # noqa: E501


@command.command()
@click.argument("folder", type=_PATH)
@click.option("--agreement", type=_PATH, required=True, help="What the server runs.")
@click.option("--host", required=True, help="Name under which hospitals reach the server.")
@click.option("--port", type=click.IntRange(1, 65535), default=8002, show_default=True)
@click.option("--after", type=_PATH, help="A server's folder: what it knows of ledgers is kept.")
def server(folder: Path, agreement: Path, host: str, port: int, after: Path | None) -> None:
    """Make FOLDER a server's, with an authority of its own."""
    from securefed.engine.flare import places, provisioning
    from securefed.server import folder as server_folder

    places.require_engine()
    with Bar(screen()) as bar:
        bar.say("making the server's keys")
        server_folder.create(folder, agreement, after)
        try:
            fingerprint = provisioning.make_authority(folder, host, port)
        except BaseException:
            shutil.rmtree(folder)  # all in it is from now
            raise
    click.echo(f"{folder} serves {host}:{port}")
    click.echo(f"fingerprint, to read out to the hospitals: {fingerprint}")
    show_next(screen(), "server", folder)


@command.command()
@click.argument("folder", type=_PATH)
def request(folder: Path) -> None:
    """Make the key of a site's connection, and the request to send to the server's people."""
    from securefed.engine.flare import places, provisioning
    from securefed.hospital.site import open_site

    site = open_site(folder)
    places.require_engine()
    with Bar(screen()) as bar:
        bar.say("making a key")
        begun = places.request(folder).exists()
        try:
            made = provisioning.request_certificate(folder, site.name)
        except BaseException:
            if not begun:
                shutil.rmtree(places.request(folder), ignore_errors=True)
            raise
    click.echo(f"send {made} to the server's people; its private key stays here")
    show_next(screen(), "deploy", "approve", "SERVER_FOLDER", made.name)


@command.command()
@click.argument("folder", type=_PATH)
@click.argument("request", type=_PATH)
def approve(folder: Path, request: Path) -> None:
    """Sign a hospital's request with the authority of the server in FOLDER.

    Approve what came from whom you know: ask the hospital by another way whether it sent this. Only
    requests of hospitals in the agreement are signed, and nothing but a hospital's certificate.
    """
    from securefed.engine.flare import provisioning
    from securefed.server import folder as server_folder

    hospitals = server_folder.read(folder).roster.names
    with Bar(screen()) as bar:
        bar.say("signing")
        approval = provisioning.approve(folder, request, hospitals)
    click.echo(f"signed for {approval.name}, key {approval.key}")
    click.echo(f"send {approval.file} back")
    click.echo(f"and read out the fingerprint: {provisioning.fingerprint(folder)}")


@command.command()
@click.argument("folder", type=_PATH)
@click.argument("signed", type=_PATH)
@click.option("--fingerprint", required=True, help="As the server's people read it out.")
def install(folder: Path, signed: Path, fingerprint: str) -> None:
    """Take an approval, and make the kit that the site in FOLDER connects with."""
    from securefed.engine.flare import provisioning
    from securefed.hospital.site import open_site

    site = open_site(folder)
    with Bar(screen()) as bar:
        bar.say("installing")
        provisioning.install(folder, site.name, signed, fingerprint)
    click.echo(f"{site.name} can connect")
    show_next(screen(), "client", folder)
