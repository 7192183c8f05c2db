"""The neighbour graph: regular, symmetric, connected, and its failure bounds hold up."""

import math
from itertools import combinations
from math import comb

import numpy as np
import pytest
from rounds_driver import Federation, names

from protocols.errors import InvalidRules
from protocols.graph import SparseGraph, circle, neighbours, plan, upper_tail
from protocols.parameters import JobRules

SEED = bytes(range(32))


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
        assert upper_tail(population, marked, draws, at_least) * comb(population, draws) == hits


@pytest.mark.parametrize("malicious_server", [False, True])
@pytest.mark.parametrize("members", [100, 1000])
def test_the_plan_meets_what_was_demanded_and_no_smaller_degree_does(members, malicious_server):
    sparse = SparseGraph(0.05, 0.1, privacy_bits=20, abort_bits=10)
    found = plan(members, sparse, malicious_server=malicious_server)
    assert found.degree < members - 1
    assert found.privacy_failure <= 2**-20
    assert found.abort_failure <= 2**-10
    assert 2 * found.threshold > found.degree + 1


@pytest.mark.parametrize("malicious_server", [False, True])
@pytest.mark.parametrize("members", [64, 150, 600])
def test_the_stated_probabilities_equal_a_naive_computation(members, malicious_server):
    sparse = SparseGraph(0.1, 0.1, privacy_bits=15, abort_bits=8)
    found = plan(members, sparse, malicious_server=malicious_server)
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

    run_of_bad = 1.0
    for i in range(found.degree // 2):
        run_of_bad *= (corrupt + dropped - i) / (members - i)
    holders, needed = found.degree + 1, found.threshold
    # Curious: t corrupt neighbours. Lying: honest holders answer once, corrupt ones twice.
    opening = needed
    if malicious_server:
        opening = next(c for c in range(holders) if (holders - c) + 2 * c >= 2 * needed)
    privacy = members * (run_of_bad + tail(corrupt, opening))
    assert found.privacy_failure == pytest.approx(privacy, rel=1e-6)
    too_many = found.degree - needed + 1
    assert found.abort_failure == pytest.approx(members * tail(dropped, too_many), rel=1e-6)


def test_degree_grows_like_log_n():
    sparse = SparseGraph(0.05, 0.1)
    degrees = [plan(n, sparse, malicious_server=False).degree for n in (250, 1000, 4000)]
    assert degrees == sorted(degrees)
    # Four times the clients cost a constant more neighbours, far from four times as many.
    assert degrees[2] - degrees[0] <= 16


def test_simulated_failures_stay_below_the_stated_bounds():
    """False alarm: each bound is compared with 2,000 draws; a true rate at the bound would
    exceed bound + 4 standard deviations with probability below 1e-4."""
    sparse = SparseGraph(0.1, 0.2, privacy_bits=4, abort_bits=3)
    members = 80
    found = plan(members, sparse, malicious_server=False)
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
