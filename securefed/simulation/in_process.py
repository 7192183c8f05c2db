"""Clients as handlers in this process: the transport of a simulation and of tests."""

import logging
import threading
import time
from collections.abc import Mapping

from securefed.wire.transport import Handler

log = logging.getLogger(__name__)


class InProcessTransport:
    """Clients as handlers in this process, each on a thread of its own per stage.

    A handler that raises, or is late, gives no reply. One that is still busy with an earlier
    stage is not asked again until it is done, as a real machine would not answer either.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = dict(handlers)
        self._busy = {name: threading.Lock() for name in handlers}

    def clients(self) -> list[str]:
        return list(self._handlers)

    def stage(self, requests: Mapping[str, bytes], deadline_s: float) -> dict[str, bytes]:
        replies: dict[str, bytes] = {}
        threads = []
        end = time.monotonic() + deadline_s
        for name, request in requests.items():
            if not self._busy[name].acquire(blocking=False):
                continue
            # Daemon: a client that hangs must not keep the process alive after the run.
            thread = threading.Thread(
                target=self._answer, args=(name, request, end, replies), name=name, daemon=True
            )
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        return dict(replies)  # a copy: a late reply must not appear in it afterwards

    def _answer(self, name: str, request: bytes, end: float, replies: dict[str, bytes]) -> None:
        try:
            reply = self._handlers[name](request)
            # Late is late, also where this process was too busy to look.
            if time.monotonic() <= end:
                replies[name] = reply
        except Exception:
            log.exception("%s failed and gives no reply", name)
        finally:
            self._busy[name].release()
