"""How the server gets the total of a round: in the clear, or only the unmasked sum.

Both take the same work request and return the same `Summed`. `PlainSummation` sees each
contribution. `SecureSummation` drives the steps of `protocols.server` over the transport and sees
masked vectors and their sum; the next round's keys and shares ride on the current round's messages
(three exchanges a round instead of five) as long as nobody drops out.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from protocols.complaints import Complaints
from protocols.errors import BadShare, ThresholdMissed
from protocols.identity import Roster
from protocols.parameters import JobRules
from protocols.server import SecureSumServer
from securefed.errors import RoundAborted, RunError
from securefed.wire import messages
from securefed.wire.contribution import Layout, Total, Words
from securefed.wire.messages import Request, Stage
from securefed.wire.plain import plain_contribution, plain_total
from securefed.wire.transport import Transport


@dataclass(frozen=True)
class Summed:
    """One round's total, who is in it, and why others are not.

    Attributes:
        total: mean update, patients and evaluation counts of the survivors.
        survivors: names of the clients in the sum.
        dropped: name -> reason.
        server_s: seconds of the server's own computation, waiting excluded.
        words: the sum in the ring before decoding, (words,); None without masks.
    """

    total: Total
    survivors: tuple[str, ...]
    dropped: dict[str, str]
    server_s: float
    words: Words | None = field(default=None, repr=False)


class Summation(Protocol):
    """Asks a cohort for contributions and returns their total."""

    def sum(self, work: Request, cohort: Sequence[str], following: Sequence[str] | None) -> Summed:
        """Run one round; `following` is the next round's cohort, if there will be one.

        Raises:
            RoundAborted: too few clients answered.
        """
        ...


def ask(
    transport: Transport, requests: Mapping[str, Request], deadline_s: float
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Send one stage; returns the bodies of good replies, and name -> reason for the rest."""
    encoded = {name: messages.encode(request) for name, request in requests.items()}
    replies = transport.stage(encoded, deadline_s)
    bodies: dict[str, bytes] = {}
    dropped: dict[str, str] = {}
    for name, request in requests.items():
        if name not in replies:
            dropped[name] = f"no reply to {request.stage} within {deadline_s:g} s"
            continue
        try:
            reply = messages.decode_reply(replies[name])
        except RunError as error:
            dropped[name] = str(error)
            continue
        if (reply.round, reply.stage) != (request.round, request.stage):
            dropped[name] = f"replied for round {reply.round} {reply.stage}"
        elif reply.refusal:
            dropped[name] = f"refused {request.stage}: {reply.refusal}"
        else:
            bodies[name] = reply.body
    return bodies, dropped


class PlainSummation:
    """FedAvg over contributions that the server sees one by one."""

    def __init__(
        self,
        transport: Transport,
        parameters: int,
        max_patients: int,
        minimum: int,
        deadline_s: float,
    ) -> None:
        self._transport = transport
        self._parameters = parameters
        self._max_patients = max_patients
        self._minimum = minimum
        self._deadline_s = deadline_s

    def sum(self, work: Request, cohort: Sequence[str], following: Sequence[str] | None) -> Summed:
        bodies, dropped = ask(self._transport, dict.fromkeys(cohort, work), self._deadline_s)
        start = time.perf_counter()
        contributions = {}
        for name, body in bodies.items():
            try:
                contributions[name] = plain_contribution(body, self._parameters, self._max_patients)
            except RunError as error:
                dropped[name] = str(error)
        _require(len(contributions), self._minimum, work.round, dropped)
        # Sorted: the sum must not depend on who answered first.
        survivors = tuple(sorted(contributions))
        total = plain_total([contributions[name] for name in survivors])
        return Summed(total, survivors, dropped, time.perf_counter() - start)


class SecureSummation:
    """FedAvg over masked contributions; the server learns the total only.

    Args:
        sums: how many this job has made before; more than 0 only where recorded ones are replayed.
    """

    def __init__(
        self,
        transport: Transport,
        layout: Layout,
        roster: Roster,
        rules: JobRules,
        minimum: int,
        deadline_s: float,
        *,
        sums: int = 0,
    ) -> None:
        self._transport = transport
        self._layout = layout
        self._roster = roster
        self._rules = rules
        self._minimum = minimum
        self._deadline_s = deadline_s
        self._sums = sums  # the protocol numbers its sums itself: none is ever tried again
        self._complaints = Complaints()  # of the whole job: a liar is out of further rounds
        self._pipelined: SecureSumServer | None = None

    def sum(self, work: Request, cohort: Sequence[str], following: Sequence[str] | None) -> Summed:
        watch = _Stopwatch()
        dropped: dict[str, str] = {}
        server = self._pipelined
        self._pipelined = None
        try:
            if server is None:
                server = self._open(cohort)
                adverts = self._exchange(
                    work, "advertise", server.request_advertise(), dropped, watch
                )
                server.receive_advertise(adverts)
                shares = self._exchange(work, "share", server.request_share(), dropped, watch)
                server.receive_share(shares)
            # Only who takes part now can be asked for the next round's keys on the way.
            ride = following is not None and set(following) <= set(cohort)
            upcoming = self._open(following) if following and ride else None
            if upcoming:
                server.pipeline(upcoming)
            requests = server.request_mask(messages.statement_of(work))
            server.receive_mask(self._exchange(work, "work", requests, dropped, watch))
            arrived = len(cohort) - len(set(server.dropped) | set(dropped))
            _require(arrived, self._minimum, work.round, dropped)  # before anything is opened
            if self._rules.consistency:
                confirmations = self._exchange(
                    work, "confirm", server.request_confirm(), dropped, watch
                )
                server.receive_confirm(confirmations)
            openings = self._exchange(work, "unmask", server.request_unmask(), dropped, watch)
            server.receive_unmask(openings)
            words, survivors = server.result()
        except (ThresholdMissed, BadShare) as error:
            reasons = {**(server.dropped if server else {}), **dropped}
            raise _aborted(str(error), reasons) from None
        dropped = {**server.dropped, **dropped}
        if upcoming and set(upcoming.rules.cohort) <= set(survivors) and not dropped:
            # Somebody who missed this round may answer the next: then it starts afresh instead.
            self._pipelined = upcoming
        total = self._layout.decode(words, work.round)
        return Summed(total, survivors, dropped, watch.stop(), words)

    def _open(self, cohort: Sequence[str]) -> SecureSumServer:
        self._sums += 1
        return SecureSumServer(
            self._roster, self._rules, self._sums, cohort, complaints=self._complaints
        )

    def _exchange(
        self,
        work: Request,
        stage: Stage,
        bodies: Mapping[str, bytes],
        dropped: dict[str, str],
        watch: "_Stopwatch",
    ) -> dict[str, bytes]:
        blank = Request(round=work.round, stage=stage)
        base = work if stage == "work" else blank
        requests = {name: msgspec.structs.replace(base, body=body) for name, body in bodies.items()}
        with watch.paused():
            replies, missing = ask(self._transport, requests, self._deadline_s)
        dropped.update(missing)
        return replies


class _Stopwatch:
    """Seconds since creation, without the time paused."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def paused(self) -> "_Stopwatch":
        return self

    def __enter__(self) -> None:
        self._paused_at = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._start += time.perf_counter() - self._paused_at

    def stop(self) -> float:
        return time.perf_counter() - self._start


def _require(survivors: int, minimum: int, round_number: int, dropped: dict[str, str]) -> None:
    if survivors < minimum:
        raise _aborted(
            f"round {round_number}: {survivors} hospitals answered, federation.minimum_clients "
            f"is {minimum}",
            dropped,
        )


def _aborted(message: str, dropped: dict[str, str]) -> RoundAborted:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(dropped.items()))
    return RoundAborted(message, hint=reasons or "nobody gave a reason")
