"""One process at a time writes to a run directory, and a finished run is left as it is."""

import json
import re
import signal
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from securefed.cli.app import cli
from securefed.errors import RunError
from securefed.files import LOCK, only_writer
from tests.cli.processes import begin, content, wait_until
from tests.tiny import changed, tiny

TINY = tiny(
    training={"max_slices": 2},
    federation={"clients": 3, "shared": "classifier", "rounds": 1},
)


def command(*arguments: object) -> Result:
    """In this process: what it printed, or the error it raised."""
    words = list(map(str, arguments))
    return CliRunner().invoke(cli, words, standalone_mode=False, catch_exceptions=False)


def written(path: Path, **sections: object) -> Path:
    path.write_text(yaml.safe_dump(changed(TINY, **sections)))
    return path


def test_who_comes_second_is_refused_by_name_and_the_first_goes_on(tmp_path: Path) -> None:
    many = {"rounds": 200, "evaluate_every": 200}
    config = written(tmp_path / "long.yaml", federation=many, privacy={"accountant": "rdp"})
    out = tmp_path / "run"
    first = begin("run", "--config", config, "--out", out)
    wait_until((out / "checkpoint.json").exists, first)
    for arguments in (("--config", config, "--out", out), ("--resume", out)):
        with pytest.raises(RunError, match=f"written to by process {first.pid} on ") as no:
            command("run", *arguments)
        assert "wait" in str(no.value.hint)
    ledger = out / "hospitals" / "hospital-1" / "ledger.sqlite"
    with pytest.raises(RunError, match=f"written to by process {first.pid}"), only_writer(ledger):
        pass
    assert first.poll() is None
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert (out / LOCK).exists(), "a crash leaves the file"
    with only_writer(out), only_writer(ledger):
        pass  # nobody holds it


def test_runs_that_begin_in_one_second_have_names_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from securefed.record.directory import named_by_date

    monkeypatch.chdir(tmp_path)
    with named_by_date("dp+secure") as first, named_by_date("dp+secure") as second:
        assert first != second
        (second / "kept").touch()
    command("run", "--config", written(tmp_path / "c.yaml"), "--no-dp")
    # What stayed empty is gone again.
    assert not first.exists()
    run, kept = sorted(Path("runs").iterdir(), key=lambda path: "dp" in path.name)
    assert kept == second
    assert re.fullmatch(r"\d{4}(-\d\d){2}-\d{6}-secure", run.name)
    assert (run / "summary.json").is_file()


def test_a_finished_run_says_so_and_nothing_of_it_changes(tmp_path: Path) -> None:
    out = tmp_path / "run [/of] :smile:"
    config = written(tmp_path / "c.yaml")
    made = command("run", "--config", config, "--out", out)
    assert f"results: {out} (" in made.stderr
    assert "next: securefed audit '" in made.stderr
    before = content(out)
    again = command("run", "--resume", out)
    assert f"finished already, nothing is changed: {out}" in again.stderr
    assert "held-out patients" in again.stderr
    as_json = command("run", "--resume", out, "--json")
    summary = json.loads((out / "summary.json").read_text())
    assert json.loads(as_json.stdout) == {**summary, "notes": []}
    assert content(out) == before


def test_audits_reports_and_comparisons_wait_for_nobody(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command("run", "--config", written(tmp_path / "c.yaml"), "--out", out)
    before = content(out)
    with only_writer(out):
        for words in (("audit", out), ("report", out)):
            with pytest.raises(RunError, match="run is being written to by process"):
                command(*words)
    assert content(out) == before
    compared = tmp_path / "compared"
    compared.mkdir()
    with only_writer(compared), pytest.raises(RunError, match="compared is being written to by"):
        command("compare", "--config", tmp_path / "c.yaml", "--out", compared)
    assert not list(compared.iterdir())
