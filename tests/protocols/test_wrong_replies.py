"""What a client may send: the server drops it, says why, and the round goes on without it."""

import msgspec
import numpy as np
import pytest

from protocols import messages as m
from protocols.errors import (
    DuplicateSender,
    InvalidRules,
    ThresholdMissed,
    UnknownSender,
    WrongRound,
    WrongStage,
)
from protocols.graph import SparseGraph
from protocols.parameters import JobRules
from protocols.server import SecureSumServer
from tests.protocols.rounds_driver import (
    STATEMENT,
    STEPS,
    Federation,
    answer,
    names,
    plain_sum,
    random_vectors,
    requests_of,
)

LENGTH = 9
VECTORS = random_vectors(names(9), LENGTH)
KINDS = {
    "advertise": m.Advert,
    "share": m.Shares,
    "confirm": m.Confirmation,
    "unmask": m.Opening,
}


def honest_replies(job: Federation, server: SecureSumServer, step: str) -> dict[str, bytes]:
    replies = {}
    for name, request in requests_of(server, step).items():
        replies[name] = answer(job.clients[name], step, request, VECTORS[name])
    return replies


def finish_with(change, step: str, job: Federation | None = None) -> SecureSumServer:
    """A round of five in which the first client's reply to one step is changed."""
    job = job or Federation(JobRules("job", LENGTH), names(5))
    server = job.server()
    for each in STEPS:
        replies = honest_replies(job, server, each)
        if each == step:
            name = job.members[0]
            replies[name] = change(replies[name])
        getattr(server, f"receive_{each}")(replies)
    return server


def check(server: SecureSumServer, reason: str, *, in_the_sum: bool) -> None:
    total, survivors = server.result()
    assert list(server.dropped) == ["clinic-0000"]
    assert server.dropped["clinic-0000"].startswith(reason)
    assert ("clinic-0000" in survivors) is in_the_sum
    np.testing.assert_array_equal(total, plain_sum(VECTORS, survivors))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("MalformedMessage", lambda reply: reply[:-1]),
        ("MalformedMessage", lambda reply: b""),
        ("MalformedMessage", lambda reply: b"\xc1" * len(reply)),
        ("OversizedMessage", lambda reply: reply + bytes(20_000)),
    ],
)
def test_a_reply_that_is_no_message_drops_its_sender(step, name, change):
    late = step in ("confirm", "unmask")
    check(finish_with(change, step), name, in_the_sum=late)


def edited(step: str, **changes):
    def change(reply: bytes) -> bytes:
        message = msgspec.msgpack.decode(reply, type=KINDS[step])
        return m.encode(msgspec.structs.replace(message, **changes))

    return change


@pytest.mark.parametrize("step", KINDS)
def test_a_reply_in_anothers_name_or_of_another_round_drops_its_sender(step):
    late = step in ("confirm", "unmask")
    check(finish_with(edited(step, sender=1), step), "UnknownSender", in_the_sum=late)
    check(finish_with(edited(step, round_number=2), step), "WrongRound", in_the_sum=late)


@pytest.mark.parametrize("step", ["advertise", "confirm"])
def test_a_forged_signature_drops_its_sender(step):
    reason = {"advertise": "BadSignature", "confirm": "CohortEquivocation"}[step]
    forged = finish_with(edited(step, signature=bytes(64)), step)
    check(forged, reason, in_the_sum=step == "confirm")


def test_shares_that_leave_a_neighbour_out_drop_their_sender():
    def leave_out(reply: bytes) -> bytes:
        message = msgspec.msgpack.decode(reply, type=m.Shares)
        return m.encode(msgspec.structs.replace(message, boxes=message.boxes[1:]))

    def repeat(reply: bytes) -> bytes:
        message = msgspec.msgpack.decode(reply, type=m.Shares)
        return m.encode(msgspec.structs.replace(message, boxes=[*message.boxes, message.boxes[0]]))

    for change in (leave_out, repeat):
        check(finish_with(change, "share"), "MalformedMessage", in_the_sum=False)


@pytest.mark.parametrize("words", [-1, 1])
def test_a_masked_vector_of_another_length_drops_its_sender(words):
    def resize(reply: bytes) -> bytes:
        return reply[:-4] if words < 0 else reply + bytes(4)

    check(finish_with(resize, "mask"), "MalformedMessage", in_the_sum=False)


def test_padding_of_a_masked_vector_is_zero_or_its_sender_is_dropped():
    def pad(reply: bytes) -> bytes:
        end = 4 + int.from_bytes(reply[:4], "big")
        assert end % 4
        return reply[:end] + b"\1" + reply[end + 1 :]

    check(finish_with(pad, "mask"), "MalformedMessage", in_the_sum=False)


def test_a_dropped_client_cannot_return_within_the_step():
    job = Federation(JobRules("job", LENGTH), names(5))
    server = job.run(job.server(), VECTORS, last="share")
    replies = honest_replies(job, server, "mask")
    server.add_masked(job.members[0], replies[job.members[0]][:-1])
    server.receive_mask(replies)
    job.run(server, VECTORS, first="confirm")
    check(server, "MalformedMessage", in_the_sum=False)


def test_a_masked_vector_for_another_cohort_is_not_added():
    job = Federation(JobRules("job", LENGTH), names(5))
    other = Federation(JobRules("job", LENGTH), names(5))
    foreign = other.run(other.server(cohort=other.members[:4]), VECTORS, last="share")
    reply = honest_replies(other, foreign, "mask")[job.members[0]]
    check(finish_with(lambda _: reply, "mask", job), "StatementMismatch", in_the_sum=False)


@pytest.mark.parametrize("field", ["self_masks", "mask_keys"])
def test_shares_that_were_not_asked_for_drop_their_sender(field):
    extra = {field: [m.Share(0, bytes(33))] * 2}
    check(finish_with(edited("unmask", **extra), "unmask"), "MalformedMessage", in_the_sum=True)


def test_a_second_vector_from_one_client_is_refused_and_the_first_stays():
    job = Federation(JobRules("job", LENGTH), names(5))
    server = job.run(job.server(), VECTORS, last="share")
    replies = honest_replies(job, server, "mask")
    server.add_masked(job.members[0], replies[job.members[0]])
    with pytest.raises(DuplicateSender):
        server.add_masked(job.members[0], replies.pop(job.members[0]))
    server.receive_mask(replies)
    total, survivors = job.run(server, VECTORS, first="confirm").result()
    assert survivors == tuple(job.members)
    np.testing.assert_array_equal(total, plain_sum(VECTORS, survivors))


def test_replies_of_strangers_and_of_the_dropped_are_not_counted():
    job = Federation(JobRules("job", LENGTH), names(6))
    server = job.server(cohort=job.members[:5])
    replies = honest_replies(job, server, "advertise")
    gone = replies.pop(job.members[0])
    replies[job.members[5]] = gone
    server.receive_advertise(replies)
    assert server.dropped[job.members[5]].startswith("UnknownSender")
    assert job.members[0] in server.dropped
    late = honest_replies(job, server, "share")
    late[job.members[0]] = late[job.members[1]]
    server.receive_share(late)
    total, survivors = job.run(server, VECTORS, first="mask").result()
    assert survivors == tuple(job.members[1:5])
    np.testing.assert_array_equal(total, plain_sum(VECTORS, survivors))


def test_below_the_threshold_every_further_step_refuses():
    job = Federation(JobRules("job", LENGTH), names(5))
    server = job.run(job.server(), VECTORS, last="share")
    replies = honest_replies(job, server, "mask")
    with pytest.raises(ThresholdMissed, match="2 of 5 clients are left"):
        server.receive_mask(dict(list(replies.items())[:2]))
    for step in (server.request_confirm, server.request_unmask, server.result):
        with pytest.raises(ThresholdMissed):
            step()


def test_a_secret_that_cannot_be_rebuilt_gives_no_sum_at_all():
    """In a sparse graph one neighbourhood can be too thin while the cohort is large enough."""
    sparse = SparseGraph(0.02, 0.05, privacy_bits=20, abort_bits=15)
    job = Federation(JobRules("job", LENGTH, sparse=sparse), names(80))
    vectors = random_vectors(job.members, LENGTH)
    server = job.run(job.server(), vectors, last="confirm")
    rules = server.rules
    silent = sorted(rules.neighbours(0))[: rules.degree + 2 - rules.share_threshold]
    lost = {job.members[place]: "unmask" for place in silent}
    with pytest.raises(ThresholdMissed, match="shares of clinic-0"):
        job.exchange(server, "unmask", vectors, lost)
    with pytest.raises(ThresholdMissed, match="shares of clinic-0"):
        server.result()


def test_the_servers_steps_come_in_order():
    job = Federation(JobRules("job", LENGTH), names(5))
    server = job.server()
    mask = lambda: server.request_mask(STATEMENT)  # noqa: E731
    for early in (server.request_share, mask, server.request_unmask, server.result):
        with pytest.raises(WrongStage, match="expects adverts"):
            early()
    job.exchange(server, "advertise", VECTORS)
    with pytest.raises(WrongStage, match="expects shares, not adverts"):
        server.receive_advertise({})


def test_a_round_the_rules_forbid_is_not_opened():
    job = Federation(JobRules("job", LENGTH, max_rounds=5), names(5))
    with pytest.raises(UnknownSender, match="nobody"):
        job.server(cohort=[*job.members, "nobody"])
    with pytest.raises(DuplicateSender):
        job.server(cohort=[*job.members, job.members[0]])
    for number in (0, 6):
        with pytest.raises(WrongRound):
            job.server(number)
    with pytest.raises(InvalidRules, match="1 client"):
        job.server(cohort=job.members[:1])


@pytest.mark.parametrize(
    "bad",
    [
        {"job": ""},
        {"job": "a/b"},
        {"vector_length": 0},
        {"vector_length": 2**31 + 1},
        {"other_lengths": (0,)},
        {"max_rounds": 0},
        {"minimum_cohort": 1},
        {"server": "friendly"},
    ],
)
def test_senseless_rules_are_refused(bad):
    with pytest.raises(InvalidRules):
        JobRules(**({"job": "job", "vector_length": 3} | bad))


@pytest.mark.parametrize("count", range(2, 40))
def test_thresholds_leave_no_room_for_two_answers(count):
    """Two disjoint groups cannot both reach the threshold; against a lying server not even if
    a third of the clients answer in both."""
    two = count == 2
    lying = JobRules("job", 1, allow_two_party=two).threshold(count)
    curious = JobRules("job", 1, allow_two_party=two, server="curious").threshold(count)
    assert count >= lying >= curious > count / 2
    corrupt = (count - 1) // 3
    assert 2 * lying > count + corrupt
    assert curious >= min(3, count)
