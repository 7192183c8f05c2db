"""`securefed demo`: things to look at, made with the commands that people use."""

from pathlib import Path

import click

from securefed.cli.follow import Following
from securefed.cli.screen import screen, show_next
from securefed.cli.server import show
from securefed.config import load

ROUNDS = 40


@click.group(name="demo", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Show what a federation on machines of its own looks like, on one machine."""


@command.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("federation"), show_default=True
)
@click.option("--rounds", type=click.IntRange(1, 1000), default=ROUNDS, show_default=True)
def federation(out: Path, rounds: int) -> None:
    """Train over four hospitals and a server, each in a folder and processes of its own.

    They reach each other over mutual TLS on this machine, through NVIDIA FLARE (extra `engine`).
    Patients are phantoms. Look into the folders afterwards: what a hospital keeps, what the server
    has. docs/federation.md does the same on machines of their own.
    """
    from securefed.engine.flare import demonstration, processes
    from securefed.server import folder as server_folder

    settings = load(
        None,
        {
            "federation.rounds": rounds,
            "federation.clients": len(demonstration.NAMES),
            "federation.timeout_s": 120.0,
            "training.batch_size": 60,
        },
    )
    console = screen()
    server = demonstration.make(out, settings, console.print)
    with (
        Following(server, as_json=False) as following,
        processes.server_program(server) as program,
        demonstration.hospitals(out),
    ):
        summary = processes.play(server, following.tell, 60.0, program)
    show(summary, server_folder.read(server).name, server)
    show_next(console, "site", "show", out / demonstration.NAMES[0])
