"""Whole rounds: the opened sum is the plain sum of the survivors, whoever drops and when."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import ThresholdMissed
from protocols.graph import SparseGraph
from protocols.parameters import JobRules
from tests.protocols.rounds_driver import (
    STATEMENT,
    STEPS,
    Federation,
    names,
    plain_sum,
    random_vectors,
)

SERVERS = ("malicious", "curious")
NO_SUCH_STEP = ("curious", "confirm")


def federation(count: int, length: int = 37, **rules) -> Federation:
    two: dict[str, Any] = {"allow_two_party": True} if count == 2 else {}
    return Federation(JobRules("job", length, **two, **rules), names(count))


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("count", [2, 3, 4, 5, 9])
def test_sum_equals_the_plain_sum_when_nobody_drops(server, count):
    job = federation(count, server=server)
    vectors = random_vectors(job.members, 37)
    total, survivors = job.run(job.server(), vectors).result()
    assert survivors == tuple(job.members)
    np.testing.assert_array_equal(total, plain_sum(vectors, job.members))


@pytest.mark.parametrize(
    ("server", "step"),
    [(server, step) for server in SERVERS for step in STEPS if (server, step) != NO_SUCH_STEP],
)
def test_sum_survives_one_dropout_at_every_step(server, step):
    job = federation(5, server=server)
    vectors = random_vectors(job.members, 37)
    lost = job.members[2]
    opened = job.run(job.server(), vectors, {lost: step})
    total, survivors = opened.result()
    # A vector that arrived is in the sum even if its client falls silent afterwards.
    assert (lost in survivors) == (STEPS.index(step) > STEPS.index("mask"))
    assert list(opened.dropped) == [lost]
    np.testing.assert_array_equal(total, plain_sum(vectors, survivors))


@pytest.mark.parametrize("step", STEPS)
def test_threshold_many_suffice_and_one_fewer_aborts(step):
    job = federation(7)  # threshold 5
    vectors = random_vectors(job.members, 37)
    total, survivors = job.run(
        job.server(1), vectors, dict.fromkeys(job.members[:2], step)
    ).result()
    np.testing.assert_array_equal(total, plain_sum(vectors, survivors))
    aborted = job.server(2)
    with pytest.raises(ThresholdMissed, match="4 of 7"):
        job.run(aborted, vectors, dict.fromkeys(job.members[:3], step))
    with pytest.raises(ThresholdMissed):
        aborted.result()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_schedule_of_dropouts_gives_the_plain_sum_or_nothing(data):
    server = data.draw(st.sampled_from(SERVERS))
    count = data.draw(st.integers(2, 8))
    steps = [s for s in STEPS if server == "malicious" or s != "confirm"]
    job = federation(count, server=server)
    lost = data.draw(st.dictionaries(st.sampled_from(job.members), st.sampled_from(steps)))
    length = job.rules.vector_length
    vectors = random_vectors(job.members, length, seed=data.draw(st.integers(0, 99)))
    round_ = job.server()
    try:
        job.run(round_, vectors, lost)
    except ThresholdMissed:
        assert count - len(lost) < job.rules.threshold(count)
        return
    assert count - len(lost) >= job.rules.threshold(count)
    total, survivors = round_.result()
    expected = [n for n in job.members if STEPS.index(lost.get(n, "unmask")) > 2]
    assert list(survivors) == expected
    np.testing.assert_array_equal(total, plain_sum(vectors, survivors))


@pytest.mark.parametrize("server", SERVERS)
def test_a_sparse_graph_gives_the_plain_sum_despite_dropouts(server):
    sparse = SparseGraph(0.02, 0.05, privacy_bits=20, abort_bits=15)
    job = federation(90, server=server, sparse=sparse)
    assert not job.server().rules.complete
    vectors = random_vectors(job.members, 37)
    lost = {job.members[3]: "share", job.members[40]: "mask", job.members[41]: "mask"}
    lost[job.members[77]] = "unmask"
    total, survivors = job.run(job.server(), vectors, lost).result()
    assert len(survivors) == 87
    np.testing.assert_array_equal(total, plain_sum(vectors, survivors))


def test_a_client_that_dropped_takes_part_in_the_next_round():
    job = federation(4)
    vectors = random_vectors(job.members, 37)
    job.run(job.server(1), vectors, {job.members[0]: "mask"})
    total, survivors = job.run(job.server(2), vectors).result()
    assert survivors == tuple(job.members)
    np.testing.assert_array_equal(total, plain_sum(vectors, job.members))


def test_cohorts_may_change_from_round_to_round():
    job = federation(6)
    vectors = random_vectors(job.members, 37)
    for number, cohort in enumerate((job.members[:3], job.members[2:], job.members), 1):
        total, survivors = job.run(job.server(number, cohort), vectors).result()
        assert list(survivors) == list(cohort)
        np.testing.assert_array_equal(total, plain_sum(vectors, cohort))


def test_the_caller_keeps_its_vector():
    job = federation(3)
    vectors = random_vectors(job.members, 37)
    before = {name: vector.copy() for name, vector in vectors.items()}
    job.run(job.server(), vectors)
    for name, vector in vectors.items():
        np.testing.assert_array_equal(vector, before[name])


def test_vectors_may_be_added_as_they_arrive():
    job = federation(4)
    vectors = random_vectors(job.members, 37)
    round_ = job.run(job.server(), vectors, last="share")
    for name, request in round_.request_mask(STATEMENT).items():
        round_.add_masked(name, job.clients[name].mask(request, vectors[name], STATEMENT))
    round_.receive_mask({})
    total, _ = job.run(round_, vectors, first="confirm").result()
    np.testing.assert_array_equal(total, plain_sum(vectors, job.members))
