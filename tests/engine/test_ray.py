"""A simulation on Ray's workers: the same bits, a killed worker, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from securefed.cli.app import cli
from securefed.engine.ray import runs
from securefed.engine.ray.worker import Refusal
from securefed.errors import BudgetExceeded, ConfigurationError, RunError
from securefed.record.metrics import RoundLine
from securefed.record.summary import Summary
from securefed.run_directory import Run
from securefed.simulation import execution
from securefed.simulation.patients import load_data
from securefed.simulation.simulation import Simulation
from tests.tiny import settings_with, tiny

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240.0
BIT_FOR_BIT = ("model.safetensors", "held_out.json")

needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is not installed (pip install 'securefed[ray]')"
)

# The hidden part of the noise follows from the seed: two runs are to be equal.
seeded = settings_with(
    privacy={"seeded_noise": True}, federation={"clients": 5, "rounds": 3, "evaluate_every": 1}
)


@pytest.mark.parametrize("there", [None, ModuleType("ray")], ids=["nothing", "a folder"])
def test_without_the_extra_one_line_says_what_to_install(
    there: ModuleType | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", there)
    with pytest.raises(ConfigurationError, match="needs Ray") as refused:
        runs.execute(seeded(), tmp_path / "run")
    assert refused.value.hint == "pip install 'securefed[ray]'"
    assert not (tmp_path / "run").exists()


def test_without_the_extra_nothing_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = CliRunner().invoke(cli, ["run", "--engine", "ray"])
    assert isinstance(done.exception, ConfigurationError)
    assert done.output == ""


def test_an_address_without_the_engine_is_refused() -> None:
    done = CliRunner().invoke(cli, ["run", "--address", "auto"])
    assert isinstance(done.exception, ConfigurationError)
    assert done.exception.hint == "give --engine ray with it"


def test_a_mistake_comes_back_under_its_name() -> None:
    told = Refusal("BudgetExceeded", "no epsilon is left", "raise it").error()
    assert (type(told), str(told), told.hint) == (
        BudgetExceeded, "no epsilon is left", "raise it"
    )  # fmt: skip
    for other in ("SystemExit", "annotations", "__doc__", "Exception"):
        assert type(Refusal(other, "text", None).error()) is RunError


def _files(folder: Path) -> dict[str, bytes]:
    """What is the same bit for bit, but for the name of the run that a model's file has."""
    run = Run.open(folder).about.run.encode()
    named = [folder / name for name in BIT_FOR_BIT]
    personal = sorted(folder.glob("hospitals/*/personal.safetensors"))
    return {
        str(each.relative_to(folder)): each.read_bytes().replace(run, b"RUN")
        for each in [*named, *personal]
    }


def _comparable(summary: Summary) -> dict[str, Any]:
    """All that does not depend on the clock, and is not of a job's random keys."""
    seconds = ("wall_seconds", "client_seconds_per_round", "aggregate_seconds_per_round")
    whole: dict[str, Any] = json.loads(summary.encode())
    return {key: value for key, value in whole.items() if key not in seconds}


def _gone(process: int) -> bool:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":  # ended; whoever is to take note of it has other things to do
            return True
        time.sleep(0.05)
    return False


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("secure", [False, True])
def test_two_workers_give_what_one_process_gives_and_ray_logs_no_patient(
    secure: bool, tmp_path: Path
) -> None:
    import ray

    settings = seeded(secure_aggregation={"enabled": secure})
    notes: list[str] = []
    found: dict[str, Any] = {}

    def on_open(simulation: Simulation) -> None:
        notes.extend(simulation.notes)
        found["processes"] = set(simulation.group.processes())  # type: ignore[attr-defined]
        loaded = load_data(settings).hospitals
        found["ids"] = [each.patient_id for one in loaded for each in one.train]
        node = ray._private.worker._global_node
        found["logs"] = Path(node.get_session_dir_path()) / "logs"

    there = runs.execute(settings, tmp_path / "there", workers=2, on_open=on_open)
    here = execution.execute(settings, tmp_path / "here")
    assert _files(tmp_path / "there") == _files(tmp_path / "here")
    assert _comparable(there) == _comparable(here)
    assert len(found["processes"] - {os.getpid()}) == 2
    assert all(map(_gone, found["processes"]))
    assert not ray.is_initialized()
    logs = [path for path in found["logs"].rglob("*") if path.is_file()]
    assert any(path.name.startswith("worker-") for path in logs)
    text = b"".join(path.read_bytes() for path in logs)
    assert not [each for each in found["ids"] if each.encode() in text]
    assert b"hospital-1" not in text


@needs_ray
@pytest.mark.slow
def test_a_worker_that_is_killed_costs_its_round_and_the_run_ends_with_the_same_bits(
    tmp_path: Path,
) -> None:
    held: list[Simulation] = []
    said: list[str] = []
    killed: list[int] = []

    def on_round(line: RoundLine) -> None:
        if line.round == 1 and not killed:
            killed.append(held[-1].group.processes()[1])  # type: ignore[attr-defined]
            os.kill(killed[0], signal.SIGKILL)

    there = runs.execute(
        seeded(),
        tmp_path / "there",
        workers=2,
        on_open=held.append,
        on_round=on_round,
        say=said.append,
    )
    here = execution.execute(seeded(), tmp_path / "here")
    assert len(killed) == 1
    assert len(held) == 2  # opened, and opened again
    assert "a worker was lost: taking the run up again" in said
    assert _files(tmp_path / "there") == _files(tmp_path / "here")
    assert there.survivors_by_round == here.survivors_by_round == (5, 5, 5)
    assert there.epsilon_by_client == here.epsilon_by_client


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_who_asks_to_stop_is_heard_and_no_process_is_left(by: signal.Signals, tmp_path: Path):
    values = tiny(privacy={"seeded_noise": True}, federation={"clients": 4, "rounds": 300})
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values))
    words = ["run", "--config", "tiny.yaml", "--engine", "ray", "--out", "run"]
    run = subprocess.Popen(
        [sys.executable, "-m", "securefed", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    end = time.monotonic() + PATIENCE_S
    while not metrics.exists():
        assert run.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    below = _descendants(run.pid)
    assert below
    # As a terminal does with Ctrl-C; a service manager asks the program.
    os.killpg(run.pid, by) if by == signal.SIGINT else run.send_signal(by)
    text, _ = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 130, text
    assert "stopped after round" in text
    assert "Traceback" not in text
    assert all(map(_gone, below))
    done = len(metrics.read_text().splitlines())
    assert done >= 1


def _descendants(process: int) -> set[int]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError, ValueError):
            continue  # it has ended meanwhile
    below, more = set(), {process}
    while more:
        more = {child for child, parent in parents.items() if parent in more}
        below |= more
    return below
