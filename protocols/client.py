"""The client's side of a secure sum: one object for a whole job, one method for each step.

Bonawitz et al., "Practical secure aggregation for privacy-preserving machine learning" (CCS
2017), figure 4 with the additions against a lying server. The client trusts nobody for the
rules: it derives the round from its own `JobRules`, checks every key against its pinned
roster, answers each step of a round at most once, and abandons a round, with all its secrets,
at the first lie. Sans-I/O: bytes in, bytes out.

    advertise   fresh signed keys for the round
    share       shares of its two secrets, sealed for each neighbour
    mask        its vector under a self mask and pairwise masks, bound to what it was asked
    confirm     a signature over who survived            (only against a malicious server)
    unmask      survivors' self-mask shares and dropped clients' mask-key shares, never both

With a pipelining server the next round's `advertise` and `share` ride on `mask` and `unmask`.

Not protected against: a server and enough clients together (the threshold says how many), a
vector that is wrong on purpose, and what the sum itself reveals.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np

from protocols import messages as m
from protocols.attestations import (
    advert_transcript,
    binding,
    check_statement,
    commitment,
    survivors_transcript,
)
from protocols.errors import (
    BadVector,
    InvalidIdentity,
    ProtocolError,
    Replay,
    RulesMismatch,
    SecondUnmask,
    ThresholdTooLow,
    WrongRound,
    WrongStage,
)
from protocols.identity import IdentityKey, Roster
from protocols.mask_stream import Words, apply_masks
from protocols.parameters import JobRules, RoundRules
from protocols.participation import Participation, Stage
from protocols.round_secrets import Secrets


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
        self._rounds: dict[int, Participation] = {}

    def __repr__(self) -> str:
        return f"SecureSumClient({self.name!r}, job={self._rules.job!r})"

    # ---- the five steps -------------------------------------------------------------------

    def advertise(self, request: bytes) -> bytes:
        """Check the announced round and offer fresh signed keys for it.

        Raises:
            Replay: for a round already seen, or older.
            RoundsSkipped: if more rounds were left out than the rules allow.
            ThresholdTooLow, RulesMismatch, UnplannedCohort: if the announcement differs from the
                agreed rules.
            UnknownSender: if this client is not in the cohort.
        """
        limit = m.limit(m.Announcement, len(self._roster.keys), 0)
        return m.encode(self._advertise(m.decode(m.Announcement, request, limit)))

    def share(self, request: bytes) -> bytes:
        """Check the neighbours' keys, and seal a share of each secret for each neighbour.

        Raises:
            BadSignature, UnknownSender, DuplicateSender, LowOrderPoint, NonCanonicalKey,
                DuplicateKey, CohortEquivocation: for keys that are not the neighbours' own for
                this very round.
            ThresholdMissed: if fewer than the threshold advertised.
        """
        return m.encode(self._share(self._decode(m.ShareRequest, request)))

    def check_mask(self, request: bytes) -> None:
        """Return only if `mask` will take this request: call it before the vector is computed.

        A box that does not open costs nobody the round: the error's `accused` is who sealed it, and
        the server may ask again without it. Boxes are opened as often as asked, the vector is
        masked once: what a box holds is known to nobody but its two ends either way.

        Raises:
            BadCiphertext, BadShare: for a box of `accused` that is no good; the round can go on.
            UnknownSender, DuplicateSender, ThresholdMissed: for boxes from too many or too few.
            Replay, ThresholdTooLow, RulesMismatch: for a next round that `advertise` would refuse.
        """
        self._check_mask(request)

    def mask(self, request: bytes, vector: Words, statement: bytes) -> bytes:
        """Check the shares sealed for this client, and send the vector under its masks.

        The vector can be opened only in a sum whose honest survivors all give the same statement:
        otherwise the masks do not cancel. That holds in both variants, whatever the server does.

        Args:
            vector: (vector_length,) uint32 of this round, taken modulo 2^modulus_bits; left
                unchanged.
            statement: `attestations.statement` of what the vector is an answer to.

        Raises:
            BadVector: for a vector of another type or shape, or a statement that is no digest; the
                round can go on.
            BadCiphertext, BadShare and others: as in `check_mask`; the round can go on.
        """
        check_statement(statement)
        message = self._check_mask(request)
        length = self._rounds[message.round_number].rules.vector_length
        if vector.dtype != np.uint32 or vector.shape != (length,):
            raise BadVector(
                f"the vector must be {length} words of uint32,"
                f" got {vector.dtype} of shape {vector.shape}"
            )
        with self._step(message.round_number, Stage.SHARED, Stage.MASKED) as state:
            upcoming = self._advertise(message.upcoming) if message.upcoming else None
            state.binding = binding(state.rules, statement)
            head = m.MaskedHead(
                sender=state.place,
                round_number=state.rules.round_number,
                binding=state.binding,
                blinded_seeds=state.blinded_seeds(),
                upcoming=upcoming,
            )
            bits = state.rules.modulus_bits
            if bits == 32:
                # Masked in the message itself: one vector of memory beside the caller's own.
                reply, words = m.encode_masked(head, vector)
                apply_masks(words, state.masks(), threads=self._threads)
            else:
                words = vector.copy()
                apply_masks(words, state.masks(), threads=self._threads)
                reply, words = m.encode_masked(head, words, bits)
            state.forget_masks()
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
            state.check_survivors(message.survivors)
            state.survivors = message.survivors
            signed = survivors_transcript(state.binding, state.own.key, message.survivors)
            signature = self._identity.sign(signed)
            return m.encode(m.Confirmation(state.place, message.round_number, signature))

    def unmask(self, request: bytes) -> bytes:
        """Give one kind of share for each neighbour, after checking that all saw the same.

        Raises:
            SecondUnmask: if this round was unmasked before.
            AliveAndDropped: if one client is listed as both.
            CohortEquivocation: if the survivors differ from those confirmed, or somebody signed
                other survivors or another statement.
            ThresholdMissed: if too few survived, or too few signed.
        """
        message = self._decode(m.UnmaskRequest, request)
        before = Stage.CONFIRMED if self._rules.consistency else Stage.MASKED
        with self._step(message.round_number, before, Stage.UNMASKED) as state:
            alive = state.check_survivors(message.survivors)
            dropped = m.places(message.dropped, len(state.rules.cohort))
            state.check_dropped(alive, dropped)
            if self._rules.consistency:
                state.check_confirmations(self._roster, message)
            upcoming = self._share(message.upcoming) if message.upcoming else None
            self_masks, mask_keys = state.open_shares(alive, dropped)
            opening = m.Opening(state.place, message.round_number, self_masks, mask_keys, upcoming)
            return m.encode(opening)

    # ---- what the steps are made of -------------------------------------------------------

    @contextmanager
    def _step(self, round_number: int, before: Stage, after: Stage) -> Iterator[Participation]:
        """Find the round, insist on its stage, and abandon it if anything goes wrong."""
        state = self._at(round_number, before, after)
        # Moved on before the work: whatever happens, this step is answered at most once.
        state.stage = after
        try:
            yield state
        except ProtocolError:
            self._rounds.pop(round_number, None)
            raise

    def _at(self, round_number: int, before: Stage, after: Stage) -> Participation:
        """The round, if it stands between these two stages."""
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
        return state

    def _check_mask(self, request: bytes) -> m.MaskRequest:
        message = self._decode(m.MaskRequest, request)
        state = self._at(message.round_number, Stage.SHARED, Stage.MASKED)
        digest = hashlib.sha256(request).digest()
        if state.checked != digest:
            if message.upcoming:
                self._check_announcement(message.upcoming)
            state.open_boxes(message.boxes)
            state.checked = digest
        return message

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
        place = rules.place(self.name)
        state = Participation(
            rules=rules,
            place=place,
            neighbours=rules.neighbours(place),
            stage=Stage.ADVERTISED,
            secrets=Secrets(self._entropy, place, rules),
        )
        self._rounds[rules.round_number] = state
        secrets = state.secrets
        committed = commitment(rules, place, secrets.self_mask_seed)
        keys = (secrets.channel.public, secrets.kem.public, secrets.mask.public, committed)
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
        self._rules.check_gap(self._newest, announced.round_number)
        rules, expected = _round_of(announced, self._rules, self._roster)
        rules.place(self.name)
        for what in ("share_threshold", "minimum_survivors"):
            theirs, ours = getattr(announced, what), getattr(rules, what)
            if theirs < ours:
                raise ThresholdTooLow(f"the server announced {what} {theirs}, the rules say {ours}")
        if announced != expected:
            raise RulesMismatch(
                f"round {rules.round_number} was announced with other settings than agreed",
                hint="compare server and sparse of all clients and the server",
            )
        return rules

    def _share(self, message: m.ShareRequest) -> m.Shares:
        with self._step(message.round_number, Stage.ADVERTISED, Stage.SHARED) as state:
            state.accept_adverts(self._roster, message.adverts)
            boxes = state.split_secrets(self._entropy)
            return m.Shares(state.place, message.round_number, boxes)


# Who asks in this process about one announcement, under the same rules and roster, gets the same:
# the work grows with the cohort, and each of its clients does it twice.
@lru_cache(maxsize=8)
def _round_of(
    announced: m.Announcement, rules: JobRules, roster: Roster
) -> tuple[RoundRules, m.Announcement]:
    """The rules of the round that is announced, and how it must be announced under them."""
    names = roster.names
    cohort = [names[place] for place in sorted(m.places(announced.cohort, len(names)))]
    found = rules.for_round(roster, announced.round_number, cohort, announced.vector_length)
    return found, m.announcement(found, names)
