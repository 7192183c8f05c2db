"""No lie of a server with c < 2t - n hospitals opens a sum over fewer than t - c honest ones.

The promise of docs/protocol.md, against a coalition that chooses every field it can
(`coalition`), judged by what it could compute (`knowledge`). The attacks that were found are kept
as mutations: the oracle must find each of them again.
"""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from protocols import participation
from protocols.attestations import OfferedKeys
from protocols.key_agreement import derive_key, mask_key
from protocols.parameters import JobRules
from tests.protocols.symbolic.coalition import Coalition
from tests.protocols.symbolic.knowledge import Knowledge

COHORTS = [
    (count, corrupt)
    for count in range(3, 7)
    for corrupt in range(1, count - 1)
    if corrupt < 2 * JobRules("job", 1).threshold(count) - count
]


def play(data: st.DataObject, count: int, corrupt: int, rounds: int) -> Coalition:
    """A job in which the coalition does what is drawn."""
    places = data.draw(st.permutations(range(count)))[:corrupt]
    coalition = Coalition(data, count, frozenset(places))
    for _ in range(rounds):
        coalition.round()
    return coalition


def check(data: st.DataObject, cohorts: list[tuple[int, int]] = COHORTS, rounds: int = 2) -> None:
    count, corrupt = data.draw(st.sampled_from(cohorts))
    coalition = play(data, count, corrupt, rounds=data.draw(st.integers(1, rounds)))
    threshold = JobRules("job", 1).threshold(count)
    for x25519 in (True, False):
        opened = coalition.known.opened(threshold, fewest=threshold - corrupt, x25519=x25519)
        assert not opened, f"{corrupt} of {count} hospitals and the server open {opened}"
    assert not coalition.known.sealed_twice(), "two boxes under one key and nonce"


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_lie_opens_a_sum_over_fewer_than_promised(data):
    check(data)


# ---- the control: the oracle finds what was there ---------------------------------------------


def old_pair_key(own, place, peer, peer_place, rules):
    keys = sorted((own.public, peer))
    return derive_key(own.exchange(peer), rules.digest, "pairwise mask", *keys)


def old_box_key(own, fresh, sender, recipient, rules):
    peer = recipient if own.public == sender.key else sender
    keys = (sender.key, recipient.key)
    return derive_key(own.exchange(peer.key), rules.digest, "sealed shares", *keys)


def finds(what: str) -> None:
    """Return only if the oracle finds a lie that opens something."""
    search = settings(
        max_examples=4000,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises(AssertionError, match=what):
        search(given(data=st.data())(lambda data: check(data, [(3, 1), (4, 1)], rounds=1)))()


def test_the_oracle_finds_the_copied_mask_key_under_the_old_derivation(monkeypatch):
    """Also without the seeds of pairs, which name their ends themselves."""
    monkeypatch.setattr(OfferedKeys, "take", lambda *_: None)
    monkeypatch.setattr(participation, "pair_key", old_pair_key)
    without = lambda pair, _, rules, bound: mask_key(pair, bytes(32), rules, bound)  # noqa: E731
    monkeypatch.setattr(participation, "mask_key", without)
    finds("hospitals and the server open")


def test_the_oracle_finds_what_a_quantum_computer_opens_without_the_seeds(monkeypatch):
    without = lambda pair, _, rules, bound: mask_key(pair, bytes(32), rules, bound)  # noqa: E731
    monkeypatch.setattr(participation, "mask_key", without)
    finds("hospitals and the server open")


def test_the_oracle_finds_the_copied_channel_key_under_the_old_derivation(monkeypatch):
    monkeypatch.setattr(OfferedKeys, "take", lambda *_: None)
    monkeypatch.setattr(participation, "box_key", old_box_key)
    finds("one key and nonce")


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_names_in_the_derivation_are_enough_where_nobody_looks_for_copies(data):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(OfferedKeys, "take", lambda *_: None)
        check(data)


def test_the_oracle_finds_the_sum_of_answers_to_two_questions_without_the_binding(monkeypatch):
    unbound = lambda pair, seed, rules, _: mask_key(pair, seed, rules, b"")  # noqa: E731
    monkeypatch.setattr(participation, "mask_key", unbound)
    monkeypatch.setattr(participation.Participation, "check_confirmations", lambda *_: None)
    finds("hospitals and the server open")


def test_the_oracle_finds_the_hospital_that_is_listed_alive_and_dropped(monkeypatch):
    monkeypatch.setattr(participation.Participation, "check_dropped", lambda *_: None)
    finds("hospitals and the server open")


def test_the_coalition_gets_far_enough_to_open_what_it_may():
    """The search is not idle: much of what it draws ends with sums that are promised to open."""
    reached = []

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(data=st.data())
    def look(data):
        known = play(data, 4, 1, rounds=1).known
        reached.append(bool(known.opened(threshold=3, fewest=4)))

    look()
    assert sum(reached) > len(reached) / 5


# ---- the judge itself --------------------------------------------------------------------------


def knowledge(*rows: str) -> Knowledge:
    """Rows of streams, each a letter that nobody knows."""
    known = Knowledge()
    for index, row in enumerate(rows):
        known.rows[f"h{index}", 1] = [letter.encode() for letter in row]
    known.ends = {letter.encode(): (b"p", b"q") for letter in "abcdefgh"}
    return known


@pytest.mark.parametrize(
    ("rows", "fewest", "opened"),
    [
        (("ab", "bc", "ca"), 3, 0),  # a sum of three
        (("ab", "bc", "ca"), 4, 3),
        (("aab", "b"), 2, 0),
        (("aab", "b"), 3, 2),
        (("aa", "b"), 2, 1),  # added and subtracted, or the lowest bit
        (("abc", "abc", "d"), 3, 2),
    ],
)
def test_rows_open_exactly_where_their_streams_cancel_modulo_two(rows, fewest, opened):
    assert len(knowledge(*rows).opened(threshold=1, fewest=fewest)) == opened


def test_a_stream_is_known_by_either_private_key_or_by_enough_shares():
    known = knowledge("a", "b")
    known.ends[b"a"] = (b"mine", b"theirs")
    known.private = {b"mine"}
    assert known.opened(threshold=2, fewest=2) == (("h0", 1),)
    known = knowledge("a", "b")
    known.alone, known.seeds = {b"a": b"seed"}, {("h0", 1): b"seed"}
    known.seed_shares["h0", 1] = {4}
    assert known.opened(threshold=2, fewest=2) == ()
    known.seed_shares["h0", 1] = {4, 5}
    assert known.opened(threshold=2, fewest=2) == (("h0", 1),)
