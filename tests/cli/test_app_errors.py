"""Every known error reaches the terminal as two lines with an exit code, and no traceback."""

import sys
from pathlib import Path

import click
import pytest

from protocols.errors import InvalidRules, ProtocolError, ThresholdMissed
from securefed.cli import app
from securefed.errors import ConfigurationError, Interrupted, RunError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("a contradiction", hint="the way out"), 2),
        (RunError("a contradiction", hint="the way out"), 1),
        (Interrupted("a contradiction", hint="the way out"), 130),
        (ProtocolError("a contradiction", hint="the way out"), 1),
        (InvalidRules("a contradiction", hint="the way out"), 1),
        (ThresholdMissed("a contradiction", hint="the way out"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_known_error_is_two_lines_and_its_exit_code(
    error: Exception,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(app.LazyGroup, "get_command", lambda *_: _failing(error))
    monkeypatch.setattr(sys, "argv", ["securefed", "run"])
    with pytest.raises(SystemExit) as left:
        app.main()
    assert left.value.code == code
    shown = capsys.readouterr()
    assert shown.err == "securefed: a contradiction\nhint: the way out\n"
    assert shown.out == ""


def test_ctrl_c_is_two_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app.LazyGroup, "get_command", lambda *_: _failing(KeyboardInterrupt()))
    first, hint = left_with(130, ["run"], monkeypatch, capsys)
    assert first == "securefed: stopped; nothing half-written is left"
    assert hint == "hint: the same command begins again"


def test_with_debug_the_error_itself_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ProtocolError("a contradiction")
    monkeypatch.setattr(app.LazyGroup, "get_command", lambda *_: _failing(error))
    monkeypatch.setattr(sys, "argv", ["securefed", "--debug", "run"])
    with pytest.raises(ProtocolError):
        app.main()


def test_an_unknown_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.LazyGroup, "get_command", lambda *_: _failing(KeyError("a bug")))
    monkeypatch.setattr(sys, "argv", ["securefed", "run"])
    with pytest.raises(KeyError):
        app.main()


def _failing(error: BaseException) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["rum"], "no such command 'rum'. Did you mean 'run'?"),
        (["data", "chek"], "Did you mean 'check'?"),
        (["run", "--dp-epsilom", "8"], "Did you mean '--dp-epsilon'?"),
        (["audit"], "missing argument 'FOLDER'"),
        (["run", "--device", "gpu"], "'gpu' is not one of"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_is_misspelt_is_two_lines_with_what_it_may_have_been(
    words: list[str],
    meant: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, hint = left_with(2, words, monkeypatch, capsys)
    assert first.startswith("securefed: ")
    assert meant in first
    assert hint.endswith("--help shows what there is")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), "hint: free some space"),
        (
            PermissionError(13, "Permission denied", "/x[/y]"),
            "securefed: /x[/y]: Permission denied",
        ),
        (RuntimeError("Symlink loop from '/a'"), "securefed: Symlink loop from '/a'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_system_refuses_is_two_lines(
    error: Exception,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(app.LazyGroup, "get_command", lambda *_: _failing(error))
    lines = left_with(1, ["run"], monkeypatch, capsys)
    assert told in "\n".join(lines)
    assert len(lines) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--data", "LOOP"],
        ["run", "--out", "LOOP/x", "--rounds", "1"],
        ["run", "--resume", "LOOP"],
        ["compare", "--out", "LOOP"],
        ["compare", "--config", "LOOP"],
        ["audit", "LOOP"],
        ["report", "LOOP"],
        ["ledger", "show", "LOOP"],
        ["data", "check", "LOOP"],
        ["data", "import", "LOOP", "--out", "new"],
        ["data", "import", ".", "--out", "LOOP"],
        ["data", "import", ".", "--out", "new", "--site-key", "LOOP"],
    ],
    ids=" ".join,
)
def test_a_circle_of_links_is_two_lines(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("LOOP").symlink_to("POOL")
    Path("POOL").symlink_to("LOOP")
    left_with(None, words, monkeypatch, capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LOOP", "POOL"]


def left_with(
    code: int | None,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> list[str]:
    """The last two lines that the program says when it fails; `code` None is 1 or 2."""
    monkeypatch.setattr(sys, "argv", ["securefed", *words])
    monkeypatch.setattr(app, "stop_like_ctrl_c", lambda: None)  # this process keeps its own
    with pytest.raises(SystemExit) as left:
        app.main()
    assert left.value.code in ((1, 2) if code is None else (code,))
    *_, first, hint = capsys.readouterr().err.splitlines()
    assert first.startswith("securefed: ")
    assert hint.startswith("hint: ")
    return [first, hint]
