"""A job of FLARE's that does what a test orders: it dies, hangs, lies, or finds its disk full.

Python loads this by its name, where a test puts this folder on PYTHONPATH of a client or a server:
the product's own programs, unchanged but for what is ordered. An order is a file, taken by whoever
carries it out; `tests.engine.machines.Orders` writes it.

    kill.MOMENT, hang.MOMENT    MOMENT: a stage (as its request comes), masking, committing,
                                committed
    garbage.STAGE               answer with bytes that are no message
    old.STAGE                   answer as in an earlier round, under this round's number
    another.advertise           keys in another hospital's name
    full.saving                 no space is left where the check point goes

Beside that it notes which of SECUREFED_TEST_WORDS FLARE is given to send (given.N), and which of
them are still readable in what it sends (sent.N). SECUREFED_TEST_AHEAD_S sets FLARE's clock ahead.
SECUREFED_TEST_TIMES is a file for how long things take.
"""

import errno
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

MUSTER = "scans/Muster^Maria/1.dcm"  # what an error of a hospital's may name
SIGNALS = {"kill": signal.SIGKILL, "hang": signal.SIGSTOP}


def ordered(deed: str, moment: str) -> bool:
    """Whether a test has ordered this; only one order is carried out by each file."""
    order = Path(os.environ["SECUREFED_TEST_ORDERS"]) / f"{deed}.{moment}"
    try:
        order.rename(order.with_suffix(f".{moment}.done"))
    except FileNotFoundError:
        return False
    return True


def perhaps(moment: str) -> None:
    """Die or hang here, if that was ordered."""
    for deed, number in SIGNALS.items():
        if ordered(deed, moment):
            os.kill(os.getpid(), number)


def client() -> None:
    """What a hospital's job may be ordered to do."""
    import msgspec

    from protocols import messages as protocol
    from securefed.engine.flare.executor import FederationExecutor
    from securefed.wire import hello, messages

    honest = FederationExecutor._answer
    before: dict[str, bytes] = {}  # stage -> body of the newest honest reply
    training = True  # and not scoring

    def lie(stage: str, reply: messages.Reply) -> bytes | None:
        if ordered("garbage", stage):
            return b"\xc1" * 100
        if stage in before and ordered("old", stage):
            return messages.encode(msgspec.structs.replace(reply, body=before[stage]))
        if stage == "advertise" and ordered("another", stage):
            advert = msgspec.msgpack.decode(reply.body, type=protocol.Advert)
            other = msgspec.structs.replace(advert, sender=(advert.sender + 1) % 4)
            return messages.encode(msgspec.structs.replace(reply, body=protocol.encode(other)))
        return None

    def answer(self: Any, topic: str, request: Any, fl_ctx: Any) -> Any:
        data = request.get("body")
        if self._member is None or hello.is_hello(data):
            return honest(self, topic, request, fl_ctx)
        asked = messages.decode_request(data)
        nonlocal training
        if asked.stage == "work":
            training = asked.train
        if training:
            perhaps(asked.stage)
        shareable = honest(self, topic, request, fl_ctx)
        reply = messages.decode_reply(shareable["body"])
        if not reply.refusal and training:
            lied = lie(asked.stage, reply)
            if lied is not None:
                shareable["body"] = lied
            else:
                before[asked.stage] = reply.body
        return shareable

    FederationExecutor._answer = answer  # type: ignore[method-assign]
    late(
        "protocols.client",
        lambda module: wrapped(module.SecureSumClient, "mask", lambda: perhaps("masking")),
    )
    late("securefed.hospital.check_point", lambda module: wrapped(module, "save_tensors", full))


def full() -> None:
    """What the system says of a disk without space."""
    if ordered("full", "saving"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), MUSTER)


def server() -> None:
    """What the server's job may be ordered to do."""
    late(
        "securefed.server.check_point",
        lambda module: wrapped(
            module, "save", lambda: perhaps("committing"), lambda: perhaps("committed")
        ),
    )


def watch(words: list[bytes]) -> None:
    """Note which words FLARE is given to send, and which of them leave it readable, below TLS."""
    folder = Path(os.environ["SECUREFED_TEST_ORDERS"])

    def note(where: str, content: Any) -> None:
        for number, word in enumerate(words):
            if isinstance(content, bytes | bytearray | memoryview) and word in bytes(content):
                (folder / f"{where}.{number}").touch()

    def given(module: Any) -> None:
        encrypt = module.CoreCell.encrypt_payload

        def noted(self: Any, message: Any) -> None:
            note("given", message.payload)
            encrypt(self, message)

        module.CoreCell.encrypt_payload = noted

    def sent(module: Any) -> None:
        send = module.ConnManager.send_message

        def noted(self: Any, endpoint: Any, app: int, headers: Any, payload: Any) -> None:
            note("sent", payload)
            send(self, endpoint, app, headers, payload)

        module.ConnManager.send_message = noted

    late("nvflare.fuel.f3.cellnet.core_cell", given)
    late("nvflare.fuel.f3.sfm.conn_manager", sent)


def clock(place: Path) -> None:
    """Note how long each stage takes at the server, and at a hospital for its own part."""

    def note(**what: Any) -> None:
        with place.open("a") as out:
            out.write(json.dumps(what) + "\n")

    def timed(owner: Any, name: str, asked: Any) -> None:
        function = getattr(owner, name)

        def both(self: Any, request: Any, *more: Any) -> Any:
            from securefed.wire import hello, messages

            data, before = asked(request), time.perf_counter()
            reply = function(self, request, *more)
            took_s = time.perf_counter() - before
            if data is None or hello.is_hello(data):
                note(what="hello", seconds=took_s)
            else:
                step = messages.decode_request(data)
                note(what=name, round=step.round, stage=step.stage, seconds=took_s)
            return reply

        setattr(owner, name, both)

    def first(requests: Any) -> bytes | None:
        return next(iter(requests.values()), None)

    late(
        "securefed.engine.flare.transport",
        lambda module: timed(module.FlareTransport, "stage", first),
    )
    late(
        "securefed.hospital.member",
        lambda module: timed(module.Member, "handle", lambda data: data),
    )


def wrapped(owner: Any, name: str, first: Any, then: Any = lambda: None) -> None:
    """Have something done before a function, and after it."""
    function = getattr(owner, name)

    def both(*arguments: Any, **named: Any) -> Any:
        first()
        result = function(*arguments, **named)
        then()
        return result

    setattr(owner, name, both)


def late(name: str, change: Any) -> None:
    """Change a module when it has been loaded; loading it here would change when that is."""
    import importlib.util

    class Finder:
        @staticmethod
        def find_spec(wanted: str, path: Any = None, target: Any = None) -> Any:
            if wanted != name:
                return None
            sys.meta_path.remove(Finder)
            spec = importlib.util.find_spec(name)
            assert spec
            assert spec.loader
            load = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                load(module)
                change(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
            return spec

    sys.meta_path.insert(0, Finder)


if "SECUREFED_TEST_ORDERS" in os.environ:
    words = os.environ["SECUREFED_TEST_WORDS"].split("\n")
    watch([word.encode() for word in words if word])
    ahead_s = float(os.environ.get("SECUREFED_TEST_AHEAD_S", "0"))
    if ahead_s:
        now = time.time
        time.time = lambda: now() + ahead_s
    command = Path("/proc/self/cmdline").read_bytes()
    if "SECUREFED_TEST_TIMES" in os.environ and b"r_process" in command:
        clock(Path(os.environ["SECUREFED_TEST_TIMES"]))
    if b"client.worker_process" in command:
        client()
    elif b"server.runner_process" in command:
        server()
