"""What commands write on a terminal: text as it stands, tables that fit, and what to type next.

Results go to files and standard output; a screen is standard error. Nothing here reads markup: a
path, a hospital's name or a reason may hold square brackets, and `:smile:`.
"""

import os
import sys
from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from securefed.verdict import Verdict
from securefed.wording import command_line

COLOURS = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.INVALID: "magenta",
    Verdict.INCONCLUSIVE: "yellow",
}
WIDE = 10_000  # columns: room for whatever a table would take


def screen(*, quiet: bool = False, stderr: bool = True) -> Console:
    """A console that prints text as it stands.

    Args:
        quiet: print nothing, where JSON was asked for.
    """
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr,
        quiet=quiet,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=True,
        # In a file or a pipe nothing is too narrow, unless somebody says so.
        width=None if stream.isatty() or "COLUMNS" in os.environ else WIDE,
    )


def duration(seconds: float) -> str:
    """ "50 s", "12 min", "3 h": how long something takes, roughly."""
    for least, unit, length in ((5400, "h", 3600), (90, "min", 60)):
        if seconds >= least:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def marked(verdict: Verdict | None, otherwise: str = "reported") -> Text:
    """A verdict in its colour; `otherwise` where nothing was judged."""
    return Text(str(verdict), COLOURS[verdict]) if verdict else Text(otherwise, "dim")


def show_next(console: Console, *words: object) -> None:
    """What to type next."""
    console.print(Text("next: ", style="dim") + Text(command_line(*words)))


class Narrowing:
    """A table that leaves out columns where the screen is too narrow for all.

    Args:
        expendable: headers of columns that may go, the first one first.
    """

    def __init__(self, table: Table, expendable: Sequence[str]) -> None:
        self._table = table
        self._expendable = tuple(expendable)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.update(width=WIDE)
        left_out = []
        for header in self._expendable:
            if Measurement.get(console, wide, self._table).maximum <= options.max_width:
                break
            kept = [column for column in self._table.columns if column.header != header]
            if len(kept) < len(self._table.columns):
                self._table.columns[:] = kept
                left_out.append(header)
        yield self._table
        if left_out:
            yield Text(f"left out, too narrow: {', '.join(left_out)}", style="dim")
