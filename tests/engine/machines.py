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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securefed.engine.flare import places, provisioning
from securefed.engine.flare.ports import free_port
from securefed.record import activity, metrics
from tests.engine.four_sites import Four

SABOTAGED = Path(__file__).with_name("sabotaged")
PATIENCE_S = 300.0  # a machine that is busy with other work is slow, and not broken


def connect(four: Four) -> int:
    """Certificates for the server and every site, as `securefed deploy` makes them.

    Returns:
        The server's port.
    """
    port = free_port()
    fingerprint = provisioning.make_authority(four.server, "localhost", port)
    for name, site in four.sites.items():
        request = provisioning.request_certificate(site.folder, name)
        approval = provisioning.approve(four.server, request, four.sites)
        provisioning.install(site.folder, name, approval.file, fingerprint)
    return port


def dial(site: Path, port: int) -> None:
    """Have a site dial another port of this machine than its server's: a proxy's, on the way."""
    place = places.kit(site) / "startup" / "fed_client.json"
    about = json.loads(place.read_text())
    about["servers"][0]["service"]["target"] = f"localhost:{port}"
    place.write_text(json.dumps(about))


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


def alive(pid: int) -> bool:
    """Whether a process is there, and not only waits to be counted out."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


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


@dataclass(frozen=True)
class Orders:
    """What a program is to do wrong (tests/engine/sabotaged): a folder of files, one an order.

    Attributes:
        words: that are looked for in what FLARE is given to send, and in what it sends.
    """

    folder: Path
    words: tuple[str, ...] = ()

    def give(self, order: str) -> None:
        """Have it done once, when it comes to that."""
        (self.folder / order).touch()

    def obeyed(self, order: str) -> bool:
        """Whether it has been done."""
        return (self.folder / f"{order}.done").exists()

    @property
    def environment(self) -> dict[str, str]:
        """For the program."""
        self.folder.mkdir(exist_ok=True)
        places = os.pathsep.join([os.getcwd(), str(SABOTAGED)])
        return {
            "PYTHONPATH": places,
            "SECUREFED_TEST_ORDERS": str(self.folder),
            "SECUREFED_TEST_WORDS": "\n".join(self.words),
        }


@contextmanager
def running(
    *words: object,
    printed: Path,
    environment: Mapping[str, str] | None = None,
    inside: Sequence[str] = (),
) -> Iterator[Command]:
    """A `securefed` command, from start to stop.

    Args:
        inside: words before it, as of a network of its own.
    """
    ours = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    with printed.open("wb") as out:
        process = subprocess.Popen(
            [*inside, sys.executable, "-m", "securefed", *map(str, words)],
            stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env={**os.environ, **ours, **(environment or {})},
        )  # fmt: skip
    command = Command(process, printed)
    try:
        yield command
    finally:
        command.stop()


def everybody(four: Four, stack: ExitStack, **options: Any) -> dict[str, Command]:
    """Every hospital's command, started."""
    return {
        name: stack.enter_context(
            running("client", site.folder, printed=four.folder / f"{name}.out", **options)
        )
        for name, site in four.sites.items()
    }


def served(four: Four, stack: ExitStack, name: str = "server.out", **options: Any) -> Command:
    """The server's command, started."""
    words = ("server", four.server, "--wait", "20")
    return stack.enter_context(running(*words, printed=four.folder / name, **options))


def clock_ahead(hours: int) -> dict[str, str]:
    """Environment of a command whose machine's clock is wrong; none where libfaketime is missing.

    For commands alone: FLARE's programs do not start under it.

    Args:
        hours: ahead; negative for behind.
    """
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        return {}
    ahead = {"FAKETIME": f"{hours:+d}h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return {"LD_PRELOAD": str(found[0]), **ahead}


def told(folder: Path) -> list[str]:
    """What happened in a folder, in words."""
    return [happening.text for happening, _ in activity.follow(folder / places.ACTIVITY, 0)]


def finished(server: Path) -> int:
    """The rounds that a server has finished."""
    path = server / "checkpoint.json"
    return int(json.loads(path.read_text())["round"]) if path.exists() else 0


def rounds_of(server: Path) -> list[metrics.RoundLine]:
    """What the server wrote of each round."""
    return list(metrics.read(server).rounds)
