"""Who is there: hello to every hospital, until all are ready, have refused, or time is over.

A hospital is ready where it has signed that it is, with a ledger no older than the server has seen.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from protocols.errors import ProtocolError
from protocols.identity import Roster
from securefed.errors import OldLedger, RunError
from securefed.wire import hello
from securefed.wire.hello import Anchor, Hello, Presence
from securefed.wire.transport import Transport

ANSWER_S = 15.0  # for an answer, which a hospital gives within seconds
LEAVE_S = 5.0  # at the end of a job
PAUSE_S = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Present:
    """What came of hello.

    Attributes:
        ready: their names.
        refused: name -> reason code.
        anchors: what those that are ready have signed.
        asked, requests: what all were asked, and what each got.
        newest: the largest number of a job that anybody has joined who refused this one.
        simulation: what their patients are, if not people with scans of their own.
    """

    ready: tuple[str, ...]
    refused: Mapping[str, str]
    anchors: Mapping[str, Anchor]
    asked: Hello
    requests: Mapping[str, bytes]
    newest: int
    simulation: str = field(default="")


def gather(
    transport: Transport,
    roster: Roster,
    asked: Hello,
    before: Mapping[str, Anchor],
    deadline_s: float,
    tell: Callable[[str], None],
) -> Present:
    """Ask until every hospital that can be asked is ready or has refused, or time is over.

    Args:
        asked: the same for all.
        before: what each has signed last, as the server remembers it.
    """
    hospitals, reachable = roster.names, frozenset(transport.clients())
    end, told = time.monotonic() + deadline_s, dict.fromkeys(hospitals, "")
    for name in hospitals:
        if name not in reachable:
            tell(f"{name}: not connected")
    requests = {
        name: hello.encode_hello(replace(asked, remembered=before.get(name))) for name in hospitals
    }
    answers: dict[str, Presence] = {}
    while True:
        left = [name for name in hospitals if name in reachable and _open(answers.get(name))]
        if not left or time.monotonic() > end:
            break
        replies = transport.stage({name: requests[name] for name in left}, ANSWER_S)
        for name in left:
            answer = _read(name, replies.get(name))
            if answer and answer.state == "ready":
                answer = _believed(name, answer, asked, roster, before.get(name))
            state = f"{answer.state} {answer.reason}".strip() if answer else "no answer yet"
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
        asked=asked,
        requests=requests,
        anchors={name: asked.answered(answers[name]) for name in by_state["ready"]},
        newest=max((answers[name].newest for name in by_state["refused"]), default=0),
        simulation="+".join(sorted(kinds - {""})),
    )


def take_leave(transport: Transport, roster: Roster, present: Present) -> dict[str, Anchor]:
    """What hospitals sign at the end of a job: how far their ledgers have come in it.

    They are asked what they were asked before it, and answer at once. Whoever is gone, or signs
    less than before, is left out: the next hello tells.
    """
    requests = {name: present.requests[name] for name in present.ready}
    signed = {}
    for name, data in transport.stage(requests, LEAVE_S).items():
        answer = _read(name, data)
        if answer and answer.state == "ready":
            answer = _believed(name, answer, present.asked, roster, present.anchors[name])
            if answer.state == "ready":
                signed[name] = present.asked.answered(answer)
    return signed


class Among:
    """A transport to everybody but those that were refused, who get nothing to work on."""

    def __init__(self, transport: Transport, refused: Collection[str]) -> None:
        self._transport, self._refused = transport, frozenset(refused)

    def clients(self) -> list[str]:
        return [name for name in self._transport.clients() if name not in self._refused]

    def stage(self, requests: Mapping[str, bytes], deadline_s: float) -> dict[str, bytes]:
        asked = {name: data for name, data in requests.items() if name not in self._refused}
        return self._transport.stage(asked, deadline_s)


def _open(answer: Presence | None) -> bool:
    return answer is None or answer.state == "opening"


def _believed(
    name: str, answer: Presence, asked: Hello, roster: Roster, before: Anchor | None
) -> Presence:
    """That a hospital is ready; its refusal where it did not sign so, or its ledger is older."""
    try:
        asked.answered(answer).require(roster, name)
    except ProtocolError as error:
        log.warning("%s: %s", name, error)
        return Presence("refused", type(error).__name__)
    if before is None:
        return answer
    rows, seen = answer.rows, before.presence
    if rows < seen.rows or (rows == seen.rows and answer.head != seen.head):
        log.warning("%s: its ledger has %d rows, and had %d", name, rows, seen.rows)
        return Presence("refused", OldLedger.__name__)
    return answer


def _read(name: str, data: bytes | None) -> Presence | None:
    if data is None:
        return None
    try:
        return hello.decode_presence(data)
    except RunError as error:
        log.warning("%s: %s", name, error)
        return Presence("refused", type(error).__name__)
