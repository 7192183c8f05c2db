"""Hello: how the server finds out who is there and ready, before it asks for any work.

A hospital opens in the time that it needs (patients to read, noise to solve), so it answers at
once, also that it is not ready yet, and is asked again. What it is asked to join is named by the
digest of an agreement that it has accepted; nothing else that it trusts comes from the server.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from securefed.errors import RunError

LONGEST = 1024  # bytes of either message
_MARK = b"hello\0"  # no other message begins so: theirs are arrays of msgpack

Reason = Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_.]*\Z")]
State = Literal["opening", "ready", "refused"]


class Hello(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Server to hospital.

    Attributes:
        agreement: digest of the file.
        membership: which job of its run this is; later ones have larger numbers.
        finished: rounds that the server has finished, and goes on after.
    """

    agreement: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    membership: Annotated[int, Meta(ge=1, le=2**31)]
    finished: Annotated[int, Meta(ge=0, le=2**31)]


class Presence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Hospital to server.

    Attributes:
        reason: of a refusal, a kind of error or the policy's key; never a text of the hospital's.
        newest: the last membership that it has joined.
        simulation: what its patients are, if not people with scans of their own: a public fact.
    """

    state: State
    reason: Reason = ""
    newest: Annotated[int, Meta(ge=0, le=2**31)] = 0
    simulation: Annotated[str, Meta(max_length=64, pattern=r"^[a-z+-]*\Z")] = ""


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
        return msgspec.msgpack.decode(data[len(_MARK) :], type=Hello, strict=True)
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
        return msgspec.msgpack.decode(data, type=Presence, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunError(f"malformed answer to hello: {error}") from None
