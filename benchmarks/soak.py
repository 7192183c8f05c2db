"""A federation of real processes that is hit again and again: nothing is lost, forgotten or grown.

    python benchmarks/soak.py [--rounds 200] [--hits 8] [--seed 1] [--json]

Five hospitals and a server, each a command as people type it, over NVIDIA FLARE and mutual TLS on
this machine, `dp+secure`, phantoms. At rounds drawn by the seed something is killed that is drawn
too: a hospital's job, a hospital's whole machine, or the server's; machines start again. At the end

    rounds     all were played; those without a sum are counted
    exact      each sum that the server recorded is that of what its survivors sent, word by word
    ledgers    each holds every round that its hospital sent something of; what it holds beside
               them was reserved by a job that was killed before it could send
    memory     of the programs that live through the run: its most in the second half over its most
               in the first

The federation is that of the tests, so this runs from the checkout, with the extras engine and dev.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from securefed.record import memberships
from securefed.record.summary import Summary
from tests.engine.exactness import exact_rounds, unsent
from tests.engine.four_sites import Four, make_four, settings
from tests.engine.machines import Command, connect, finished, job_of, running, served, wait_until

HOSPITALS = ("east", "mid", "north", "south", "west")
HITS = ("job", "hospital", "server")
TIMEOUT_S = 15.0  # of a stage: what a lost hospital costs
APART = 8  # rounds between hits, at least


class Soak:
    """The federation while it runs."""

    def __init__(self, four: Four, stack: ExitStack) -> None:
        self.four, self._stack = four, stack
        connect(four)
        self.hospitals = {name: self.start(name) for name in HOSPITALS}
        self.server = served(four, stack)
        self.memory: dict[str, list[float]] = {}  # MB of programs that live on, by what they are

    def start(self, name: str) -> Command:
        words = ("client", self.four.sites[name].folder)
        return self._stack.enter_context(running(*words, printed=self.four.folder / f"{name}.out"))

    def hit(self, what: str, name: str) -> None:
        """Kill it, and start what was a machine again."""
        if what == "job":
            wait_until(lambda: job_of(self.hospitals[name].process.pid) is not None, "a job")
            job = job_of(self.hospitals[name].process.pid)
            if job is not None:
                os.kill(job, 9)
        elif what == "hospital":
            self.hospitals[name].kill()
            self.hospitals[name] = self.start(name)
        else:
            self.server.kill()
            self.server = served(self.four, self._stack)

    def look(self) -> None:
        """Note the memory of all that is to live through the run."""
        for kind, commands in (
            ("hospital", list(self.hospitals.values())),
            ("server", [self.server]),
        ):
            total = []
            for command in commands:
                try:
                    program = psutil.Process(command.process.pid)
                    there = [program, *program.children()]  # and not jobs, which come and go
                    total.append(sum(each.memory_info().rss for each in there) / 2**20)
                except psutil.NoSuchProcess:
                    continue
            if total:
                self.memory.setdefault(kind, []).append(max(total))


def soak(folder: Path, rounds: int, hits: int, seed: int) -> dict[str, Any]:
    """Play it to its end; what came of it."""
    chosen = settings(federation={"clients": 5, "rounds": rounds, "timeout_s": TIMEOUT_S})
    four = make_four(folder, folder / "patients", chosen, names=HOSPITALS)
    draw = np.random.default_rng(seed)
    at = sorted(map(int, draw.choice(range(APART, rounds - APART, APART), hits, replace=False)))
    plan = [(number, str(draw.choice(HITS)), str(draw.choice(HOSPITALS))) for number in at]
    began = time.monotonic()
    with ExitStack() as stack:
        running_ = Soak(four, stack)
        for number, what, name in plan:
            while finished(four.server) < number and running_.server.process.poll() is None:
                running_.look()
                time.sleep(1)
            told = "the server" if what == "server" else f"{name}'s {what}"
            print(f"round {finished(four.server)}: {told} is killed", file=sys.stderr, flush=True)
            running_.hit(what, name)
        while running_.server.process.poll() is None:
            running_.look()
            time.sleep(1)
        if running_.server.process.returncode:
            sys.exit(running_.server.text)
    summary = Summary.read(four.server)
    exact = exact_rounds(four)
    survivors = summary.survivors_by_round
    return {
        "rounds": summary.rounds,
        "rounds_without_a_sum": summary.rounds_aborted,
        "rounds_with_a_sum_recorded": len(exact),
        "rounds_with_a_sum_that_is_not_exact": 0,  # `exact_rounds` raises at the first
        "rounds_of_all_hospitals": sum(each == len(HOSPITALS) for each in survivors),
        "fewest_hospitals_in_a_sum": min(each for each in survivors if each),
        "jobs": memberships.newest(four.server),
        "hits": [{"round": number, "what": what, "hospital": name} for number, what, name in plan],
        "reserved_and_not_sent": {name: sorted(unsent(four, name)) for name in HOSPITALS},
        "memory_growth": {kind: growth(each) for kind, each in running_.memory.items()},
        "memory_mb": {kind: round(max(each)) for kind, each in running_.memory.items()},
        "wall_seconds": round(time.monotonic() - began),
    }


def growth(samples: list[float]) -> float:
    """The most of the second half over the most of the first: a program that starts has less."""
    middle = len(samples) // 2
    return round(max(samples[middle:]) / max(samples[:middle]), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--hits", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), chosen.rounds, chosen.hits, chosen.seed)
    report = {
        "name": "soak",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "load": round(os.getloadavg()[2], 1),
        "versions": {name: version(name) for name in ("nvflare", "torch", "opacus")},
        "seed": chosen.seed,
        **found,
    }
    if chosen.json:
        print(json.dumps(report, indent=1))
        return
    for key, value in report.items():
        print(f"{key:38} {value}")


if __name__ == "__main__":
    main()
