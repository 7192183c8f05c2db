"""One run of real processes, and what happens to machines: each fault has the right end.

The faults are ordered (tests/engine/sabotaged), so that each strikes at its very moment; who is
killed is killed by the system. A job is over and another begins after each that takes somebody out
of it, which is a start of everybody: so they are one test, and not twelve.
"""

import os
import sqlite3
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from securefed.record import memberships
from securefed.record.summary import Summary
from tests.engine.exactness import exact_rounds, unsent
from tests.engine.four_sites import NAMES, Four, make_four, settings

if find_spec("nvflare") is None:
    pytest.skip("nvflare is not installed (extra `engine`)", allow_module_level=True)

from tests.engine.machines import (
    Command,
    Orders,
    alive,
    connect,
    dial,
    finished,
    job_of,
    rounds_of,
    running,
    served,
    told,
    wait_until,
)
from tests.engine.networks import Proxy, proxy
from tests.engine.sabotaged.sitecustomize import MUSTER

pytestmark = pytest.mark.slow

ROUNDS = 70
DELAY_S = 0.01


class Federation:
    """Four hospitals and a server that run, and take orders to fail."""

    def __init__(self, four: Four, stack: ExitStack) -> None:
        port = connect(four)
        self.four, self._stack = four, stack
        self.orders = {name: Orders(four.folder / f"{name}.orders") for name in (*NAMES, "server")}
        # North is reached over a way that is slow, and can be cut.
        self.way: Proxy = stack.enter_context(proxy(port, DELAY_S))
        dial(four.sites["north"].folder, self.way.port)
        self.sites = {name: self.start(name) for name in NAMES}
        self.server = self.serve()

    def start(self, name: str) -> Command:
        """A hospital's command; the clock of south's machine is hours ahead of all others'."""
        environment = self.orders[name].environment
        if name == "south":
            environment["SECUREFED_TEST_AHEAD_S"] = "10000"
        printed = self.four.folder / f"{name}.out"
        words = ("client", self.four.sites[name].folder)
        return self._stack.enter_context(running(*words, printed=printed, environment=environment))

    def serve(self) -> Command:
        environment = self.orders["server"].environment
        return served(self.four, self._stack, environment=environment)

    def obey(self, name: str, order: str) -> None:
        """Give an order, and wait until it has been carried out."""
        self.orders[name].give(order)
        wait_until(lambda: self.orders[name].obeyed(order), f"{name} to {order}")

    def job(self, number: int, hospitals: int = len(NAMES)) -> None:
        """Wait for a job that has had a round of so many hospitals."""
        begun = f", job {number}: hello"

        def together() -> bool:
            lines = told(self.four.server)
            starts = [place for place, line in enumerate(lines) if line.endswith(begun)]
            of = f": {hospitals} of {len(NAMES)} hospitals"
            return any(of in line for start in starts for line in lines[start:])

        wait_until(together, f"a round of {hospitals} in job {number}")

    def rounds(self, number: int) -> None:
        """Wait for so many more rounds."""
        before = finished(self.four.server)
        wait_until(lambda: finished(self.four.server) >= before + number, f"{number} rounds")

    def lose_power(self, *names: str) -> None:
        """The server's machine goes, and these hospitals' with it."""
        self.server.kill()
        for name in names:
            self.sites[name].kill()


def copy_ledger(source: Path, target: Path) -> None:
    """A ledger that is in use, as it is now."""
    with closing(sqlite3.connect(source)) as here, closing(sqlite3.connect(target)) as there:
        here.backup(there)


def put_back(ledger: Path, copy: Path) -> None:
    """A ledger from a backup, in the place of the one that is there."""
    for path in ledger.parent.glob(f"{ledger.name}-*"):
        path.unlink()
    ledger.write_bytes(copy.read_bytes())


def test_whatever_fails_the_run_ends_well_and_nobody_pays_for_another(tmp_path: Path) -> None:
    chosen = settings(federation={"rounds": ROUNDS, "timeout_s": 10.0})
    four = make_four(tmp_path, tmp_path / "patients", chosen)
    ledger = four.sites["west"].ledger_path
    with ExitStack() as stack:
        all_ = Federation(four, stack)
        all_.job(1)
        copy_ledger(ledger, tmp_path / "old")

        # West lies, and then its disk is full. Each costs it a round, and nobody else anything.
        all_.orders["west"].give("another.advertise")
        for order in ("old.work", "garbage.work", "full.saving"):
            all_.obey("west", order)
        wait_until(lambda: all_.orders["west"].obeyed("another.advertise"), "another's name")
        all_.rounds(2)
        assert memberships.newest(four.server) == 1

        # East's job hangs. It is no part of the round, and is ended when the next job begins.
        hung = job_of(all_.sites["east"].process.pid)
        assert hung is not None
        all_.obey("east", "hang.work")
        all_.job(2)
        assert not alive(hung)

        # Jobs are killed: before masking, while it masks, and after.
        for number, (name, order) in enumerate(
            [("west", "kill.work"), ("north", "kill.masking"), ("south", "kill.unmask")], start=3
        ):
            all_.obey(name, order)
            all_.job(number)

        # Every connection of north's is lost, with what is on the way.
        all_.way.cut()
        all_.rounds(2)

        # The server loses its power when a sum was opened and is not on disk. It is opened again
        # over the same hospitals, and over nobody else.
        all_.obey("server", "hang.committing")
        all_.lose_power()
        all_.server = all_.serve()
        all_.job(6)

        # It loses its power between two rounds; west's machine goes too, and gets an old ledger
        # from a backup. The run goes on without west.
        all_.obey("server", "hang.committed")
        all_.lose_power("west")
        copy_ledger(ledger, tmp_path / "newest")
        put_back(ledger, tmp_path / "old")
        all_.sites["west"] = all_.start("west")
        all_.server = all_.serve()
        all_.job(7, hospitals=3)
        lines = told(four.sites["west"].folder)
        assert any(line.startswith("refused: ") and "ledger" in line for line in lines)

        # West's newest ledger is put back, and with another start of the server west is back.
        all_.lose_power("west")
        put_back(ledger, tmp_path / "newest")
        all_.sites["west"] = all_.start("west")
        all_.server = all_.serve()
        assert all_.server.process.wait(600) == 0, all_.server.text
    summary = Summary.read(four.server)
    assert summary.rounds == ROUNDS
    assert summary.rounds_aborted == 0
    assert memberships.newest(four.server) >= 8
    assert min(summary.survivors_by_round) == 3
    assert summary.survivors_by_round[-1] == 4
    require_reasons(four)
    require_accounts(four)
    aborted = {line.round for line in rounds_of(four.server) if not line.survivors}
    assert set(exact_rounds(four)) == set(range(1, ROUNDS + 1)) - aborted
    assert not [path for path in four.server.rglob("*") if holds(path, MUSTER)]
    assert not [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if of(four, pid)]


def require_reasons(four: Four) -> None:
    """The server knows why each round was without somebody, and the hospital what it refused."""
    rounds = [line for line in told(four.server) if line.startswith("round ")]
    for name, reason in (
        ("west", "WrongRound: a message of round"),
        ("west", "UnknownSender: west delivered a message of place"),
        ("west", "malformed reply"),
        ("west", "refused work: OSError"),
        ("east", "no reply to work within 10 s"),
        ("north", "no reply to work within 10 s"),
        ("west", "no reply to work within 10 s"),
    ):
        assert any(f"without {name}: {reason}" in line for line in rounds), (name, reason)
    # Who dies after its masked update has arrived is in the sum.
    assert any("4 of 4 hospitals; without south: no reply to unmask" in line for line in rounds)
    failed = [line for line in told(four.sites["west"].folder) if "No space left" in line]
    assert len(failed) == 1


def require_accounts(four: Four) -> None:
    """Every ledger has just what its hospital trained, also what came to nothing."""
    for name, site in four.sites.items():
        attempts = site.ledger().statement().attempts(four.agreement.run)
        # What was computed and never left is paid for like everything else.
        assert unsent(four, name) == set(), name
        # Seeded noise: what is trained again from the same state releases nothing new.
        assert max(attempts.values()) <= 2, name
        ended = memberships.read(site.jobs(four.agreement.run))
        assert ended[-1].outcome == "finished"
        numbers = [each.number for each in ended if each.outcome == "joined"]
        assert len(numbers) == len(set(numbers))


def holds(path: Path, word: str) -> bool:
    """Whether a file holds it."""
    return path.is_file() and word.encode() in path.read_bytes()


def of(four: Four, pid: int) -> bool:
    """Whether a process is one of the federation's."""
    try:
        return str(four.folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
