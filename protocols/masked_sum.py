"""The vectors of one round as they arrive at the server, and the boxes that each was masked under.

A vector is added at once, and its bytes are not kept. What it can be opened with follows from the
boxes that its client was given, so both are counted here: whose boxes went to whom, who refused
which of them, whose vector is in the sum. A client that refuses a box is asked again without it,
if who sealed it is out by then.
"""

from collections.abc import Callable, Iterable, Mapping

import msgspec
import numpy as np

from protocols import messages as m
from protocols.attendance import Attendance
from protocols.complaints import Complaints
from protocols.errors import DuplicateSender, MalformedMessage, StatementMismatch, UnknownSender
from protocols.mask_stream import Words
from protocols.opening import Digests
from protocols.parameters import RoundRules


class MaskedSum:
    """The sum so far.

    Attributes:
        total: (vector_length,) uint32, masked; empty before there are boxes.
        added: name -> place, of each client whose vector is in it.
        given: recipient -> sender -> digests of the shares in its box.
        blinded: survivor -> neighbour -> the seeds of the pair, one under the other.
        binding: of round and statement; a vector with another one is not added.
    """

    def __init__(self, rules: RoundRules, attendance: Attendance, complaints: Complaints) -> None:
        self.total: Words = np.zeros(0, dtype=np.uint32)
        self.added: dict[str, int] = {}
        self.given: dict[int, dict[int, Digests]] = {}
        self.blinded: dict[int, dict[int, bytes]] = {}
        self.binding = b""
        self._rules = rules
        self._attendance = attendance
        self._complaints = complaints
        self._boxes: dict[int, dict[int, m.Box]] = {}  # recipient -> sender -> box
        self._refused: dict[int, set[int]] = {}  # recipient -> senders

    def take_boxes(self, sealed: Mapping[int, Mapping[int, m.Box]]) -> None:
        """Boxes by who sealed them and for whom; the sum can begin."""
        self.total = np.zeros(self._rules.vector_length, dtype=np.uint32)
        for sender, boxes in sealed.items():
            for recipient, box in boxes.items():
                down = msgspec.structs.replace(box, place=sender)
                self._boxes.setdefault(recipient, {})[sender] = down

    def requests(
        self, places: Iterable[int], upcoming: Callable[[str], m.Announcement | None]
    ) -> dict[str, bytes]:
        """For each of these clients the boxes that are there for it.

        Args:
            upcoming: what a client is told of the next round.
        """
        requests = {}
        for place in sorted(places):
            name = self._attendance.name(place)
            boxes = [
                box
                for sender, box in sorted(self._boxes.get(place, {}).items())
                if sender in self._attendance.present
            ]
            self.given[place] = {
                box.place: (box.self_mask_digest, box.mask_key_digest) for box in boxes
            }
            request = m.MaskRequest(self._rules.round_number, boxes, upcoming(name))
            requests[name] = m.encode(request)
        return requests

    def complain(self, name: str, accused: int) -> None:
        """Take a client's refusal of the box that place `accused` sealed for it."""
        attendance = self._attendance
        with attendance.dropping(name):
            place = attendance.sender(name, attendance.place(name), self._rules.round_number)
            if name in self.added or accused not in self.given.get(place, {}):
                raise UnknownSender(f"{name} complains of place {accused} without having its box")
            self._refused.setdefault(place, set()).add(accused)
            self._complaints.hear(name, attendance.name(accused))
            attendance.keep_out(self._complaints.out, but=self.added)

    def asked_again(self) -> list[int]:
        """The places of those who refused a box whose sender is out by now; drops the others."""
        again = []
        for place, accused in sorted(self._refused.items()):
            left = accused & self._attendance.present
            if left:
                liar = self._attendance.name(min(left))
                why = f"BadCiphertext: refused the box of {liar}"
                self._attendance.drop(self._attendance.name(place), why)
            elif place in self._attendance.present:
                again.append(place)
        self._refused.clear()
        return again

    def add(self, name: str, reply: bytes) -> m.Advert | None:
        """Add one vector; what rode on it for the next round. A wrong reply drops its sender.

        Raises:
            DuplicateSender: for a second vector from one client; the first stays in the sum.
        """
        if name in self.added:
            raise DuplicateSender(f"a second masked vector from {name}")
        with self._attendance.dropping(name):
            rules = self._rules
            head, words = m.decode_masked(
                reply, rules.vector_length, len(rules.cohort), rules.modulus_bits
            )
            place = self._attendance.sender(name, head.sender, head.round_number)
            if head.binding != self.binding:
                # Its masks do not cancel against the others': adding it would spoil the sum.
                raise StatementMismatch("a masked vector for another statement, cohort or rules")
            given = sorted(self.given[place])
            if len(head.blinded_seeds) != m.SEED_BYTES * len(given):
                raise MalformedMessage("not one blinded seed for each neighbour")
            self.blinded[place] = dict(zip(given, _pieces(head.blinded_seeds), strict=True))
            np.add(self.total, words, out=self.total)
            self.added[name] = place
            return head.upcoming
        return None

    def settle(self) -> frozenset[int]:
        """The survivors, once no more vectors are taken; boxes are let go of."""
        self._boxes.clear()
        return frozenset(self.added.values())


def _pieces(seeds: bytes) -> list[bytes]:
    return [seeds[i : i + m.SEED_BYTES] for i in range(0, len(seeds), m.SEED_BYTES)]
