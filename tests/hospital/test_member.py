"""What a hospital on a machine of its own refuses, before a patient is read or epsilon is spent.

The server is whoever the test wants it to be: it chooses every byte of hello and of what follows.
"""

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from securefed.hospital import member as member_file
from securefed.hospital import site as site_file
from securefed.hospital.member import Member
from securefed.hospital.patients import load_patients
from securefed.hospital.site import Site
from securefed.privacy.ledger import Ledger
from securefed.record import memberships
from securefed.wire import hello, messages
from securefed.wire.hello import Hello, Presence
from securefed.wire.messages import Request
from tests.engine.four_sites import Four, make_four, settings


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("patients")


@pytest.fixture
def four(tmp_path: Path, patients: Path) -> Four:
    return make_four(tmp_path, patients)


def greet(member: Member, digest: str, membership: int = 1, finished: int = 0) -> Presence:
    """What comes of hello, in the end."""
    asked = hello.encode_hello(Hello(digest, membership, finished))
    while True:
        answer = hello.decode_presence(member.handle(asked))
        if answer.state != "opening":
            return answer


def refused(four: Four, site: Site, **asked: Any) -> tuple[str, str]:
    """The reason that the server gets, and what the hospital was told; nothing was spent."""
    told: list[str] = []
    before = site.ledger().history()
    member = Member(site, told.append)
    answer = greet(member, asked.pop("digest", four.agreement.digest), **asked)
    member.close()
    assert answer.state == "refused"
    assert site.ledger().history() == before
    return answer.reason, told[-1]


def never(*_: object, **__: object) -> None:
    raise AssertionError("patients were read")


def test_who_was_not_greeted_is_not_worked_for(four: Four) -> None:
    member = Member(four.sites["west"], lambda text: None)
    reply = messages.decode_reply(member.handle(messages.encode(Request(3, "advertise"))))
    assert (reply.round, reply.stage, reply.refusal) == (3, "advertise", "NotReady")
    garbage = messages.decode_reply(member.handle(b"\xff\x00"))
    assert garbage.refusal == "NotReady"
    assert hello.decode_presence(member.handle(b"hello\0?")).state == "refused"


def test_another_agreement_is_refused_before_patients_are_read(
    four: Four, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_file, "load_patients", never)
    reason, told = refused(four, four.sites["west"], digest="ab" * 32)
    assert (reason, "was not accepted" in told) == ("RunError", True)


@pytest.mark.parametrize(
    ("policy", "key"),
    [
        ({"run_epsilon": 2.0}, "run_epsilon"),
        ({"smallest_training_set": 500}, "smallest_training_set"),
    ],
)
def test_the_site_s_policy_decides_and_the_server_hears_its_key_only(
    tmp_path: Path, patients: Path, policy: dict[str, Any], key: str
) -> None:
    four = make_four(tmp_path, patients, policy=policy)
    reason, told = refused(four, four.sites["west"])
    assert reason == f"policy.{key}"
    assert f"policy.yaml has {key}: {policy[key]}" in told
    assert memberships.read(four.sites["west"].run(four.agreement.run)) == ()


def test_a_run_that_the_budget_of_all_runs_does_not_hold_is_refused_before_it_begins(
    four: Four,
) -> None:
    west = four.sites["west"]
    west.ledger_path.unlink()
    Ledger.create(west.ledger_path, client="west", unit="patient", delta=1e-3, budget_epsilon=7.9)
    reason, told = refused(four, west)
    assert reason == "BudgetExceeded"
    assert "above its budget of 7.9" in told


@pytest.mark.parametrize(
    "terms", [{"delta": 1e-5}, {"unit": "image"}, {"accountant": "rdp"}], ids=str
)
def test_histories_of_other_terms_do_not_compose(four: Four, terms: dict[str, Any]) -> None:
    west = four.sites["west"]
    west.ledger_path.unlink()
    usual: dict[str, Any] = {"unit": "patient", "delta": 1e-3, "budget_epsilon": 20.0}
    Ledger.create(west.ledger_path, client="west", **(usual | terms))
    reason, told = refused(four, west)
    assert reason == "PrivacyError"
    assert f"by {next(iter(terms))}" in told


def test_a_lost_ledger_or_identity_ends_the_hospital_s_part(four: Four) -> None:
    west = four.sites["west"]
    west.ledger_path.unlink()
    member = Member(west, lambda text: None)
    answer = greet(member, four.agreement.digest)
    assert (answer.state, answer.reason) == ("refused", "PrivacyError")
    assert not west.ledger_path.exists()


def test_hello_is_answered_while_patients_are_read(
    four: Four, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = threading.Event()

    def slowly(*arguments: Any, **named: Any) -> Any:
        read.wait(60)
        return load_patients(*arguments, **named)

    monkeypatch.setattr(member_file, "load_patients", slowly)
    monkeypatch.setattr(member_file, "PATIENCE_S", 0.01)
    member = Member(four.sites["west"], lambda text: None)
    asked = hello.encode_hello(Hello(four.agreement.digest, 1, 0))
    states = {hello.decode_presence(member.handle(asked)).state for _ in range(3)}
    assert states == {"opening"}
    read.set()
    assert greet(member, four.agreement.digest).state == "ready"
    member.close()


def test_a_job_is_joined_once_whatever_the_server_says(four: Four) -> None:
    west = four.sites["west"]
    member = Member(west, lambda text: None)
    assert greet(member, four.agreement.digest, membership=4).state == "ready"
    member.close()
    for number in (1, 4):
        reason, told = refused(four, west, membership=number)
        assert (reason, "was joined before" in told) == ("RunError", True)
    again = Member(west, lambda text: None)
    answer = greet(again, four.agreement.digest, membership=5)
    assert (answer.state, answer.newest) == ("ready", 5)
    again.close()
    outcomes = [
        (each.number, each.outcome) for each in memberships.read(west.run(four.agreement.run))
    ]
    assert outcomes == [(4, "joined"), (4, "left"), (5, "joined"), (5, "left")]


def test_two_programs_of_one_site_do_not_both_join(four: Four) -> None:
    west = four.sites["west"]
    first = Member(west, lambda text: None)
    assert greet(first, four.agreement.digest).state == "ready"
    reason, told = refused(four, site_file.open_site(west.folder), membership=2)
    assert (reason, "is being written to by" in told) == ("RunError", True)
    first.close()


def test_after_a_run_a_lost_folder_and_an_old_server_are_refused(four: Four) -> None:
    four.play()
    west, run = four.sites["west"], four.agreement.run
    reason, told = refused(four, west, membership=2, finished=0)
    assert (reason, "the server goes on after round 0" in told) == ("RunError", True)
    shutil.rmtree(west.run(run))
    west.accept(four.folder / "agreement.yaml", four.agreement.digest)
    reason, told = refused(four, west, membership=3)
    assert (reason, "its folder is empty" in told) == ("RunError", True)


def test_without_privacy_the_ledger_is_not_touched(tmp_path: Path, patients: Path) -> None:
    clear = settings(
        privacy={"dp": False, "seeded_noise": False}, secure_aggregation={"enabled": False}
    )
    lenient = {"differential_privacy": False, "secure_aggregation": False}
    four = make_four(tmp_path, patients, clear, lenient)
    summary = four.play()
    assert summary is not None
    assert (summary.epsilon, summary.noise) == (None, "none")
    assert four.sites["west"].ledger().history() == []
