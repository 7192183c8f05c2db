"""What a hospital on a machine of its own refuses, before a patient is read or epsilon is spent.

The server is whoever the test wants it to be: it chooses every byte of hello and of what follows.
"""

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from securefed.errors import PrivacyError
from securefed.hospital import member as member_file
from securefed.hospital import site as site_file
from securefed.hospital import tokens
from securefed.hospital.member import Member
from securefed.hospital.patients import load_patients
from securefed.hospital.site import Site
from securefed.privacy.accounting import epsilon
from securefed.privacy.ledger import Ledger
from securefed.record import memberships
from securefed.wire import hello, messages
from securefed.wire.hello import Hello, Presence
from securefed.wire.messages import Request
from tests.engine.four_sites import PATIENTS, ROUNDS, Four, make_four, settings


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
    assert memberships.read(four.sites["west"].jobs(four.agreement.run)) == ()


def test_a_run_that_the_budget_of_all_runs_does_not_hold_is_refused_before_it_begins(
    four: Four,
) -> None:
    west = four.sites["west"]
    west.ledger_path.unlink()
    Ledger.create(west.ledger_path, client="west", unit="patient", delta=1e-3, budget_epsilon=7.9)
    reason, told = refused(four, west)
    assert reason == "BudgetExceeded"
    assert "above its budget of 7.9" in told


def ledger_of(west: Site, **terms: Any) -> Ledger:
    """Another ledger in place of the site's."""
    west.ledger_path.unlink()
    usual: dict[str, Any] = {"unit": "patient", "delta": 1e-3, "budget_epsilon": 20.0}
    return Ledger.create(west.ledger_path, client="west", **(usual | terms))


def test_a_unit_that_does_not_compose_is_refused_already_when_it_is_agreed_to(four: Four) -> None:
    west = four.sites["west"]
    ledger_of(west, unit="image")
    with pytest.raises(PrivacyError, match="counts by image, the agreement by patient"):
        west.accept(four.folder / "agreement.yaml", four.agreement.digest)
    assert refused(four, west)[0] == "PrivacyError"


@pytest.mark.parametrize(
    "terms",
    [{"delta": 1e-5}, {"delta": 1e-2}, {"accountant": "rdp"}],
    ids=str,
)
def test_a_run_of_another_delta_keeps_to_its_own_and_is_counted_at_the_ledger_s(
    four: Four, terms: dict[str, Any]
) -> None:
    west = four.sites["west"]
    ledger = ledger_of(west, **terms)
    four.play()
    assert ledger.runs()[0].rounds == ROUNDS
    run = ledger.statement().of_run(four.agreement.run)
    assert epsilon(run.history, 1e-3) <= 8.0  # what was agreed
    delta, accountant = terms.get("delta", 1e-3), terms.get("accountant", "prv")
    assert ledger.largest().counted == epsilon(run.history, delta, accountant)
    assert ledger.largest().delta == delta
    assert (ledger.largest().counted > 8.0) == (delta < 1e-3 or accountant == "rdp")


def test_a_delta_that_promises_nothing_to_so_many_is_refused(four: Four) -> None:
    west = four.sites["west"]
    ledger_of(west, delta=0.2)
    reason, told = refused(four, west)
    assert (reason, "counts at delta 0.2, not below 1 / " in told) == ("PrivacyError", True)


def test_who_takes_part_is_in_the_ledger_before_anything_is_spent(four: Four) -> None:
    west = four.sites["west"]
    member = Member(west, lambda text: None)
    assert greet(member, four.agreement.digest).state == "ready"
    member.close()
    held = west.ledger().statement()
    own = load_patients("west", four.agreement.job(1, west.own_settings()).settings, begun=True)
    assert held.enrolments == own.participants.enrolments(four.agreement.run)
    assert sum(each.count for each in held.enrolments) == PATIENTS
    assert not held.reservations
    assert not held.evaluations


def test_a_run_that_begins_again_with_other_patients_is_refused(four: Four) -> None:
    west = four.sites["west"]
    four.play("east", "north", "south", "west", leave=lambda: True)
    manifest = west.own_settings()["data"]["manifest"]
    lines = Path(manifest).read_text().splitlines(keepends=True)
    key = [line.split(",")[0] for line in lines]
    gone = next(name for name in key[1:])
    changed = four.folder / "fewer"
    shutil.copytree(Path(manifest).parent, changed)
    (changed / "manifest.csv").write_text(
        "".join(line for line in lines if line.split(",")[0] != gone)
    )
    site_yaml = west.folder / site_file.NAME
    about = yaml.safe_load(site_yaml.read_text())
    about["data"] = {
        "manifest": str(changed / "manifest.csv"),
        "site_key": str(Path(manifest).parent.with_name("west.site-key")),
    }
    site_yaml.write_text(yaml.safe_dump(about))
    reason, told = refused(four, site_file.open_site(west.folder), membership=2, finished=1)
    assert reason == "PrivacyError"
    assert "was begun with other patients" in told


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


def test_a_hospital_says_how_far_it_is_with_its_images(
    four: Four, patients: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "EVERY_S", 0.0)
    for kept in patients.rglob("*.tokens"):
        shutil.rmtree(kept)
    told: list[str] = []
    member = Member(four.sites["east"], told.append)
    assert greet(member, four.agreement.digest).state == "ready"
    member.close()
    said = [line for line in told if line.startswith("encoding: ")]
    done, total = said[-1].removeprefix("encoding: ").removesuffix(" slices").split(" of ")
    assert done == total != "0"


def test_nothing_is_told_of_images_that_are_soon_encoded() -> None:
    now, told = [0.0], list[str]()
    say = tokens.told_at_times(told.append, lambda: now[0])
    for done, now[0] in enumerate((1.0, 29.0, 30.0, 59.0, 61.0)):
        say(done * 1000, 4000)
    assert told == ["encoding: 2,000 of 4,000 slices", "encoding: 4,000 of 4,000 slices"]


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
        (each.number, each.outcome) for each in memberships.read(west.jobs(four.agreement.run))
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


def in_the_clear(tmp_path: Path, patients: Path) -> Four:
    """A federation whose ledgers know nothing of its run."""
    clear = settings(
        privacy={"dp": False, "seeded_noise": False}, secure_aggregation={"enabled": False}
    )
    lenient = {"differential_privacy": False, "secure_aggregation": False}
    return make_four(tmp_path, patients, clear, lenient)


def test_without_privacy_the_ledger_is_not_touched(tmp_path: Path, patients: Path) -> None:
    four = in_the_clear(tmp_path, patients)
    summary = four.play()
    assert summary is not None
    assert (summary.epsilon, summary.noise) == (None, "none")
    assert four.sites["west"].ledger().history() == []


def test_a_run_s_folder_that_is_lost_or_an_old_copy_is_noticed_without_a_ledger_too(
    tmp_path: Path, patients: Path
) -> None:
    four = in_the_clear(tmp_path, patients)
    west = four.sites["west"]
    folder, old = west.run(four.agreement.run), tmp_path / "old"

    def copied_after_round_1_left_after_2() -> bool:
        if old.exists():
            return True
        shutil.copytree(folder, old)
        return False

    assert four.play(leave=copied_after_round_1_left_after_2) is None
    kept = shutil.copytree(folder, tmp_path / "kept")
    shutil.rmtree(folder)
    west.accept(four.folder / "agreement.yaml", four.agreement.digest)
    reason, told = refused(four, west, membership=2, finished=2)
    assert (reason, "round 2 of this run was trained here, and its folder is empty" in told) == (
        "RunError",
        True,
    )
    shutil.rmtree(folder)
    shutil.copytree(old, folder)
    reason, told = refused(four, west, membership=2, finished=2)
    assert (reason, "its folder ends with round 1" in told) == ("RunError", True)
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    assert four.play() is not None


def test_who_has_lost_the_list_of_a_run_s_jobs_joins_no_other(four: Four) -> None:
    four.play()
    west = four.sites["west"]
    shutil.rmtree(west.jobs(four.agreement.run))
    reason, told = refused(four, west, membership=1, finished=ROUNDS)
    assert (reason, "does not say which jobs of it were joined" in told) == ("RunError", True)
