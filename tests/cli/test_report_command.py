"""`securefed report` as a user types it, on a real run of a tiny federation."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.tiny import tiny

TINY = tiny(
    training={"max_slices": 3},
    federation={"clients": 3, "shared": "classifier", "rounds": 2, "evaluate_every": 1},
)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


def run(*arguments: object, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "securefed.cli.app", *map(str, arguments)]
    environment = {**ENVIRONMENT, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def reported(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run with its report."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    trained = run("run", "--config", folder / "tiny.yaml", "--out", folder / "run", home=home)
    assert trained.returncode == 0, trained.stderr
    made = run("report", folder / "run", "--out", folder / "page.html", home=home)
    assert made.returncode == 0, made.stderr
    key = home / "config" / "securefed" / "report-key.pem"
    assert f"made a signing key: {key}" in made.stderr
    assert "NOT AUDITED dp+secure" in made.stderr
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    return folder / "run"


def test_a_real_run_gets_a_page_a_record_and_a_signature(reported: Path) -> None:
    facts = json.loads((reported / "report.json").read_text())
    summary = json.loads((reported / "summary.json").read_text())
    one = facts["runs"][0]
    assert one["privacy"]["epsilon"] == summary["epsilon"]
    assert one["utility"]["auc"] == summary["auc"]
    spent = {ledger["hospital"]: ledger["epsilon_prv"] for ledger in one["ledgers"]}
    assert spent == pytest.approx(summary["epsilon_by_client"])
    # The recording and the metrics were written by different parts of the program.
    assert one["egress"]["complete"]
    assert one["egress"]["total_up"] > 0
    page = (reported / "report.html").read_text()
    assert (reported.parent / "page.html").read_text() == page
    assert "NOT AUDITED" in page


def test_verify_says_intact_with_the_key_and_fails_with_another(reported: Path, home: Path) -> None:
    key = json.loads((reported / "report.sig").read_text())["public_key"]
    intact = run("report", "verify", reported, "--signer", key, home=home)
    assert (intact.returncode, intact.stdout) == (0, f"intact, signed by {key}\n")
    foreign = run("report", "verify", reported, "--signer", "0" * 64, home=home)
    assert foreign.returncode == 1
    assert foreign.stderr.startswith(f"securefed: not intact: signed by {key}")


def test_verify_names_what_changed_with_exit_code_1(reported: Path, home: Path) -> None:
    summary = reported / "summary.json"
    before = summary.read_bytes()
    try:
        summary.write_bytes(before.replace(b'"rounds": 2', b'"rounds": 9'))
        done = run("report", "verify", reported, home=home)
    finally:
        summary.write_bytes(before)
    assert done.returncode == 1
    assert done.stderr.splitlines()[:2] == ["securefed: not intact:", "  changed: summary.json"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told", "code"),
    [
        (("nowhere",), "there is no directory nowhere", 1),
        (("one", "two"), "give one directory, got 2", 2),
        (("verify", "a", "b"), "give one directory, got 2", 2),
        (("verify", "x", "--pdf"), "verify takes no --pdf", 2),
        (("x", "--signer", "0" * 64), "--signer goes with verify", 2),
        (("verify", "x", "--signer", "nobody"), "neither 64 hexadecimal digits", 2),
    ],
)
def test_bad_input_is_two_lines_and_no_traceback(
    arguments: tuple[str, ...], told: str, code: int, home: Path
) -> None:
    done = run("report", *arguments, home=home)
    assert done.returncode == code
    first, hint = done.stderr.splitlines()
    assert first.startswith("securefed: ")
    assert told in first
    assert hint.startswith("hint: ")
