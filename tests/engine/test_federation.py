"""A federation from folders of its own: agreement, sites, server, and what a job leaves behind."""

import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from securefed.errors import RunError
from securefed.record import memberships, model_file
from securefed.record.summary import Summary
from securefed.secure_sum import fewest_hospitals
from securefed.wire.hello import Presence, encode_presence, is_hello
from securefed.wire.messages import decode_request
from securefed.wire.transport import Handler
from tests.engine.four_sites import NAMES, ROUNDS, Four, make_four, patients_of
from tests.tiny import finish, start


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("patients")


@pytest.fixture
def four(tmp_path: Path, data: Path) -> Four:
    return make_four(tmp_path, data)


def test_a_run_ends_with_a_model_at_the_server_and_at_every_site(four: Four) -> None:
    summary = four.play()
    assert summary is not None
    assert summary.rounds == ROUNDS
    assert summary.survivors_by_round == (4,) * ROUNDS
    assert summary.simulation == "phantom"
    released = load_file(four.server / model_file.NAME)
    for site in four.sites.values():
        folder = site.run(four.agreement.run)
        own = load_file(folder / model_file.NAME)
        assert all(np.array_equal(own[key], released[key]) for key in released)
        joined, *trained, end = memberships.read(site.jobs(four.agreement.run))
        assert (joined.outcome, end.outcome) == ("joined", "finished")
        assert [each.finished for each in trained] == list(range(1, ROUNDS + 1))
        assert site.ledger().runs()[0].rounds == ROUNDS


def test_the_server_says_once_how_long_a_run_will_take(played: Four) -> None:
    first, second, *rest = [
        line for line in played.told["server"] if line.startswith(("round ", "time: "))
    ]
    assert first.startswith("round 1 of ")
    assert second.startswith("time: about ")
    assert all(line.startswith("round ") for line in rest)


def test_the_model_is_bit_equal_to_that_of_a_run_in_one_process(four: Four, tmp_path: Path) -> None:
    four.play()
    job = four.agreement.job(1)
    alone = start(job.settings, tmp_path / "run", data=patients_of(four))
    finish(alone)
    apart = load_file(four.server / f"checkpoint-{ROUNDS}.safetensors")
    assert np.array_equal(apart["shared"], alone.server.shared)


def killed_at(handler: Handler, step: int, stage: str) -> tuple[Handler, threading.Event]:
    """A hospital that answers no more from a stage of a step on, and whether it came to that."""
    dead = threading.Event()

    def handle(data: bytes) -> bytes:
        if not is_hello(data):
            request = decode_request(data)
            if (request.round, request.stage) == (step, stage):
                dead.set()
        if dead.is_set():
            raise ConnectionError
        return handler(data)

    return handle, dead


def play_without(four: Four, *away: str) -> Summary | None:
    """One job, in which these hospitals say that they do not take part."""
    members = four.members(*(name for name in NAMES if name not in away))
    handlers: dict[str, Handler] = {name: each.handle for name, each in members.items()}
    refusal = encode_presence(Presence("refused", "policy.hours"))
    try:
        return four.serve(handlers | {name: lambda data: refusal for name in away})
    finally:
        for each in members.values():
            each.close()


@pytest.mark.parametrize(("stage", "survivors"), [("work", 3), ("confirm", 4), ("unmask", 4)])
def test_who_is_killed_in_a_round_rejoins_at_its_boundary(
    four: Four, stage: str, survivors: int
) -> None:
    members = four.members()
    handlers: dict[str, Handler] = {name: each.handle for name, each in members.items()}
    handlers["west"], dead = killed_at(handlers["west"], 2, stage)
    assert four.serve(handlers, leave=dead.is_set) is None
    for each in members.values():
        each.close()
    summary = four.play()
    assert summary is not None
    assert memberships.newest(four.server) == 2
    assert summary.survivors_by_round == (4, survivors, 4)
    spent = four.sites["west"].ledger().statement().attempts(four.agreement.run)
    assert max(spent.values()) == 1  # nothing was trained or released twice


def test_who_was_lost_before_the_final_scores_is_waited_for_once(four: Four) -> None:
    members = four.members()
    handlers: dict[str, Handler] = {name: each.handle for name, each in members.items()}
    handlers["west"], dead = killed_at(
        handlers["west"], four.agreement.job(1).plan.final.number, "work"
    )
    assert four.serve(handlers) is None
    for each in members.values():
        each.close()
    assert dead.is_set()
    assert "no scores yet" in four.told["server"][-1]
    events = {name: site.ledger().history() for name, site in four.sites.items()}
    summary = four.play()
    assert summary is not None
    assert summary.auc is not None
    assert summary.survivors_by_round == (4,) * ROUNDS
    assert memberships.newest(four.server) == 2
    # The same question has the same answer, which was paid for.
    assert events == {name: site.ledger().history() for name, site in four.sites.items()}


def test_a_run_whose_lost_hospital_stays_away_ends_without_scores(four: Four) -> None:
    assert play_without(four, "west") is None
    summary = play_without(four, "west")
    assert summary is not None
    assert (summary.rounds, summary.auc) == (ROUNDS, None)
    assert (four.server / model_file.NAME).is_file()


def test_a_run_waits_for_as_many_as_its_sums_take(four: Four) -> None:
    assert (
        fewest_hospitals(four.agreement.settings) == 3
    )  # minimum_clients is 2, and masks need three
    with pytest.raises(RunError, match="2 of 4 hospitals are ready, a round needs 3"):
        play_without(four, "south", "west")
    assert not (four.server / Summary.NAME).exists()
    summary = four.play()
    assert summary is not None
    assert summary.rounds_aborted == 0


def test_who_is_not_connected_when_a_job_begins_is_not_waited_for(four: Four) -> None:
    with pytest.raises(RunError, match="2 of 4 hospitals are ready"):
        four.play("east", "north", hello_s=1e6)
    assert {"south: not connected", "west: not connected"} <= set(four.told["server"])


def test_one_hospital_does_not_use_up_the_numbers_of_jobs(four: Four) -> None:
    members = four.members()
    handlers: dict[str, Handler] = {name: each.handle for name, each in members.items()}
    last = encode_presence(Presence("refused", "RunError", 2**31))
    handlers["west"] = lambda data: last
    assert four.serve(handlers) is None  # all is trained, and west's patients are not scored
    for each in members.values():
        each.close()
    assert memberships.newest(four.server) == 1
    summary = four.play()
    assert summary is not None
    assert summary.auc is not None
    assert memberships.newest(four.server) == 2
    assert summary.survivors_by_round == (3, 3, 3)
