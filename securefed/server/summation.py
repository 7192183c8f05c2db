"""How the server gets the total of a round: in the clear, or only the unmasked sum.

Both take the same work request and return the same `Summed`. `PlainSummation` sees each
contribution. `SecureSummation` drives the steps of `protocols.server` over the transport and sees
masked vectors and their sum; the next step's keys and shares ride on the current one's messages
(three exchanges instead of five) as long as nobody drops out.
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
from securefed.errors import AskedBefore, RoundAborted, RunError
from securefed.server.answers import Answers, ask
from securefed.server.honest_sums import require_sum
from securefed.wire import messages
from securefed.wire.contribution import (
    Layout,
    ScoreLayout,
    Total,
    Words,
    counts_layout,
    vector_length,
)
from securefed.wire.limits import Limits
from securefed.wire.messages import Request, Stage
from securefed.wire.openings import Openings, question_of
from securefed.wire.plain import plain_contribution, plain_scores_total, plain_total
from securefed.wire.plan import Step
from securefed.wire.transport import Transport
from securefed.wording import first_of


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

    def sum(self, work: Request, cohort: Sequence[str], following: Step | None) -> Summed:
        """Sum the answers to one step; `following` is the next one, if there will be one.

        Raises:
            RoundAborted: too few clients answered.
        """
        ...


class PlainSummation:
    """FedAvg over contributions that the server sees one by one."""

    def __init__(
        self,
        transport: Transport,
        parameters: int,
        layout: Layout,
        minimum: int,
        deadline_s: float,
    ) -> None:
        self._transport = transport
        self._parameters = parameters
        self._layout = layout
        self._minimum = minimum
        self._deadline_s = deadline_s
        self._limits = Limits(layout, hospitals=0)

    def sum(self, work: Request, cohort: Sequence[str], following: Step | None) -> Summed:
        answers = ask(self._transport, dict.fromkeys(cohort, work), self._deadline_s, self._limits)
        dropped = answers.dropped
        for name in answers.accusations:
            dropped[name] = "refused work, and accuses where nobody has a part in it"
        start = time.perf_counter()
        contributions = {}
        for name, body in answers.bodies.items():
            try:
                contributions[name] = plain_contribution(
                    body,
                    self._parameters,
                    self._layout,
                    train=work.train,
                    number=work.round,
                    describe=work.describe,
                )
            except RunError as error:
                dropped[name] = str(error)
        _require(len(contributions), self._minimum, work, dropped)
        # Sorted: the sum must not depend on who answered first.
        survivors = tuple(sorted(contributions))
        parts = [contributions[name] for name in survivors]
        total = plain_total(parts) if work.train else plain_scores_total(parts, self._counts(work))
        return Summed(total, survivors, dropped, time.perf_counter() - start)

    def _counts(self, work: Request) -> ScoreLayout:
        return counts_layout(self._layout, describe=work.describe)


class SecureSummation:
    """FedAvg over masked contributions; the server learns the total only.

    Args:
        openings: which sums may have been opened. Hospitals answer the same question again only in
            a sum over the same of them, so nobody else is asked.
        complaints: of the whole job: a liar is out of all further steps.
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
        openings: Openings | None = None,
        complaints: Complaints | None = None,
        sums: int = 0,
    ) -> None:
        self._transport = transport
        self._layout = layout
        self._roster = roster
        self._limits = Limits(layout, len(roster.names))
        self._rules = rules
        self._minimum = minimum
        self._deadline_s = deadline_s
        self._openings = openings if openings is not None else Openings()
        self._sums = sums  # the protocol numbers its sums itself: none is ever tried again
        self._complaints = complaints if complaints is not None else Complaints()
        self._pipelined: SecureSumServer | None = None
        self._opened: set[str] = set()  # questions, by this process

    def sum(self, work: Request, cohort: Sequence[str], following: Step | None) -> Summed:
        """As in `Summation`; exact counts are summed over the whole cohort or not at all.

        Raises:
            AskedBefore: a sum may have been opened before the run was stopped, and those who are
                in it do not all answer again. There is nothing else that they would answer.
        """
        watch = _Stopwatch()
        dropped: dict[str, str] = {}
        server, self._pipelined = self._pipelined, None
        question = question_of(work)
        before = self._openings.over(question)
        opened = False
        try:
            if server is None:
                server = self._open(cohort, train=work.train, describe=work.describe)
                adverts = self._exchange(
                    work, "advertise", server.request_advertise(), dropped, watch
                )
                server.receive_advertise(adverts)
                shares = self._exchange(work, "share", server.request_share(), dropped, watch)
                server.receive_share(shares)
            # Only who takes part now can be asked for the next round's keys on the way.
            upcoming = None
            if following and set(following.cohort) <= set(cohort):
                upcoming = self._open(following.cohort, train=following.train)
                server.pipeline(upcoming)
            vectors = self._vectors(work, server, before, dropped, watch)
            server.receive_mask(vectors)
            over = vectors.keys() - server.dropped.keys()
            arrived = len(cohort) - len(set(server.dropped) | set(dropped))
            # Before anything is opened, which a hospital remembers.
            minimum = self._minimum if work.train else len(cohort)
            _require(arrived, minimum, work, {**server.dropped, **dropped})
            if self._rules.consistency:
                confirmations = self._exchange(
                    work, "confirm", server.request_confirm(), dropped, watch
                )
                server.receive_confirm(confirmations)
            self._openings.note(question, over)
            self._opened.add(question)
            opened = True
            openings = self._exchange(work, "unmask", server.request_unmask(), dropped, watch)
            server.receive_unmask(openings)
            words, survivors = server.result()
        except (ThresholdMissed, BadShare) as error:
            reasons = {**(server.dropped if server else {}), **dropped}
            raise _aborted(str(error), reasons, opened=opened) from None
        dropped = {**server.dropped, **dropped}
        if upcoming and set(upcoming.rules.cohort) <= set(survivors) and not dropped:
            # Somebody who missed this round may answer the next: then it starts afresh instead.
            self._pipelined = upcoming
        if work.train:
            total = self._layout.decode(words, work.round)
        else:
            total = counts_layout(self._layout, describe=work.describe).decode(words)
        require_sum(total, work, len(survivors), self._layout)
        return Summed(total, survivors, dropped, watch.stop(), words)

    def _vectors(
        self,
        work: Request,
        server: SecureSumServer,
        before: frozenset[str] | None,
        dropped: dict[str, str],
        watch: "_Stopwatch",
    ) -> dict[str, bytes]:
        """Masked vectors; hospitals that refuse another's box are asked again without it."""
        requests, question = server.request_mask(messages.statement_of(work)), question_of(work)
        if before is not None:
            dropped.update(
                dict.fromkeys(requests.keys() - before, "not in the sum that may be open")
            )
            requests = {name: body for name, body in requests.items() if name in before}
        answers = self._ask(work, "work", requests, watch)
        for name, accused in sorted(answers.accusations.items()):
            server.complain(name, accused)
        again = server.request_mask_again() if answers.accusations else {}
        later = self._ask(work, "work", again, watch) if again else Answers({}, {}, {})
        for name in later.accusations:
            later.dropped[name] = "refused work twice for others' boxes"
        dropped.update({**answers.dropped, **later.dropped})
        vectors = {**answers.bodies, **later.bodies}
        if before is not None and not before <= vectors.keys():
            missing = ", ".join(sorted(before - vectors.keys()))
            if question in self._opened:
                # A sum came, and moved nothing. The next round may find them all again.
                raise _aborted(
                    f"step {work.round} asks the same as one before, and {missing} did not answer",
                    dropped,
                )
            raise AskedBefore(
                f"step {work.round} may have been opened before the run was stopped, over "
                f"{', '.join(sorted(before))}; the same is answered again only in a sum over the "
                f"same hospitals, and {missing} did not answer",
                hint="resume the run when they are back",
            )
        return vectors

    def _open(
        self, cohort: Sequence[str], *, train: bool, describe: bool = False
    ) -> SecureSumServer:
        self._sums += 1
        return SecureSumServer(
            self._roster,
            self._rules,
            self._sums,
            cohort,
            vector_length=vector_length(self._layout, train=train, describe=describe),
            complaints=self._complaints,
        )

    def _exchange(
        self,
        work: Request,
        stage: Stage,
        bodies: Mapping[str, bytes],
        dropped: dict[str, str],
        watch: "_Stopwatch",
    ) -> dict[str, bytes]:
        answers = self._ask(work, stage, bodies, watch)
        # Only boxes are complained of; what another stage refuses for somebody's fault is final.
        dropped.update(
            {**answers.dropped, **dict.fromkeys(answers.accusations, f"refused {stage}")}
        )
        return answers.bodies

    def _ask(
        self, work: Request, stage: Stage, bodies: Mapping[str, bytes], watch: "_Stopwatch"
    ) -> Answers:
        base = work if stage == "work" else Request(round=work.round, stage=stage)
        requests = {name: msgspec.structs.replace(base, body=body) for name, body in bodies.items()}
        with watch.paused():
            return ask(self._transport, requests, self._deadline_s, self._limits)


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


def _require(survivors: int, minimum: int, work: Request, dropped: dict[str, str]) -> None:
    if survivors < minimum:
        needed = "federation.minimum_clients is"
        if not work.train:
            needed = f"{'sums over scans' if work.describe else 'scores'} need all"
        raise _aborted(f"{survivors} of the hospitals asked answered, {needed} {minimum}", dropped)


def _aborted(message: str, dropped: dict[str, str], *, opened: bool = False) -> RoundAborted:
    by_reason: dict[str, list[str]] = {}
    for name, reason in sorted(dropped.items()):
        by_reason.setdefault(reason, []).append(name)
    reasons = "; ".join(f"{first_of(names, ', ')}: {why}" for why, names in by_reason.items())
    return RoundAborted(message, hint=reasons or "nobody gave a reason", opened=opened)
