"""Messages are bounded by their stage: only where a vector travels is there room for one."""

from collections.abc import Mapping
from typing import get_args

import pytest

from protocols.identity import IdentityKey, Roster
from securefed.hospital.client import Client
from securefed.hospital.questions import Questions
from securefed.server.answers import ask
from securefed.wire import messages
from securefed.wire.contribution import ContributionLayout
from securefed.wire.limits import Limits
from securefed.wire.messages import Reply, Request, Stage
from securefed.wire.openings import Openings
from securefed.wire.plan import Plan
from tests.server.test_liars import StubTrainer

STAGES: tuple[Stage, ...] = get_args(Stage)
SMALL = ContributionLayout(parameters=10, clients=4, value_range=1.0, max_patients=9)
PLAN = Plan(("east", "north", "south", "west"), 3, None, evaluate_every=1, seed=0)
LARGE = ContributionLayout(parameters=10**6, clients=4, value_range=1.0, max_patients=9)


def test_a_larger_network_makes_room_in_messages_of_work_alone():
    small, large = Limits(SMALL, 4), Limits(LARGE, 4)
    for stage in STAGES:
        grown = large.request(stage) - small.request(stage), large.reply(stage) - small.reply(stage)
        assert (min(grown) > 3 * 10**6) if stage == "work" else grown == (0, 0)


def test_signatures_and_shares_of_four_hospitals_have_no_room_for_ten_kilobytes():
    limits = Limits(LARGE, 4)
    assert all(limits.reply(stage) < 10_000 for stage in STAGES if stage != "work")
    assert all(limits.request(stage) < 10_000 for stage in STAGES if stage != "work")


class _Answers:
    """A hospital that answers with as many bytes as it likes."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def clients(self) -> list[str]:
        return ["north"]

    def stage(self, requests: Mapping[str, bytes], deadline_s: float) -> dict[str, bytes]:
        request = messages.decode_request(requests["north"])
        return {"north": messages.encode(Reply(request.round, request.stage, self.body))}


@pytest.mark.parametrize("stage", STAGES)
def test_a_server_drops_who_answers_more_than_the_stage_can_hold(stage: Stage):
    limits = Limits(SMALL, 4)
    for room, dropped in ((-64, False), (0, True)):
        transport = _Answers(bytes(limits.reply(stage) + room))
        answers = ask(transport, {"north": Request(1, stage)}, 1.0, limits)
        assert ("north" in answers.dropped) == dropped
        assert not dropped or "over the limit" in answers.dropped["north"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_hospital_refuses_what_is_longer_than_the_stage_before_it_looks_into_it(stage: Stage):
    roster = Roster({name: IdentityKey.generate().public for name in PLAN.clients})
    questions = Questions("north", PLAN, roster, Openings(), SMALL)
    hospital = Client("north", StubTrainer(), None, questions=questions)
    room = questions.limits.request(stage)
    fits = hospital.handle(messages.encode(Request(1, stage, bytes(room - 64), stage == "work")))
    assert messages.decode_reply(fits).refusal == "RunError"  # no such message of the protocol
    seen: list[Request] = []
    questions.step = seen.append  # type: ignore[method-assign, assignment]
    longer = hospital.handle(messages.encode(Request(1, stage, bytes(room))))
    assert messages.decode_reply(longer).refusal == "RunError"
    assert not seen
