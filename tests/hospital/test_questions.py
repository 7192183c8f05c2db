"""Whatever a server asks of whom, in whatever order, two sums of one question leave no difference.

The server here chooses every message: which sum of which cohort and length it announces, as which
step and with which flags and parameters it asks, whom it shows as survivors and to whom. The
protocol itself is taken to accept everything. Of four hospitals one may work with the server and
answers always.
"""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import messages as protocol
from protocols.errors import ProtocolError
from protocols.identity import IdentityKey, Roster
from protocols.parameters import JobRules
from securefed.errors import SecureFedError
from securefed.hospital.questions import Questions
from securefed.wire.contribution import ContributionLayout, vector_length
from securefed.wire.messages import Request, vector_to_bytes
from securefed.wire.openings import Openings, question_of
from securefed.wire.plan import Plan, Step

NAMES = ("a", "b", "c", "d")
ROSTER = Roster({name: IdentityKey.generate().public for name in NAMES})
LAYOUT = ContributionLayout(4, clients=4, value_range=1.0, max_patients=9)
RULES = JobRules("job", LAYOUT.words, other_lengths=(LAYOUT.scores.words,))
LENGTHS = RULES.vector_lengths
THRESHOLD = RULES.threshold(len(NAMES))  # 3
PLAN = Plan(NAMES, rounds=3, clients_per_round=None, evaluate_every=2, seed=0)
SAMPLED = Plan(NAMES, rounds=3, clients_per_round=3, evaluate_every=2, seed=0)

_companies = st.sets(st.sampled_from(NAMES), min_size=3).map(lambda names: tuple(sorted(names)))
_whom = st.sets(st.sampled_from(NAMES), min_size=1)
_sums = st.integers(1, 3)
_moves = st.one_of(
    st.tuples(st.just("announce"), _whom, _sums, _companies, st.sampled_from(LENGTHS)),
    st.tuples(
        st.just("ask"), _whom, _sums, st.integers(0, 8), st.booleans(), st.booleans(), st.booleans()
    ),
    st.tuples(st.sampled_from(["confirm", "unmask"]), _whom, _sums, _companies),
    # Most random moves are refused at once: this one opens a sum where it can be opened.
    st.tuples(st.just("open"), _companies, _sums, st.integers(1, 7), st.booleans(), _companies),
)


class _Server:
    """All that a server can do to four hospitals, and what it has from them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.hospitals = {name: Questions(name, plan, ROSTER, Openings(), LAYOUT) for name in NAMES}
        self.cohorts: dict[tuple[str, int], tuple[str, ...]] = {}
        self.lengths: dict[tuple[str, int], int] = {}
        self.answers: list[tuple[bool, int]] = []
        self.asked: dict[tuple[str, int], str] = {}
        self.given: dict[tuple[int, str, frozenset[str]], set[str]] = {}

    def announce(self, whom: set[str], number: int, cohort: tuple[str, ...], length: int) -> None:
        rules = RULES.for_round(ROSTER, number, cohort, length)
        for name in whom & set(cohort):
            self.hospitals[name].announced(
                protocol.encode(protocol.announcement(rules, ROSTER.names))
            )
            self.cohorts[name, number], self.lengths[name, number] = cohort, length

    def ask(
        self, whom: set[str], number: int, step: int, train: bool, evaluate: bool, other: bool
    ) -> None:
        body = protocol.encode(protocol.MaskRequest(number, [], None))
        shared = vector_to_bytes(np.full(4, 1.0 + other, np.float32))
        request = Request(step, "work", body, train, evaluate, shared)
        for name in whom:
            self.hospitals[name].ask(request)
            self.asked[name, number] = question_of(request)
            self.answers.append((train, self.lengths[name, number]))

    def confirm(self, whom: set[str], number: int, over: tuple[str, ...]) -> None:
        for name in whom:
            bits = self._bits(name, number, over)
            self.hospitals[name].confirm(protocol.encode(protocol.ConfirmRequest(number, bits)))

    def unmask(self, whom: set[str], number: int, over: tuple[str, ...]) -> None:
        for name in whom:
            bits = self._bits(name, number, over)
            body = protocol.encode(protocol.UnmaskRequest(number, bits, bits, [], None))
            self.hospitals[name].opened(*self.hospitals[name].unmask(body))
            key = (number, self.asked[name, number], frozenset(over))
            self.given.setdefault(key, set()).add(name)

    def open(
        self, whom: tuple[str, ...], number: int, step: int, other: bool, over: tuple[str, ...]
    ) -> None:
        planned = self.plan.step(step)
        if planned:
            length = vector_length(LAYOUT, train=planned.train)
            self.announce(set(planned.cohort), number, planned.cohort, length)
            self.ask(set(whom), number, step, planned.train, not planned.train, other)
            self.unmask(set(whom), number, over)

    def _bits(self, name: str, number: int, over: tuple[str, ...]) -> bytes:
        cohort = sorted(self.cohorts.get((name, number), NAMES))
        places = [cohort.index(each) for each in over if each in cohort]
        return protocol.bit_set(places, len(cohort))

    def opened(self, corrupt: str) -> list[tuple[str, frozenset[str]]]:
        """Questions and companies of sums for which enough hospitals gave shares."""
        return [
            (question, over)
            for (_, question, over), givers in self.given.items()
            if len(givers | {corrupt}) >= THRESHOLD
        ]


def _play(plan: Plan, moves: list[tuple[object, ...]]) -> _Server:
    server = _Server(plan)
    for what, *arguments in moves:
        try:
            getattr(server, str(what))(*arguments)
        except (SecureFedError, ProtocolError):
            continue
    return server


@given(moves=st.lists(_moves, max_size=12), corrupt=st.sampled_from(NAMES))
@settings(max_examples=400, deadline=None)
def test_no_question_opens_in_two_companies(moves: list[tuple[object, ...]], corrupt: str) -> None:
    for one, other in combinations(_play(PLAN, moves).opened(corrupt), 2):
        assert one[0] != other[0] or one[1] == other[1]


@given(moves=st.lists(_moves, max_size=12), corrupt=st.sampled_from(NAMES))
@settings(max_examples=400, deadline=None)
def test_scores_open_over_everybody_whoever_is_sampled(
    moves: list[tuple[object, ...]], corrupt: str
) -> None:
    vectors = [np.full(4, value, np.float32) for value in (1, 2)]
    scored = {question_of(Request(1, "work", shared=vector_to_bytes(each))) for each in vectors}
    for question, over in _play(SAMPLED, moves).opened(corrupt):
        assert question not in scored or over == set(NAMES)


@given(moves=st.lists(_moves, max_size=12))
@settings(max_examples=200, deadline=None)
def test_no_question_is_answered_with_a_vector_of_another_length(
    moves: list[tuple[object, ...]],
) -> None:
    for train, length in _play(PLAN, moves).answers:
        assert length == vector_length(LAYOUT, train=train)


def test_the_server_of_these_tests_opens_what_may_be_opened() -> None:
    """Or they would say nothing: a sum over three, the same again, and everybody's scores."""
    three = NAMES[:3]
    moves: list[tuple[object, ...]] = [
        ("open", three, 1, 1, False, three),
        ("open", three, 2, 2, False, three),
        ("open", NAMES, 3, 4, False, NAMES),
    ]
    companies = [over for _, over in _play(PLAN, moves).opened("d")]
    assert companies == [set(three), set(three), set(NAMES)]


class _Forgetful(Openings):
    def over(self, question: str) -> None:
        return None


def test_without_the_memory_two_sums_of_one_question_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subtracted: list[tuple[object, ...]] = [
        ("open", NAMES, 1, 1, False, NAMES),
        ("open", NAMES[:3], 2, 2, False, NAMES[:3]),
    ]
    assert len(_play(PLAN, subtracted).opened("d")) == 1
    monkeypatch.setitem(_Server.__init__.__globals__, "Openings", _Forgetful)
    (one, whole), (other, less) = _play(PLAN, subtracted).opened("d")
    assert one == other
    assert whole - less == {"d"}


# ---- the plan ---------------------------------------------------------------------------------


@given(
    rounds=st.integers(1, 30),
    every=st.integers(1, 40),
    sampled=st.one_of(st.none(), st.integers(2, 4)),
)
@settings(max_examples=100, deadline=None)
def test_a_plans_steps_have_numbers_of_their_own_and_an_order(
    rounds: int, every: int, sampled: int | None
) -> None:
    plan = Plan(NAMES, rounds, sampled, every, seed=1)
    steps = [step for number in range(2 * rounds + 5) if (step := plan.step(number))]
    assert all(plan.step(step.number) == step for step in steps)
    assert len(steps) == rounds + len(range(0, rounds, every)) + 1
    in_time = sorted(steps, key=lambda step: step.moment)
    assert in_time[0] == plan.scoring(1)
    assert in_time[-1] == plan.final
    walked: list[Step] = [in_time[0]]
    while following := plan.after(walked[-1]):
        walked.append(following)
    assert [*walked, plan.final] == in_time
