"""A server and corrupt hospitals that choose every field they can, against real hospitals.

What they send is drawn. In each round a few kinds of lie are picked, so that rounds get far; of
those, what is sent is now and then a copy, a mix, a replay, an omission or another version for
somebody else. Hospitals that refuse answer nothing more; what they sent before stays with the
coalition.
"""

import os
from collections.abc import Iterable

import msgspec
import numpy as np
from hypothesis import strategies as st

from protocols import messages as m
from protocols import participation
from protocols.attestations import (
    advert_transcript,
    binding,
    share_digest,
    statement,
    survivors_transcript,
)
from protocols.encapsulation import encapsulate, public_key
from protocols.errors import ProtocolError
from protocols.parameters import JobRules
from protocols.round_secrets import Secrets
from protocols.sealing import End, seal, unseal
from protocols.shamir import SHARE_BYTES
from tests.protocols.rounds_driver import Federation, names
from tests.protocols.symbolic.knowledge import Knowledge

LIES = (
    "copied channel key",
    "copied kem key",
    "copied mask key",
    "two adverts",
    "advert left out",
    "replay",
    "second job",
    "box left out",
    "two statements",
    "survivors",
    "two sets of survivors",
    "alive and dropped",
    "signatures",
)
VECTOR = np.zeros(1, dtype=np.uint32)
Draw = st.DataObject


class Coalition:
    """The server with `corrupt` places, over one job; `known` is all it learns."""

    def __init__(self, data: Draw, count: int, corrupt: frozenset[int]) -> None:
        self.data = data
        self.job = Federation(JobRules("job", 1), names(count))
        self.corrupt = corrupt
        self.honest = [p for p in range(count) if p not in corrupt]
        self.known = Knowledge(corrupt=frozenset(self.name(p) for p in corrupt))
        self.adverts: dict[int, list[m.Advert]] = {p: [] for p in range(count)}  # of all rounds
        self.secrets: dict[bytes, Secrets] = {}  # channel key -> all, of corrupt hospitals
        self.signed: dict[int, list[m.Confirmation]] = {p: [] for p in self.honest}
        self.number = self.played = 0

    # ---- drawing --------------------------------------------------------------------------

    def lies(self, kind: str) -> bool:
        """Whether to tell this lie here; about one time in three, where the round has its kind."""
        return kind in self.kinds and self.data.draw(st.integers(0, 2)) == 0

    def one_of(self, values: Iterable):
        return self.data.draw(st.sampled_from(list(values)))

    def most_of(self, values: Iterable, kind: str) -> list:
        return [value for value in values if not self.lies(kind)]

    # ---- one round --------------------------------------------------------------------------

    def round(self) -> None:
        """The next round, or the first one again of a second job of the same name."""
        self.kinds = self.data.draw(st.sets(st.sampled_from(LIES), max_size=2))
        if self.lies("second job"):
            self.job, self.number = Federation(self.job.rules, self.job.members), 0
        self.number += 1
        self.played += 1
        with self.known.watching():
            self.rules = self.job.server(self.number).rules
            self.answering = set(self.honest)
            self._advertise()
            self._share()
            self._mask()
            self._confirm_and_unmask()

    def _ask(self, place: int, step: str, request: m.Message | bytes, *more) -> bytes | None:
        """A hospital's answer; None from one that refuses, now and for the rest of the round."""
        if place not in self.answering:
            return None
        data = request if isinstance(request, bytes) else m.encode(request)
        try:
            return getattr(self.job.clients[self.name(place)], step)(data, *more)
        except ProtocolError:
            self.answering.discard(place)
            return None

    def name(self, place: int) -> str:
        return self.job.members[place]

    def _advertise(self) -> None:
        requests = self.job.server(self.rules.round_number).request_advertise()
        for place in self.honest:
            reply = self._ask(place, "advertise", requests[self.name(place)])
            assert reply is not None, "an honest request was refused"
            self.adverts[place].append(msgspec.msgpack.decode(reply, type=m.Advert))
            state = self.job.clients[self.name(place)]._rounds[self.rules.round_number]
            row = (self.name(place), self.played)
            self.known.mask_keys[row] = state.secrets.mask.public
            self.known.seeds[row] = state.secrets.self_mask_seed

    def _lie(self, place: int) -> m.Advert:
        """An advert that a corrupt hospital signs: of its own keys, or of anybody's."""
        own = Secrets(os.urandom, place, self.rules)
        self.secrets[own.channel.public] = own
        self.known.private |= {own.channel.public, own.mask.public}
        keys = []
        for kind in ("channel", "kem", "mask"):
            key = getattr(own, kind).public
            if self.lies(f"copied {kind} key"):
                advert = self.one_of(a for p in self.adverts for a in self.adverts[p])
                copies = [advert.channel_key, advert.mask_key]
                key = advert.kem_key if kind == "kem" else self.one_of(copies)
            keys.append(key)
        channel, kem, mask = keys
        committed = bytes(32)
        signed = advert_transcript(self.rules.digest, self.name(place), *keys, committed)
        signature = self._identity(place).sign(signed)
        number = self.rules.round_number
        return m.Advert(place, number, self.rules.digest, channel, kem, mask, committed, signature)

    def _identity(self, place: int):
        return self.job.clients[self.name(place)]._identity

    def _share(self) -> None:
        versions = {}
        for place in sorted(self.corrupt):
            versions[place] = [self._lie(place) for _ in range(1 + self.lies("two adverts"))]
            self.adverts[place] += versions[place]
        self.shown: dict[int, dict[int, m.Advert]] = {}  # to whom -> of whom
        self.boxes: dict[tuple[int, int], m.Box] = {}  # from, to
        for place in self.honest:
            shown = {}
            others = [p for p in range(len(self.rules.cohort)) if p != place]
            for other in self.most_of(others, "advert left out"):
                if other in self.corrupt:
                    shown[other] = self.one_of(versions[other])
                else:
                    replay = len(self.adverts[other]) > 1 and self.lies("replay")
                    shown[other] = self.adverts[other][0 if replay else -1]
            self.shown[place] = shown
            request = m.ShareRequest(self.rules.round_number, list(shown.values()))
            reply = self._ask(place, "share", request)
            if reply:
                for box in msgspec.msgpack.decode(reply, type=m.Shares).boxes:
                    self.boxes[place, box.place] = box
                    if box.place in self.corrupt:
                        self._keep(place, box)

    def _own(self, honest: int, corrupt: int) -> Secrets | None:
        """The secrets of a corrupt hospital, if it offered its own keys for boxes there."""
        offered = self.shown[honest].get(corrupt)
        if offered is None:
            return None
        own = self.secrets.get(offered.channel_key)
        return own if own and own.kem.public == offered.kem_key else None

    def _ends(self, honest: int, corrupt: int) -> tuple[End, End]:
        mine, theirs = self.shown[honest][corrupt], self.adverts[honest][-1]
        return (
            End(honest, theirs.channel_key, theirs.kem_key),
            End(corrupt, mine.channel_key, mine.kem_key),
        )

    def _keep(self, place: int, box: m.Box) -> None:
        own = self._own(place, box.place)
        if own:
            fresh = own.kem.open(box.encapsulation)
            key = vars(participation)["box_key"](
                own.channel, fresh, *self._ends(place, box.place), self.rules
            )
            unseal(key, box.sealed, self.rules.digest, place, box.place)
            row = (self.name(place), self.played)
            self.known.seed_shares[row].add(box.place)
            self.known.key_shares[row].add(box.place)

    def _mask(self) -> None:
        self.asked: dict[int, bytes] = {}
        for place in self.honest:
            boxes = []
            for other in self.most_of(sorted(self.shown[place]), "box left out"):
                if other in self.corrupt:
                    own = self._own(place, other)
                    if own:
                        boxes.append(self._made_up(other, place, own))
                elif (other, place) in self.boxes:
                    boxes.append(msgspec.structs.replace(self.boxes[other, place], place=other))
            self.asked[place] = statement(b"b" if self.lies("two statements") else b"a")
            request = m.MaskRequest(self.rules.round_number, boxes, None)
            if self._ask(place, "mask", request, VECTOR, self.asked[place]):
                row = (self.name(place), self.played)
                self.known.rows[row] = self.known.latest
                self.known.asked[row] = self.asked[place]

    def _made_up(self, corrupt: int, honest: int, own: Secrets) -> m.Box:
        share, digest = bytes(SHARE_BYTES), self.rules.digest
        to, sender = self._ends(honest, corrupt)
        fresh = encapsulate(public_key(to.kem_key))
        key = vars(participation)["box_key"](own.channel, fresh, sender, to, self.rules)
        sealed = seal(key, share * 2 + bytes(m.SEED_BYTES), digest, corrupt, honest)
        digests = [
            share_digest(self.rules, kind, corrupt, honest, share)
            for kind in ("self mask", "mask key")
        ]
        return m.Box(corrupt, fresh.ciphertext, sealed, *digests)

    def _survivors(self) -> frozenset[int]:
        return frozenset(self.most_of(range(len(self.rules.cohort)), "survivors"))

    def _confirm_and_unmask(self) -> None:
        said = [self._survivors() for _ in range(1 + self.lies("two sets of survivors"))]
        told: dict[int, frozenset[int]] = {}
        answered: set[int] = set()
        for place in self.honest:
            told[place] = self.one_of(said)
            request = m.ConfirmRequest(self.rules.round_number, self._bits(told[place]))
            reply = self._ask(place, "confirm", request)
            if reply:
                self.signed[place].append(msgspec.msgpack.decode(reply, type=m.Confirmation))
                answered.add(place)
        for place in self.honest:
            self._unmask(place, told, answered)

    def _unmask(self, place: int, told: dict[int, frozenset[int]], answered: set[int]) -> None:
        agreed, held = (told[place], self.asked[place]), self.shown[place].keys()
        confirmations = [self._forged(p, place, *agreed) for p in sorted(held & self.corrupt)]
        for other in self.signed.keys() - {place}:
            if self.signed[other] and self.lies("signatures"):
                confirmations.append(self.one_of(self.signed[other]))
            elif other in answered and (told[other], self.asked[other]) == agreed:
                confirmations.append(self.signed[other][-1])
        dropped = [p for p in held if p not in told[place] or self.lies("alive and dropped")]
        request = m.UnmaskRequest(
            self.rules.round_number,
            self._bits(told[place]),
            self._bits(dropped),
            [each for each in confirmations if each.sender in held],
            None,
        )
        reply = self._ask(place, "unmask", request)
        if reply:
            opening = msgspec.msgpack.decode(reply, type=m.Opening)
            for share in opening.self_masks:
                self.known.seed_shares[self.name(share.place), self.played].add(place)
            for share in opening.mask_keys:
                self.known.key_shares[self.name(share.place), self.played].add(place)

    def _forged(
        self, place: int, reader: int, survivors: frozenset[int], asked: bytes
    ) -> m.Confirmation:
        key = self.shown[reader][place].channel_key
        text = survivors_transcript(binding(self.rules, asked), key, self._bits(survivors))
        return m.Confirmation(place, self.rules.round_number, self._identity(place).sign(text))

    def _bits(self, places: Iterable[int]) -> bytes:
        return m.bit_set(places, len(self.rules.cohort))
