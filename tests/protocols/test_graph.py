"""The neighbour graph: regular, symmetric, connected, and its failure bounds hold up."""

import math
import time
from itertools import combinations
from math import comb

import numpy as np
import pytest

from protocols.cohorts import CohortPlan
from protocols.errors import InvalidRules
from protocols.graph import NeighbourPlan, SparseGraph, circle, neighbours, plan, upper_tail
from protocols.parameters import JobRules
from tests.protocols.rounds_driver import Federation, names

SEED = bytes(range(32))


def sparse_plan(
    members: int, sparse: SparseGraph, *, malicious_server: bool, orders: int = 1
) -> NeighbourPlan:
    """The plan where a sparse graph will do."""
    found = plan(members, sparse, malicious_server=malicious_server, orders=orders)
    assert found is not None
    return found


@pytest.mark.parametrize(("members", "degree"), [(12, 4), (101, 10), (1000, 40)])
def test_every_client_has_degree_many_neighbours_and_they_agree(members, degree):
    order = circle(SEED, members)
    assert sorted(order) == list(range(members))
    graph = {place: set(neighbours(order, place, degree)) for place in range(members)}
    for place, others in graph.items():
        assert len(others) == degree
        assert place not in others
        assert all(place in graph[other] for other in others)


def test_the_graph_changes_with_the_seed_and_only_with_it():
    assert circle(SEED, 50) == circle(SEED, 50)
    assert circle(SEED, 50) != circle(SEED[::-1], 50)


def test_the_tail_equals_counting_all_hands():
    population, marked, draws = 9, 4, 5
    for at_least in range(draws + 2):
        hands = list(combinations(range(population), draws))
        hits = sum(sum(card < marked for card in hand) >= at_least for hand in hands)
        ours = upper_tail(population, marked, draws, at_least) * comb(population, draws)
        assert hits <= ours <= hits * (1 + 2e-6)


@pytest.mark.parametrize("malicious_server", [False, True])
@pytest.mark.parametrize("members", [100, 1000])
def test_the_plan_meets_what_was_demanded_and_no_smaller_degree_does(members, malicious_server):
    sparse = SparseGraph(0.05, 0.1, privacy_bits=20, abort_bits=10)
    found = sparse_plan(members, sparse, malicious_server=malicious_server)
    assert found.degree < members - 1
    assert found.privacy_failure <= 2**-20
    assert found.abort_failure <= 2**-10
    assert 2 * found.threshold > found.degree + 1


@pytest.mark.parametrize("malicious_server", [False, True])
@pytest.mark.parametrize("members", [64, 150, 600])
def test_the_stated_probabilities_equal_a_naive_computation(members, malicious_server):
    sparse = SparseGraph(0.1, 0.1, privacy_bits=15, abort_bits=8)
    found = sparse_plan(members, sparse, malicious_server=malicious_server)
    corrupt = dropped = math.ceil(members / 10)

    def tail(marked: int, at_least: int) -> float:
        """Draw neighbours one by one, keeping the law of the number of marked ones."""
        law = [1.0]
        for drawn in range(found.degree):
            left = members - 1 - drawn
            law = [
                (law[h] * (left - marked + h) / left if h < len(law) else 0.0)
                + (law[h - 1] * (marked - h + 1) / left if h else 0.0)
                for h in range(len(law) + 1)
            ]
            law = [max(p, 0.0) for p in law]
        return math.fsum(law[at_least:])

    if malicious_server:
        # Two windows in which the corrupt ones fill up what may be missing.
        half, missing = found.degree // 2, found.degree + 1 - found.threshold
        window = sum(
            comb(corrupt, k) * comb(members - corrupt, half - k)
            for k in range(half - missing, half + 1)
        ) / comb(members, half)
        cut = (members * window) ** 2 / 2
    else:
        run_of_bad = 1.0
        for i in range(found.degree // 2):
            run_of_bad *= (corrupt + dropped - i) / (members - i)
        cut = members * run_of_bad
    holders, needed = found.degree + 1, found.threshold
    # Curious: t corrupt neighbours. Lying: honest holders answer once, corrupt ones twice.
    opening = needed
    if malicious_server:
        opening = next(c for c in range(holders) if (holders - c) + 2 * c >= 2 * needed)
    privacy = cut + members * tail(corrupt, opening)
    assert found.privacy_failure == pytest.approx(privacy, rel=1e-5)
    too_many = found.degree - needed + 1
    assert found.abort_failure == pytest.approx(members * tail(dropped, too_many), rel=1e-5)


def test_degree_grows_like_log_n():
    sparse = SparseGraph(0.05, 0.1)
    degrees = [sparse_plan(n, sparse, malicious_server=False).degree for n in (250, 1000, 4000)]
    assert degrees == sorted(degrees)
    # Four times the clients cost a constant more neighbours, far from four times as many.
    assert degrees[2] - degrees[0] <= 16


def test_simulated_failures_stay_below_the_stated_bounds():
    """False alarm: each bound is compared with 2,000 draws; a true rate at the bound would
    exceed bound + 4 standard deviations with probability below 1e-4."""
    sparse = SparseGraph(0.1, 0.2, privacy_bits=4, abort_bits=3)
    members = 80
    found = sparse_plan(members, sparse, malicious_server=False)
    rng = np.random.default_rng(7)
    leaks = aborts = 0
    trials = 2000
    for _ in range(trials):
        order = tuple(int(p) for p in rng.permutation(members))
        corrupt, gone = set(range(8)), set(range(8, 24))
        tables = [set(neighbours(order, p, found.degree)) for p in range(members)]
        leaks += any(
            len(tables[p] & corrupt) >= found.threshold for p in range(members) if p not in corrupt
        )
        aborts += any(len(tables[p] - gone) < found.threshold for p in range(members))
    for count, bound in ((leaks, found.privacy_failure), (aborts, found.abort_failure)):
        assert count / trials <= bound + 4 * (bound * (1 - bound) / trials) ** 0.5


def pieces(order: tuple[int, ...], degree: int, threshold: int, corrupt: set[int]) -> int:
    """Cuts that a lying server can make between two places: on either side every honest client
    whose neighbours lie across may miss as many as leave `threshold` of degree + 1 there."""
    half, missing, members = degree // 2, degree + 1 - threshold, len(order)
    cuts = 0
    for position in range(members):
        for step in (1, -1):  # the outer side of the last client on either side
            if all(
                sum(
                    order[(position + step * (back + ahead)) % members] not in corrupt
                    for ahead in range(1, half + 1 - back)
                )
                <= missing
                for back in range(half)
            ):
                cuts += 1
                break
    return cuts


def test_a_server_that_chooses_who_drops_cuts_no_more_often_than_stated():
    """False alarm: 1,500 draws against a bound; a true rate at the bound would exceed bound + 4
    standard deviations with probability below 1e-4. The control: the bound for dropouts that do not
    know the order is exceeded, as it was by an attack on it."""
    members, degree, threshold = 80, 12, 8
    corrupt = set(range(16))
    rng = np.random.default_rng(11)
    trials = 1500
    cut = 0
    for _ in range(trials):
        order = tuple(int(p) for p in rng.permutation(members))
        cut += pieces(order, degree, threshold, corrupt) >= 2
    window = upper_tail(members, 16, degree // 2, degree // 2 - (degree + 1 - threshold))
    bound = min(1.0, (members * window) ** 2 / 2)
    assert cut / trials <= bound + 4 * (bound * (1 - bound) / trials) ** 0.5
    unknowing = members * upper_tail(members, 16 + 8, degree // 2, degree // 2)
    assert cut / trials > 10 * unknowing


def test_more_orders_to_choose_from_need_more_neighbours():
    sparse = SparseGraph()
    one, many = (sparse_plan(500, sparse, malicious_server=True, orders=t) for t in (1, 2**20))
    assert one.degree < many.degree
    assert many.privacy_failure <= 2**-40
    curious = [sparse_plan(500, sparse, malicious_server=False, orders=t) for t in (1, 2**20)]
    assert curious[0].degree < curious[1].degree
    assert curious[1].privacy_failure <= 2**-40


@pytest.mark.parametrize("members", [10_000, 65_535])
def test_planning_for_a_large_cohort_takes_no_time_worth_naming(members):
    plan.cache_clear()
    started = time.process_time()
    found = sparse_plan(members, SparseGraph(), malicious_server=True, orders=400_000)
    assert found.degree < 200
    assert time.process_time() - started < 2


def test_demands_that_cannot_be_met_are_answered_with_the_complete_graph_in_time():
    plan.cache_clear()
    started = time.process_time()
    assert plan(3000, SparseGraph(0.49, 0.49, 80, 80), malicious_server=True) is None
    assert time.process_time() - started < 10


def test_a_sparse_graph_over_a_cohort_of_the_servers_choice_is_refused():
    sparse = SparseGraph(0.02, 0.05, privacy_bits=20, abort_bits=15)
    members = names(90)
    free = Federation(JobRules("job", 5, sparse=sparse), members)
    free.server()  # everybody
    with pytest.raises(InvalidRules, match="cohort that the server chooses"):
        free.server(cohort=members[:80])
    plan_ = CohortPlan(SEED, 80)
    planned = Federation(JobRules("job", 5, sparse=sparse, plan=plan_), members)
    assert not planned.server(cohort=plan_.cohort(members, 1)).rules.complete
    curious = Federation(JobRules("job", 5, sparse=sparse, server="curious"), members)
    assert not curious.server(cohort=members[:80]).rules.complete


def test_small_cohorts_use_the_complete_graph():
    sparse = SparseGraph()
    for members in (3, 8, 16, 63):
        assert plan(members, sparse, malicious_server=True) is None
        rules = Federation(JobRules("job", 5, sparse=sparse), names(members)).server().rules
        assert rules.complete
        assert rules.share_threshold == rules.minimum_survivors == max(3, 2 * members // 3 + 1)


@pytest.mark.parametrize(
    "bad",
    [
        {"max_corrupt_fraction": 0.5},
        {"max_dropout_fraction": -0.1},
        {"privacy_bits": 0},
        {"abort_bits": 0},
        {"max_corrupt_fraction": float("nan")},
    ],
)
def test_senseless_demands_are_refused(bad):
    with pytest.raises(InvalidRules):
        SparseGraph(**bad)
