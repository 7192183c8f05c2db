"""The seam: a stage's bytes over FLARE's auxiliary messages, one call for each hospital.

A hospital whose job has died does not come back into a running job, so that each stage would wait
the whole time limit for it. Whoever misses one stage is lost for this job, and so is who was not
connected when it began; the server ends the job at a round's boundary when such a hospital is
connected again, and begins another.
"""

import threading
import time
from collections.abc import Collection, Mapping
from typing import Any

from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import Shareable

from securefed.wire import hello

TOPIC = "securefed"
BODY = "body"
_GRACE_S = 1.0


class FlareTransport:
    """`securefed.wire.transport.Transport` within a server's job.

    Args:
        engine, context, abort: FLARE's own, of the running job.
        names: all hospitals of the agreement.
        connected: those that were when the job began.

    Attributes:
        lost: those that are not in this job, or do not answer any more.
    """

    def __init__(
        self,
        engine: Any,
        context: Any,
        abort: Any,
        names: Collection[str],
        connected: Collection[str],
    ) -> None:
        self._engine, self._context, self._abort = engine, context, abort
        self._names = names
        self.lost = set(names) - set(connected)

    def clients(self) -> list[str]:
        return [name for name in self._names if name not in self.lost]

    def stage(self, requests: Mapping[str, bytes], deadline_s: float) -> dict[str, bytes]:
        replies: dict[str, bytes] = {}
        asked = {name: data for name, data in requests.items() if name not in self.lost}
        threads = [
            # Daemon: a call that FLARE does not give up must not keep the job alive.
            threading.Thread(target=self._ask, args=(name, data, deadline_s, replies), daemon=True)
            for name, data in asked.items()
        ]
        for thread in threads:
            thread.start()
        end = time.monotonic() + deadline_s + _GRACE_S
        for thread in threads:
            while thread.is_alive() and time.monotonic() < end and not self._abort.triggered:
                thread.join(0.1)
        answered = dict(replies)  # a copy: a late reply must not appear in it afterwards
        if not any(map(hello.is_hello, asked.values())):
            self.lost |= asked.keys() - answered.keys()
        return answered

    def _ask(self, name: str, data: bytes, deadline_s: float, replies: dict[str, bytes]) -> None:
        message = Shareable()
        message[BODY] = data
        answers = self._engine.send_aux_request(
            targets=[name],
            topic=TOPIC,
            request=message,
            timeout=deadline_s,
            fl_ctx=self._context,
            optional=True,
            secure=True,  # end to end: what relays see is encrypted, TLS or not
        )
        answer = (answers or {}).get(name)
        if answer is not None and answer.get_return_code() == ReturnCode.OK:
            body = answer.get(BODY)
            if isinstance(body, bytes):
                replies[name] = body
