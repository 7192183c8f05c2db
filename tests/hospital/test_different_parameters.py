"""A server that sends hospitals different parameters: dropped, aborted, or noise; never a sum.

The lie is told on the wire, between the real server's code and real hospitals. `Meddler` swaps the
shared parameters of some hospitals and, if asked to, passes their masked vectors off as answers to
what everybody else got, which is what a server that lies on purpose would do.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from protocols import messages as protocol
from securefed.data.load import FederatedData
from securefed.errors import RoundAborted
from securefed.server.summation import SecureSummation
from securefed.simulation.patients import load_data
from securefed.simulation.simulation import Simulation
from securefed.wire import messages
from securefed.wire.contribution import Layout, Total
from securefed.wire.messages import Reply, Request
from securefed.wire.transport import Transport
from tests.tiny import settings_with, start

settings = settings_with(
    privacy={"dp": False},
    secure_aggregation={"enabled": True, "max_patients": 16},
    federation={"shared": "classifier", "rounds": 2},
    exposures={"record": False},
)
ONE = frozenset({"hospital-2"})
TWO = frozenset({"hospital-2", "hospital-4"})


class Meddler:
    """A transport that sends some hospitals other shared parameters than the rest."""

    def __init__(self, inner: Transport, swapped: frozenset[str], *, pretend: bool) -> None:
        self.inner = inner
        self.swapped = swapped
        self.pretend = pretend

    def clients(self) -> list[str]:
        return self.inner.clients()

    def stage(self, requests: Mapping[str, bytes], deadline_s: float) -> dict[str, bytes]:
        sent = {n: self._swap(d) if n in self.swapped else d for n, d in requests.items()}
        replies = self.inner.stage(sent, deadline_s)
        if self.pretend and messages.decode_request(next(iter(sent.values()))).stage == "work":
            (honest, *_) = (n for n in replies if n not in self.swapped)
            body = messages.decode_reply(replies[honest]).body
            claimed = _head(body)[0].binding
            return {name: _claiming(data, claimed) for name, data in replies.items()}
        return replies

    def _swap(self, data: bytes) -> bytes:
        request = messages.decode_request(data)
        if request.stage != "work":
            return data
        other = messages.vector_from_bytes(request.shared) + np.float32(0.5)
        changed = msgspec.structs.replace(request, shared=messages.vector_to_bytes(other))
        return messages.encode(changed)


def _head(body: bytes) -> tuple[protocol.MaskedHead, NDArray[np.uint32]]:
    start = -(-(4 + int.from_bytes(body[:4], "big")) // 4) * 4
    return protocol.decode_masked(body, (len(body) - start) // 4)


def _claiming(data: bytes, binding: bytes) -> bytes:
    reply: Reply = messages.decode_reply(data)
    head, words = _head(reply.body)
    lie = msgspec.structs.replace(head, binding=binding)
    body = protocol.encode_masked(lie, words)[0].getvalue()
    return messages.encode(msgspec.structs.replace(reply, body=body))


@pytest.fixture(scope="module")
def patients() -> FederatedData:
    return load_data(settings())


@pytest.fixture
def run(tmp_path: Path, patients: FederatedData) -> Simulation:
    return start(settings(), tmp_path / "run", patients)


def meddle(run: Simulation, swapped: frozenset[str], *, pretend: bool = False) -> SecureSummation:
    summation = run.server._summation
    assert isinstance(summation, SecureSummation)
    summation._transport = Meddler(summation._transport, swapped, pretend=pretend)
    return summation


class _Watched:
    """A layout that keeps what it decodes."""

    def __init__(self, inner: Layout, opened: list[NDArray[np.uint32]]) -> None:
        self.inner = inner
        self.opened = opened

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def decode(self, total: NDArray[np.uint32], round_number: int) -> Total:
        self.opened.append(total)
        return self.inner.decode(total, round_number)


def work(run: Simulation) -> Request:
    shared = messages.vector_to_bytes(run.server.shared.astype(np.float32))
    return Request(round=1, stage="work", train=True, shared=shared)


def test_an_honest_server_drops_the_hospital_that_worked_on_other_parameters(run: Simulation):
    summed = meddle(run, ONE).sum(work(run), run.server.plan.clients, None)
    assert summed.survivors == ("hospital-1", "hospital-3", "hospital-4")
    assert summed.dropped["hospital-2"].startswith("StatementMismatch")
    assert summed.total.patients == 30


def test_nothing_opens_for_too_few_that_got_the_same(run: Simulation):
    before = run.server.shared.copy()
    meddle(run, TWO)
    record = next(run.server.train())
    assert record.survivors == ()
    assert "hospital-2, hospital-4: StatementMismatch" in record.aborted
    assert np.array_equal(run.server.shared, before)


def test_a_server_that_pretends_opens_noise(run: Simulation):
    """Three hospitals agree and open the sum. Of noise, the word that counts patients is 40 with a
    probability of one in the ring's size."""
    opened: list[NDArray[np.uint32]] = []
    summation = meddle(run, ONE, pretend=True)
    layout = summation._layout
    summation._layout = _Watched(layout, opened)
    with pytest.raises(RoundAborted, match="sent no contribution"):
        summation.sum(work(run), run.server.plan.clients, None)
    (words,) = opened
    bits = layout.modulus_bits
    signed = (words << np.uint32(32 - bits)).view(np.int32) >> np.int32(32 - bits)
    # Spread over the whole ring, as no sum of updates is: half of it lies beyond a quarter.
    assert np.median(np.abs(signed)) > 2 ** (bits - 3)


def test_a_server_that_pretends_gets_no_shares_from_groups_below_the_threshold(run: Simulation):
    with pytest.raises(RoundAborted) as caught:
        meddle(run, TWO, pretend=True).sum(work(run), run.server.plan.clients, None)
    assert "CohortEquivocation" in str(caught.value.hint)


def test_who_is_asked_the_same_notices_nothing(run: Simulation):
    summed = meddle(run, frozenset()).sum(work(run), run.server.plan.clients, None)
    assert not summed.dropped
    assert summed.total.patients == 40


def test_a_statement_covers_round_flags_and_every_byte_of_the_parameters():
    base = Request(round=1, stage="work", train=True, shared=bytes(8))
    changes = (
        {"round": 2},
        {"train": False},
        {"evaluate": True},
        {"shared": bytes(7) + b"\x01"},
        {"shared": bytes(12)},
    )
    requests = [base, *(msgspec.structs.replace(base, **change) for change in changes)]
    assert len({messages.statement_of(each) for each in requests}) == len(requests)
    # The body is each hospital's own.
    with_body = msgspec.structs.replace(base, body=b"boxes")
    assert messages.statement_of(with_body) == messages.statement_of(base)
