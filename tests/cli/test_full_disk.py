"""A disk that is really full: a file system of a megabyte, in a name space of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cli.processes import ENVIRONMENT, write_pictures
from tests.tiny import changed, tiny

TINY = tiny(
    training={"max_slices": 2},
    privacy={"dp": False},
    federation={"clients": 3, "shared": "classifier", "rounds": 40, "evaluate_every": 40},
)
PROGRAM = f"{sys.executable} -m securefed"


def within(place: Path, kilobytes: int, script: str) -> str:
    """What a shell script says when it runs with `place` on a file system of that size."""
    place.mkdir()
    mount = f"mount -t tmpfs -o size={kilobytes}k none {place} && cd {place}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system of their own")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f"{mount}\n{script}"],
        capture_output=True,
        text=True,
        timeout=300,
        env=ENVIRONMENT,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def test_a_run_says_what_is_safe_and_goes_on_when_there_is_space(tmp_path: Path) -> None:
    config, place = tmp_path / "c.yaml", tmp_path / "disk"
    config.write_text(yaml.safe_dump(changed(TINY)))
    script = f"""
        {PROGRAM} run --config {config} --out run; echo "first: $?"
        find . -name "*.partial" -o -name "writer.lock" -o -name summary.json
        mount -o remount,size=64m {place}
        {PROGRAM} run --resume run --json; echo "then: $?"
    """
    said = within(place, 1000, script)
    assert "first: 1" in said
    assert "No space left on device" in said
    assert "every finished round is on disk" in said
    assert "hint: free some space, then continue with: securefed run --resume run" in said
    assert "./run" not in said, "nothing half-written is left"
    assert '"rounds": 40' in said
    assert '"rounds_aborted": 0' in said
    assert "then: 0" in said


def test_an_import_leaves_neither_folder_nor_key_on_a_full_disk(tmp_path: Path) -> None:
    write_pictures(tmp_path / "source", 20)
    script = f"""
        {PROGRAM} data import {tmp_path / "source"} --out mine --size 1024; echo "exit: $?"
        find . -mindepth 1
    """
    said = within(tmp_path / "disk", 300, script)
    assert "exit: 1" in said
    assert "No space left on device" in said
    assert "hint: free some space" in said
    assert "./" not in said
