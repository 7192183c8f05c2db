"""A transport that counts and records what the transport inside it carries."""

from collections import Counter
from collections.abc import Mapping

from securefed.record.recording import Recording
from securefed.wire.messages import decode_request
from securefed.wire.transport import Transport


class RecordingTransport:
    """Passes stages on; counts bytes per client and hands the messages to a recording.

    Attributes:
        bytes_down, bytes_up: client -> bytes since the last `reset`.
    """

    def __init__(self, inner: Transport, recording: Recording | None) -> None:
        self._inner = inner
        self._recording = recording
        self.bytes_down: Counter[str] = Counter()
        self.bytes_up: Counter[str] = Counter()

    def clients(self) -> list[str]:
        return self._inner.clients()

    def stage(self, requests: Mapping[str, bytes], deadline_s: float) -> dict[str, bytes]:
        replies = self._inner.stage(requests, deadline_s)
        self.bytes_down.update({name: len(data) for name, data in requests.items()})
        self.bytes_up.update({name: len(data) for name, data in replies.items()})
        if self._recording and requests:
            first = decode_request(next(iter(requests.values())))
            label = (first.round, first.stage)
            down = [(*label, name, "down", data) for name, data in sorted(requests.items())]
            up = [(*label, name, "up", data) for name, data in sorted(replies.items())]
            self._recording.add([*down, *up])  # type: ignore[list-item]
        return replies

    def reset(self) -> None:
        """Start counting a new round."""
        self.bytes_down.clear()
        self.bytes_up.clear()
