"""`securefed client`: a hospital at work in a federation."""

import time
from pathlib import Path

import click

from securefed.cli.follow import Following
from securefed.errors import RunError
from securefed.files import only_writer

POLL_S = 0.5
SETTLE_S = 5.0  # for the job to end, which the server waits for


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="End when a run has finished.")
@click.option("--json", "as_json", is_flag=True, help="Print what happens as JSON lines.")
def command(folder: Path, once: bool, as_json: bool) -> None:
    """Take part in the runs that the site in FOLDER has agreed to, whenever a server asks.

    It dials out to the server, connects again after an interruption, and prints what happens: the
    same lines are in FOLDER/activity.jsonl. Ctrl-C, or SIGTERM, ends it; what was spent is in the
    ledger, and a run goes on when this command is given again.
    """
    from securefed.engine.flare import processes
    from securefed.hospital.site import open_site

    site = open_site(folder)
    with only_writer(folder), Following(folder, as_json) as following:
        program = processes.client_program(folder, site.name)
        try:
            following.tell(f"{site.name} is waiting for the server; stop: Ctrl-C")
            while program.poll() is None:
                time.sleep(POLL_S)
                if once and following.finished:
                    time.sleep(SETTLE_S)
                    return
            raise RunError(
                "the program that connects has ended",
                hint=f"{folder / 'engine' / 'program.log'} has its last words",
            )
        finally:
            processes.stop(program)
