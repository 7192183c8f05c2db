"""Cohorts by a public plan, and rounds without large gaps: the server has no choice left."""

import hashlib
from collections import Counter

import pytest

from protocols import messages as m
from protocols.cohorts import CohortPlan
from protocols.errors import InvalidRules, RoundsSkipped, UnplannedCohort
from protocols.parameters import JobRules
from tests.protocols.rounds_driver import Federation, names, plain_sum, random_vectors

SEED = bytes(range(32))
PLAN = CohortPlan(SEED, 4)


def federation(**rules) -> Federation:
    return Federation(JobRules("job", 5, **rules), names(7))


def announced(job: Federation, number: int, cohort) -> bytes:
    """What a server without rules of its own announces."""
    free = Federation(JobRules("job", 5), job.members)
    return m.encode(m.announcement(free.server(number, cohort).rules, job.roster.names))


def test_a_planned_round_and_one_with_everybody_give_their_sums():
    job = federation(plan=PLAN)
    vectors = random_vectors(job.members, 5)
    for number, cohort in ((1, PLAN.cohort(job.members, 1)), (2, job.members)):
        total, survivors = job.run(job.server(number, cohort), vectors).result()
        assert survivors == tuple(cohort)
        assert total.tolist() == plain_sum(vectors, cohort).tolist()


def test_clients_and_server_refuse_any_other_cohort():
    job = federation(plan=PLAN)
    planned = PLAN.cohort(job.members, 1)
    stranger = next(n for n in job.members if n not in planned)
    for cohort in ([*planned[:3], stranger], planned[:3], [*planned, stranger]):
        with pytest.raises(UnplannedCohort):
            job.server(1, cohort)
        with pytest.raises(UnplannedCohort, match="round 1 is not the one"):
            job.clients[planned[0]].advertise(announced(job, 1, cohort))


def test_the_cohort_of_another_round_is_refused():
    job = federation(plan=PLAN)
    cohorts = {number: PLAN.cohort(job.members, number) for number in range(1, 20)}
    other = next(c for n, c in cohorts.items() if c != cohorts[1] and cohorts[1][0] in c)
    with pytest.raises(UnplannedCohort):
        job.clients[cohorts[1][0]].advertise(announced(job, 1, other))


def test_everybody_is_drawn_as_often_and_pairs_too():
    """False alarm: the seed is fixed. 6 sigma of a binomial with 3,000 draws."""
    members, rounds = names(7), 3000
    cohorts = [PLAN.cohort(members, number) for number in range(rounds)]
    drawn = Counter(name for cohort in cohorts for name in cohort)
    for probability, counts in (
        (4 / 7, [drawn[name] for name in members]),
        (2 / 7, [sum({a, "clinic-0000"} <= set(c) for c in cohorts) for a in members[1:]]),
    ):
        spread = 6 * (rounds * probability * (1 - probability)) ** 0.5
        assert all(abs(count - rounds * probability) < spread for count in counts)


def test_the_plan_is_the_one_on_the_page():
    """With nothing but the published formula, so that another implementation draws the same."""

    def rank(name: str) -> bytes:
        parts = (b"securefed secure sum v3", b"cohort", SEED, (1).to_bytes(8, "big"), name.encode())
        return hashlib.sha256(b"".join(len(p).to_bytes(8, "big") + p for p in parts)).digest()

    planned = tuple(sorted(sorted(names(7), key=rank)[:4]))
    assert planned == PLAN.cohort(names(7), 1) == PLAN.cohort(reversed(names(7)), 1)


@pytest.mark.parametrize(("seed", "size"), [(SEED[:31], 4), (SEED + b"\0", 4), (SEED, 1)])
def test_a_plan_that_cannot_be_is_refused(seed, size):
    with pytest.raises(InvalidRules):
        CohortPlan(seed, size)
    with pytest.raises(InvalidRules):
        JobRules("job", 1, max_gap=-1)


def test_a_server_that_skips_rounds_to_choose_is_refused():
    allowed = 3
    job = federation(max_gap=allowed)
    client = job.clients[job.members[0]]
    with pytest.raises(RoundsSkipped, match=f"leaves out {allowed + 1}, where max_gap"):
        client.advertise(announced(job, allowed + 2, job.members))
    client.advertise(announced(job, allowed + 1, job.members))
    client.advertise(announced(job, 2 * allowed + 2, job.members))
    with pytest.raises(RoundsSkipped):
        client.advertise(announced(job, 3 * allowed + 4, job.members))
