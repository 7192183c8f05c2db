"""Clients as handlers in this process: the transport of a simulation and of tests."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from queue import Empty, SimpleQueue

from securefed.wire.transport import Handler

log = logging.getLogger(__name__)

# Who answered, with what, and when; None for a handler that failed.
_Answers = SimpleQueue[tuple[str, bytes | None, float]]


def cores() -> int:
    """The cores that this process may use, where the system says which; else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class InProcessTransport:
    """Clients as handlers in this process, as many at work at a time as there are workers.

    A handler that raises, or is late, gives no reply. One that is still busy with an earlier
    stage is not asked again until it is done, as a real machine would not answer either.

    A client's deadline begins when a worker takes its request up: on a machine of its own it would
    begin at once, and nobody is late because there are many of them. One that hangs costs a worker
    until its deadline and no longer.

    Args:
        workers: clients at work at a time; None for one on each core.
    """

    def __init__(self, handlers: Mapping[str, Handler], workers: int | None = None) -> None:
        self._handlers = dict(handlers)
        self._workers = workers or cores()
        self._busy = {name: threading.Lock() for name in handlers}

    def clients(self) -> list[str]:
        return list(self._handlers)

    def stage(self, requests: Mapping[str, bytes], deadline_s: float) -> dict[str, bytes]:
        waiting = deque(name for name in requests if self._busy[name].acquire(blocking=False))
        ends: dict[str, float] = {}  # of those at work; the first to begin is the first to be late
        answers: _Answers = SimpleQueue()
        replies: dict[str, bytes] = {}
        while waiting or ends:
            while waiting and len(ends) < self._workers:
                name = waiting.popleft()
                ends[name] = time.monotonic() + deadline_s
                # Daemon: a client that hangs must not keep the process alive after the run.
                threading.Thread(
                    target=self._answer,
                    args=(name, requests[name], answers),
                    name=name,
                    daemon=True,
                ).start()
            first = next(iter(ends))
            try:
                left_s = max(0.0, ends[first] - time.monotonic())
                name, reply, answered = answers.get(timeout=left_s)
            except Empty:
                del ends[first]
                continue
            end = ends.pop(name, None)
            # Late is late, also where this process was too busy to look.
            if reply is not None and end is not None and answered <= end:
                replies[name] = reply
        return replies

    def _answer(self, name: str, request: bytes, answers: _Answers) -> None:
        reply = None
        try:
            reply = self._handlers[name](request)
        except Exception:
            log.exception("%s failed and gives no reply", name)
        finally:
            # Free before it is told: a reply that was counted may be followed by a request.
            self._busy[name].release()
            answers.put((name, reply, time.monotonic()))
