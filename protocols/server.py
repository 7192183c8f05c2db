"""The server's side of one round: collects replies, drops who is late or wrong, opens the sum.

One object for one round (Bonawitz et al. 2017, figure 4). For each step the server makes one
request for each client still taking part and hands in the replies that came; whoever is missing
or wrong is dropped, with the reason in `dropped`, and the round goes on while enough are left.
Vectors are added as they arrive: memory stays at one vector, however many clients there are.

What it learns is the sum over the survivors, who survived, and the masked vectors, which are
uniformly random to it. It is not trusted for any of that: the clients enforce the rules.

    server = SecureSumServer(roster, rules, round_number, cohort)
    server.receive_advertise(send(server.request_advertise()))
    server.receive_share(send(server.request_share()))
    server.receive_mask(send(server.request_mask(statement)))
    if rules.consistency:
        server.receive_confirm(send(server.request_confirm()))
    server.receive_unmask(send(server.request_unmask()))
    total, survivors = server.result()

A client that refuses its mask request names whose box was no good. Hand that to `complain` before
the vectors, and ask again:

    for name, accused in complaints:
        server.complain(name, accused)
    replies |= send(server.request_mask_again())

`statement` is the digest of what the clients are asked to compute on; each makes its own from what
it got (attestations.statement), and one whose statement differs is dropped.

To pipeline, call `server.pipeline(following)` before `request_mask`: the next round's keys and
shares then ride on this round's replies, and `following` starts at its `request_mask`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

from protocols import messages as m
from protocols.attendance import Attendance, Expecting
from protocols.attestations import (
    OfferedKeys,
    binding,
    check_advert,
    check_confirmation,
    check_statement,
    kem_key_of,
)
from protocols.complaints import Complaints
from protocols.errors import (
    BadShare,
    MalformedMessage,
    ThresholdMissed,
    WrongRound,
)
from protocols.identity import Roster
from protocols.key_agreement import EphemeralKey
from protocols.mask_stream import Words, apply_masks
from protocols.masked_sum import MaskedSum
from protocols.opening import Openings
from protocols.packing import reduce
from protocols.parameters import JobRules

M = TypeVar("M")


class SecureSumServer:
    """One round of secure sums."""

    def __init__(
        self,
        roster: Roster,
        rules: JobRules,
        round_number: int,
        cohort: Sequence[str],
        *,
        vector_length: int | None = None,
        threads: int = 1,
        complaints: Complaints | None = None,
    ) -> None:
        """Open a round for a cohort.

        Args:
            vector_length: one of the job's `vector_lengths`; None is the first.
            complaints: of the rounds before; hospitals that are out are not asked, and what this
                round shows is added. Without it, the round begins with none.
            threads: for adding vectors and opening masks.

        Raises:
            UnknownSender, DuplicateSender, InvalidRules, WrongRound, RulesMismatch: if the rules of
                the job do not allow such a round.
        """
        self.rules = rules.for_round(roster, round_number, cohort, vector_length)
        self._roster = roster
        self._threads = threads
        self._neighbours = [self.rules.neighbours(p) for p in range(len(self.rules.cohort))]
        self._attendance = Attendance(self.rules)
        self._complaints = Complaints() if complaints is None else complaints
        self._adverts: dict[int, m.Advert] = {}
        self._shared: frozenset[int] = frozenset()
        self._sum = MaskedSum(self.rules, self._attendance, self._complaints)
        self._survivors: frozenset[int] = frozenset()
        self._confirmations: dict[int, m.Confirmation] = {}
        self._openings: Openings | None = None
        self._following: SecureSumServer | None = None
        self._riding_adverts: dict[str, m.Advert] = {}

    @property
    def dropped(self) -> dict[str, str]:
        """Name -> reason, of each client lost so far."""
        return self._attendance.dropped

    # ---- advertise ------------------------------------------------------------------------

    def request_advertise(self) -> dict[str, bytes]:
        """The announcement of the round, for everybody that no complaint keeps out."""
        self._attendance.expect(Expecting.ADVERTS)
        self._attendance.keep_out(self._complaints.out)
        asked = [self._attendance.name(place) for place in sorted(self._attendance.present)]
        return dict.fromkeys(asked, m.encode(self._announcement()))

    def receive_advertise(self, replies: Mapping[str, bytes]) -> None:
        """Take the signed keys.

        Raises:
            ThresholdMissed: if too few valid ones came.
        """
        decoded = {}
        for name, reply in replies.items():
            with self._attendance.dropping(name):
                decoded[name] = self._decode(m.Advert, reply)
        self._take_adverts(decoded)

    def _take_adverts(self, adverts: Mapping[str, m.Advert]) -> None:
        self._attendance.expect(Expecting.ADVERTS)
        self._attendance.keep_out(self._complaints.out)
        probe, offered = EphemeralKey(bytes(range(32))), OfferedKeys()
        for name, advert in adverts.items():
            with self._attendance.dropping(name):
                place = self._attendance.sender(name, advert.sender, advert.round_number)
                check_advert(self._roster, self.rules, advert)
                # A low-order key would make every neighbour abort; here it costs one client.
                probe.exchange(advert.channel_key)
                probe.exchange(advert.mask_key)
                # Of two that offer one key the later is dropped: to copy a key one must see it.
                offered.take(name, advert)
                kem_key_of(name, advert)
                self._adverts[place] = advert
        self._attendance.close(self._adverts, Expecting.SHARES)

    # ---- share ----------------------------------------------------------------------------

    def request_share(self) -> dict[str, bytes]:
        """For each client, its neighbours' signed keys."""
        return {name: m.encode(request) for name, request in self._share_requests().items()}

    def _share_requests(self) -> dict[str, m.ShareRequest]:
        self._attendance.expect(Expecting.SHARES)
        requests = {}
        for place in sorted(self._attendance.present):
            adverts = [
                self._adverts[p] for p in sorted(self._neighbours[place] & self._attendance.present)
            ]
            name = self._attendance.name(place)
            requests[name] = m.ShareRequest(self.rules.round_number, adverts)
        return requests

    def receive_share(self, replies: Mapping[str, bytes]) -> None:
        """Take the sealed shares.

        Raises:
            ThresholdMissed: if too few valid replies came.
        """
        decoded = {}
        for name, reply in replies.items():
            with self._attendance.dropping(name):
                decoded[name] = self._decode(m.Shares, reply)
        self._take_shares(decoded)

    def _take_shares(self, shares: Mapping[str, m.Shares]) -> None:
        self._attendance.expect(Expecting.SHARES)
        accepted: dict[int, dict[int, m.Box]] = {}
        for name, reply in shares.items():
            with self._attendance.dropping(name):
                place = self._attendance.sender(name, reply.sender, reply.round_number)
                boxes = {box.place: box for box in reply.boxes}
                expected = self._neighbours[place] & self._adverts.keys()
                if len(boxes) != len(reply.boxes) or boxes.keys() != expected:
                    raise MalformedMessage("not one sealed share for each neighbour")
                accepted[place] = boxes
        self._sum.take_boxes(accepted)
        self._shared = frozenset(accepted)
        self._attendance.close(accepted, Expecting.VECTORS)

    # ---- mask -----------------------------------------------------------------------------

    def pipeline(self, following: "SecureSumServer") -> None:
        """Let the next round's keys and shares ride on this round's mask and unmask exchanges.

        Call before `request_mask`. Who drops out of this round is dropped from the next; if
        too few are left for it, only `following` fails, at its own next step.

        Raises:
            WrongStage: if this round is past its shares, or the next has begun.
            WrongRound: if the next round does not come later.
        """
        self._attendance.expect(Expecting.VECTORS)
        following._attendance.expect(Expecting.ADVERTS)
        if following.rules.round_number <= self.rules.round_number:
            raise WrongRound(
                f"round {following.rules.round_number} cannot follow {self.rules.round_number}"
            )
        self._following = following

    def request_mask(self, statement: bytes) -> dict[str, bytes]:
        """For each client, the shares that its neighbours sealed for it.

        Args:
            statement: `attestations.statement` of what goes out beside these requests, the same
                to everybody.

        Raises:
            BadVector: for a statement that is no digest.
        """
        self._attendance.expect(Expecting.VECTORS)
        check_statement(statement)
        self._sum.binding = binding(self.rules, statement)
        return self._sum.requests(self._attendance.present, self._announced_to)

    def complain(self, name: str, accused: int) -> None:
        """Take a client's refusal of its mask request, for the box that place `accused` sealed.

        Hand complaints in before vectors: a client that is out by them is dropped while its vector
        is not yet in the sum, and `request_mask_again` asks those who refused its box.
        """
        self._attendance.expect(Expecting.VECTORS)
        self._sum.complain(name, accused)

    def request_mask_again(self) -> dict[str, bytes]:
        """For each client that refused a box, the same without it, if who sealed it is out.

        The others are dropped: it is one word against another, and the next complaint decides. They
        have computed nothing yet.
        """
        self._attendance.expect(Expecting.VECTORS)
        return self._sum.requests(self._sum.asked_again(), self._announced_to)

    def _announced_to(self, name: str) -> m.Announcement | None:
        """What a client is told of the next round, if that is pipelined and it is in it."""
        following = self._following
        return following._announcement() if following and name in following.rules.cohort else None

    def add_masked(self, name: str, reply: bytes) -> None:
        """Add one masked vector as soon as it arrives; its bytes are not kept.

        A reply that is wrong, or answers another statement, drops its sender. May be called any
        number of times before `receive_mask`, which closes the step.

        Raises:
            DuplicateSender: for a second vector from one client; the first stays in the sum.
        """
        self._attendance.expect(Expecting.VECTORS)
        upcoming = self._sum.add(name, reply)
        if self._following and upcoming:
            self._riding_adverts[name] = upcoming

    def receive_mask(self, replies: Mapping[str, bytes]) -> None:
        """Add the vectors not added yet, and settle who the survivors are.

        Raises:
            DuplicateSender: for a client whose vector `add_masked` already took.
            ThresholdMissed: if too few vectors arrived. Nothing was opened.
        """
        for name, reply in replies.items():
            self.add_masked(name, reply)
        self._survivors = self._sum.settle()
        after = Expecting.CONFIRMATIONS if self.rules.consistency else Expecting.OPENINGS
        self._attendance.close(self._survivors, after)
        if self._following:
            self._following._take_early(SecureSumServer._take_adverts, self._riding_adverts)

    # ---- confirm --------------------------------------------------------------------------

    def request_confirm(self) -> dict[str, bytes]:
        """For each survivor, the set of survivors to sign."""
        self._attendance.expect(Expecting.CONFIRMATIONS)
        request = m.ConfirmRequest(self.rules.round_number, self._bits(self._survivors))
        asked = map(self._attendance.name, sorted(self._attendance.present))
        return dict.fromkeys(asked, m.encode(request))

    def receive_confirm(self, replies: Mapping[str, bytes]) -> None:
        """Take the signatures over the survivors.

        Raises:
            ThresholdMissed: if too few valid ones came.
        """
        self._attendance.expect(Expecting.CONFIRMATIONS)
        for name, reply in replies.items():
            with self._attendance.dropping(name):
                confirmation = self._decode(m.Confirmation, reply)
                place = self._attendance.sender(
                    name, confirmation.sender, confirmation.round_number
                )
                survivors = self._bits(self._survivors)
                check_confirmation(
                    self._roster,
                    self.rules,
                    self._sum.binding,
                    self._adverts[place].channel_key,
                    confirmation,
                    survivors,
                )
                self._confirmations[place] = confirmation
        self._attendance.close(self._confirmations, Expecting.OPENINGS)

    # ---- unmask ---------------------------------------------------------------------------

    def request_unmask(self) -> dict[str, bytes]:
        """For each client left, whose masks to open, with its neighbours' signatures."""
        self._attendance.expect(Expecting.OPENINGS)
        survivors = self._bits(self._survivors)
        dropped = self._bits(self._shared - self._survivors)
        upcoming = self._following._early_requests() if self._following else {}
        requests = {}
        for place in sorted(self._attendance.present):
            signers = sorted(self._neighbours[place] & self._confirmations.keys())
            request = m.UnmaskRequest(
                round_number=self.rules.round_number,
                survivors=survivors,
                dropped=dropped,
                confirmations=[self._confirmations[signer] for signer in signers],
                upcoming=upcoming.get(self._attendance.name(place)),
            )
            requests[self._attendance.name(place)] = m.encode(request)
        return requests

    def receive_unmask(self, replies: Mapping[str, bytes]) -> None:
        """Take the shares.

        Raises:
            ThresholdMissed: if too few replies came, or too few for one client's secret.
        """
        self._attendance.expect(Expecting.OPENINGS)
        openings = Openings(
            self.rules,
            self._sum.binding,
            self._adverts,
            self._sum.given,
            self._sum.blinded,
            self._survivors,
        )
        riding: dict[str, m.Shares] = {}
        answered = set()
        for name, reply in replies.items():
            with self._attendance.dropping(name):
                opening = self._decode(m.Opening, reply)
                place = self._attendance.sender(name, opening.sender, opening.round_number)
                with self._noting_lies():
                    openings.take(place, opening)
                answered.add(place)
                if opening.upcoming:
                    riding[name] = opening.upcoming
        self._attendance.close(answered, Expecting.NOTHING)
        try:
            openings.check_complete()
        except ThresholdMissed as error:
            self._attendance.failure = error
            raise
        self._openings = openings
        if self._following:
            self._following._take_early(SecureSumServer._take_shares, riding)

    def result(self) -> tuple[Words, tuple[str, ...]]:
        """The sum over the survivors modulo 2^modulus_bits, and their names.

        Raises:
            WrongStage: before `receive_unmask`, or after it failed.
            BadShare: if somebody dealt shares that do not recover its secret; no sum is returned.
        """
        self._attendance.expect(Expecting.NOTHING)
        if self._openings:
            try:
                with self._noting_lies():
                    masks = self._openings.remaining_masks()
            except BadShare as error:
                self._attendance.failure = error
                raise
            apply_masks(self._sum.total, masks, threads=self._threads)
            self._openings = None  # the masks come off once
        total = reduce(self._sum.total, self.rules.modulus_bits)
        return total, tuple(self._attendance.name(place) for place in sorted(self._survivors))

    # ---- what the steps share -------------------------------------------------------------

    def _decode(self, kind: type[m.M], reply: bytes) -> m.M:
        members = len(self.rules.cohort)
        return m.decode(kind, reply, m.limit(kind, members, members))

    @contextmanager
    def _noting_lies(self) -> Iterator[None]:
        try:
            yield
        except BadShare as error:
            if error.accused is not None:
                self._complaints.saw(self._attendance.name(error.accused), str(error))
            raise

    def _bits(self, places: Iterable[int]) -> bytes:
        return m.bit_set(places, len(self.rules.cohort))

    def _announcement(self) -> m.Announcement:
        return m.announcement(self.rules, self._roster.names)

    # ---- what the previous round calls when this one is pipelined ---------------------------

    def _take_early(
        self, step: Callable[["SecureSumServer", dict[str, M]], None], messages: dict[str, M]
    ) -> None:
        if not self._attendance.failure:
            # A failure is kept and raised at this round's own next step, not in the other's.
            with suppress(ThresholdMissed):
                step(self, messages)

    def _early_requests(self) -> dict[str, m.ShareRequest]:
        return {} if self._attendance.failure else self._share_requests()
