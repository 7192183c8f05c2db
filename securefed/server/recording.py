"""A transport that counts and records what the transport inside it carries."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from securefed.privacy.accounting import Noise
from securefed.record.metrics import RoundLine, auc_by_class
from securefed.record.recording import Recording
from securefed.server.rounds import RoundRecord
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

    def line_of(
        self, record: RoundRecord, noise: Noise, epsilon: float | None, classes: Sequence[str]
    ) -> RoundLine:
        """A round's line of metrics.jsonl, with the bytes since the last `reset`.

        Args:
            epsilon: the largest that was spent, where whoever writes the line knows it.
            classes: names of the task's, none of labels 0 and 1.
        """
        # What is scored once more has its figures in the line of its own round.
        scored = None if record.again else record.metrics
        return RoundLine(
            round=record.round,
            survivors=record.survivors,
            dropped=record.dropped,
            aborted=record.aborted,
            patients=record.patients,
            loss=scored.loss if scored else None,
            auc=scored.auc if scored else None,
            auc_by_class=auc_by_class(scored, classes),
            noise=noise,
            epsilon=epsilon,
            bytes_up=sum(self.bytes_up.values()),
            bytes_down=sum(self.bytes_down.values()),
            wall_s=math.ceil(record.wall_s * 10) / 10,
            server_s=record.server_s,
        )

    def reset(self) -> None:
        """Start counting a new round."""
        self.bytes_down.clear()
        self.bytes_up.clear()
