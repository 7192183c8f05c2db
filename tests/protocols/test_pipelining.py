"""Pipelined rounds: three exchanges each (two against a curious server), nothing used twice."""

from collections import Counter

import msgspec
import numpy as np
import pytest

from protocols import client as client_module
from protocols import messages as m
from protocols.errors import BadVector, RulesMismatch, ThresholdMissed, WrongRound, WrongStage
from protocols.mask_stream import apply_masks
from protocols.parameters import JobRules
from protocols.server import SecureSumServer
from tests.protocols.rounds_driver import STATEMENT, Federation, names, plain_sum, random_vectors

LENGTH = 9
ROUNDS = 6


def run_pipelined(job: Federation, vectors, rounds: int, drops=None):
    """Drives `rounds` rounds the way a federation would; yields each finished server."""
    drops = drops or {}
    server = job.run(job.server(1), vectors, drops.get(1, {}), last="share")
    for number in range(1, rounds + 1):
        following = job.server(number + 1) if number < rounds else None
        if following:
            server.pipeline(following)
        yield job.run(server, vectors, drops.get(number, {}), first="mask")
        if following:
            server = following


@pytest.mark.parametrize(("server", "exchanges"), [("malicious", 3), ("curious", 2)])
def test_a_steady_round_takes_that_many_exchanges(server, exchanges):
    job = Federation(JobRules("job", LENGTH, server=server), names(4))
    vectors = random_vectors(job.members, LENGTH)
    for finished in run_pipelined(job, vectors, ROUNDS):
        total, survivors = finished.result()
        assert survivors == tuple(job.members)
        np.testing.assert_array_equal(total, plain_sum(vectors, job.members))
    asked = Counter((number, name) for number, _, to, name, _ in job.log if to == "to")
    for name in job.members:
        assert asked[1, name] == exchanges + 2
        assert {asked[number, name] for number in range(2, ROUNDS + 1)} == {exchanges}


def secrets_of(job: Federation, name: str) -> list[bytes]:
    """The 32-byte draws of one client: channel key, mask secret, self-mask seed, for each round."""
    return [drawn for drawn in job.drawn[name] if len(drawn) == 32]


@pytest.mark.parametrize("pipelined", [True, False])
def test_no_key_seed_share_or_stream_is_ever_used_twice(pipelined, monkeypatch):
    streams: list[bytes] = []

    def spy(words, masks, *, threads):
        streams.extend(mask.key for mask in masks)
        apply_masks(words, masks, threads=threads)

    monkeypatch.setattr(client_module, "apply_masks", spy)
    job = Federation(JobRules("job", LENGTH), names(4))
    vectors = random_vectors(job.members, LENGTH)
    if pipelined:
        list(run_pipelined(job, vectors, ROUNDS))
    else:
        for number in range(1, ROUNDS + 1):
            job.run(job.server(number), vectors)
    for name in job.members:
        assert len(secrets_of(job, name)) == 3 * ROUNDS
        assert len(set(job.drawn[name])) == len(job.drawn[name]) == 6 * ROUNDS
    # Each self-mask stream once, each pairwise stream once by either end, never again.
    uses = Counter(streams)
    pairs, alone = 4 * 3 // 2 * ROUNDS, 4 * ROUNDS
    assert Counter(uses.values()) == {2: pairs, 1: alone}
    seen = Counter[bytes]()
    for _, step, direction, _, data in job.log:
        if direction == "from" and step == "unmask":
            opening = msgspec.msgpack.decode(data, type=m.Opening)
            seen.update(share.value for share in opening.self_masks + opening.mask_keys)
        for kind in (m.Shares, m.Opening):
            if direction == "from" and step in ("share", "unmask"):
                seen.update(box.sealed for box in boxes_in(data, kind))
    assert set(seen.values()) == {1}
    assert len(seen) == ROUNDS * (4 * 4 + 4 * 3)  # shares opened, boxes sealed


def boxes_in(data: bytes, kind: type[m.Shares | m.Opening]) -> list[m.Box]:
    try:
        message = msgspec.msgpack.decode(data, type=kind)
    except msgspec.ValidationError:
        return []
    shares = message.upcoming if isinstance(message, m.Opening) else message
    return shares.boxes if shares else []


def test_public_keys_on_the_wire_are_fresh_in_every_round():
    job = Federation(JobRules("job", LENGTH), names(4))
    list(run_pipelined(job, random_vectors(job.members, LENGTH), ROUNDS))
    for name in job.members:
        seen = [
            msgspec.msgpack.decode(data, type=m.Advert)
            for _, step, direction, who, data in job.log
            if (step, direction, who) == ("advertise", "from", name)
        ]
        seen += [
            head.upcoming
            for _, step, direction, who, data in job.log
            if (step, direction, who) == ("mask", "from", name)
            if (head := m.decode_masked(data, LENGTH)[0]).upcoming
        ]
        keys = {k for each in seen for k in (each.channel_key, each.kem_key, each.mask_key)}
        assert len(keys) == 3 * ROUNDS


@pytest.mark.parametrize("step", ["mask", "confirm", "unmask"])
def test_who_drops_out_of_one_round_is_dropped_from_the_next_and_can_return(step):
    job = Federation(JobRules("job", LENGTH), names(5))
    vectors = random_vectors(job.members, LENGTH)
    lost = job.members[1]
    first, second = run_pipelined(job, vectors, 2, {1: {lost: step}})
    assert lost in first.dropped
    assert lost in second.dropped
    total, survivors = second.result()
    assert survivors == tuple(n for n in job.members if n != lost)
    np.testing.assert_array_equal(total, plain_sum(vectors, survivors))
    total, survivors = job.run(job.server(3), vectors).result()
    assert survivors == tuple(job.members)


def test_a_next_round_that_cannot_be_does_not_spoil_this_one():
    job = Federation(JobRules("job", LENGTH, server="curious"), names(6))
    vectors = random_vectors(job.members, LENGTH)
    server = job.run(job.server(1), vectors, last="share")
    following = job.server(2, job.members[:3])
    server.pipeline(following)
    job.run(server, vectors, {job.members[0]: "mask"}, first="mask")
    total, survivors = server.result()
    np.testing.assert_array_equal(total, plain_sum(vectors, survivors))
    with pytest.raises(ThresholdMissed, match="2 of 3 clients are left"):
        following.request_mask(STATEMENT)
    # The keys of the failed round are never used; the one after starts afresh.
    total, survivors = job.run(job.server(3), vectors).result()
    np.testing.assert_array_equal(total, plain_sum(vectors, job.members))


def test_only_members_of_the_next_cohort_are_asked_for_it():
    job = Federation(JobRules("job", LENGTH), names(5))
    vectors = random_vectors(job.members, LENGTH)
    server = job.run(job.server(1), vectors, last="share")
    following = job.server(2, job.members[:3])
    server.pipeline(following)
    job.run(server, vectors, first="mask")
    total, survivors = job.run(following, vectors, first="mask").result()
    assert survivors == tuple(job.members[:3])
    np.testing.assert_array_equal(total, plain_sum(vectors, survivors))


def test_pipelining_is_set_up_in_time_and_forwards():
    job = Federation(JobRules("job", LENGTH), names(4))
    vectors = random_vectors(job.members, LENGTH)
    server = job.server(2)
    with pytest.raises(WrongStage):
        server.pipeline(job.server(3))  # not shared yet
    job.run(server, vectors, last="share")
    with pytest.raises(WrongRound, match="round 2 cannot follow 2"):
        server.pipeline(job.server(2))


def test_rounds_of_different_lengths_follow_each_other():
    """Each vector is as long as its own round says, whichever round it was announced in."""
    job = Federation(JobRules("job", 9, other_lengths=(4,)), names(4))
    servers = [
        SecureSumServer(job.roster, job.rules, number, job.members, vector_length=length)
        for number, length in enumerate((9, 4, 9), start=1)
    ]
    job.run(servers[0], {}, last="share")
    for server, following in zip(servers, [*servers[1:], None], strict=True):
        vectors = random_vectors(job.members, server.rules.vector_length)
        if following:
            server.pipeline(following)
        total, _ = job.run(server, vectors, first="mask").result()
        np.testing.assert_array_equal(total, plain_sum(vectors, job.members))


def test_a_vector_of_another_rounds_length_is_refused_and_the_round_goes_on():
    job = Federation(JobRules("job", 9, other_lengths=(4,)), names(3))
    server = job.run(job.server(), {}, last="share")
    long, short = (random_vectors(job.members, length) for length in (9, 4))
    name, request = next(iter(server.request_mask(STATEMENT).items()))
    with pytest.raises(BadVector, match="must be 9 words"):
        job.clients[name].mask(request, short[name], STATEMENT)
    assert job.clients[name].mask(request, long[name], STATEMENT)


def test_a_length_that_is_none_of_the_jobs_is_refused_by_both_sides():
    job = Federation(JobRules("job", 9, other_lengths=(4,)), names(3))
    with pytest.raises(RulesMismatch, match="7 words, this job's have 9 or 4"):
        SecureSumServer(job.roster, job.rules, 1, job.members, vector_length=7)
    request = next(iter(job.server().request_advertise().values()))
    announced = msgspec.msgpack.decode(request, type=m.Announcement)
    body = m.encode(msgspec.structs.replace(announced, vector_length=7))
    with pytest.raises(RulesMismatch, match="7 words"):
        job.clients[job.members[0]].advertise(body)
