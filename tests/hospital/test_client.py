"""A hospital's client: one answer per stage, paid for once, and refusals that tell nothing."""

import logging
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from protocols.identity import IdentityKey, Roster
from protocols.messages import MaskRequest, encode
from protocols.parameters import JobRules
from protocols.server import SecureSumServer
from securefed.hospital.client import Client
from securefed.model.scores import COUNTS
from securefed.training.trainer import LocalTrainer
from securefed.wire import messages
from securefed.wire.contribution import Contribution, ContributionLayout
from securefed.wire.messages import PlainContribution, Reply, Request, Stage
from securefed.wire.plain import plain_total

MakeClient = Callable[..., Client]
MakeClients = Callable[..., dict[str, Client]]
Vector = NDArray[np.float32]


def _ask(client: Client, request: Request) -> Reply:
    return messages.decode_reply(client.handle(messages.encode(request)))


def _work(vector: Vector, round_number: int = 1, **changes: Any) -> Request:
    train = changes.get("train", True)
    fields = {"train": train, "evaluate": not train, **changes}
    fields.setdefault("shared", messages.vector_to_bytes(vector))
    return Request(round=round_number, stage="work", **fields)


def _contribution(reply: Reply) -> PlainContribution:
    assert reply.refusal == ""
    return messages.decode_contribution(reply.body)


def _trainer(client: Client) -> LocalTrainer:
    assert isinstance(client.trainer, LocalTrainer)
    return client.trainer


def _rounds_spent(client: Client) -> int:
    ledger = _trainer(client)._ledger
    assert ledger is not None
    return len(ledger.history())


def _parameters(client: Client) -> bytes:
    return b"".join(p.detach().numpy().tobytes() for p in _trainer(client).network.parameters())


# ---- in the clear ----------------------------------------------------------------------------


def test_work_trains_from_what_was_sent_and_returns_update_and_patients(
    make_client: MakeClient, shared_vector: Vector
):
    client, twin = (make_client("south", private=False) for _ in range(2))
    sent = shared_vector + np.float32(0.25)
    reply = _ask(client, _work(sent))
    twin.trainer.receive(sent)
    contribution = _contribution(reply)
    assert (reply.round, reply.stage) == (1, "work")
    assert contribution.update == twin.trainer.contribute(1).astype("<f4").tobytes()
    assert np.frombuffer(contribution.update, "<f4").any()
    assert contribution.patients == 9
    assert contribution.counts == []  # not asked to score


def test_evaluation_describes_the_parameters_that_were_sent_not_those_before_or_after(
    make_client: MakeClient, shared_vector: Vector
):
    client, twin = (make_client("west", private=False, learning_rate=5.0) for _ in range(2))
    sent = shared_vector + np.float32(0.5)
    at_first = twin.trainer.evaluate()
    twin.trainer.receive(sent)
    received = twin.trainer.evaluate()
    twin.trainer.contribute(1)
    for others in (at_first, twin.trainer.evaluate()):
        assert not np.array_equal(others, received)
    reply = _ask(client, _work(sent, train=False))
    assert _contribution(reply).counts == received.tolist()


def test_evaluation_without_training_spends_nothing_moves_nothing_and_weighs_nothing(
    make_client: MakeClient, shared_vector: Vector
):
    client = make_client()
    before = _parameters(client)
    contribution = _contribution(_ask(client, _work(shared_vector, train=False)))
    assert contribution.patients == 0
    assert contribution.update == b""
    assert sum(contribution.counts) == 8
    assert _rounds_spent(client) == 0
    assert _parameters(client) == before


@pytest.mark.parametrize("both", [True, False])
def test_a_request_trains_or_scores(both: bool, make_client: MakeClient, shared_vector: Vector):
    client = make_client()
    assert _ask(client, _work(shared_vector, train=both, evaluate=both)).refusal == "RunError"
    assert _rounds_spent(client) == 0


def test_an_identical_request_gets_the_identical_reply_and_is_paid_once(
    make_client: MakeClient, shared_vector: Vector
):
    client = make_client()  # fresh noise: a second training could not look the same
    request = messages.encode(_work(shared_vector))
    reply = client.handle(request)
    after = _parameters(client)
    assert client.handle(request) == client.handle(request) == reply
    assert _rounds_spent(client) == 1
    assert _parameters(client) == after


def test_a_different_request_for_an_answered_stage_is_refused_and_the_first_answer_stays(
    make_client: MakeClient, shared_vector: Vector
):
    client = make_client()
    first = client.handle(messages.encode(_work(shared_vector)))
    after = _parameters(client)
    for other in (
        _work(shared_vector + np.float32(1)),
        _work(shared_vector, evaluate=True),
        _work(shared_vector, train=False),
        _work(shared_vector, body=b"x"),
    ):
        refused = _ask(client, other)
        assert (refused.refusal, refused.body) == ("RunError", b"")
    assert _rounds_spent(client) == 1
    assert _parameters(client) == after
    assert client.handle(messages.encode(_work(shared_vector))) == first


def test_rounds_only_go_forward(make_client: MakeClient, shared_vector: Vector):
    client = make_client()
    for number in (1, 4):
        assert _contribution(_ask(client, _work(shared_vector, number))).patients == 8
    for number in (0, 1, 3):
        assert _ask(client, _work(shared_vector, number)).refusal == "RunError"
    assert _rounds_spent(client) == 2
    assert _contribution(_ask(client, _work(shared_vector, 5))).patients == 8


def test_a_stage_of_a_past_round_is_refused_even_if_this_round_has_not_had_it(
    make_client: MakeClient, shared_vector: Vector
):
    client = make_client()
    _ask(client, Request(round=4, stage="share"))
    assert _ask(client, _work(shared_vector, 3)).refusal == "RunError"
    assert _rounds_spent(client) == 0
    assert _contribution(_ask(client, _work(shared_vector, 4))).patients == 8


@pytest.mark.parametrize(
    "broken",
    [
        lambda v: np.where(np.arange(len(v)) == 3, np.nan, v).astype(np.float32),
        lambda v: np.where(np.arange(len(v)) == 0, np.inf, v).astype(np.float32),
        lambda v: np.where(np.arange(len(v)) == 1, 2e4, v).astype(np.float32),
        lambda v: v[:-1],
        lambda v: np.append(v, np.float32(0)),
        lambda v: v[:0],
    ],
    ids=["nan", "inf", "huge", "short", "long", "empty"],
)
def test_unacceptable_shared_parameters_are_refused_before_anything_is_spent_or_moved(
    broken: Callable[[Vector], Vector], make_client: MakeClient, shared_vector: Vector
):
    client = make_client()
    before = _parameters(client)
    refused = _ask(client, _work(broken(shared_vector)))
    assert (refused.refusal, refused.body) == ("RunError", b"")
    assert _rounds_spent(client) == 0
    assert _parameters(client) == before


def test_shared_parameters_of_half_a_number_are_refused(
    make_client: MakeClient, shared_vector: Vector
):
    request = _work(shared_vector, shared=messages.vector_to_bytes(shared_vector)[:-1])
    assert _ask(make_client(), request).refusal == "RunError"


def test_a_request_that_failed_is_not_open_to_a_second_try_but_the_next_round_is(
    make_client: MakeClient, shared_vector: Vector
):
    client = make_client()
    bad = messages.encode(_work(np.full_like(shared_vector, np.nan)))
    assert messages.decode_reply(client.handle(bad)).refusal == "RunError"
    assert messages.decode_reply(client.handle(bad)).refusal == "RunError"
    assert _ask(client, _work(shared_vector)).refusal == "RunError"
    assert _rounds_spent(client) == 0
    assert _contribution(_ask(client, _work(shared_vector, 2))).patients == 8


def test_a_refusal_carries_the_kind_of_error_and_its_text_stays_in_the_hospitals_log(
    make_client: MakeClient, shared_vector: Vector, caplog: pytest.LogCaptureFixture
):
    client = make_client(budget=0.5)
    with caplog.at_level(logging.WARNING):
        data = client.handle(messages.encode(_work(shared_vector)))
    assert messages.decode_reply(data) == Reply(round=1, stage="work", refusal="BudgetExceeded")
    assert b"epsilon" not in data
    assert b"north" not in data
    assert "epsilon" in caplog.text
    assert _rounds_spent(client) == 0


def test_an_unforeseen_failure_stops_neither_the_hospital_nor_tells_its_secrets(
    make_client: MakeClient,
    shared_vector: Vector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    client = make_client()
    with monkeypatch.context() as patched:
        patched.setattr(
            client.trainer,
            "contribute",
            lambda _: (_ for _ in ()).throw(OSError("/srv/patients/17")),
        )
        with caplog.at_level(logging.ERROR):
            data = client.handle(messages.encode(_work(shared_vector)))
    assert messages.decode_reply(data) == Reply(round=1, stage="work", refusal="OSError")
    assert b"/srv" not in data
    assert "/srv/patients/17" in caplog.text
    assert _contribution(_ask(client, _work(shared_vector, 2))).patients == 8


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x01", b"\xff" * 100, b"\x92\x01\xa1x"])
def test_garbage_is_answered_with_a_refusal_and_leaves_the_round_open(
    data: bytes, make_client: MakeClient, shared_vector: Vector
):
    client = make_client()
    reply = messages.decode_reply(client.handle(data))
    assert reply == Reply(round=0, stage="work", refusal="RunError")
    assert _contribution(_ask(client, _work(shared_vector))).patients == 8


@pytest.mark.parametrize("stage", ["advertise", "share", "confirm", "unmask"])
def test_steps_of_the_secure_sum_are_refused_where_there_is_none(
    stage: Stage, make_client: MakeClient
):
    assert _ask(make_client(), Request(round=1, stage=stage)).refusal == "RunError"


def test_seconds_are_those_of_the_current_round(make_client: MakeClient, shared_vector: Vector):
    client = make_client()
    _ask(client, _work(shared_vector))
    assert client.busy_s.keys() == {"train"}
    assert 0 < client.busy_s["train"] < 60
    client.busy_s["train"] = 1000.0
    _ask(client, _work(shared_vector, 2))
    assert 0 < client.busy_s["train"] < 60


# ---- masked ----------------------------------------------------------------------------------


class _SecureRound:
    """Drives the stages of one secure round between real clients and a real server."""

    def __init__(
        self, clients: dict[str, Client], roster: Roster, rules: JobRules, shared: Vector
    ) -> None:
        self.clients = clients
        self.server = SecureSumServer(roster, rules, 1, list(clients))
        self.shared = shared
        self.work: dict[str, Request] = {}

    def stage(self, stage: Stage, bodies: dict[str, bytes]) -> dict[str, bytes]:
        replies = {}
        for name, body in bodies.items():
            request = Request(round=1, stage=stage, body=body)
            if stage == "work":
                request = _work(self.shared, body=body)
                self.work[name] = request
            reply = _ask(self.clients[name], request)
            assert reply.refusal == "", (name, stage)
            replies[name] = reply.body
        return replies

    def until_work(self) -> dict[str, bytes]:
        server = self.server
        server.receive_advertise(self.stage("advertise", server.request_advertise()))
        server.receive_share(self.stage("share", server.request_share()))
        asked = messages.statement_of(_work(self.shared))
        return self.stage("work", server.request_mask(asked))

    def finish(self, masked: dict[str, bytes]) -> tuple[NDArray[np.uint32], tuple[str, ...]]:
        server = self.server
        server.receive_mask(masked)
        server.receive_confirm(self.stage("confirm", server.request_confirm()))
        server.receive_unmask(self.stage("unmask", server.request_unmask()))
        return server.result()


RosterAndKeys = tuple[Roster, dict[str, IdentityKey]]


def test_a_secure_round_gives_the_plain_total_and_no_reply_holds_an_update(
    make_clients: MakeClients,
    roster_and_keys: RosterAndKeys,
    rules: JobRules,
    layout: ContributionLayout,
    shared_vector: Vector,
):
    clients = make_clients(secure=True, private=False)
    twins = make_clients(private=False)
    secure = _SecureRound(clients, roster_and_keys[0], rules, shared_vector)
    masked = secure.until_work()
    words, survivors = secure.finish(masked)
    assert survivors == ("north", "south", "west")

    contributions = []
    for name, twin in twins.items():
        plain = _contribution(_ask(twin, _work(shared_vector)))
        update = messages.vector_from_bytes(plain.update)
        contributions.append((update, plain.patients, np.zeros(COUNTS, np.int64)))
        encoded = layout.encode(Contribution(update, plain.patients, 0))
        assert plain.update not in masked[name]
        sent = np.frombuffer(masked[name][-4 * layout.words :], "<u4")
        # Three of these words agree by accident with a probability below 1e-20.
        assert (sent == encoded).sum() < 3
    expected, total = plain_total(contributions), layout.decode(words, 1)
    assert total.patients == 8 + 9 + 10
    assert total.mean_update is not None
    assert expected.mean_update is not None
    bound = layout.error_bound(3, 27)
    assert np.abs(expected.mean_update).max() > 10 * bound
    assert np.abs(total.mean_update - expected.mean_update).max() <= bound


def test_a_masked_contribution_is_made_once_whatever_the_server_asks_again(
    make_clients: MakeClients,
    roster_and_keys: RosterAndKeys,
    rules: JobRules,
    shared_vector: Vector,
):
    clients = make_clients(secure=True)
    secure = _SecureRound(clients, roster_and_keys[0], rules, shared_vector)
    masked = secure.until_work()
    for name, client in clients.items():
        again = client.handle(messages.encode(secure.work[name]))
        assert messages.decode_reply(again).body == masked[name]
        # The same masks over another vector would give away the difference of the two.
        other = _work(shared_vector + 1, body=secure.work[name].body)
        refused = _ask(client, other)
        assert (refused.refusal, refused.body) == ("RunError", b"")
        assert _rounds_spent(client) == 1
    assert secure.finish(masked)[1] == ("north", "south", "west")


def test_a_box_that_does_not_open_is_refused_before_anything_is_trained_or_spent(
    make_clients: MakeClients,
    roster_and_keys: RosterAndKeys,
    rules: JobRules,
    shared_vector: Vector,
):
    clients = make_clients(secure=True)
    secure = _SecureRound(clients, roster_and_keys[0], rules, shared_vector)
    server = secure.server
    server.receive_advertise(secure.stage("advertise", server.request_advertise()))
    server.receive_share(secure.stage("share", server.request_share()))
    asked = messages.statement_of(_work(shared_vector))
    request = msgspec.msgpack.decode(server.request_mask(asked)["north"], type=MaskRequest)
    first, *others = request.boxes
    garbage = msgspec.structs.replace(first, sealed=bytes(len(first.sealed)))
    body = encode(msgspec.structs.replace(request, boxes=[garbage, *others]))
    before = _parameters(clients["north"])
    assert _ask(clients["north"], _work(shared_vector, body=body)).refusal == "BadCiphertext"
    assert _rounds_spent(clients["north"]) == 0
    assert _parameters(clients["north"]) == before


def test_a_refusal_of_the_secure_sum_is_told_by_its_name(make_client: MakeClient):
    client = make_client(secure=True)
    refused = _ask(client, Request(round=1, stage="advertise", body=b"nonsense"))
    assert (refused.refusal, refused.body) == ("MalformedMessage", b"")


def test_a_hospital_larger_than_the_layout_sends_nothing(
    make_clients: MakeClients,
    roster_and_keys: RosterAndKeys,
    rules: JobRules,
    layout: ContributionLayout,
    shared_vector: Vector,
):
    small = ContributionLayout(layout.parameters, 3, layout.value_range, max_patients=8)
    clients = make_clients(secure=True, layout=small)
    secure = _SecureRound(clients, roster_and_keys[0], rules, shared_vector)
    with pytest.raises(AssertionError, match="south"):  # nine patients
        secure.until_work()
    reply = _ask(clients["south"], secure.work["south"])
    assert reply.refusal
    assert reply.body == b""
    assert _rounds_spent(clients["south"]) == 1  # it had trained: spent is spent
