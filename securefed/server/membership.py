"""Who is there: hello to every hospital, until all are ready, have refused, or time is over."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from securefed.errors import RunError
from securefed.wire import hello
from securefed.wire.hello import Hello, Presence
from securefed.wire.transport import Transport

ANSWER_S = 15.0  # for an answer, which a hospital gives within seconds
PAUSE_S = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Present:
    """What came of hello.

    Attributes:
        ready: their names.
        refused: name -> reason code.
        newest: the largest number of a job that anybody has joined.
        simulation: what their patients are, if not people with scans of their own.
    """

    ready: tuple[str, ...]
    refused: Mapping[str, str]
    newest: int
    simulation: str = field(default="")


def gather(
    transport: Transport,
    hospitals: tuple[str, ...],
    asked: Hello,
    deadline_s: float,
    tell: Callable[[str], None],
) -> Present:
    """Ask until every hospital that is connected is ready or has refused.

    Hospitals that are not connected are waited for until the deadline.
    """
    end, told = time.monotonic() + deadline_s, dict.fromkeys(hospitals, "")
    answers: dict[str, Presence] = {}
    while True:
        left = [name for name in hospitals if _open(answers.get(name))]
        if not left or time.monotonic() > end:
            break
        request = hello.encode_hello(asked)
        replies = transport.stage(dict.fromkeys(left, request), ANSWER_S)
        for name in left:
            answer = _read(name, replies.get(name))
            state = f"{answer.state} {answer.reason}".strip() if answer else "not connected"
            if answer:
                answers[name] = answer
            if told[name] != state:
                tell(f"{name}: {state}")
                told[name] = state
        time.sleep(PAUSE_S)
    by_state = {
        state: [name for name in hospitals if name in answers and answers[name].state == state]
        for state in ("ready", "refused")
    }
    kinds = {kind for name in by_state["ready"] for kind in answers[name].simulation.split("+")}
    return Present(
        ready=tuple(by_state["ready"]),
        refused={name: answers[name].reason for name in by_state["refused"]},
        newest=max((each.newest for each in answers.values()), default=0),
        simulation="+".join(sorted(kinds - {""})),
    )


def _open(answer: Presence | None) -> bool:
    return answer is None or answer.state == "opening"


def _read(name: str, data: bytes | None) -> Presence | None:
    if data is None:
        return None
    try:
        return hello.decode_presence(data)
    except RunError as error:
        log.warning("%s: %s", name, error)
        return Presence("refused", type(error).__name__)
