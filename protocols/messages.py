"""Wire messages: typed msgpack arrays, length-bounded, with one encoding for each value.

A message is refused before it is parsed if it is longer than any honest one of its round, and
after it is parsed if encoding it again gives other bytes (a longer integer form, say): two
parties never read one meaning from two byte strings. Fields beyond the declared ones are
refused. Clients appear as places in the sorted cohort; sets of clients as bit sets.

The masked vector is the one large message: a small head in msgpack, then the words themselves,
little-endian, 4 bytes each (or packed, `packing`), so that it is written and read without a copy
through the parser.

Messages are not secret by themselves; what must be is sealed (`sealing`) or masked.
"""

import io
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from protocols.encapsulation import CIPHERTEXT_BYTES, PUBLIC_KEY_BYTES
from protocols.errors import MalformedMessage, OversizedMessage
from protocols.mask_stream import Words
from protocols.packing import pack, packed_words, unpack
from protocols.parameters import RoundRules
from protocols.sealing import TAG_BYTES
from protocols.shamir import SHARE_BYTES

VERSION = 3
SEED_BYTES = 32
BOX_BYTES = 2 * SHARE_BYTES + SEED_BYTES + TAG_BYTES

Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
KemKey = Annotated[bytes, Meta(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)]
Encapsulated = Annotated[bytes, Meta(min_length=CIPHERTEXT_BYTES, max_length=CIPHERTEXT_BYTES)]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
Sealed = Annotated[bytes, Meta(min_length=BOX_BYTES, max_length=BOX_BYTES)]
ShareValue = Annotated[bytes, Meta(min_length=SHARE_BYTES, max_length=SHARE_BYTES)]
Place = Annotated[int, Meta(ge=0, le=65_534)]
Number = Annotated[int, Meta(ge=0, le=2**32 - 1)]
BitSet = Annotated[bytes, Meta(min_length=1, max_length=8_192)]


class Message(
    msgspec.Struct,
    array_like=True,
    forbid_unknown_fields=True,
    frozen=True,
):
    """Base of all messages: an array that begins with the name of its kind."""


class Announcement(Message, frozen=True, tag="announce"):
    """Server -> client: a round begins. Round, cohort and length are chosen, the rest a check."""

    version: Number
    job: Annotated[str, Meta(min_length=1, max_length=64)]
    round_number: Number
    cohort: BitSet  # over the sorted roster
    vector_length: Number
    degree: Number
    share_threshold: Number
    minimum_survivors: Number


class Advert(Message, frozen=True, tag="advert"):
    """Client -> server -> neighbours: this round's public keys, signed by the identity."""

    sender: Place
    round_number: Number
    round_digest: Digest
    channel_key: Key
    kem_key: KemKey
    mask_key: Key
    self_mask_commitment: Digest
    signature: Signature


class ShareRequest(Message, frozen=True, tag="ask share"):
    """Server -> client: the adverts of its neighbours."""

    round_number: Number
    adverts: list[Advert]


class Box(Message, frozen=True, tag="box"):
    """Two shares and a seed, sealed; `place` is the other end (recipient going up, sender down).

    The digests pin what was dealt: the recipient compares what it finds in the box, the server
    what the recipient gives out.
    """

    place: Place
    encapsulation: Encapsulated
    sealed: Sealed
    self_mask_digest: Digest  # of the share of the self-mask seed
    mask_key_digest: Digest


class Shares(Message, frozen=True, tag="shares"):
    """Client -> server: one box for each neighbour."""

    sender: Place
    round_number: Number
    boxes: list[Box]


class MaskRequest(Message, frozen=True, tag="ask mask"):
    """Server -> client: the boxes its neighbours sealed for it; maybe the next round as well."""

    round_number: Number
    boxes: list[Box]
    upcoming: Announcement | None


class MaskedHead(Message, frozen=True, tag="masked"):
    """Client -> server: what precedes the words of a masked vector."""

    sender: Place
    round_number: Number
    binding: Digest  # of round and statement: what the vector answers
    blinded_seeds: bytes  # 32 bytes for each neighbour whose box was taken, by place
    upcoming: Advert | None


class ConfirmRequest(Message, frozen=True, tag="ask confirm"):
    """Server -> client: whose vectors arrived."""

    round_number: Number
    survivors: BitSet  # over the cohort


class Confirmation(Message, frozen=True, tag="confirm"):
    """Client -> server -> neighbours: a signature over its binding and the survivors."""

    sender: Place
    round_number: Number
    signature: Signature


class UnmaskRequest(Message, frozen=True, tag="ask unmask"):
    """Server -> client: whose masks to open, and the neighbours' signatures over that."""

    round_number: Number
    survivors: BitSet
    dropped: BitSet
    confirmations: list[Confirmation]
    upcoming: ShareRequest | None


class Share(Message, frozen=True, tag="share"):
    """One Shamir share that belongs to the secret of `place`."""

    place: Place
    value: ShareValue


class Opening(Message, frozen=True, tag="open"):
    """Client -> server: self-mask shares of survivors, mask-key shares of dropped clients."""

    sender: Place
    round_number: Number
    self_masks: list[Share]
    mask_keys: list[Share]
    upcoming: Shares | None


# Generous for honest messages: each entry of a list with its framing, plus heads and bit sets.
_ENTRY_BYTES = {
    Announcement: 0,
    Advert: 0,
    ShareRequest: 1536,
    Shares: 1536,
    MaskRequest: 1536,
    MaskedHead: SEED_BYTES,
    ConfirmRequest: 0,
    Confirmation: 0,
    UnmaskRequest: 1664,
    Opening: 1664,
}
_HEAD_BYTES = 2048

M = TypeVar("M", bound=Message)


def limit(kind: type[Message], members: int, entries: int) -> int:
    """The longest acceptable encoding, for `members` in the roster and `entries` in a list."""
    return _HEAD_BYTES + 2 * -(-members // 8) + _ENTRY_BYTES[kind] * entries


def encode(message: Message) -> bytes:
    """The canonical encoding."""
    return msgspec.msgpack.encode(message)


def decode(kind: type[M], data: bytes, longest: int) -> M:
    """Parse a message of one kind.

    Raises:
        OversizedMessage: if it has more than `longest` bytes.
        MalformedMessage: if it is of another kind, or anything but the canonical encoding.
    """
    if len(data) > longest:
        raise OversizedMessage(
            f"a message of {len(data)} bytes where at most {longest} are possible"
        )
    try:
        message = msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"not a well-formed {kind.__name__} message: {error}") from error
    if encode(message) != data:
        raise MalformedMessage(f"a {kind.__name__} message that is not canonically encoded")
    return message


def encode_masked(head: MaskedHead, words: Words, bits: int = 32) -> tuple[io.BytesIO, Words]:
    """A masked-vector message holding a copy of the words, and a view to mask them in place.

    Words of fewer than 32 bits are masked before and packed here: nothing is masked in place.

    The caller drops the view and calls `getvalue`, which then hands the buffer over without
    copying it: one vector of memory beside the caller's own.
    """
    packed = encode(head)
    start = _words_start(len(packed))
    message = io.BytesIO()
    message.seek(start + 4 * packed_words(words.size, bits) - 1)
    message.write(b"\0")  # allocates the whole message once
    message.seek(0)
    message.write(len(packed).to_bytes(4, "big") + packed)
    view = np.frombuffer(message.getbuffer(), dtype="<u4", offset=start)
    return message, pack(words, bits, out=view)


def decode_masked(
    data: bytes, vector_length: int, members: int = 256, bits: int = 32
) -> tuple[MaskedHead, Words]:
    """The head and the words; with 32 bits, a read-only view of them.

    Args:
        members: of the cohort.
        bits: of each word.

    Raises:
        OversizedMessage, MalformedMessage: unless it is a head, zero padding, and exactly
            `vector_length` words.
    """
    longest_head = limit(MaskedHead, members, members)
    size = 4 * packed_words(vector_length, bits)
    longest = _words_start(longest_head) + size
    if len(data) > longest:
        raise OversizedMessage(
            f"a masked vector of {len(data)} bytes where at most {longest} are possible"
        )
    end = 4 + int.from_bytes(data[:4], "big")
    start = _words_start(end - 4)
    if len(data) != start + size or any(data[end:start]):
        raise MalformedMessage(
            f"a masked vector of {len(data)} bytes does not hold {vector_length} words"
        )
    head = decode(MaskedHead, data[4:end], longest_head)
    return head, unpack(np.frombuffer(data, dtype="<u4", offset=start), vector_length, bits)


def _words_start(head_bytes: int) -> int:
    # A multiple of four: aligned adds are faster.
    return -(-(4 + head_bytes) // 4) * 4


def bit_set(places: Iterable[int], size: int) -> bytes:
    """A set of places below `size` as bits, least significant first."""
    bits = bytearray(-(-size // 8))
    for place in places:
        bits[place // 8] |= 1 << place % 8
    return bytes(bits)


@lru_cache(maxsize=16)  # a round's survivors are the same to everybody
def places(bits: bytes, size: int) -> frozenset[int]:
    """The places in a bit set over `size`.

    Raises:
        MalformedMessage: for a wrong length, or a bit beyond the size.
    """
    places = np.flatnonzero(np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little"))
    if len(bits) != -(-size // 8) or (places >= size).any():
        raise MalformedMessage(f"a set of {len(bits)} bytes does not fit {size} clients")
    return frozenset(places.tolist())


@lru_cache(maxsize=8)  # everybody in a round gets, and expects, the same
def announcement(rules: RoundRules, roster_names: tuple[str, ...]) -> Announcement:
    """What the server tells a client about a round."""
    index = {name: i for i, name in enumerate(roster_names)}
    return Announcement(
        version=VERSION,
        job=rules.job,
        round_number=rules.round_number,
        cohort=bit_set((index[name] for name in rules.cohort), len(roster_names)),
        vector_length=rules.vector_length,
        degree=rules.degree,
        share_threshold=rules.share_threshold,
        minimum_survivors=rules.minimum_survivors,
    )
