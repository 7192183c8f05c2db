"""A server that lies as it likes, before real hospitals behind real clients.

`LyingServer` drives the protocol's own server code and chooses everything that code leaves open:
the number of a step, its flags, its parameters, the length of the vectors, whom it asks to work,
whom it asks to open, and in which step a message of a sum is delivered.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ThresholdMissed
from protocols.server import SecureSumServer
from securefed.hospital.opening import Hospital
from securefed.simulation.simulation import Simulation
from securefed.wire import messages
from securefed.wire.contribution import Total, vector_length
from securefed.wire.messages import Reply, Request, Stage

Shared = NDArray[np.float64]


class Refused(Exception):
    """No sum opened; `names` are the kinds of errors that hospitals gave as their reason."""

    def __init__(self, names: set[str]) -> None:
        super().__init__(", ".join(sorted(names)) or "nobody refused, too few were asked")
        self.names = names


@dataclass
class LyingServer:
    """The hospitals of a simulation, before another server than its own.

    Attributes:
        refusals: kinds of refusals so far, by hospital.
    """

    run: Simulation
    sums: int = 0
    refusals: dict[str, list[str]] = field(default_factory=dict)

    @property
    def hospitals(self) -> dict[str, Hospital]:
        return self.run.hospitals

    def ask(self, name: str, request: Request) -> Reply:
        """One request to one hospital."""
        data = self.hospitals[name].client.handle(messages.encode(request))
        reply = messages.decode_reply(data)
        if reply.refusal:
            self.refusals.setdefault(name, []).append(reply.refusal)
        return reply

    def sum(
        self,
        number: int,
        shared: Shared,
        *,
        train: bool,
        evaluate: bool,
        lose: Collection[str] = (),
        cohort: Iterable[str] | None = None,
        openers: int | None = None,
        length: int | None = None,
    ) -> Total:
        """Open a sum, as step `number`, without the vectors of `lose`.

        Args:
            openers: how many hospitals are asked for shares; fewer than the threshold lose the sum
                after it may have been opened.
            length: words of the vectors that it announces; None for those of the step.

        Raises:
            Refused: it does not open.
        """
        self.refusals.clear()
        asked = sorted(cohort or self.hospitals)
        job = self.run.job
        assert job.roster is not None
        assert job.rules is not None
        self.sums += 1
        if length is None:
            length = vector_length(job.layout, train=train)
        server = SecureSumServer(job.roster, job.rules, self.sums, asked, vector_length=length)
        parameters = messages.vector_to_bytes(shared.astype(np.float32))
        work = Request(number, "work", b"", train, evaluate, parameters)
        try:
            server.receive_advertise(self._all(number, "advertise", server.request_advertise()))
            server.receive_share(self._all(number, "share", server.request_share()))
            bodies = server.request_mask(messages.statement_of(work))
            kept = {name: body for name, body in bodies.items() if name not in lose}
            server.receive_mask(self._all(number, "work", kept, work))
            server.receive_confirm(self._all(number, "confirm", server.request_confirm()))
            unmask = dict(list(server.request_unmask().items())[:openers])
            server.receive_unmask(self._all(number, "unmask", unmask))
            words, _ = server.result()
        except ThresholdMissed:
            raise Refused({each for kinds in self.refusals.values() for each in kinds}) from None
        return job.layout.decode(words, number) if train else job.layout.scores.decode(words)

    def _all(
        self, number: int, stage: Stage, bodies: dict[str, bytes], work: Request | None = None
    ) -> dict[str, bytes]:
        base = work or Request(number, stage)
        replies = {}
        for name, body in bodies.items():
            request = Request(
                number, stage, body, base.train, base.evaluate, base.shared if work else b""
            )
            reply = self.ask(name, request)
            if not reply.refusal:
                replies[name] = reply.body
        return replies
