"""Writes docs/command-line.md from the commands' own help.

    python docs/generate_command_line.py

A test compares the page with what this script would write, so it cannot drift from the code.
"""

from collections.abc import Iterator
from pathlib import Path

import click
from click.testing import CliRunner

from securefed.cli.app import cli

PAGE = Path(__file__).resolve().parent / "command-line.md"

INTRO = """\
# The command line

<!-- Written by docs/generate_command_line.py from the commands' help; change that instead. -->

Results go to files and, with `--json`, to standard output; progress, notes and errors go to
standard error. Exit codes and the form of errors are on [their own page](errors.md).
"""


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command below one, itself first."""
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is None:
                raise LookupError(f"{name} is listed, but there is no such command")
            yield from commands(child, (*path, name))


def page() -> str:
    """The text of docs/command-line.md."""
    return INTRO + "".join(_chapter(path) for path in commands(cli))


def _chapter(path: tuple[str, ...]) -> str:
    title = " ".join(("securefed", *path))
    # A fixed width: the page must not depend on the terminal it is made in.
    shown = CliRunner().invoke(cli, [*path, "--help"], prog_name="securefed", terminal_width=80)
    if shown.exit_code != 0:
        raise RuntimeError(f"{title} --help failed: {shown.output}")
    return f"\n## {title}\n\n```text\n{shown.output.strip()}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote docs/{PAGE.name}")
