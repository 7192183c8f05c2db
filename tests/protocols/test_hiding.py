"""The bound for a run's numbers, and its sentence."""

import pytest

from protocols.errors import InvalidRules
from protocols.graph import SparseGraph
from protocols.hiding import hiding
from protocols.parameters import JobRules

SPARSE = SparseGraph(0.05, 0.1, privacy_bits=20, abort_bits=15)


def rules(**changes) -> JobRules:
    return JobRules("job", 1, **changes)


@pytest.mark.parametrize(
    ("cohort", "colluding", "together"),
    [(3, 1, 2), (4, 1, 2), (5, 2, 2), (6, 3, 2), (7, 2, 3), (10, 3, 4), (16, 5, 6)],
)
def test_the_bound_against_a_lying_server(cohort, colluding, together):
    found = hiding(rules(), cohort)
    assert (found.colluding, found.together) == (colluding, together)


@pytest.mark.parametrize("server", ["malicious", "curious"])
@pytest.mark.parametrize("cohort", range(3, 60))
def test_the_bound_is_the_largest_that_the_threshold_allows(cohort, server):
    threshold = rules(server=server).threshold(cohort)
    found = hiding(rules(server=server), cohort)

    def broken(colluding: int) -> bool:
        opens = 2 * threshold <= cohort + colluding if server == "malicious" else False
        return opens or colluding >= threshold or threshold - colluding < 2

    assert not broken(found.colluding)
    assert broken(found.colluding + 1)
    assert found.together == threshold - found.colluding >= 2


def test_the_sentence_says_the_runs_numbers():
    assert hiding(rules(), 4).sentence == (
        "what you send stays hidden while at most 1 of 4 hospitals works with the server;"
        " together they learn sums over 2 or more of the others"
    )
    assert "at most 3 of 10 hospitals work with the server;" in hiding(rules(), 10).sentence
    assert "and the server follows the protocol" in hiding(rules(server="curious"), 10).sentence


def test_two_hospitals_are_hidden_from_the_server_alone():
    found = hiding(rules(allow_two_party=True), 2)
    assert (found.colluding, found.together) == (0, 2)
    assert found.sentence == (
        "what you send stays hidden from the server, while no hospital works with it;"
        " it learns sums over 2 or more"
    )
    with pytest.raises(InvalidRules):
        hiding(rules(), 2)


def test_a_sparse_graph_has_a_probability():
    found = hiding(rules(sparse=SPARSE, max_rounds=100), 200)
    assert found.colluding == 10
    assert 0 < found.failure <= 2**-20
    assert "but for a probability of" in found.sentence
