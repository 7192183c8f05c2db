"""How bytes reach the clients: one method, with the in-process transport beside the seam.

`Transport.stage` sends each named client its request and returns the replies that arrived by the
deadline. Missing replies are normal: whoever misses a stage is dropped from the round. An engine
for real machines implements the same two methods; nothing above knows the difference.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

Handler = Callable[[bytes], bytes]

log = logging.getLogger(__name__)


class Transport(Protocol):
    """Sends requests, returns what came back in time."""

    def clients(self) -> list[str]:
        """Names of the clients that can be asked."""
        ...

    def stage(self, requests: Mapping[str, bytes], deadline_s: float) -> dict[str, bytes]:
        """Send each client its own request; return the replies that arrived by the deadline."""
        ...


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
        for name, request in requests.items():
            if not self._busy[name].acquire(blocking=False):
                continue
            # Daemon: a client that hangs must not keep the process alive after the run.
            thread = threading.Thread(
                target=self._answer, args=(name, request, replies), name=name, daemon=True
            )
            thread.start()
            threads.append(thread)
        end = time.monotonic() + deadline_s
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        return dict(replies)  # a copy: a late reply must not appear in it afterwards

    def _answer(self, name: str, request: bytes, replies: dict[str, bytes]) -> None:
        try:
            replies[name] = self._handlers[name](request)
        except Exception:
            log.exception("%s failed and gives no reply", name)
        finally:
            self._busy[name].release()
