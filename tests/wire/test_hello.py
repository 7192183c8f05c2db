"""Hello and its answer: read strictly, and never taken for a message of a stage."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securefed.errors import RunError
from securefed.wire import hello, messages
from securefed.wire.hello import Hello, Presence
from securefed.wire.messages import Request

ASKED = Hello("a" * 64, 3, 7)


def test_both_are_read_back() -> None:
    answer = Presence("refused", "policy.hours", 4, "phantom")
    assert hello.decode_hello(hello.encode_hello(ASKED)) == ASKED
    again = Hello("a" * 64, 3, 7, ASKED.answered(answer))
    assert hello.decode_hello(hello.encode_hello(again)) == again
    assert hello.decode_presence(hello.encode_presence(answer)) == answer


@given(st.binary(max_size=200))
def test_a_request_is_never_a_hello(body: bytes) -> None:
    request = messages.encode(Request(round=1, stage="work", body=body))
    assert not hello.is_hello(request)
    assert hello.is_hello(hello.encode_hello(ASKED))


@given(st.binary(max_size=300))
def test_other_bytes_are_refused_and_nothing_else(data: bytes) -> None:
    for read in (hello.decode_hello, hello.decode_presence):
        try:
            read(b"hello\0" + data if read is hello.decode_hello else data)
        except RunError:
            continue


@pytest.mark.parametrize(
    "values",
    [("a" * 63, 3, 7), ("A" * 64, 3, 7), ("a" * 64, 0, 7), ("a" * 64, 3, -1), ("a" * 64, 3)],
)
def test_a_hello_out_of_range_is_refused(values: tuple[object, ...]) -> None:
    with pytest.raises(RunError, match="malformed hello"):
        hello.decode_hello(b"hello\0" + msgspec.msgpack.encode(values))


@pytest.mark.parametrize(
    "values",
    [
        ("maybe", "", 0, ""),
        ("refused", "no such file: /home/x", 0, ""),
        ("refused", "x" * 65, 0, ""),
        ("ready", "", 0, "Some Hospital"),
        ("ready", "", 0, "", 3, "not digits"),
        ("ready", "", 0, "", -1, ""),
        ("ready", "", 0, "", 3, "a" * 64, bytes(65)),
    ],
)
def test_an_answer_carries_no_text_of_the_hospital(values: tuple[object, ...]) -> None:
    with pytest.raises(RunError, match="malformed answer"):
        hello.decode_presence(msgspec.msgpack.encode(values))


def test_what_is_too_long_is_not_read() -> None:
    with pytest.raises(RunError):
        hello.decode_hello(b"hello\0" + bytes(2000))
    with pytest.raises(RunError, match="of 2000 bytes"):
        hello.decode_presence(bytes(2000))
