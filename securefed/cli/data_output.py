"""What the commands of `securefed data` share: progress, lists, and results in two forms."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from securefed.cli.screen import screen
from securefed.data.table import Problem
from securefed.errors import ConfigurationError, DataError
from securefed.progress import Bar
from securefed.record.run_file import RunFile

#: What a label of the manifest is of, as task.example of a run says it.
of_example = click.option(
    "--example",
    type=click.Choice(["patient", "study", "slice"]),
    default="patient",
    show_default=True,
    help="What a label of the manifest is of (task.example).",
)


def _classes(
    context: click.Context, parameter: click.Parameter, names: str | None
) -> tuple[str, ...]:
    from securefed.config import load

    if names is None:
        return ()
    return load(None, {"task.classes": [each.strip() for each in names.split(",")]}).task.classes


#: What labels of the manifest tell apart, as task.classes of a run names it.
of_classes = click.option(
    "--classes",
    callback=_classes,
    metavar="A,B,C",
    help="Names of three classes or more that labels are of (task.classes); without, labels are "
    "0 and 1.",
)
SHOWN = 20  # problems, notes or duplicates listed before "and n more"


def shower(bar: Bar, what: str) -> Callable[[int, int], None]:
    """Shows how many of all are done."""
    return lambda done, total: bar.reach(done / total, f"{what} {done}/{total}")


def progress_bar(*, quiet: bool) -> Bar:
    """Progress on stderr; silent when JSON was asked for."""
    return Bar(screen(quiet=quiet))


def tell(facts: dict[str, Any], as_json: bool, text: str) -> None:
    if as_json:
        click.echo(json.dumps(facts))
        return
    click.echo(text)
    if "manifest" in facts:
        click.echo(f"manifest: {facts['manifest']}")


def listing(title: str, entries: Sequence[Problem | str]) -> None:
    if not entries:
        return
    click.echo(f"{title} ({len(entries)}):")
    for entry in entries[:SHOWN]:
        click.echo(f"  {entry}")
    if len(entries) > SHOWN:
        click.echo(f"  and {len(entries) - SHOWN} more (--json lists all)")


def require_outside_runs(out: Path) -> None:
    """Refuse to write what is about single patients into a run's folder, which is handed on.

    Raises:
        ConfigurationError: `out` lies in one.
    """
    for folder in out.resolve().parents:
        if (folder / RunFile.NAME).exists():
            raise ConfigurationError(
                f"{out} lies in the run {folder}, which others may be given",
                hint="give --out a place of your own: this is about single patients",
            )


def require_new_folder(out: Path) -> None:
    """Refuse a folder for what is about single patients that is there, or lies in a run.

    Raises:
        ConfigurationError, DataError: so it is.
    """
    require_outside_runs(out)
    require_new(out)


def require_new(out: Path) -> None:
    """Refuse, before the work, a folder or a file that could not be made after it.

    Raises:
        DataError: there is something of that name, a link to nothing too, or no folder to make it
            in.
    """
    if os.path.lexists(out):
        raise DataError(f"{out} exists already", hint="name one that does not exist")
    above = next(each for each in out.absolute().parents if os.path.lexists(each))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise DataError(
            f"{out} cannot be made: {above} is no folder that can be written into",
            hint="name another place",
        )


@contextmanager
def private_folder(out: Path) -> Iterator[None]:
    """Make a folder for its owner alone, and take it away again if the work in it does not end."""
    out.mkdir(mode=0o700, parents=True)
    try:
        yield
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
