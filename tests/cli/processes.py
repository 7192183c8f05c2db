"""Real processes of the program, for tests that send signals to them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
PATIENCE_S = 120.0  # for what must happen on a busy machine

Process = subprocess.Popen[str]


# The program, which is sent a signal where it comes to a function: at that point, each time.
_STOPPED = """
import importlib, os, signal
from securefed.cli.app import main

module = importlib.import_module({module!r})
function = getattr(module, {function!r})
calls = 0

def stopped(*arguments, **named):
    global calls
    calls += 1
    if calls == {call}:
        os.kill(os.getpid(), {number})
    return function(*arguments, **named)

setattr(module, {function!r}, stopped)
main()
"""


def begin(*arguments: object, cwd: Path | None = None) -> Process:
    """The program with these arguments, running."""
    return _begin(["-m", "securefed"], arguments, cwd)


def stopped_at(place: str, number: int, *arguments: object, call: int = 1) -> Process:
    """The program with these arguments, that gets a signal when it calls `place`.

    Args:
        place: "module:function", looked up in the module where it is called.
        call: of several calls the one, counted from 1.
    """
    module, function = place.split(":")
    script = _STOPPED.format(module=module, function=function, number=int(number), call=call)
    return _begin(["-c", script], arguments, None)


def _begin(program: Sequence[str], arguments: Sequence[object], cwd: Path | None) -> Process:
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT,
    )


def wait_until(happened: Callable[[], bool], process: Process) -> None:
    """Wait for something that the process does before it ends."""
    end = time.monotonic() + PATIENCE_S
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def listens_to(process: Process, number: int) -> bool:
    """Whether a process has a handler of its own for a signal (Linux)."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (caught,) = (line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def write_pictures(folder: Path, patients: int) -> None:
    """A folder of paired pictures with labels, no two of them alike, as `data import` takes it."""
    for modality in ("ct", "mri"):
        (folder / modality).mkdir(parents=True)
        for number in range(patients):
            drawn = np.random.default_rng([number, len(modality)])
            coarse = drawn.integers(0, 255, (8, 8), np.uint8)
            picture = Image.fromarray(np.kron(coarse, np.ones((16, 16), np.uint8)))
            picture.save(folder / modality / f"p{number}.png")
    lines = ["patient_id,label", *(f"p{number},{number % 2}" for number in range(patients))]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was changed, and what it holds."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
