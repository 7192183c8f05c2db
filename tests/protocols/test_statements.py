"""One sum, one question: vectors of clients that were asked different things never add up.

Pasquini, Francati and Ateniese, "Eluding secure aggregation in federated learning via model
inconsistency" (CCS 2022): a server that sends one client parameters of its own, and all others
parameters that silence them, has that client's vector as the sum. `forged` plays that server, with
everything it can do: it adds the vectors whatever statement they answer, and asks for shares with
whatever signatures it has.

"Noise" is judged by exact agreement: a word of a uniformly random vector equals a given word with
probability 2^-32, so that two of LENGTH agreeing is a false alarm below 1e-15.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import messages as m
from protocols.attestations import binding, statement
from protocols.errors import BadVector, CohortEquivocation, ThresholdMissed
from protocols.graph import SparseGraph
from protocols.key_agreement import (
    mask_key,
    mask_key_of,
    pair_key,
    pair_seed,
    seed_for,
    self_mask_key,
)
from protocols.mask_stream import Mask, apply_masks
from protocols.parameters import JobRules
from protocols.server import SecureSumServer
from tests.protocols.rounds_driver import (
    STATEMENT,
    Federation,
    answer,
    names,
    plain_sum,
    random_vectors,
)

LENGTH = 40
OTHER = statement(b"something else")


def federation(count: int, **rules) -> Federation:
    two: dict[str, Any] = {"allow_two_party": True} if count == 2 else {}
    return Federation(JobRules("job", LENGTH, **two, **rules), names(count))


def forged(job: Federation, reply: bytes, server: SecureSumServer) -> bytes:
    """A masked vector whose head says that it answers the server's own statement."""
    head, words = m.decode_masked(reply, job.rules.vector_length)
    lie = msgspec.structs.replace(head, binding=binding(server.rules, STATEMENT))
    return m.encode_masked(lie, words)[0].getvalue()


def lying_round(job: Federation, vectors, drop: Iterable[str] = ()) -> SecureSumServer:
    """As far as the openings, with every vector in the sum but those of `drop`.

    Clients that refuse are left out of what follows, as a lying server would.
    """
    server = job.run(job.server(), vectors, last="share")
    replies = {}
    for name, request in server.request_mask(STATEMENT).items():
        asked = job.asked.get(name, STATEMENT)
        reply = answer(job.clients[name], "mask", request, vectors[name], asked)
        if name not in drop:
            replies[name] = forged(job, reply, server)
    server.receive_mask(replies)
    for step in ("confirm", "unmask"):
        if step == "unmask" or job.rules.consistency:
            replies = {}
            for name, request in getattr(server, f"request_{step}")().items():
                try:
                    replies[name] = getattr(job.clients[name], step)(request)
                except (CohortEquivocation, ThresholdMissed):
                    continue
            getattr(server, f"receive_{step}")(replies)
    return server


def agreeing(a: np.ndarray, b: np.ndarray) -> int:
    return int((a == b).sum())


def silenced(job: Federation) -> tuple[str, dict[str, np.ndarray]]:
    """A victim with a vector of its own, among clients that were made to send zeros."""
    victim = job.members[0]
    vectors = dict.fromkeys(job.members, np.zeros(LENGTH, np.uint32))
    vectors[victim] = random_vectors([victim], LENGTH)[victim]
    return victim, vectors


# ---- the attack ----------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["malicious", "curious"])
@pytest.mark.parametrize("count", [4, 5, 10])
def test_a_victim_asked_something_of_its_own_is_not_in_the_opened_sum(server, count):
    """With four or more, the others' signatures and shares suffice to open a sum without the
    victim's consent: only the masks stand between the server and the victim."""
    job = federation(count, server=server)
    victim, vectors = silenced(job)
    job.asked = {victim: OTHER}
    total, survivors = lying_round(job, vectors).result()
    assert victim in survivors
    assert agreeing(total, vectors[victim]) < 2


@pytest.mark.parametrize("server", ["malicious", "curious"])
def test_the_same_attack_works_where_clients_do_not_tell_what_they_were_asked(server):
    """The control: what is refused above is there to be had without the statement."""
    job = federation(5, server=server)
    victim, vectors = silenced(job)
    total, _ = lying_round(job, vectors).result()
    np.testing.assert_array_equal(total, vectors[victim])


@pytest.mark.parametrize("count", [2, 3])
def test_small_cohorts_release_no_share_at_all(count):
    job = federation(count)
    victim, vectors = silenced(job)
    job.asked = {victim: OTHER}
    with pytest.raises(ThresholdMissed):
        lying_round(job, vectors)


def test_between_two_curious_server_clients_there_is_only_noise():
    job = federation(2, server="curious")
    victim, vectors = silenced(job)
    job.asked = {victim: OTHER}
    total, _ = lying_round(job, vectors).result()
    assert agreeing(total, vectors[victim]) < 2


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_group_that_was_asked_the_same_can_be_summed_without_the_rest(data):
    """Whatever the split, and whoever is said to have dropped: the server can take self masks and
    the dropped clients' pairwise masks off each vector, and still no group adds up alone."""
    count = data.draw(st.integers(3, 7))
    job = federation(count, server="curious")
    groups = {n: data.draw(st.integers(0, 2)) for n in job.members}
    job.asked = {n: statement(bytes([g])) for n, g in groups.items()}
    most = count - job.rules.threshold(count)
    dropped = data.draw(st.sets(st.sampled_from(job.members), max_size=most))
    vectors = random_vectors(job.members, LENGTH, seed=data.draw(st.integers(0, 99)))
    survivors = [n for n in job.members if n not in dropped]
    bare = without_known_masks(job, vectors, survivors)
    for group in set(groups.values()):
        inside = [n for n in survivors if groups[n] == group]
        if not inside:
            continue
        total = np.stack([bare[n] for n in inside]).sum(axis=0, dtype=np.uint32)
        expected = plain_sum(vectors, inside)
        if inside == survivors:
            np.testing.assert_array_equal(total, expected)  # one question: the sum, as ever
        else:
            assert agreeing(total, expected) < 2


def without_known_masks(job, vectors, survivors) -> dict[str, np.ndarray]:
    """Each survivor's masked vector, less every mask whose key the protocol gives the server."""
    server = job.run(job.server(), vectors, last="share")
    rules = server.rules
    _, _, own, seed = zip(*(job.drawn[n][:4] for n in rules.cohort), strict=True)
    keys = [mask_key_of(secret, place, rules) for place, secret in enumerate(own)]
    sent = {
        name: job.clients[name].mask(request, vectors[name], job.asked[name])
        for name, request in server.request_mask(STATEMENT).items()
    }
    bare = {}
    for place, name in enumerate(rules.cohort):
        if name not in survivors:
            continue
        words = m.decode_masked(sent[name], LENGTH)[1].copy()
        masks = [Mask(self_mask_key(seed[place], place, rules), subtract=True)]
        bound = binding(rules, job.asked[name])
        for gone, lost in enumerate(rules.cohort):
            if lost not in survivors:
                pair = pair_key(keys[gone], gone, keys[place].public, place, rules)
                seeds = [seed_for(own[p], p, q, rules) for p, q in ((gone, place), (place, gone))]
                both = pair_seed(seeds[0], gone, seeds[1], place, rules)
                key = mask_key(pair, both, rules, bound)
                masks.append(Mask(key, subtract=place < gone))
        apply_masks(words, masks)
        bare[name] = words
    return bare


def test_a_sparse_graph_is_no_way_around():
    sparse = SparseGraph(0.02, 0.05, privacy_bits=20, abort_bits=15)
    job = federation(80, sparse=sparse)
    victim, vectors = silenced(job)
    job.asked = {victim: OTHER}
    total, _ = lying_round(job, vectors).result()
    assert agreeing(total, vectors[victim]) < 2


# ---- who notices ---------------------------------------------------------------------------


def test_an_honest_server_drops_who_answers_something_else_and_opens_the_rest():
    job = federation(5)
    vectors = random_vectors(job.members, LENGTH)
    stale = job.members[3]
    job.asked = {stale: OTHER}
    server = job.run(job.server(), vectors)
    total, survivors = server.result()
    assert list(server.dropped) == [stale]
    assert server.dropped[stale].startswith("StatementMismatch")
    assert survivors == tuple(n for n in job.members if n != stale)
    np.testing.assert_array_equal(total, plain_sum(vectors, survivors))


def test_clients_refuse_signatures_over_another_statement():
    job = federation(5)
    _, vectors = silenced(job)
    job.asked = {job.members[0]: OTHER}
    server = job.run(job.server(), vectors, last="share")
    for name, request in server.request_mask(STATEMENT).items():
        asked = job.asked.get(name, STATEMENT)
        reply = answer(job.clients[name], "mask", request, vectors[name], asked)
        server.add_masked(name, forged(job, reply, server))
    server.receive_mask({})
    signed = [job.clients[n].confirm(r) for n, r in server.request_confirm().items()]
    confirmations = [msgspec.msgpack.decode(each, type=m.Confirmation) for each in signed]
    everybody = m.bit_set(range(5), 5)
    for place, blamed in ((0, "clinic-0001"), (1, "clinic-0000")):
        others = [c for c in confirmations if c.sender != place]
        request = m.encode(m.UnmaskRequest(1, everybody, b"\0", others, None))
        with pytest.raises(CohortEquivocation, match=f"{blamed} .* same statement") as caught:
            job.clients[job.members[place]].unmask(request)
        assert "different parameters" in (caught.value.hint or "")
    alone = m.encode(m.UnmaskRequest(1, everybody, b"\0", [], None))
    with pytest.raises(ThresholdMissed, match="1 of 4 clients confirmed"):
        job.clients[job.members[2]].unmask(alone)


# ---- the statement -------------------------------------------------------------------------


def test_statements_differ_with_every_part_and_every_boundary():
    asked = [(), (b"",), (b"ab",), (b"a", b"b"), (b"", b"ab"), (b"ab", b"")]
    assert len({statement(*parts) for parts in asked}) == len(asked)
    assert {len(statement(*parts)) for parts in asked} == {32}


def test_the_same_statement_binds_differently_in_every_round():
    job = federation(4)
    first, second = (job.server(number).rules for number in (1, 2))
    assert binding(first, STATEMENT) != binding(second, STATEMENT)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_statement_of_another_size_is_refused_and_the_round_goes_on(size):
    job = federation(3)
    vectors = random_vectors(job.members, LENGTH)
    server = job.run(job.server(), vectors, last="share")
    name = job.members[0]
    request = server.request_mask(STATEMENT)[name]
    with pytest.raises(BadVector, match=f"32 bytes, got {size}"):
        job.clients[name].mask(request, vectors[name], bytes(size))
    with pytest.raises(BadVector, match=f"32 bytes, got {size}"):
        server.request_mask(bytes(size))
    total, _ = job.run(server, vectors, first="mask").result()
    np.testing.assert_array_equal(total, plain_sum(vectors, job.members))
