"""The in-process transport loses what a real network would lose, and nothing else."""

import logging
import threading
import time
from collections.abc import Callable

import pytest

from securefed.simulation.in_process import InProcessTransport

PATIENCE_S = 10.0  # for what must happen; only a broken transport waits that long


def test_each_client_gets_its_own_request_and_answers_in_its_own_name():
    def answering(name: str) -> Callable[[bytes], bytes]:
        return lambda data: data + name.encode()

    transport = InProcessTransport({name: answering(name) for name in "abc"})
    assert sorted(transport.clients()) == ["a", "b", "c"]
    replies = transport.stage({"a": b"1", "c": b"3"}, PATIENCE_S)
    assert replies == {"a": b"1a", "c": b"3c"}
    assert transport.stage({}, PATIENCE_S) == {}


def test_clients_work_at_the_same_time():
    together = threading.Barrier(3, timeout=PATIENCE_S)

    def handler(data: bytes) -> bytes:
        together.wait()
        return data

    transport = InProcessTransport(dict.fromkeys("abc", handler), workers=3)
    assert len(transport.stage(dict.fromkeys("abc", b"x"), PATIENCE_S)) == 3


def test_a_client_that_raises_gives_no_reply_and_is_asked_again(
    caplog: pytest.LogCaptureFixture,
):
    calls = []

    def fails_once(data: bytes) -> bytes:
        calls.append(data)
        if len(calls) == 1:
            raise OSError("disk full")
        return data

    transport = InProcessTransport({"a": fails_once, "b": lambda data: data})
    with caplog.at_level(logging.ERROR):
        assert transport.stage({"a": b"1", "b": b"1"}, PATIENCE_S) == {"b": b"1"}
    assert "disk full" in caplog.text
    assert transport.stage({"a": b"2", "b": b"2"}, PATIENCE_S) == {"a": b"2", "b": b"2"}


class _Slow:
    """A handler that answers when it is released; records what it was asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.released, self.done = threading.Event(), threading.Event()

    def __call__(self, data: bytes) -> bytes:
        self.asked.append(data)
        assert self.released.wait(PATIENCE_S)
        self.done.set()
        return data


def _wait_until_idle(name: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while any(thread.name == name for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_late_client_has_no_reply_is_left_alone_while_busy_and_returns_later():
    slow = _Slow()
    transport = InProcessTransport({"late": slow, "quick": lambda data: data}, workers=2)
    first = transport.stage({"late": b"1", "quick": b"1"}, 0.05)
    assert first == {"quick": b"1"}
    second = transport.stage({"late": b"2", "quick": b"2"}, 0.05)
    assert second == {"quick": b"2"}
    assert slow.asked == [b"1"]  # not even asked: it is still busy
    slow.released.set()
    assert slow.done.wait(PATIENCE_S)
    _wait_until_idle("late")
    assert first == {"quick": b"1"}  # the late reply appears nowhere
    assert second == {"quick": b"2"}
    assert transport.stage({"late": b"3"}, PATIENCE_S) == {"late": b"3"}
    assert slow.asked == [b"1", b"3"]


def test_one_deadline_holds_for_all_and_hanging_clients_do_not_keep_the_process():
    slow = {name: _Slow() for name in "abcd"}
    transport = InProcessTransport(slow, workers=4)
    start = time.monotonic()
    assert transport.stage(dict.fromkeys(slow, b"x"), 0.25) == {}
    assert 0.25 <= time.monotonic() - start < 0.75  # four deadlines would be a second
    hanging = [thread for thread in threading.enumerate() if thread.name in slow]
    assert len(hanging) == 4
    assert all(thread.daemon for thread in hanging)
    for each in slow.values():
        each.released.set()
    for name in slow:
        _wait_until_idle(name)


def test_no_more_clients_work_at_a_time_than_there_are_workers():
    working: list[int] = []
    most, lock = 0, threading.Lock()

    def handler(data: bytes) -> bytes:
        nonlocal most
        with lock:
            working.append(1)
            most = max(most, len(working))
        time.sleep(0.002)
        with lock:
            working.pop()
        return data

    names = [f"h{number}" for number in range(30)]
    transport = InProcessTransport(dict.fromkeys(names, handler), workers=2)
    assert transport.stage(dict.fromkeys(names, b"x"), PATIENCE_S).keys() == set(names)
    assert most == 2


def test_a_client_that_waits_for_a_worker_is_not_late_by_that():
    slow = _Slow()
    transport = InProcessTransport({"slow": slow, "waits": lambda data: data}, workers=1)
    requests = {"slow": b"1", "waits": b"2"}
    assert transport.stage(requests, 0.1) == {"waits": b"2"}  # after the other's whole deadline
    slow.released.set()
    _wait_until_idle("slow")
    assert transport.stage(requests, PATIENCE_S) == requests
