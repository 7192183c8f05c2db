"""Hello: how the server finds out who is there and ready, before it asks for any work.

A hospital opens in the time that it needs (patients to read, noise to solve), so it answers at
once, also that it is not ready yet, and is asked again. What it is asked to join is named by the
digest of an agreement that it has accepted; nothing else that it trusts comes from the server.

An answer that it is ready is signed, with the question that it answers and with how far the
hospital's ledger has come. The server keeps it and hands it back at the next hello: a ledger that
was put back is then noticed by the hospital, which knows its own signature, and by the server,
which sees the number of rows go back. So a server learns how many rows a ledger has: how often
anything was reserved there, in all runs.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from protocols.identity import IdentityKey, Roster
from securefed.errors import RunError

LONGEST = 1024  # bytes of either message
_MARK = b"hello\0"  # no other message begins so: theirs are arrays of msgpack

_SIGNED = b"securefed presence 1\0"

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Number = Annotated[int, Meta(ge=1, le=2**31)]
Reason = Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_.]*\Z")]
State = Literal["opening", "ready", "refused"]


class Presence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Hospital to server.

    Attributes:
        reason: of a refusal, a kind of error or the policy's key; never a text of the hospital's.
        newest: the last membership that it has joined.
        simulation: what its patients are, if not people with scans of their own: a public fact.
        rows, head: of its ledger (privacy.chain), where it is ready.
        signature: by its identity key, where it is ready.
    """

    state: State
    reason: Reason = ""
    newest: Annotated[int, Meta(ge=0, le=2**31)] = 0
    simulation: Annotated[str, Meta(max_length=64, pattern=r"^[a-z+-]*\Z")] = ""
    rows: Annotated[int, Meta(ge=0, le=2**53)] = 0
    head: Annotated[str, Meta(max_length=64, pattern=r"^([0-9a-f]{64})?\Z")] = ""
    signature: Annotated[bytes, Meta(max_length=64)] = b""


class Anchor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A signed answer, with what it was the answer to.

    Attributes:
        agreement, membership: as in that hello.
    """

    agreement: Digest
    membership: Number
    presence: Presence

    def signed(self, identity: IdentityKey) -> "Anchor":
        """The same, signed by a hospital."""
        signature = identity.sign(self._content())
        return replace(self, presence=replace(self.presence, signature=signature))

    def require(self, roster: Roster, name: str) -> None:
        """Return only if a hospital of a roster signed it.

        Raises:
            ProtocolError: it did not.
        """
        roster.verify(name, self._content(), self.presence.signature)

    def _content(self) -> bytes:
        # No other message that this key signs begins so, and the array's elements are apart.
        unsigned = replace(self, presence=replace(self.presence, signature=b""))
        return _SIGNED + msgspec.msgpack.encode(unsigned)


class Hello(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Server to hospital.

    Attributes:
        agreement: digest of the file.
        membership: which job of its run this is; later ones have larger numbers.
        finished: rounds that the server has finished, and goes on after.
        remembered: what this hospital signed last, if the server has seen it before.
    """

    agreement: Digest
    membership: Number
    finished: Annotated[int, Meta(ge=0, le=2**31)]
    remembered: Anchor | None = None

    def answered(self, presence: Presence) -> Anchor:
        """An answer to this, as it is signed."""
        return Anchor(self.agreement, self.membership, presence)


# Made here and not at the first message: two threads that make one at once crash msgspec 0.22.
_HELLOS = msgspec.msgpack.Decoder(Hello, strict=True)
_PRESENCES = msgspec.msgpack.Decoder(Presence, strict=True)


def is_hello(data: bytes) -> bool:
    """Whether a message is a `Hello`, and not a request of a stage."""
    return data.startswith(_MARK)


def encode_hello(message: Hello) -> bytes:
    """Hello -> bytes."""
    return _MARK + msgspec.msgpack.encode(message)


def decode_hello(data: bytes) -> Hello:
    """Bytes from the server -> Hello; RunError if they are not one."""
    if len(data) > LONGEST or not is_hello(data):
        raise RunError("not a hello")
    try:
        return _HELLOS.decode(data[len(_MARK) :])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunError(f"malformed hello: {error}") from None


def encode_presence(message: Presence) -> bytes:
    """Presence -> bytes."""
    return msgspec.msgpack.encode(message)


def decode_presence(data: bytes) -> Presence:
    """Bytes from a hospital -> Presence; RunError if they are not one."""
    if len(data) > LONGEST:
        raise RunError(f"an answer to hello of {len(data)} bytes")
    try:
        return _PRESENCES.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunError(f"malformed answer to hello: {error}") from None
