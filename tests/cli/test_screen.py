"""What commands print is what they were given, at any width."""

import io
import re
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from securefed.cli.screen import (
    Narrowing,
    duration,
    marked,
    screen,
    show_next,
)
from securefed.verdict import Verdict
from securefed.wording import command_line

CLI = Path(__file__).resolve().parents[2] / "securefed" / "cli"


def shown(renderable: object, width: int = 80) -> str:
    console = screen()
    console.file, console.width = io.StringIO(), width
    console.print(renderable)
    return console.file.getvalue()


@pytest.mark.parametrize("text", ["runs/a[/]b", "[bold]x", "[/red]", ":smile:", "[link=x]y[/link]"])
def test_brackets_and_colons_are_printed_as_they_stand(text: str) -> None:
    table = Table(title=Text(text))
    table.add_column(Text(text))
    table.add_row(text)
    assert shown(text) == f"{text}\n"
    assert shown(table).count(text) == 3


def test_no_command_makes_a_console_of_its_own() -> None:
    """Those read markup, in which a path with brackets ends a finished run with a traceback."""
    for path in CLI.glob("*.py"):
        if path.name != "screen.py":
            assert not re.search(r"\bConsole\(|from_markup|\.status\(", path.read_text()), path.name


def test_what_to_type_next_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    show_next(screen(), "audit", Path("runs/my run [1]"))
    assert capsys.readouterr().err == "next: securefed audit 'runs/my run [1]'\n"
    assert command_line("run", "--resume", Path("a b")) == "securefed run --resume 'a b'"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (50, "50 s"), (110, "2 min"), (720, "12 min"), (9600, "3 h")],
)
def test_a_duration_is_in_the_unit_that_people_plan_in(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_narrow_screen_loses_the_columns_that_matter_least() -> None:
    def table() -> Narrowing:
        columns = Table("hospital", "patients", "AUC", "spec.")
        columns.add_row("hospital-1", "100", "0.875", "0.500")
        return Narrowing(columns, ("spec.", "patients"))

    wide, narrow = shown(table()), shown(table(), width=30)
    assert "spec." in wide
    assert "left out" not in wide
    assert "0.875" in narrow
    assert "hospital-1" in narrow
    assert "0.500" not in narrow
    assert "left out, too narrow: spec." in narrow
    assert max(map(len, narrow.splitlines())) <= 45


def test_a_verdict_is_its_word() -> None:
    assert [str(marked(each)) for each in Verdict] == [str(each) for each in Verdict]
    assert str(marked(None)) == "reported"
