"""`securefed` with clocks: where the processor time of a run goes. Part of default_run.py.

    python benchmarks/run_clocks.py REPORT run --rounds 2

Functions are wrapped from outside; each keeps its own time on its thread, without what it calls
that has a clock too. `other` is what no clock saw: starting Python, the command line, the screen.
"""

import builtins
import functools
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Kind, module, functions or Class.method; a test holds that there are such.
CLOCKS = (
    ("phantoms", "securefed.data.phantom", ("generate",)),
    ("encoding", "securefed.model.encoding", ("tokens_of",)),
    ("encoding", "securefed.model.token_files", ("TokenFiles.tokens_of",)),
    ("planning", "securefed.privacy.accounting", ("solve_noise_multiplier",)),
    ("planning", "securefed.simulation.simulation", ("Simulation.fit_to_budget",)),
    ("epsilon", "securefed.simulation.hospitals", ("HospitalsHere.guarantees",)),
    (
        "ledger",
        "securefed.privacy.ledger",
        ("Ledger.reserve", "Ledger.reserve_evaluation", "Ledger.statement"),
    ),
    ("training", "securefed.training.trainer", ("LocalTrainer.contribute",)),
    ("scoring", "securefed.training.trainer", ("LocalTrainer.evaluate",)),
    ("messages", "securefed.hospital.client", ("Client.handle",)),
    ("disk", "securefed.hospital.check_point", ("after_work",)),
    ("disk", "securefed.record.recording", ("Recording.add",)),
    ("disk", "securefed.server.served", ("Served.keep", "Served.account")),
    ("disk", "securefed.simulation.results", ("write_results",)),
)


class Clocks:
    """Processor seconds by kind, over all threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._running = threading.local()
        self._turn = threading.Lock()

    def wrap(self, kind: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(work)
        def timed(*arguments: Any, **options: Any) -> Any:
            # What the calls within took, of each call that is still running on this thread.
            running = self._running.__dict__.setdefault("inner", [])
            running.append(0.0)
            began = time.thread_time()
            try:
                return work(*arguments, **options)
            finally:
                taken, inner = time.thread_time() - began, running.pop()
                if running:
                    running[-1] += taken
                with self._turn:
                    self.seconds[kind] += taken - inner

        return timed

    def wrap_imports(self) -> None:
        """The outermost import of each thread has the clock."""
        real, inside = builtins.__import__, threading.local()

        def outermost(*arguments: Any, **options: Any) -> Any:
            if getattr(inside, "yes", False):
                return real(*arguments, **options)
            inside.yes = True
            try:
                return clocked(*arguments, **options)
            finally:
                inside.yes = False

        clocked = self.wrap("imports", real)
        builtins.__import__ = outermost

    def wrap_named(self, kind: str, module: str, *names: str) -> None:
        """Functions of a module, wherever they were imported to; or methods, as Class.method."""
        owner = sys.modules[module]
        for name in names:
            if "." in name:
                holder, method = name.split(".")
                cls = getattr(owner, holder)
                setattr(cls, method, self.wrap(kind, getattr(cls, method)))
                continue
            plain = getattr(owner, name)
            timed = self.wrap(kind, plain)
            for each in list(sys.modules.values()):
                if getattr(each, "__dict__", {}).get(name) is plain:
                    setattr(each, name, timed)


def main() -> None:
    report, words = Path(sys.argv[1]), sys.argv[2:]
    clocks = Clocks()
    clocks.wrap_imports()
    from securefed.cli.app import main as securefed
    from securefed.cli.loading import loading

    with loading():  # as the command does, and now, so that there is what to wrap
        from securefed.privacy import composition  # noqa: F401
        from securefed.simulation import execution  # noqa: F401

    for kind, module, names in CLOCKS:
        clocks.wrap_named(kind, module, *names)
    trainer: Any = sys.modules["securefed.training.trainer"].__dict__["LocalTrainer"]
    marks: dict[str, float] = {}
    take_steps = trainer.take_steps

    def noting(*arguments: Any) -> Any:
        marks.setdefault("begun", time.process_time())
        change = take_steps(*arguments)
        marks.setdefault("first_step", time.process_time())
        return change

    trainer.take_steps = noting
    sys.argv = ["securefed", *words]
    try:
        securefed()
    finally:
        whole = time.process_time()
        split = {**clocks.seconds, "other": whole - sum(clocks.seconds.values())}
        split = dict(sorted(split.items(), key=lambda each: -each[1]))
        report.write_text(json.dumps({"whole_s": whole, **marks, "split_s": split}))


if __name__ == "__main__":
    main()
