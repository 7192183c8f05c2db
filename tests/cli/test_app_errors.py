"""Every known error reaches the terminal as two lines with an exit code, and no traceback."""

import sys

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


def _failing(error: Exception) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command
