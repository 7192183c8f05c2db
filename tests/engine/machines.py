"""Hospitals and a server as real processes that reach each other over mutual TLS on this machine.

Each is started with the command that its people type. A test waits for what the programs write,
never for a time to pass.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from securefed.engine.flare import provisioning
from securefed.engine.flare.ports import free_port
from securefed.record import metrics
from tests.engine.four_sites import Four

PATIENCE_S = 300.0  # a machine that is busy with other work is slow, and not broken


def connect(four: Four) -> None:
    """Certificates for the server and every site, as `securefed deploy` makes them."""
    fingerprint = provisioning.make_authority(four.server, "localhost", free_port())
    for name, site in four.sites.items():
        request = provisioning.request_certificate(site.folder, name)
        approval = provisioning.approve(four.server, request, four.sites)
        provisioning.install(site.folder, name, approval.file, fingerprint)


def wait_until(reached: Callable[[], bool], what: str) -> None:
    """Return when something has come about; fail after PATIENCE_S."""
    end = time.monotonic() + PATIENCE_S
    while not reached():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {PATIENCE_S:g} s for {what}")
        time.sleep(0.1)


@dataclass
class Command:
    """A `securefed` command that runs, with what it has printed."""

    process: subprocess.Popen[bytes]
    printed: Path

    @property
    def text(self) -> str:
        return self.printed.read_text()

    def stop(self) -> int:
        """Ask it to end, as a service manager does; gives the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """End it and all that it started, without asking: a machine that loses its power."""
        for pid in [*descendants(self.process.pid), self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and theirs; also those in sessions of their own."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def job_of(pid: int) -> int | None:
    """The process of the job that a client or server command has running; None if there is none."""
    for child in descendants(pid):
        try:
            line = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        if b"worker_process" in line or b"runner_process" in line:
            return child
    return None


@contextmanager
def running(*words: object, printed: Path) -> Iterator[Command]:
    """A `securefed` command, from start to stop."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    with printed.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "securefed", *map(str, words)],
            stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
    command = Command(process, printed)
    try:
        yield command
    finally:
        command.stop()


def finished(server: Path) -> int:
    """The rounds that a server has finished."""
    path = server / "checkpoint.json"
    return int(json.loads(path.read_text())["round"]) if path.exists() else 0


def rounds_of(server: Path) -> list[metrics.RoundLine]:
    """What the server wrote of each round."""
    return list(metrics.read(server).rounds)
