"""A server that looks for an unlucky circle has no more of them than the bound counts.

Everything that it may say of a round is said to real clients here, and the circles that they would
go along with are counted. Then the same server, with that many to choose among, leaks a job no more
often than stated; by the bound for one circle it leaks far more often.
"""

import time
from itertools import combinations

import numpy as np
import pytest
from numpy.random import Generator

from protocols import messages as m
from protocols.client import SecureSumClient
from protocols.cohorts import CohortPlan
from protocols.errors import ProtocolError
from protocols.graph import SparseGraph, circle, plan
from protocols.identity import IdentityKey, Roster
from protocols.parameters import JobRules
from tests.protocols.rounds_driver import Federation, identities, names

SEED = bytes(range(32))


def circles_that_clients_accept(rules: JobRules, members: list[str]) -> set[bytes]:
    """The digests, and with them the circles, of all that an announcement may say."""
    keys = identities(members)
    roster = Roster({name: key.public for name, key in keys.items()})
    accepted = set()
    cohorts = [c for size in range(2, len(members) + 1) for c in combinations(members, size)]
    lengths = range(1, 12)
    for number in range(rules.max_rounds + 4):
        for cohort in cohorts:
            places = [roster.names.index(name) for name in cohort]
            for length in lengths:
                announced = m.Announcement(
                    version=m.VERSION,
                    job=rules.job,
                    round_number=number,
                    cohort=m.bit_set(places, len(members)),
                    vector_length=length,
                    degree=len(cohort) - 1,
                    share_threshold=rules.threshold(len(cohort)) if len(cohort) > 2 else 2,
                    minimum_survivors=rules.threshold(len(cohort)) if len(cohort) > 2 else 2,
                )
                # It walked here by rounds that it abandoned; the client is as it was then.
                client = SecureSumClient(
                    cohort[0], keys[cohort[0]], roster, rules, first_round=max(1, number)
                )
                try:
                    advert = client.advertise(m.encode(announced))
                except ProtocolError:
                    continue
                accepted.add(m.decode(m.Advert, advert, 4096).round_digest)
    return accepted


def test_a_server_walks_past_any_gap_by_rounds_that_it_abandons() -> None:
    """So that `max_gap` alone does not bound what it may choose among."""
    job = Federation(JobRules("job", 3, max_gap=4), names(4))
    client = job.clients[job.members[0]]
    for number in range(5, 100, 5):
        client.advertise(job.server(number).request_advertise()[client.name])


@pytest.mark.parametrize("planned", [True, False])
def test_clients_go_along_with_as_many_circles_as_the_bound_counts(planned: bool) -> None:
    members = names(5)
    rules = JobRules(
        "job",
        3,
        max_rounds=4,
        minimum_cohort=4,
        other_lengths=(7,),
        plan=CohortPlan(SEED, 4) if planned else None,
    )
    accepted = circles_that_clients_accept(rules, members)
    if planned:
        assert len(accepted) == rules.orders == 4 * 2 * 2
    else:
        # The whole roster or any four: why a sparse graph needs a plan, or the whole roster.
        assert len(accepted) == 4 * 2 * (1 + 5) > rules.orders


# ---- how often it finds one ---------------------------------------------------------------------

MEMBERS, CORRUPT, ORDERS, JOBS = 80, 12, 600, 10


def leaks(order: tuple[int, ...], degree: int, threshold: int, corrupt: set[int]) -> bool:
    """Whether a lying server may open one client, or may cut the circle in two.

    To cut an arc off, corrupt clients must fill half a degree of places beyond either end, less as
    many as its last client may miss: what every cut needs, whether or not it then succeeds.
    """
    members, half, missing = len(order), degree // 2, degree + 1 - threshold
    is_corrupt = np.array([place in corrupt for place in order])
    before, after = (
        sum(np.roll(is_corrupt, step * back).astype(int) for back in range(1, half + 1))
        for step in (1, -1)
    )
    if ((before + after >= 2 * threshold - degree - 1) & ~is_corrupt).any():
        return True
    starts, ends = (
        np.flatnonzero((corrupt_beyond >= half - missing) & ~is_corrupt)
        for corrupt_beyond in (before, after)
    )
    arcs = (ends[None, :] - starts[:, None]) % members
    return bool((arcs < members // 2).any())


def leaking_jobs(sparse: SparseGraph, orders_counted: int, rng: Generator) -> tuple[float, float]:
    """How many of the jobs leak in the round that the server likes best; and the bound."""
    found = plan(MEMBERS, sparse, malicious_server=True, orders=orders_counted)
    assert found is not None
    leaking = 0
    for _ in range(JOBS):
        job = JobRules(rng.bytes(16).hex(), 3, max_rounds=ORDERS)
        corrupt = set(rng.choice(MEMBERS, CORRUPT, replace=False).tolist())
        for number in range(1, job.orders + 1):
            order = circle(job.for_round(ROSTER, number, ROSTER.names).digest, MEMBERS)
            if leaks(order, found.degree, found.threshold, corrupt):
                leaking += 1
                break
    return leaking / JOBS, found.privacy_failure


ROSTER = Roster({name: IdentityKey.generate().public for name in names(MEMBERS)})


def test_the_circle_it_likes_best_leaks_no_more_often_than_stated() -> None:
    """Names of jobs and who is corrupt are drawn with a fixed seed."""
    sparse = SparseGraph(CORRUPT / MEMBERS, 0.1, privacy_bits=1, abort_bits=1)
    rate, bound = leaking_jobs(sparse, ORDERS, np.random.default_rng(5))
    assert rate <= bound <= 0.5
    # The control: a graph for one circle, before a server that may choose among 600.
    rate, bound = leaking_jobs(sparse, 1, np.random.default_rng(5))
    assert rate > bound


# ---- planning -----------------------------------------------------------------------------------


def test_the_largest_cohort_is_planned_within_a_clients_first_answer() -> None:
    key = IdentityKey.generate()
    pinned = {f"clinic-{i:05d}": i.to_bytes(4, "big") * 7 + bytes(4) for i in range(1, 65_535)}
    roster = Roster({"clinic-00000": key.public, **pinned})
    rules = JobRules("job", 3, sparse=SparseGraph())
    client = SecureSumClient("clinic-00000", key, roster, rules)
    request = m.encode(m.announcement(rules.for_round(roster, 1, roster.names), roster.names))
    plan.cache_clear()
    started = time.process_time()
    advert = client.advertise(request)
    assert time.process_time() - started < 5
    assert m.decode(m.Advert, advert, 4096).sender == 0
