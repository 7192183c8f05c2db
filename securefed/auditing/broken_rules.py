"""A server that breaks the rules of a job, before a hospital's client as shipped.

Each attempt is a message or a whole secure sum in steps of its own, and says with which error the
hospital refused it. The other hospitals answer whatever they are asked, one of them on the server's
side where a lie needs it. `securefed.auditing.malicious_client` has the hospitals, and asks an
honest question first: a refusal would say nothing otherwise.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np

from attacks.errors import AuditError
from protocols import messages as protocol
from protocols.attestations import advert_transcript, offered
from protocols.errors import ProtocolError
from protocols.identity import IdentityKey, Roster
from protocols.parameters import JobRules
from protocols.server import SecureSumServer
from securefed.hospital.client import Client
from securefed.model.sharing import Vector
from securefed.wire import messages
from securefed.wire.contribution import Layout, vector_length
from securefed.wire.messages import Reply, Request, Stage
from securefed.wire.plan import Plan, Step

Attempts = Mapping[str, Callable[[], str]]


@dataclass
class RuleBreaker:
    """The server, and the hospitals that it asks.

    Attributes:
        clients: by name; the first one is the victim, the second works with the server.
        keys: their identities.
        shared: honest shared parameters, (P,).
        round: of the plan, the one before the next attempt.
        sums: how many secure sums the job has had.
    """

    clients: Mapping[str, Client]
    keys: Mapping[str, IdentityKey]
    roster: Roster
    rules: JobRules
    plan: Plan
    layout: Layout
    shared: Vector = field(repr=False)
    round: int
    sums: int
    _refusal: str = ""

    def attempts(self, *, secure: bool) -> Attempts:
        """Name -> tries it, and gives the name of the victim's refusal, or ""."""
        # In the order of their steps: a client that asks no questions goes along with each.
        first = {"scores in a step that trains": self._other_flags}
        last = {"a step that the plan does not have": self._unplanned_step}
        sums = {
            "the same question in two companies": self._two_companies,
            "a vector of another length": self._other_length,
            "a cohort that is not the plan's": self._other_cohort,
            "a lower threshold": self._lower_threshold,
            "a copy of another hospital's key": self._copied_key,
            "a key that its hospital did not sign": self._swapped_key,
            "scores without one hospital": self._without_one,
        }
        return first | (sums if secure else {}) | last

    # ---- one message ----------------------------------------------------------------------

    def _unplanned_step(self) -> str:
        number = self.plan.largest + 1
        return self._ask(self._victim, self._work(number, self.shared, train=True)).refusal

    def _other_flags(self) -> str:
        number = self._next().number
        return self._ask(self._victim, self._work(number, self.shared, train=False)).refusal

    def _lower_threshold(self) -> str:
        server = self._server()
        body = server.request_advertise()[self._victim]
        announced = msgspec.msgpack.decode(body, type=protocol.Announcement)
        lower = msgspec.structs.replace(announced, share_threshold=2)
        request = Request(self._next().number, "advertise", protocol.encode(lower))
        return self._ask(self._victim, request).refusal

    def _copied_key(self) -> str:
        return self._keys(lambda second, third: {"mask_key": third.mask_key}, sign=True)

    def _swapped_key(self) -> str:
        return self._keys(lambda second, third: {"channel_key": bytes(31) + b"\x09"}, sign=False)

    def _keys(
        self,
        change: Callable[[protocol.Advert, protocol.Advert], dict[str, bytes]],
        *,
        sign: bool,
    ) -> str:
        """Show the victim another advert of the second hospital than that one made."""
        server, number = self._server(), self._next().number
        adverts = self._all(number, "advertise", server.request_advertise())
        server.receive_advertise(adverts)
        body = server.request_share()[self._victim]
        request = msgspec.msgpack.decode(body, type=protocol.ShareRequest)
        by_name = {server.rules.cohort[each.sender]: each for each in request.adverts}
        _, accomplice, third, *_ = self.clients
        changed = msgspec.structs.replace(
            by_name[accomplice], **change(by_name[accomplice], by_name[third])
        )
        if sign:
            signed = advert_transcript(server.rules.digest, accomplice, *offered(changed))
            changed = msgspec.structs.replace(changed, signature=self.keys[accomplice].sign(signed))
        by_name[accomplice] = changed
        shown = msgspec.structs.replace(request, adverts=list(by_name.values()))
        return self._ask(self._victim, Request(number, "share", protocol.encode(shown))).refusal

    # ---- whole sums -----------------------------------------------------------------------

    def _two_companies(self) -> str:
        if refusal := self._sum(self._next().number, train=True):
            raise AuditError(f"an honest secure sum is refused ({refusal}): nothing can be said")
        return self._sum(self._next().number, train=True, lose=self._third)

    def _without_one(self) -> str:
        self._next()
        step = self.plan.scoring(self.round)
        if step is None:
            raise AuditError("the plan of these checks has no scores")
        return self._sum(step.number, train=False, lose=self._third)

    def _other_length(self) -> str:
        other = vector_length(self.layout, train=False)
        return self._sum(self._next().number, train=True, length=other)

    def _other_cohort(self) -> str:
        cohort = [name for name in self.clients if name not in self._third]
        return self._sum(self._next().number, train=True, cohort=cohort)

    def _sum(
        self,
        number: int,
        *,
        train: bool,
        lose: Collection[str] = (),
        length: int | None = None,
        cohort: Collection[str] = (),
    ) -> str:
        """Open a sum without the vectors of `lose`; the victim's refusal, or "" if it opens."""
        if length is None:
            length = vector_length(self.layout, train=train)
        server = self._server(length, cohort or list(self.clients))
        work = self._work(number, self.shared, train=train)
        self._refusal = ""
        try:
            server.receive_advertise(self._all(number, "advertise", server.request_advertise()))
            server.receive_share(self._all(number, "share", server.request_share()))
            bodies = server.request_mask(messages.statement_of(work))
            kept = {name: body for name, body in bodies.items() if name not in lose}
            server.receive_mask(self._all(number, "work", kept, work))
            server.receive_confirm(self._all(number, "confirm", server.request_confirm()))
            server.receive_unmask(self._all(number, "unmask", server.request_unmask()))
            server.result()
        except ProtocolError:
            return self._refusal
        return ""

    # ---- what attempts are made of ---------------------------------------------------------

    @property
    def _victim(self) -> str:
        return next(iter(self.clients))

    @property
    def _third(self) -> list[str]:
        return [list(self.clients)[2]]

    def _next(self) -> Step:
        self.round += 1
        return self.plan.training(self.round)

    def _server(self, length: int | None = None, cohort: Collection[str] = ()) -> SecureSumServer:
        self.sums += 1
        asked = list(cohort or self.clients)
        return SecureSumServer(self.roster, self.rules, self.sums, asked, vector_length=length)

    def _work(self, number: int, shared: Vector, *, train: bool) -> Request:
        data = messages.vector_to_bytes(shared.astype(np.float32))
        return Request(number, "work", train=train, evaluate=not train, shared=data)

    def _all(
        self, number: int, stage: Stage, bodies: Mapping[str, bytes], work: Request | None = None
    ) -> dict[str, bytes]:
        base = work or Request(number, stage)
        replies = {}
        for name, body in bodies.items():
            reply = self._ask(name, msgspec.structs.replace(base, body=body))
            if name == self._victim and reply.refusal:
                self._refusal = reply.refusal
            if not reply.refusal:
                replies[name] = reply.body
        return replies

    def _ask(self, name: str, request: Request) -> Reply:
        return messages.decode_reply(self.clients[name].handle(messages.encode(request)))
