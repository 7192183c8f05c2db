"""configs/deploy: files that others run as they are pass the linters of their kind."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "deploy"


def lint(*words: object) -> None:
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_container_file_passes_hadolint_and_is_nobody_s_root() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    linter = str(beside) if beside.exists() else shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed (.ci/run installs it)")
    lint(linter, FOLDER / "Containerfile")
    users = [line for line in (FOLDER / "Containerfile").read_text().splitlines() if "USER" in line]
    assert users == ["USER 10001"]


@pytest.mark.parametrize("who", ["client", "server"])
def test_the_unit_is_sound_and_runs_the_command(tmp_path: Path, who: str) -> None:
    linter = shutil.which("systemd-analyze")
    if linter is None:
        pytest.skip("systemd-analyze is not installed (.ci/run installs it)")
    unit = (FOLDER / f"securefed-{who}@.service").read_text()
    command = f"ExecStart=/opt/securefed/bin/securefed {who} /var/lib/securefed/%i --json"
    assert command in unit
    # The command is not installed there on a machine that tests.
    there = unit.replace("/opt/securefed/bin/securefed", "/bin/true")
    (tmp_path / f"securefed-{who}@north.service").write_text(there)
    lint(linter, "verify", tmp_path / f"securefed-{who}@north.service")
    offline = ("security", "--offline=true", "--no-pager")
    exposed = subprocess.run(
        [linter, *offline, "--threshold=20", str(tmp_path / f"securefed-{who}@north.service")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    # systemd's own scale, 0 to 10 and here in tenths: a unit without any of these lines has 9.6.
    assert exposed.returncode == 0, exposed.stdout[-200:]
