"""Exit codes and JSON say what became of a run's rounds."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from securefed.cli.app import cli
from securefed.errors import NothingLearned, RoundAborted, RunError
from securefed.run_directory import Run
from securefed.server.summation import PlainSummation, SecureSummation
from tests.tiny import changed, tiny

TINY = tiny(
    training={"max_slices": 2}, federation={"clients": 3, "shared": "classifier", "rounds": 3}
)


def run(*arguments: object) -> Result:
    words = ["run", *map(str, arguments)]
    return CliRunner().invoke(cli, words, standalone_mode=False, catch_exceptions=False)


@pytest.fixture(params=[SecureSummation, PlainSummation], ids=["secure", "plain"])
def losing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """What begins a run in which the rounds of these numbers come to nothing."""
    kind = request.param
    whole, trained = kind.sum, []

    def begin(lost: set[int], *arguments: object) -> Result:
        def sum_(self: Any, work: Any, *more: Any) -> Any:
            if work.train:
                trained.append(work)
                if len(trained) in lost:
                    raise RoundAborted("nobody answered", hint="hospital-1: no reply")
            return whole(self, work, *more)

        monkeypatch.setattr(kind, "sum", sum_)
        config = tmp_path / "c.yaml"
        config.write_text(yaml.safe_dump(changed(TINY)))
        secure = "--secure" if kind is SecureSummation else "--no-secure"
        return run("--config", config, secure, "--out", tmp_path / "run", *arguments)

    return begin


def test_a_run_without_a_round_that_opened_is_an_error_and_has_no_model(
    losing: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with pytest.raises(NothingLearned, match="no round succeeded: 3 of 3") as none:
        losing({1, 2, 3}, "--no-dp")
    assert none.value.exit_code == 1
    assert "nobody answered" in str(none.value)
    assert "timeout_s" in str(none.value.hint)
    assert not list(out.rglob("model.safetensors"))
    assert not list(out.rglob("personal.safetensors"))
    assert not (out / "progress.svg").exists()
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["rounds"], summary["rounds_aborted"]) == (3, 3)
    assert summary["survivors_by_round"] == [0, 0, 0]
    assert summary["auc"] is None
    with pytest.raises(NothingLearned, match="no round succeeded"):
        run("--resume", out)
    with pytest.raises(RunError, match="no round succeeded"):
        Run.open(out).complete()


def test_what_was_spent_for_nothing_is_said(losing: Any, tmp_path: Path) -> None:
    with pytest.raises(NothingLearned, match="no round succeeded"):
        losing({1, 2, 3}, "--dp-epsilon", 8)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["epsilon"] is not None


def test_rounds_that_were_lost_are_counted_and_shown(losing: Any, tmp_path: Path) -> None:
    done = losing({2}, "--no-dp")
    assert done.exit_code == 0
    assert "1 round of 3 aborted" in done.stderr
    assert "round    2  aborted: nobody answered" in done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["rounds"], summary["rounds_aborted"]) == (3, 1)
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_json_of_a_run_without_a_model_is_its_summary(
    losing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[str] = []
    monkeypatch.setattr("click.echo", lambda text, **_: printed.append(text))
    with pytest.raises(NothingLearned):
        losing({1, 2, 3}, "--no-dp", "--json")
    told = json.loads(printed[0])
    assert told.pop("notes")
    assert told == json.loads((tmp_path / "run" / "summary.json").read_text())
