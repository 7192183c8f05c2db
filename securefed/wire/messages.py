"""What the server asks of a client and what it gets back, as bytes.

One round of a `secure` run is five stages: advertise, share, work, confirm, unmask; four of them
carry a message of `protocols` untouched, and `work` carries the shared parameters down and the
masked contribution up. Without secure aggregation the round is the single stage `work`, and the
contribution comes back in the clear.

Messages are msgpack with fixed fields: unknown fields, wrong types and oversized parts are refused
before anything is used. No pickle.
"""

from typing import Annotated, Literal, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from protocols.attestations import statement
from securefed.errors import RunError
from securefed.model.sharing import Vector

# Bytes of what nobody has said more of: parts of messages, and recordings. `limits` has the rest.
LARGEST_MESSAGE = 2**30  # a ResNet-18 pair with everything shared is about 90 MB
# Far above the histogram's length, which the summation asks for exactly: a message of a gigabyte of
# one-byte numbers would otherwise become a list ten times its size before anybody looks.
LONGEST_HISTOGRAM = 2**16

Stage = Literal["advertise", "share", "work", "confirm", "unmask"]
Round = Annotated[int, Meta(ge=0, le=2**32 - 1)]
# The name of an error class. It ends in the server's log and on its terminal: no control
# characters, no text, no length of the sender's choice.
ErrorName = Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_]*\Z")]
Count = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Noised = Annotated[int, Meta(ge=-(2**32), le=2**32 - 1)]
Message = TypeVar("Message")


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Server to client.

    Attributes:
        round: a step of the public plan (wire.plan).
        stage: which stage of it.
        body: the message of `protocols` for this stage; empty without secure aggregation.
        train: at stage work: train from the received parameters and contribute an update.
        evaluate: at stage work, instead: score held-out patients with them.
        shared: at stage work: the shared parameters, float32 little-endian; where it describes,
            nothing, or means of scans.
        describe: at stage work, instead: say what training patients' scans look like.
    """

    round: Round
    stage: Stage
    body: bytes = b""
    train: bool = False
    evaluate: bool = False
    shared: bytes = b""
    describe: bool = False


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Client to server.

    Attributes:
        round, stage: those of the request.
        body: the message of `protocols`, or a `PlainContribution` without secure aggregation.
        refusal: empty, or the kind of error that made the client refuse. Never a message text:
            that could carry a path or a value of the hospital.
        accused: whose part of the request made the client refuse, as a place in the cohort.
    """

    round: Round
    stage: Stage
    body: bytes = b""
    refusal: ErrorName = ""
    accused: Annotated[int, Meta(ge=0, lt=2**16)] | None = None


class PlainContribution(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A client's contribution where nothing is masked.

    Attributes:
        update: difference of the shared parameters, float32 little-endian; empty from scoring.
        patients: training patients, the FedAvg weight; 0 from scoring.
        counts: histogram of held-out scores, or a sum over scans (see wire.contribution); empty
            from training.
    """

    update: bytes
    patients: Count
    counts: Annotated[list[Noised], Meta(max_length=LONGEST_HISTOGRAM)]


def encode(message: Request | Reply | PlainContribution) -> bytes:
    """Message -> bytes."""
    return msgspec.msgpack.encode(message)


def statement_of(work: Request) -> bytes:
    """Digest of what a hospital was asked to compute on: round, flags, shared parameters.

    Bound into the masks: contributions add up only if all hospitals were asked the same. The body
    differs from hospital to hospital by design and has its own checks in `protocols`.
    """
    flags = bytes([work.train, work.evaluate, *([True] if work.describe else [])])
    return statement(b"securefed work", work.round.to_bytes(4, "big"), flags, work.shared)


def decode_request(data: bytes, longest: int = LARGEST_MESSAGE) -> Request:
    """Bytes from the server -> Request; RunError if they are not one, or more than `longest`."""
    return _decode(data, Request, longest)


def decode_reply(data: bytes, longest: int = LARGEST_MESSAGE) -> Reply:
    """Bytes from a client -> Reply; RunError if they are not one, or more than `longest`."""
    return _decode(data, Reply, longest)


def decode_contribution(data: bytes) -> PlainContribution:
    """Body of a plain reply -> PlainContribution; RunError if it is not one."""
    return _decode(data, PlainContribution, LARGEST_MESSAGE)


def require_length(data: bytes, longest: int) -> None:
    """Refuse with RunError what is longer than it can be."""
    if len(data) > longest:
        raise RunError(f"message of {len(data)} bytes is over the limit {longest}")


def _decode(data: bytes, kind: type[Message], longest: int) -> Message:
    require_length(data, longest)
    try:
        return msgspec.msgpack.decode(data, type=kind, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunError(f"malformed {kind.__name__.lower()}: {error}") from None


def vector_to_bytes(vector: Vector) -> bytes:
    """float32 vector -> little-endian bytes."""
    return vector.astype("<f4", copy=False).tobytes()


def vector_from_bytes(data: bytes) -> Vector:
    """Little-endian bytes -> float32 vector; RunError if the length is not a multiple of 4."""
    if len(data) % 4:
        raise RunError(f"vector of {len(data)} bytes is not a whole number of float32 values")
    return np.frombuffer(data, "<f4").astype(np.float32)
