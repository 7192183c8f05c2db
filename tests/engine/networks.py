"""A network of a test's own: nothing else is on it, and everything on it is seen."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from securefed.engine.flare.ports import free_port

# Every address is this network's own: who dials out is refused at once, and is seen.
_SET_UP = """
ip link set lo up
ip route add local 0.0.0.0/0 dev lo
echo up
exec sleep infinity
"""


class Seen(msgspec.Struct, frozen=True):
    """What was on the wire.

    Attributes:
        dialled: (6 for TCP or 17 for UDP, address, port).
        listened: (address, port), TCP.
        found: (word, port it was sent to, port it came from).
        bytes: of content, all told.
    """

    dialled: list[tuple[int, str, int]]
    listened: list[tuple[str, int]]
    found: list[tuple[str, int, int]]
    bytes: int


@dataclass
class Network:
    """A network namespace that lives as long as a process in it.

    Attributes:
        inside: words before a command that is to run in it.
    """

    process: int
    seen: Seen | None = field(default=None)

    @property
    def inside(self) -> list[str]:
        return ["nsenter", "-t", str(self.process), "-U", "-n", "--preserve-credentials"]

    @contextmanager
    def watched(self, *words: str) -> Iterator[None]:
        """See what goes over it; `seen` has it afterwards."""
        command = [
            *self.inside,
            sys.executable,
            str(Path(__file__).with_name("watcher.py")),
            *words,
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as watcher:
            assert watcher.stdout
            try:
                assert json.loads(watcher.stdout.readline()) == "watching"
                yield
            finally:
                watcher.send_signal(signal.SIGTERM)
                self.seen = msgspec.json.decode(watcher.stdout.readline(), type=Seen)


class Passed(msgspec.Struct, frozen=True):
    """What a proxy has passed on.

    Attributes:
        cuts: connections that it has cut.
        clear: first bytes, hex, of what was no record of TLS.
    """

    connections: int
    cuts: int
    bytes: int
    clear: list[str]


@dataclass
class Proxy:
    """A proxy on the way to a port, which runs; `passed` says afterwards what it was."""

    port: int
    process: subprocess.Popen[bytes]
    passed: Passed | None = field(default=None)

    def cut(self) -> None:
        """Lose every connection over it."""
        self.process.send_signal(signal.SIGUSR1)


@contextmanager
def proxy(target: int, delay_s: float, inside: Sequence[str] = ()) -> Iterator[Proxy]:
    """A proxy before a port of this machine, from start to stop."""
    port = free_port()
    words = map(str, (Path(__file__).with_name("proxy.py"), port, target, delay_s))
    command = [*inside, sys.executable, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        made = Proxy(port, process)
        try:
            assert json.loads(process.stdout.readline()) == "listening"
            yield made
        finally:
            process.send_signal(signal.SIGTERM)
            made.passed = msgspec.json.decode(process.stdout.readline(), type=Passed)


@contextmanager
def network() -> Iterator[Network | None]:
    """A network of one's own; None where this machine lets nobody have one."""
    command = ["unshare", "-rn", "sh", "-ec", _SET_UP]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        up = holder.stdout.readline() == b"up\n"
        try:
            yield Network(holder.pid) if up else None
        finally:
            holder.kill()
