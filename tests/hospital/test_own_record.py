"""What a hospital writes down of what leaves it, before it leaves."""

import errno
import hashlib
from pathlib import Path

import pytest

from securefed.hospital.own_record import OwnRecord
from securefed.record import egress, memberships
from securefed.record.recording import INDEX, Recording, sightings
from securefed.run_directory import Run
from securefed.wire import messages
from securefed.wire.messages import Reply, Request
from securefed.wire.plan import Plan
from tests.engine.four_sites import NAMES, Four

PLAN = Plan(NAMES, rounds=2, clients_per_round=None, evaluate_every=None, seed=0)
ASKED = messages.encode(Request(round=1, stage="confirm", body=b"who is left"))
ANSWER = messages.encode(Reply(round=1, stage="confirm", body=b"these"))


@pytest.fixture
def record(tmp_path: Path) -> OwnRecord:
    return OwnRecord("east", tmp_path, PLAN, Recording(tmp_path / "exposures", 1000))


def test_what_leaves_is_written_down_with_its_digest_and_kept_in_both_directions(
    record: OwnRecord,
) -> None:
    assert record.leaves(ASKED, ANSWER) == ANSWER
    (line,) = egress.read(record.folder)
    assert (line.step, line.stage, line.size, line.refusal) == (1, "confirm", len(ANSWER), "")
    assert line.sha256 == hashlib.sha256(ANSWER).hexdigest()
    seen = list(sightings(record.folder / "exposures"))
    assert [(each.direction, each.size) for each in seen] == [
        ("down", len(ASKED)),
        ("up", len(ANSWER)),
    ]


def test_a_refusal_leaves_too_and_what_is_no_step_of_the_plan_is_in_no_round(
    record: OwnRecord,
) -> None:
    refusal = messages.encode(Reply(round=9, stage="work", refusal="Unplanned"))
    assert record.leaves(messages.encode(Request(round=9, stage="work")), refusal) == refusal
    assert [each.refusal for each in egress.read(record.folder)] == ["Unplanned"]
    assert not (record.folder / "exposures" / INDEX).exists()


def test_what_cannot_be_written_down_does_not_leave(
    record: OwnRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(egress, "append", full)
    left = messages.decode_reply(record.leaves(ASKED, ANSWER))
    assert (left.round, left.stage, left.refusal) == (1, "confirm", "DiskFull")
    assert left.body == b""


def test_what_a_site_says_left_is_what_the_server_got(played: Four) -> None:
    got: dict[str, list[int]] = {name: [] for name in NAMES}
    for seen in sightings(played.server / "exposures"):
        if seen.direction == "up":
            got[seen.client].append(seen.size)
    for name in NAMES:
        assert [each.size for each in egress.read(played.run_of(name))] == got[name]


def test_the_policy_and_what_was_spent_stand_where_a_job_was_joined(played: Four) -> None:
    first, *between, last = Run.open(played.run_of("east")).memberships
    assert (first.outcome, last.outcome) == ("joined", "finished")
    assert {(each.outcome, each.spent) for each in between} == {("trained", None)}
    assert first.policy == played.sites["east"].policy.model_dump(mode="json")
    assert last.policy is None
    assert first.spent == 0.0
    assert last.spent == played.sites["east"].ledger().largest().counted
    of_server = memberships.read(played.server)
    assert {(each.policy is None, each.spent) for each in of_server} == {(True, None)}
