"""Messages: what goes in comes out, and nothing else is let in."""

from collections.abc import Callable
from contextlib import suppress
from typing import get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from securefed.errors import RunError
from securefed.wire import messages
from securefed.wire.messages import PlainContribution, Reply, Request, Stage

STAGES = get_args(Stage)
DECODERS: tuple[Callable[[bytes], object], ...] = (
    messages.decode_request,
    messages.decode_reply,
    messages.decode_contribution,
)

_rounds = st.integers(0, 2**32 - 1)
_requests = st.builds(
    Request,
    round=_rounds,
    stage=st.sampled_from(STAGES),
    body=st.binary(max_size=50),
    train=st.booleans(),
    evaluate=st.booleans(),
    shared=st.binary(max_size=50),
)
_replies = st.builds(
    Reply,
    round=_rounds,
    stage=st.sampled_from(STAGES),
    body=st.binary(max_size=50),
    refusal=st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,63}|", fullmatch=True),
)
_contributions = st.builds(
    PlainContribution,
    update=st.binary(max_size=50),
    patients=_rounds,
    counts=st.lists(_rounds, max_size=10),
)


@given(request=_requests, reply=_replies, contribution=_contributions)
@settings(max_examples=60, deadline=None)
def test_messages_survive_the_wire(request: Request, reply: Reply, contribution: PlainContribution):
    assert messages.decode_request(messages.encode(request)) == request
    assert messages.decode_reply(messages.encode(reply)) == reply
    assert messages.decode_contribution(messages.encode(contribution)) == contribution


@given(data=st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_garbage_is_refused_never_an_accident(data: bytes):
    for decode in DECODERS:
        with suppress(RunError):
            decode(data)


@given(
    message=st.one_of(_requests, _replies, _contributions),
    place=st.integers(0, 10_000),
    byte=st.integers(0, 255),
)
@settings(max_examples=200, deadline=None)
def test_a_message_with_one_changed_byte_is_read_or_refused_never_an_accident(
    message: Request | Reply | PlainContribution, place: int, byte: int
):
    data = bytearray(messages.encode(message))
    data[place % len(data)] = byte
    for decode in DECODERS:
        with suppress(RunError):
            decode(bytes(data))


@given(message=st.one_of(_requests, _replies, _contributions), cut=st.integers(1, 10_000))
@settings(max_examples=50, deadline=None)
def test_truncated_messages_and_trailing_bytes_are_refused(
    message: Request | Reply | PlainContribution, cut: int
):
    data = messages.encode(message)
    decode = DECODERS[(Request, Reply, PlainContribution).index(type(message))]
    for wrong in (data[: -(1 + cut % len(data))], data + b"\x00"):
        with pytest.raises(RunError, match="malformed"):
            decode(wrong)


@pytest.mark.parametrize(
    "fields",
    [
        [1, "work", b"", False, False, b"", "one more"],
        [1],
        [1, "sabotage"],
        ["1", "work"],
        [1.0, "work"],
        [True, "work"],
        [2**32, "work"],
        [-1, "work"],
        [1, "work", "text for bytes"],
        [1, "work", b"", 1],
        {"round": 1, "stage": "work"},
        None,
    ],
)
def test_requests_of_another_form_are_refused(fields: object):
    with pytest.raises(RunError, match="malformed request"):
        messages.decode_request(msgspec.msgpack.encode(fields))


@pytest.mark.parametrize(
    "refusal",
    ["x" * 65, "two words", "line\nbreak", "Name\n", "\x1b[2J", "/srv/patients/17", "Fehler\u00e4"],
)
def test_a_refusal_is_the_name_of_an_error_and_no_text(refusal: str):
    with pytest.raises(RunError, match="malformed reply"):
        messages.decode_reply(msgspec.msgpack.encode([1, "work", b"", refusal]))


def test_text_that_is_not_utf8_is_refused_like_any_other_garbage():
    data = msgspec.msgpack.encode([1, "work", b"", "X"]).replace(b"\xa1X", b"\xa1\xff")
    with pytest.raises(RunError, match="malformed reply"):
        messages.decode_reply(data)


def test_deeply_nested_input_is_refused():
    for prefix in (b"", b"\x94\x01\xa4work\xc4\x00"):
        with pytest.raises(RunError, match="malformed"):
            messages.decode_reply(prefix + b"\x91" * 100_000)


def test_an_oversized_message_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch):
    data = messages.encode(Request(round=1, stage="work", shared=bytes(100)))
    assert messages.decode_request(data, len(data)).shared == bytes(100)
    monkeypatch.setattr(msgspec.msgpack, "decode", lambda *_, **__: pytest.fail("it was parsed"))
    for decode in (messages.decode_request, messages.decode_reply):
        with pytest.raises(RunError, match=f"{len(data)} bytes is over the limit"):
            decode(data, len(data) - 1)
    monkeypatch.setattr(messages, "LARGEST_MESSAGE", len(data) - 1)
    with pytest.raises(RunError, match=f"{len(data)} bytes is over the limit"):
        messages.decode_contribution(data)


@given(vector=arrays.arrays(np.float32, st.integers(0, 20)))
@settings(max_examples=50, deadline=None)
def test_vectors_survive_the_wire_bit_for_bit(vector: np.ndarray):
    data = messages.vector_to_bytes(vector)
    back = messages.vector_from_bytes(data)
    assert len(data) == 4 * len(vector)
    assert back.dtype == np.float32
    assert back.tobytes() == vector.tobytes()
    assert back.flags.writeable


def test_vectors_are_little_endian_on_every_machine():
    assert messages.vector_to_bytes(np.array([1.0, -2.0], np.float32)).hex() == "0000803f000000c0"
    assert messages.vector_to_bytes(np.array([1.0], ">f4")).hex() == "0000803f"


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_a_vector_of_a_broken_length_is_refused(length: int):
    with pytest.raises(RunError, match="whole number of float32"):
        messages.vector_from_bytes(bytes(length))


@pytest.mark.parametrize(
    "counts",
    [[0] * (messages.LONGEST_HISTOGRAM + 1), [-(2**32) - 1], [2**32], [0.5], [True]],
    ids=["too long", "too small", "too large", "fraction", "truth value"],
)
def test_a_histogram_that_no_hospital_sends_is_refused(counts: list[object]):
    with pytest.raises(RunError, match="malformed plaincontribution"):
        messages.decode_contribution(msgspec.msgpack.encode([b"", 1, counts]))


@pytest.mark.parametrize("patients", [-1, 2**32, "12"])
def test_a_number_of_patients_that_is_none_is_refused(patients: object):
    with pytest.raises(RunError, match="malformed plaincontribution"):
        messages.decode_contribution(msgspec.msgpack.encode([b"", patients, []]))
