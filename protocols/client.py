"""The client's side of a secure sum: one object for a whole job, one method for each step.

Bonawitz et al., "Practical secure aggregation for privacy-preserving machine learning" (CCS
2017), figure 4 with the additions against a lying server. The client trusts nobody for the
rules: it derives the round from its own `JobRules`, checks every key against its pinned
roster, answers each step of a round at most once, and abandons a round, with all its secrets,
at the first lie. Sans-I/O: bytes in, bytes out.

    advertise   fresh signed keys for the round
    share       shares of its two secrets, sealed for each neighbour
    mask        its vector under a self mask and pairwise masks
    confirm     a signature over who survived            (only against a malicious server)
    unmask      survivors' self-mask shares and dropped clients' mask-key shares, never both

With a pipelining server the next round's `advertise` and `share` ride on `mask` and `unmask`.

Not protected against: a server and enough clients together (the threshold says how many), a
vector that is wrong on purpose, and what the sum itself reveals.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from protocols import messages as m
from protocols.attestations import (
    advert_transcript,
    check_advert,
    check_confirmation,
    commitment,
    survivors_transcript,
)
from protocols.errors import (
    AliveAndDropped,
    BadCiphertext,
    BadVector,
    CohortEquivocation,
    DuplicateSender,
    InvalidIdentity,
    ProtocolError,
    Replay,
    RulesMismatch,
    SecondUnmask,
    ThresholdMissed,
    ThresholdTooLow,
    UnknownSender,
    WrongRound,
    WrongStage,
)
from protocols.identity import IdentityKey, Roster
from protocols.key_agreement import EphemeralKey, mask_key, self_mask_key
from protocols.mask_stream import Mask, Words, apply_masks
from protocols.parameters import JobRules, RoundRules
from protocols.sealing import box_key, seal, unseal
from protocols.shamir import SHARE_BYTES, split


class Stage(IntEnum):
    """What a client last answered in a round."""

    ADVERTISED = 1
    SHARED = 2
    MASKED = 3
    CONFIRMED = 4
    UNMASKED = 5


@dataclass(slots=True)
class _Round:
    """One round as this client sees it; everything secret stays out of its repr."""

    rules: RoundRules
    place: int
    neighbours: frozenset[int]
    stage: Stage
    channel: EphemeralKey = field(repr=False)
    mask: EphemeralKey = field(repr=False)
    self_mask_seed: bytes = field(repr=False)
    adverts: dict[int, m.Advert] = field(default_factory=dict, repr=False)
    mask_keys: dict[int, bytes] = field(default_factory=dict, repr=False)
    # place -> (self-mask share, mask-key share) that this client holds for it, its own included
    held: dict[int, tuple[bytes, bytes]] = field(default_factory=dict, repr=False)
    survivors: bytes = b""


class SecureSumClient:
    """A hospital in a job. Not thread-safe: call its steps one after the other."""

    def __init__(
        self,
        name: str,
        identity: IdentityKey,
        roster: Roster,
        rules: JobRules,
        *,
        first_round: int = 1,
        threads: int = 1,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Join a job under the rules and the roster that all its clients hold.

        Args:
            first_round: the lowest round to take part in, after a restart.
            threads: for masking; results do not depend on it.
            entropy: source of key material; anything but the default is for test vectors.

        Raises:
            InvalidIdentity: if the roster pins another key under this name, or none.
        """
        if roster.keys.get(name) != identity.public:
            raise InvalidIdentity(
                f"the roster does not pin this identity key under the name {name!r}",
                hint="check the name and the roster's fingerprint with the other hospitals",
            )
        self.name = name
        self._identity = identity
        self._roster = roster
        self._rules = rules
        self._threads = threads
        self._entropy = entropy
        self._newest = first_round - 1
        self._rounds: dict[int, _Round] = {}

    def __repr__(self) -> str:
        return f"SecureSumClient({self.name!r}, job={self._rules.job!r})"

    # ---- the five steps -------------------------------------------------------------------

    def advertise(self, request: bytes) -> bytes:
        """Check the announced round and offer fresh signed keys for it.

        Raises:
            Replay: for a round already seen, or older.
            ThresholdTooLow, RulesMismatch: if the announcement differs from the agreed rules.
            UnknownSender: if this client is not in the cohort.
        """
        limit = m.limit(m.Announcement, len(self._roster.keys), 0)
        return m.encode(self._advertise(m.decode(m.Announcement, request, limit)))

    def share(self, request: bytes) -> bytes:
        """Check the neighbours' keys, and seal a share of each secret for each neighbour.

        Raises:
            BadSignature, UnknownSender, DuplicateSender, LowOrderPoint, CohortEquivocation:
                for keys that are not the neighbours' own for this very round.
            ThresholdMissed: if fewer than the threshold advertised.
        """
        return m.encode(self._share(self._decode(m.ShareRequest, request)))

    def mask(self, request: bytes, vector: Words) -> bytes:
        """Check the shares sealed for this client, and send the vector under its masks.

        Args:
            vector: (vector_length,) uint32; left unchanged.

        Raises:
            BadVector: for a vector of another type or shape; the round can go on.
            BadCiphertext: for a sealed share that does not open.
            ThresholdMissed: if fewer than the threshold shared.
        """
        if vector.dtype != np.uint32 or vector.shape != (self._rules.vector_length,):
            raise BadVector(
                f"the vector must be {self._rules.vector_length} words of uint32,"
                f" got {vector.dtype} of shape {vector.shape}"
            )
        message = self._decode(m.MaskRequest, request)
        with self._step(message.round_number, Stage.SHARED, Stage.MASKED) as state:
            self._open_boxes(state, message.boxes)
            upcoming = self._advertise(message.upcoming) if message.upcoming else None
            head = m.MaskedHead(state.place, state.rules.round_number, state.rules.digest, upcoming)
            reply, words = m.encode_masked(head, vector)
            apply_masks(words, self._masks(state), threads=self._threads)
            # The masks are applied; what made them is not needed again.
            state.mask_keys.clear()
            state.self_mask_seed = b""
            del words
            return reply.getvalue()

    def confirm(self, request: bytes) -> bytes:
        """Sign whose vectors are said to have arrived; binds the server to one answer.

        Raises:
            ThresholdMissed: if too few survived.
            CohortEquivocation: if this client, or one that never shared, is listed wrongly.
        """
        message = self._decode(m.ConfirmRequest, request)
        with self._step(message.round_number, Stage.MASKED, Stage.CONFIRMED) as state:
            self._check_survivors(state, message.survivors)
            state.survivors = message.survivors
            signature = self._identity.sign(survivors_transcript(state.rules, message.survivors))
            return m.encode(m.Confirmation(state.place, message.round_number, signature))

    def unmask(self, request: bytes) -> bytes:
        """Give one kind of share for each neighbour, after checking that all saw the same.

        Raises:
            SecondUnmask: if this round was unmasked before.
            AliveAndDropped: if one client is listed as both.
            CohortEquivocation: if the survivors differ from those confirmed.
            ThresholdMissed: if too few survived, or too few signed.
        """
        message = self._decode(m.UnmaskRequest, request)
        before = Stage.CONFIRMED if self._rules.consistency else Stage.MASKED
        with self._step(message.round_number, before, Stage.UNMASKED) as state:
            alive = self._check_survivors(state, message.survivors)
            dropped = m.places(message.dropped, len(state.rules.cohort))
            self._check_dropped(state, alive, dropped)
            if self._rules.consistency:
                self._check_confirmations(state, message)
            upcoming = self._share(message.upcoming) if message.upcoming else None
            opening = m.Opening(
                sender=state.place,
                round_number=message.round_number,
                self_masks=[
                    m.Share(p, s) for p, (s, _) in sorted(state.held.items()) if p in alive
                ],
                mask_keys=[
                    m.Share(p, s) for p, (_, s) in sorted(state.held.items()) if p in dropped
                ],
                upcoming=upcoming,
            )
            state.held.clear()
            return m.encode(opening)

    # ---- what the steps are made of -------------------------------------------------------

    @contextmanager
    def _step(self, round_number: int, before: Stage, after: Stage) -> Iterator[_Round]:
        """Find the round, insist on its stage, and abandon it if anything goes wrong."""
        state = self._rounds.get(round_number)
        if state is None:
            if round_number <= self._newest:
                raise Replay(f"round {round_number} is over or was abandoned")
            raise WrongRound(f"round {round_number} has not begun")
        if state.stage is not before:
            if after is Stage.UNMASKED is state.stage:
                raise SecondUnmask(f"round {round_number} was already unmasked")
            raise WrongStage(
                f"round {round_number}: {after.name.lower()} asked for after"
                f" {state.stage.name.lower()}"
            )
        # Moved on before the work: whatever happens, this step is answered at most once.
        state.stage = after
        try:
            yield state
        except ProtocolError:
            self._rounds.pop(round_number, None)
            raise

    def _decode(self, kind: type[m.M], request: bytes) -> m.M:
        return m.decode(
            kind, request, m.limit(kind, len(self._roster.keys), len(self._roster.keys))
        )

    def _advertise(self, announced: m.Announcement) -> m.Advert:
        rules = self._check_announcement(announced)
        # Older rounds cannot be continued from here on, but for the one being pipelined.
        for number in [n for n in self._rounds if n < self._newest]:
            del self._rounds[number]
        self._newest = rules.round_number
        place = rules.cohort.index(self.name)
        state = _Round(
            rules=rules,
            place=place,
            neighbours=rules.neighbours(place),
            stage=Stage.ADVERTISED,
            channel=EphemeralKey(self._entropy(32)),
            mask=EphemeralKey(self._entropy(32)),
            self_mask_seed=self._entropy(32),
        )
        self._rounds[rules.round_number] = state
        keys = (state.channel.public, state.mask.public, commitment(rules, state.self_mask_seed))
        signature = self._identity.sign(advert_transcript(rules.digest, self.name, *keys))
        return m.Advert(place, rules.round_number, rules.digest, *keys, signature)

    def _check_announcement(self, announced: m.Announcement) -> RoundRules:
        if announced.version != m.VERSION:
            raise RulesMismatch(
                f"the server speaks version {announced.version}, this client {m.VERSION}"
            )
        if announced.job != self._rules.job:
            raise RulesMismatch(f"job {announced.job!r} is not this client's {self._rules.job!r}")
        if announced.round_number <= self._newest:
            raise Replay(f"round {announced.round_number} was announced after round {self._newest}")
        names = self._roster.names
        cohort = [names[place] for place in sorted(m.places(announced.cohort, len(names)))]
        rules = self._rules.for_round(self._roster, announced.round_number, cohort)
        if self.name not in rules.cohort:
            raise UnknownSender(f"{self.name} is not in the cohort of round {rules.round_number}")
        for what in ("share_threshold", "minimum_survivors"):
            theirs, ours = getattr(announced, what), getattr(rules, what)
            if theirs < ours:
                raise ThresholdTooLow(f"the server announced {what} {theirs}, the rules say {ours}")
        if announced != m.announcement(rules, names):
            raise RulesMismatch(
                f"round {rules.round_number} was announced with other settings than agreed",
                hint="compare vector_length, server and sparse of all clients and the server",
            )
        return rules

    def _share(self, message: m.ShareRequest) -> m.Shares:
        with self._step(message.round_number, Stage.ADVERTISED, Stage.SHARED) as state:
            for advert in message.adverts:
                self._accept_advert(state, advert)
            holders = sorted({state.place, *state.adverts})
            threshold = state.rules.share_threshold
            if len(holders) < threshold:
                raise ThresholdMissed(
                    f"{len(holders)} of {threshold} clients offered keys in"
                    f" round {message.round_number}"
                )
            points = [place + 1 for place in holders]  # zero would be the secret itself
            of_seed = split(state.self_mask_seed, threshold, points, self._entropy)
            of_key = split(state.mask.secret, threshold, points, self._entropy)
            boxes = []
            for place, shares in zip(holders, zip(of_seed, of_key, strict=True), strict=True):
                if place == state.place:
                    state.held[place] = shares
                else:
                    boxes.append(m.Box(place, self._seal(state, place, b"".join(shares))))
            return m.Shares(state.place, message.round_number, boxes)

    def _accept_advert(self, state: _Round, advert: m.Advert) -> None:
        check_advert(self._roster, state.rules, advert)
        if advert.sender not in state.neighbours:
            raise UnknownSender(f"place {advert.sender} is not a neighbour in this round")
        if advert.sender in state.adverts:
            raise DuplicateSender(f"place {advert.sender} advertised twice")
        state.adverts[advert.sender] = advert
        # Both exchanges happen now, so that a bad key is refused before anything is shared.
        state.mask_keys[advert.sender] = mask_key(state.mask, advert.mask_key, state.rules.digest)

    def _seal(self, state: _Round, recipient: int, plaintext: bytes) -> bytes:
        peer = state.adverts[recipient].channel_key
        public = state.channel.public
        key = box_key(state.channel, peer, state.rules.digest, sender=public, recipient=peer)
        return seal(key, plaintext, state.rules.digest, state.place, recipient)

    def _open_boxes(self, state: _Round, boxes: list[m.Box]) -> None:
        for box in boxes:
            advert = state.adverts.get(box.place)
            if advert is None:
                raise UnknownSender(
                    f"a sealed share from place {box.place}, which never advertised"
                )
            if box.place in state.held:
                raise DuplicateSender(f"two sealed shares from place {box.place}")
            peer, public = advert.channel_key, state.channel.public
            key = box_key(state.channel, peer, state.rules.digest, sender=peer, recipient=public)
            plain = unseal(key, box.sealed, state.rules.digest, box.place, state.place)
            if len(plain) != 2 * SHARE_BYTES:
                raise BadCiphertext(f"the sealed share from place {box.place} has a wrong length")
            state.held[box.place] = (plain[:SHARE_BYTES], plain[SHARE_BYTES:])
        if len(state.held) < state.rules.share_threshold:
            raise ThresholdMissed(
                f"{len(state.held)} of {state.rules.share_threshold} clients shared in"
                f" round {state.rules.round_number}"
            )

    def _masks(self, state: _Round) -> list[Mask]:
        masks = [Mask(self_mask_key(state.self_mask_seed, state.rules.digest), subtract=False)]
        for place in sorted(state.held.keys() - {state.place}):
            # Of each pair, the later place subtracts what the earlier adds.
            masks.append(Mask(state.mask_keys[place], subtract=place < state.place))
        return masks

    def _check_survivors(self, state: _Round, bits: bytes) -> frozenset[int]:
        rules = state.rules
        alive = m.places(bits, len(rules.cohort))
        if len(alive) < rules.minimum_survivors:
            raise ThresholdMissed(
                f"{len(alive)} survivors in round {rules.round_number}, where at least"
                f" {rules.minimum_survivors} are needed"
            )
        if state.place not in alive:
            raise CohortEquivocation("the server asks a client that it does not list as survivor")
        strangers = (alive & state.neighbours) - state.held.keys()
        if strangers:
            raise CohortEquivocation(
                f"place {min(strangers)} is listed as survivor but its shares never arrived here"
            )
        if len(alive & state.held.keys()) < rules.share_threshold:
            raise ThresholdMissed(f"too few neighbours survived in round {rules.round_number}")
        return alive

    def _check_dropped(self, state: _Round, alive: frozenset[int], dropped: frozenset[int]) -> None:
        if alive & dropped:
            # Both kinds of share of one client would open its vector.
            raise AliveAndDropped(f"place {min(alive & dropped)} is listed as alive and dropped")
        strangers = (dropped & state.neighbours) - state.held.keys()
        if strangers:
            raise CohortEquivocation(
                f"place {min(strangers)} is listed as dropped but its shares never arrived here"
            )

    def _check_confirmations(self, state: _Round, message: m.UnmaskRequest) -> None:
        if message.survivors != state.survivors:
            raise CohortEquivocation("the survivors to unmask are not those that were confirmed")
        signed_by = set()
        for confirmation in message.confirmations:
            if confirmation.round_number != message.round_number:
                raise WrongRound(f"a confirmation of round {confirmation.round_number}")
            if confirmation.sender not in state.held:
                raise UnknownSender(f"a confirmation by place {confirmation.sender}")
            if confirmation.sender in signed_by:
                raise DuplicateSender(f"two confirmations by place {confirmation.sender}")
            check_confirmation(self._roster, state.rules, confirmation, message.survivors)
            signed_by.add(confirmation.sender)
        signed_by.add(state.place)
        if len(signed_by) < state.rules.share_threshold:
            raise ThresholdMissed(
                f"{len(signed_by)} of {state.rules.share_threshold} clients confirmed the survivors"
            )
