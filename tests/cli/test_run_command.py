"""`securefed run` as a user types it, in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from securefed.privacy.ledger import Ledger
from tests.tiny import changed, tiny

TINY = tiny(
    training={"max_slices": 3},
    federation={"shared": "classifier", "rounds": 3, "evaluate_every": 1},
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "securefed.cli.app", *map(str, arguments)]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=300, env=ENVIRONMENT
    )


def test_the_number_beside_the_global_figures_is_what_they_were_made_from(
    tmp_path: Path,
) -> None:
    noised = changed(TINY, privacy={"evaluation_epsilon": 2.0}, federation={"rounds": 1})
    config, out = tmp_path / "noised.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(noised))
    done = run("run", "--config", config, "--out", out)
    scored = json.loads((out / "held_out.json").read_text())
    assert scored["noise"] > 0
    assert re.search(rf"global +│ +~{scored['patients']} ", done.stderr)


def test_run_prints_rounds_and_table_and_leaves_a_run_directory(
    config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = run("run", "--config", config, "--dp-epsilon", 8, "--out", out)
    assert done.returncode == 0, done.stderr
    for part in ("dp+secure", "epsilon at most 8", "delta 0.001", "round    1"):
        assert part in done.stderr
    for name in ("hospital-1", "hospital-4", "global"):
        assert name in done.stderr
    # So few patients carry no figure, and the table does not leave that to be guessed.
    assert re.search(
        r"note: .*(too few to say|too unsure to say|have label|holds 0\.5)", done.stderr
    )
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {
        "run.json",
        "metrics.jsonl",
        "summary.json",
        "model.safetensors",
        "progress.svg",
        "exposures/index.jsonl",
        "exposures/messages.bin",
        "hospitals/hospital-1/ledger.sqlite",
        "hospitals/hospital-1/personal.safetensors",
        "hospitals/hospital-1/summary.json",
    } <= files
    assert not {name for name in files if name.endswith((".pem", ".pkl", ".pt", ".partial"))}
    shown = run("ledger", "show", out)
    assert "per made-up patient" in shown.stdout
    assert "per patient" not in shown.stdout


def test_what_is_made_up_is_called_so_from_the_first_line(config: Path, tmp_path: Path) -> None:
    done = run("run", "--config", config, "--dp-epsilon", 8, "--out", tmp_path / "run")
    assert "per made-up patient of a hospital" in done.stderr
    assert "0.001 per patient" not in done.stderr


def test_json_prints_the_summary_and_what_the_operator_is_told(
    config: Path, tmp_path: Path
) -> None:
    done = run("run", "--config", config, "--no-dp", "--json", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    summary = json.loads(done.stdout)
    notes = summary.pop("notes")
    assert any(note.startswith("SIMULATION (phantom)") for note in notes)
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert list(summary) == [
        "schema",
        "auc",
        "auc_ci95",
        "accuracy",
        "sensitivity",
        "specificity",
        "f1",
        "classes",
        "configuration",
        "rounds",
        "chosen_after",
        "clients",
        "patients",
        "simulation",
        "canaries",
        "local_auc",
        "noise",
        "epsilon",
        "epsilon_by_client",
        "evaluation_epsilon",
        "temperature",
        "delta",
        "privacy_unit",
        "accountant",
        "bytes_up_per_client_round",
        "bytes_down_per_client_round",
        "client_seconds_per_round",
        "aggregate_seconds_per_round",
        "wall_seconds",
        "survivors_by_round",
        "rounds_aborted",
    ]
    assert summary["configuration"] == "secure"
    assert summary["epsilon"] is None
    assert summary["survivors_by_round"] == [4, 4, 4]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--dp-epsilon", "8", "--no-dp"), 2, "contradict"),
        (("--dp-epsilon", "-1"), 2, "privacy.epsilon"),
        (("--clients", "2"), 2, "allow_two_party"),
        (("--config", "missing.yaml"), 2, "missing.yaml"),
        (("--resume", "missing"), 1, "holds no run"),
        (("--resume", "missing", "--rounds", "3"), 2, "--resume"),
        (("--data", "missing.csv"), 1, "missing.csv"),
        (("--nonsense",), 2, "nonsense"),
    ],
)
def test_wrong_input_is_one_error_and_a_hint_without_traceback(
    arguments: tuple[str, ...], code: int, message: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        command("run", *arguments),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env=ENVIRONMENT,
    )
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "hint:" in done.stderr or "Try" in done.stderr


def test_a_used_directory_is_not_overwritten(config: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("ten years of work")
    done = run("run", "--config", config, "--out", tmp_path / "run")
    assert done.returncode == 1
    assert "not empty" in done.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def wait_for_round(directory: Path, number: int, process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + 300
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        try:
            if json.loads((directory / "checkpoint.json").read_text())["round"] >= number:
                return
        except OSError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"round {number} never came")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_resumes_and_never_forgets_spent_budget(
    how: signal.Signals, tmp_path: Path
) -> None:
    many = changed(TINY, federation={"rounds": 300, "evaluate_every": 300})
    path, out = tmp_path / "long.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(many))
    process = subprocess.Popen(
        command("run", "--config", path, "--out", out),
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    wait_for_round(out, 2, process)
    process.send_signal(how)
    _, stderr = process.communicate(timeout=300)
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert f"securefed run --resume {out}" in stderr
        assert "Traceback" not in stderr
    ledger = Ledger.open(out / "hospitals" / "hospital-1" / "ledger.sqlite")
    spent = ledger.spent()
    finished = json.loads((out / "checkpoint.json").read_text())["round"]
    assert spent > 0

    process = subprocess.Popen(
        command("run", "--resume", out), stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    wait_for_round(out, finished + 2, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)
    assert ledger.spent() > spent
    steps = sum(event.steps for event in ledger.history())
    now = json.loads((out / "checkpoint.json").read_text())["round"]
    # A kill may lose a round that was reserved; it is never taken back.
    assert now <= steps <= now + 1
    if how is signal.SIGINT:
        assert steps == now
