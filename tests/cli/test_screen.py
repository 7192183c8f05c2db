"""What commands print is what they were given, at any width."""

import io
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.table import Table
from rich.text import Text

from securefed.cli.app import cli
from securefed.cli.screen import (
    Narrowing,
    duration,
    marked,
    screen,
    show_next,
)
from securefed.data.phantom import PhantomSpec
from securefed.data.phantom_files import write_phantoms
from securefed.privacy.accounting import Event
from securefed.privacy.ledger import Ledger
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


def test_in_a_pipe_nothing_is_left_out_unless_a_width_is_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def printed() -> str:
        table = Table(*(f"column {number}" for number in range(30)))
        screen().print(Narrowing(table, [f"column {number}" for number in range(29)]))
        return capsys.readouterr().err

    monkeypatch.delenv("COLUMNS", raising=False)
    assert all(f"column {number} " in printed() for number in (0, 15, 29))
    monkeypatch.setenv("COLUMNS", "40")
    narrow = printed()
    assert "column 29" in narrow
    assert "left out, too narrow: column 0, " in narrow


@pytest.mark.parametrize("name", ["check", "budget", "ledger"])
def test_forty_columns_keep_what_is_asked_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    write_phantoms(tmp_path / "p", PhantomSpec(image_size=16), 2, 4, seed=0)
    ledger = tmp_path / "ledger.sqlite"
    Ledger.create(ledger, client="h", unit="patient", delta=1e-5, budget_epsilon=None)
    Ledger.open(ledger).reserve(1, Event(1.0, 0.1, 5), run="r" * 32)
    words, kept = {
        "check": (("data", "check", tmp_path / "p"), ("site", "tumour", "hospital-2")),
        "budget": (("budget",), ("each", "epsilon", "8.000")),
        "ledger": (("ledger", "show", ledger), ("rrrr", "rounds")),
    }[name]
    shown = CliRunner().invoke(cli, list(map(str, words)), standalone_mode=False)
    tables = [line for line in shown.stdout.splitlines() if len(line) <= 40]
    assert all(any(each in line for line in tables) for each in kept), shown.stdout
    assert "\u2026" not in shown.stdout


def test_a_verdict_is_its_word() -> None:
    assert [str(marked(each)) for each in Verdict] == [str(each) for each in Verdict]
    assert str(marked(None)) == "reported"
