"""`securefed compare` as a user types it; the audits here are stand-ins with audit.json's keys."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from click.testing import CliRunner
from rich.console import Console

from securefed.cli.app import cli
from securefed.cli.compare_tables import tables
from securefed.errors import ConfigurationError, Interrupted, RunError
from securefed.record.audit import AuditFile
from securefed.record.comparison import CompareFile
from securefed.run_directory import Run
from tests.tiny import changed, tiny

TINY = tiny(
    data={"phantom": {"patients": 8, "test_patients": 6}},
    training={"batch_size": 4, "max_slices": 2},
    federation={"clients": 3, "rounds": 2, "evaluate_every": 1},
)
ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def compare(*arguments: object) -> Any:
    """In this process: what it printed, or the error it raised."""
    words = ["compare", *map(str, arguments)]
    return CliRunner().invoke(cli, words, standalone_mode=False, catch_exceptions=False)


def plain(config: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("--config", config, "--configurations", "plain", "--seeds", 1, "--out", out, *more)


def test_tables_show_every_row_and_json_is_the_file(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shown = compare(*plain(config, out, "--no-audit", "--data-shares"))
    assert shown.stdout == ""
    for part in (
        "1 seed, 1 run",
        "one seed, Newcombe's interval",
        "alone, no DP",
        "pooled, no DP",
        "late fusion, no DP",
        "an upper bound",
        "trained on a share",
        "client 1 alone",
    ):
        assert part in shown.stderr
    again = compare(*plain(config, out, "--no-audit", "--data-shares", "--json"))
    assert again.stderr == ""
    content = json.loads(again.stdout)
    assert content == json.loads((out / "compare.json").read_text())
    assert content["schema"] == 1
    page = (ROOT / "docs" / "compare.md").read_text()
    row = content["configurations"][0]
    for key in (*content, *row, *content["baselines"][0], *row["figures"]["auc"]):
        assert f"`{key}`" in page, f"docs/compare.md does not explain {key}"
    runs = sorted(path.parent.name for path in (out / "seed-0").glob("*/summary.json"))
    assert runs == ["data-10-percent", "data-25-percent", "data-50-percent", "plain"]


def test_seeds_are_other_studies_and_their_spread_is_shown(config: Path, tmp_path: Path) -> None:
    arguments = ("--config", config, "--configurations", "plain", "--seeds", 2)
    out = tmp_path / "out"
    shown = compare(*arguments, "--out", out, "--no-audit", "--baselines", "none")
    assert "mean of 2 seeds, Student's t" in shown.stderr
    content = json.loads((out / "compare.json").read_text())
    first, second = content["same_within_a_seed"]
    for key in ("data_sha256", "splits_sha256", "initial_shared_sha256"):
        assert first[key] != second[key]
    auc = content["configurations"][0]["figures"]["auc"]
    assert auc["value"] == pytest.approx(sum(auc["by_seed"]) / 2)
    low, high = auc["ci95_seeds"]
    assert low < auc["value"] < high


def fake_audit(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[Path], dict[str, Any]]
) -> list[tuple[str, str]]:
    """Puts a stand-in in the place of the audit; returns what it was asked."""
    asked: list[tuple[str, str]] = []

    def audit(run: Run, *, effort: str, report: Callable[[str, float], None]) -> AuditFile:
        asked.append((run.path.name, effort))
        report("attacking", 0.5)
        file = msgspec.convert(answer(run.path), AuditFile)
        file.write(run.path)
        return file

    module = types.ModuleType("securefed.auditing.audit")
    vars(module)["audit"] = audit
    monkeypatch.setitem(sys.modules, "securefed.auditing.audit", module)
    return asked


def audit_json(verdict: str, value: float, *, interrupted: bool = False) -> dict[str, Any]:
    judgement = {
        "observer": "server",
        "attack": "inversion",
        "method": "cosine",
        "metric": "identification",
        "scene": "as configured",
        "verdict": verdict,
        "reason": "lower limit is over it",
        "value": value,
        "interval": [value - 0.1, value + 0.1],
        "threshold": 0.1,
    }
    return {
        "schema": 1,
        "run": "0" * 32,
        "configuration": "plain",
        "effort": "quick",
        "seed": 0,
        "policy": {"name": "default", "set_by": "tests", "confidence": 0.95, "sha256": "a" * 64},
        "verdict": verdict,
        "judgements": [judgement],
        "findings": [],
        "controls": [],
        "interrupted": interrupted,
    }


def test_what_each_observer_found_stands_in_the_table(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = fake_audit(monkeypatch, lambda path: audit_json("FAIL", 0.62))
    shown = compare(*plain(config, tmp_path / "out", "--baselines", "none", "--quick"))
    assert asked == [("plain", "quick")]
    assert shown.exit_code == 0, "a comparison reports; it is no gate"
    table = shown.stderr.split("what each observer found")[1]
    assert "inversion" in table
    assert "FAIL" in table
    assert "0.62 (0.1)" in table
    content = json.loads((tmp_path / "out" / "compare.json").read_text())
    leak = content["configurations"][0]["leakage"]["observers"]["server"]["inversion"]
    assert leak["interval"] == pytest.approx([0.52, 0.72])
    assert leak["seed"] == 0


def test_an_audit_that_was_stopped_stops_the_comparison_and_is_made_again(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = plain(config, tmp_path / "out", "--baselines", "none")
    fake_audit(monkeypatch, lambda path: audit_json("PASS", 0.05, interrupted=True))
    with pytest.raises(Interrupted, match="everything finished") as stopped:
        compare(*arguments)
    assert stopped.value.hint == "the same command continues"
    assert not json.loads((tmp_path / "out" / "compare.json").read_text())["complete"]
    asked = fake_audit(monkeypatch, lambda path: audit_json("PASS", 0.05))
    compare(*arguments)
    assert asked == [("plain", "default")]
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["complete"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--no-audit", "--quick"), "contradict"),
        (("--epsilons", "1,two"), "1,two"),
        (("--epsilons", "-1"), "got -1"),
        (("--epsilons", ""), "names none"),
        (("--configurations", "plain,fast"), "fast"),
        (("--configurations", ""), "names none"),
        (("--seeds", 0), "got 0"),
        (("--config", "missing.yaml"), "missing.yaml"),
    ],
)
def test_wrong_input_is_refused_with_a_way_out(
    arguments: tuple[object, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        compare("--out", tmp_path / "out", *arguments)
    assert refused.value.hint
    assert not (tmp_path / "out").exists()


def test_a_directory_of_other_settings_is_refused(config: Path, tmp_path: Path) -> None:
    arguments = plain(config, tmp_path / "out", "--no-audit", "--baselines", "none")
    compare(*arguments)
    config.write_text(yaml.safe_dump({**TINY, "training": {"batch_size": 5}}))
    with pytest.raises(RunError, match="other settings"):
        compare(*arguments)


def test_a_figure_that_is_missing_is_a_dash(config: Path, tmp_path: Path) -> None:
    compare(*plain(config, tmp_path / "out", "--no-audit", "--baselines", "none"))
    content = json.loads((tmp_path / "out" / "compare.json").read_text())
    row = content["configurations"][0]
    assert row["leakage"] is None
    assert row["epsilon_spent"] is None
    row["figures"]["precision"] |= {"value": None, "ci95_patients": None}
    row["cost"]["aggregate_seconds_per_round"] = None
    content["audit_effort"] = "quick"
    content["data_efficiency"] = {
        "configuration": "plain",
        "shares": [{"share": 0.1, "seeds": [0], "figures": row["figures"]}],
        "target": None,
        "smallest_tried_share_that_reaches_it": None,
    }
    text = io.StringIO()
    screen = Console(file=text, width=120)
    for table in tables(msgspec.convert(content, CompareFile)):
        screen.print(table)
    assert "cannot be told" in text.getvalue()
    assert "None" not in text.getvalue()
    assert "nan" not in text.getvalue()


def test_a_dry_run_counts_runs_and_audits_and_makes_nothing(config: Path, tmp_path: Path) -> None:
    arguments = (
        "--config",
        config,
        "--out",
        tmp_path / "out",
        "--seeds",
        2,
        "--quick",
        "--dry-run",
    )
    shown = compare(*arguments)
    assert "2 seeds, 8 runs" in shown.stderr
    for part in ("8 runs (", "8 quick audits (25 min)", "baselines 2 times (", "; about "):
        assert part in shown.stderr
    told = json.loads(compare(*arguments, "--json").stdout)
    assert (told["run"], told["audit"], told["baselines"]) == (8, 8, 2)
    assert told["seconds"] > 8 * 110
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigurationError, match="got 0"):
        compare("--seeds", 0, "--dry-run")


def test_a_file_or_a_folder_of_something_else_is_refused(config: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a folder") as refused:
        compare(*plain(config, config))
    assert "--out" in str(refused.value.hint)
    thesis = tmp_path / "work" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("ten years of work")
    with pytest.raises(RunError, match=r"holds no comparison \(thesis.txt\)"):
        compare(*plain(config, thesis.parent))
    assert list(thesis.parent.iterdir()) == [thesis]


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_continues(tmp_path: Path) -> None:
    path, out = tmp_path / "long.yaml", tmp_path / "out"
    many = changed(TINY, federation={"rounds": 400})
    path.write_text(yaml.safe_dump(many))
    words = plain(path, out, "--no-audit", "--baselines", "none")
    process = subprocess.Popen(
        [sys.executable, "-m", "securefed.cli.app", "compare", *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    reached = wait_for_round(out / "seed-0" / "plain" / "checkpoint.json", 3, process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert "hint: the same command continues" in stderr
    checkpoint = json.loads((out / "seed-0" / "plain" / "checkpoint.json").read_text())
    assert reached <= checkpoint["round"] < 400
    assert not (out / "seed-0" / "plain" / "summary.json").exists()


def wait_for_round(path: Path, number: int, process: "subprocess.Popen[str]") -> int:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        try:
            if (found := json.loads(path.read_text())["round"]) >= number:
                return int(found)
        except OSError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"round {number} never came")
