"""SIGTERM and SIGHUP are Ctrl-C in every long command: real processes, real signals.

Where a signal must come at one moment, the process sends it to itself when it gets there.
"""

import json
import re
import shutil
import signal
from pathlib import Path

import pytest
import yaml

import securefed
from securefed.reporting import integrity
from tests.cli.processes import (
    Process,
    begin,
    content,
    listens_to,
    stopped_at,
    wait_until,
    write_pictures,
)
from tests.tiny import changed, tiny

TINY = tiny(
    training={"max_slices": 2}, federation={"clients": 3, "shared": "classifier", "rounds": 1}
)


def stopped(process: Process, how: signal.Signals) -> str:
    """What a process that was stopped said."""
    process.send_signal(how)
    process.send_signal(signal.SIGTERM)  # as systemd does, and a terminal that goes: both at once
    return said_by(process)


def said_by(process: Process) -> str:
    """What a process said that ends because it was asked to."""
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    assert "securefed: stopped" in stderr
    assert "\nhint: " in stderr
    return stderr


def test_a_run_ends_its_round_and_says_how_it_goes_on(tmp_path: Path) -> None:
    config, out = tmp_path / "c.yaml", tmp_path / "run"
    many = {"rounds": 2000, "evaluate_every": 2000}
    config.write_text(yaml.safe_dump(changed(TINY, federation=many, privacy={"dp": False})))
    process = begin("run", "--config", config, "--out", out)
    wait_until((out / "checkpoint.json").exists, process)
    stderr = stopped(process, signal.SIGHUP)
    finished = json.loads((out / "checkpoint.json").read_text())["round"]
    assert f"stopped after round {finished} of 2000" in stderr
    assert f"hint: continue with: securefed run --resume {out}" in stderr
    assert not [path for path in out.rglob("*") if path.suffix in (".partial", ".lock")]


def test_a_run_that_is_stopped_while_it_prepares_leaves_nothing(tmp_path: Path) -> None:
    config, out = tmp_path / "c.yaml", tmp_path / "new" / "run"
    # So many patients that it is still making them when the signal comes.
    patients = {"phantom": {"patients": 4000, "test_patients": 4}}
    config.write_text(yaml.safe_dump(changed(TINY, data=patients)))
    process = begin("run", "--config", config, "--out", out)
    wait_until((out / "writer.lock").exists, process)
    stderr = stopped(process, signal.SIGTERM)
    assert re.search("stopped.*; .*nothing .*is left", stderr)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.yaml"]


def test_an_import_leaves_neither_folder_nor_key(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "mine"
    write_pictures(source, 600)
    process = begin("data", "import", source, "--out", out, "--size", 1024)
    wait_until(lambda: bool(list(tmp_path.glob(".mine-*/ct/*"))), process)
    assert (tmp_path / "mine.site-key").exists()
    stopped(process, signal.SIGHUP)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_training_public_weights_leaves_no_file(tmp_path: Path) -> None:
    process = begin("pretrain", "--out", tmp_path / "weights.safetensors")
    wait_until(lambda: listens_to(process, signal.SIGTERM), process)
    stopped(process, signal.SIGTERM)
    assert not list(tmp_path.iterdir())


def test_what_was_started_to_outlive_its_terminal_is_not_stopped_by_its_end(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        process = begin("data", "phantom", "--out", tmp_path / "p", "--patients", 60)
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_until(lambda: listens_to(process, signal.SIGTERM), process)
    process.send_signal(signal.SIGHUP)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert (tmp_path / "p" / "manifest.csv").is_file()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    out = tmp_path_factory.mktemp("trained") / "run"
    return securefed.run(TINY, out=out).path


@pytest.mark.slow
def test_an_audit_that_has_written_nothing_leaves_the_run_as_it_was(trained: Path) -> None:
    before = content(trained)
    place = "securefed.record.json_file:write_atomically"
    said = said_by(stopped_at(place, signal.SIGINT, "audit", trained, "--attack", "head leakage"))
    assert "securefed: stopped; nothing half-written is left" in said
    assert content(trained) == before


@pytest.mark.slow
def test_an_audit_that_has_begun_writes_what_it_finished(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    asked = ("--quick", "--observer", "server")
    said = said_by(
        stopped_at("attacks.inversion.family:controls", signal.SIGTERM, "audit", run, *asked)
    )
    assert f"securefed: stopped; what was finished is in {run / 'audit.json'}" in said
    audit = json.loads((run / "audit.json").read_text())
    assert audit["interrupted"]
    assert audit["findings"]
    assert not [path for path in run.rglob("*") if path.suffix in (".partial", ".lock")]


def test_a_report_is_made_whole_or_not_at_all(trained: Path, tmp_path: Path) -> None:
    """A signal before the first file is written stops it, one that comes later is too late."""
    run = shutil.copytree(trained, tmp_path / "run")
    key = ("--key", tmp_path / "key", "--new-key")
    before = content(run)
    said = said_by(
        stopped_at("securefed.reporting.record:report_on", signal.SIGHUP, "report", run, *key)
    )
    assert "securefed: stopped; nothing half-written is left" in said
    assert content(run) == before
    place = "securefed.cli.report:write_atomically"
    late = stopped_at(place, signal.SIGTERM, "report", run, *key, call=2)
    _, stderr = late.communicate(timeout=120)
    assert late.returncode == 0, stderr
    integrity.verify(run, None)


def test_a_comparison_keeps_what_is_finished(tmp_path: Path) -> None:
    config, out = tmp_path / "c.yaml", tmp_path / "compared"
    config.write_text(yaml.safe_dump(TINY))
    words = (
        "--config",
        config,
        "--out",
        out,
        "--no-audit",
        "--baselines",
        "none",
        "--epsilons",
        "8",
    )
    place = "securefed.comparison.comparison:finish"
    said = said_by(stopped_at(place, signal.SIGTERM, "compare", *words, call=2))
    assert f"securefed: stopped; everything finished is in {out}" in said
    compared = json.loads((out / "compare.json").read_text())
    assert not compared["complete"]
    assert len(list(out.glob("seed-0/*/summary.json"))) == 1
    assert not [path for path in out.rglob("*") if path.suffix in (".partial", ".lock")]
