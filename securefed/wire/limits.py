"""How long a message of each stage can be in a job: a longer one is refused before it is read.

Only `work` carries a vector. The other stages carry keys, boxes and shares, a few kilobytes for
each hospital, so that nobody makes a party read a gigabyte where a signature belongs.
"""

from dataclasses import dataclass

from protocols import messages as protocol
from securefed.wire.contribution import Layout
from securefed.wire.messages import Stage

_ENVELOPE_BYTES = 256  # numbers, stage, flags, the name of an error, and msgpack's own
_COUNT_BYTES = 9  # the longest number of a histogram in the clear
_KINDS: dict[Stage, tuple[type[protocol.Message], type[protocol.Message]]] = {
    "advertise": (protocol.Announcement, protocol.Advert),
    "share": (protocol.ShareRequest, protocol.Shares),
    "work": (protocol.MaskRequest, protocol.MaskedHead),
    "confirm": (protocol.ConfirmRequest, protocol.Confirmation),
    "unmask": (protocol.UnmaskRequest, protocol.Opening),
}


@dataclass(frozen=True)
class Limits:
    """Upper bounds on whole messages, in bytes.

    Attributes:
        layout: how contributions are encoded; no encoded vector is shorter than one in the clear.
        hospitals: in the roster; 0 where nothing is masked.
    """

    layout: Layout
    hospitals: int

    def request(self, stage: Stage) -> int:
        """Of what a server sends."""
        blocks = self.layout.blocks  # what goes down is whole
        shared = 4 * max(blocks.parameters if blocks else self.layout.words, self._scans)
        return self._body(_KINDS[stage][0]) + (shared if stage == "work" else 0)

    def reply(self, stage: Stage) -> int:
        """Of what a hospital answers."""
        scores = max(self.layout.scores.words, self._scans)
        answer = 4 * max(self.layout.words, scores) + _COUNT_BYTES * scores
        return self._body(_KINDS[stage][1]) + (answer if stage == "work" else 0)

    @property
    def longest_request(self) -> int:
        """Of any stage: what may be read to learn which it is."""
        return max(map(self.request, _KINDS))

    @property
    def _scans(self) -> int:
        """Words of a sum over scans, of which there are more than of means."""
        return self.layout.scans.words if self.layout.scans else 0

    def _body(self, kind: type[protocol.Message]) -> int:
        return _ENVELOPE_BYTES + protocol.limit(kind, self.hospitals, self.hospitals)
