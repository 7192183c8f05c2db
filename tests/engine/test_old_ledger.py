"""An owner who puts an old ledger back is noticed: by the hospital's program, and by the server."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from protocols.errors import BadSignature
from protocols.identity import IdentityKey, Roster
from securefed.errors import RunError
from securefed.hospital import member as member_file
from securefed.hospital.member import Member
from securefed.hospital.site import open_site
from securefed.record import anchors
from securefed.server import folder as server_folder
from securefed.server.membership import gather
from securefed.simulation.in_process import InProcessTransport
from securefed.wire import agreement as agreement_file
from securefed.wire import hello
from securefed.wire.hello import Anchor, Hello, Presence
from tests.engine.four_sites import Four, make_four, settings

DIGEST = "ab" * 32
KEYS = {name: IdentityKey.from_seed(name[:1].encode() * 32) for name in ("north", "south")}
ROSTER = Roster({name: key.public for name, key in KEYS.items()})
ASKED = Hello(DIGEST, 2, 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("patients")


@pytest.fixture
def put_back(tmp_path: Path, data: Path) -> Four:
    """A federation after two jobs, in which one hospital's whole folder is from before them."""
    four = make_four(tmp_path, data)
    west = four.sites["west"].folder
    shutil.copytree(west, tmp_path / "backup")
    four.play(leave=lambda: True)
    four.play(leave=lambda: True)
    shutil.rmtree(west)
    (tmp_path / "backup").rename(west)
    four.sites["west"] = open_site(west)
    return four


def test_the_hospital_knows_its_own_signature_and_refuses(put_back: Four) -> None:
    """Nothing in its own folder could tell it: check points and memberships are as old."""
    rows = put_back.sites["west"].ledger().head().rows
    seen = anchors.read(put_back.server)["west"].presence
    # Its settings, its budget; both sides of the run, and two rounds.
    assert (rows, seen.rows) == (2, 6)
    assert put_back.play() is None  # all is trained, and nothing scored without it
    summary = put_back.play()
    assert summary is not None
    assert summary.survivors_by_round == (4, 4, 3)  # the others go on without it
    told = f"is not the one that had {seen.rows} rows: it has {rows}"
    assert any(told in line for line in put_back.told["west"])
    assert "west: refused OldLedger" in put_back.told["server"]
    assert put_back.sites["west"].ledger().history() == []


def test_the_server_refuses_a_hospital_whose_program_does_not_look(
    put_back: Four, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_file, "remembers", lambda *_: True)
    assert put_back.play() is None  # all is trained, and nothing scored without it
    summary = put_back.play()
    assert summary is not None
    assert summary.survivors_by_round == (4, 4, 3)
    assert "west: refused OldLedger" in put_back.told["server"]
    # What it would have worked on it was not sent.
    assert not any("trained round" in line for line in put_back.told["west"][-8:])


def test_at_the_end_of_a_run_the_server_knows_every_ledger_s_last_row(put_back: Four) -> None:
    put_back.play()
    kept = anchors.read(put_back.server)
    for name in ("east", "north", "south"):
        head = put_back.sites[name].ledger().head()
        assert (kept[name].presence.rows, kept[name].presence.head) == (head.rows, head.hash)


def test_what_this_hospital_did_not_sign_is_not_heeded(tmp_path: Path, data: Path) -> None:
    """Otherwise a server could shut a hospital out for ever."""
    four = make_four(tmp_path, data)
    invented = Anchor(four.agreement.digest, 1, Presence("ready", "", 1, "", 10**6, "0" * 64))
    forged = invented.signed(KEYS["north"])
    member = Member(four.sites["west"], four.told.setdefault("west", []).append)
    asked = Hello(four.agreement.digest, 1, 0, remembered=forged)
    answer = hello.decode_presence(member.handle(hello.encode_hello(asked)))
    while answer.state == "opening":
        answer = hello.decode_presence(member.handle(hello.encode_hello(asked)))
    member.close()
    assert answer.state == "ready"
    assert any("was not signed here" in line for line in four.told["west"])


def ready(rows: int, head: str, *, by: str = "north", to: Hello = ASKED) -> Presence:
    answer = Presence("ready", "", to.membership, "", rows, head * 64)
    return to.answered(answer).signed(KEYS[by]).presence


def refusals(answer: Presence, before: Mapping[str, Anchor]) -> Mapping[str, str]:
    """Who is refused where the north answers so."""
    away = hello.encode_presence(Presence("refused", "policy.hours"))
    handlers: dict[str, Callable[[bytes], bytes]] = {
        "north": lambda data: hello.encode_presence(answer),
        "south": lambda data: away,
    }
    transport = InProcessTransport(handlers)
    present = gather(transport, ROSTER, ASKED, before, 5.0, lambda text: None)
    assert (not present.ready) == ("north" in present.refused)
    assert set(present.anchors) == set(present.ready)
    return {name: why for name, why in present.refused.items() if name == "north"}


SEEN = {"north": ASKED.answered(ready(7, "a"))}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (ready(7, "a"), None),
        (ready(8, "b"), None),
        (ready(6, "b"), "OldLedger"),
        (ready(7, "b"), "OldLedger"),
        (ready(0, "0"), "OldLedger"),
        (ready(8, "b", by="south"), "BadSignature"),
        (ready(8, "b", to=Hello(DIGEST, 1, 0)), "BadSignature"),  # of another job, sent again
        (ready(8, "b", to=Hello("cd" * 32, 2, 0)), "BadSignature"),
        (Presence("ready", "", 2, "", 8, "b" * 64), "BadSignature"),
    ],
)
def test_the_server_believes_what_is_signed_and_no_older(
    answer: Presence, reason: str | None
) -> None:
    assert refusals(answer, SEEN) == ({"north": reason} if reason else {})


def test_of_a_hospital_that_was_never_seen_any_ledger_is_taken() -> None:
    assert refusals(ready(3, "a"), {}) == {}


def test_nothing_that_is_signed_can_be_changed() -> None:
    anchor = ASKED.answered(ready(7, "a"))
    anchor.require(ROSTER, "north")
    encoded = hello.encode_presence(anchor.presence)
    for place in range(len(encoded)):
        changed = bytearray(encoded)
        changed[place] ^= 1
        try:
            other = hello.decode_presence(bytes(changed))
        except RunError:  # not an answer at all
            continue
        with pytest.raises(BadSignature):
            ASKED.answered(other).require(ROSTER, "north")


def test_what_a_server_keeps_of_a_hospital_is_its_last(tmp_path: Path) -> None:
    assert anchors.read(tmp_path) == {}
    for rows in (3, 5):
        anchors.append(tmp_path, {"north": ASKED.answered(ready(rows, "a"))})
    (one,) = anchors.read(tmp_path).values()
    assert one.presence.rows == 5
    one.require(ROSTER, "north")


def test_another_run_s_server_takes_over_what_was_known(put_back: Four, tmp_path: Path) -> None:
    """A new agreement, a new folder, and in it the old one's memory: the ledger is still old."""
    sites = put_back.sites
    keys = {name: site.identity.public for name, site in sites.items()}
    content = agreement_file.make("another", settings(seed=8), keys, None)
    other = agreement_file.write(content, tmp_path / "other.yaml")
    for site in sites.values():
        site.accept(tmp_path / "other.yaml", other.digest)
    created = server_folder.create(tmp_path / "next", tmp_path / "other.yaml", put_back.server)
    assert anchors.read(tmp_path / "next") == anchors.read(put_back.server)
    asked = Hello(created.digest, 1, 0, anchors.read(tmp_path / "next")["west"])
    told: list[str] = []
    member = Member(sites["west"], told.append)
    answer = hello.decode_presence(member.handle(hello.encode_hello(asked)))
    while answer.state == "opening":
        answer = hello.decode_presence(member.handle(hello.encode_hello(asked)))
    member.close()
    assert (answer.state, answer.reason) == ("refused", "OldLedger")
