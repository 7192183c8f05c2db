"""A signature is looked at once in a process, and is good for nothing but what it is over."""

import pytest

from protocols.errors import BadSignature, UnknownSender
from protocols.identity import IdentityKey, Roster
from securefed.simulation.roster import SharedRoster

KEYS = {name: IdentityKey.from_seed(name.encode() * 32) for name in "ab"}
PUBLIC = {name: key.public for name, key in KEYS.items()}


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """What `protocols` was asked to look at, in order."""
    seen, verify = [], Roster.verify

    def noted(self: Roster, name: str, message: bytes, signature: bytes) -> None:
        seen.append((name, message))
        verify(self, name, message, signature)

    monkeypatch.setattr(Roster, "verify", noted)
    return seen


def test_the_same_signature_is_looked_at_once(looked_at):
    roster, signature = SharedRoster(PUBLIC), KEYS["a"].sign(b"keys")
    for _ in range(3):
        roster.verify("a", b"keys", signature)
    assert looked_at == [("a", b"keys")]


@pytest.mark.parametrize(
    ("name", "message", "bit"), [("a", b"other", 0), ("b", b"keys", 0), ("a", b"keys", 1)]
)
def test_a_good_signature_vouches_for_no_other_name_message_or_signature(name, message, bit):
    roster, good = SharedRoster(PUBLIC), KEYS["a"].sign(b"keys")
    roster.verify("a", b"keys", good)
    for _ in range(2):
        with pytest.raises(BadSignature, match=f"key of {name} did not sign"):
            roster.verify(name, message, bytes([good[0] ^ bit, *good[1:]]))


def test_what_is_refused_is_looked_at_every_time(looked_at):
    roster = SharedRoster(PUBLIC)
    for _ in range(2):
        with pytest.raises(BadSignature):
            roster.verify("a", b"keys", bytes(64))
        with pytest.raises(UnknownSender):
            roster.verify("c", b"keys", bytes(64))
    assert len(looked_at) == 4


def test_two_jobs_share_nothing(looked_at):
    signature = KEYS["a"].sign(b"keys")
    for _ in range(2):
        SharedRoster(PUBLIC).verify("a", b"keys", signature)
    assert len(looked_at) == 2


def test_what_is_remembered_is_no_more_than_a_pipeline_of_two_rounds_needs(looked_at):
    roster, messages = SharedRoster(PUBLIC), [bytes([each]) for each in range(9)]
    for message in (*messages, messages[0]):
        roster.verify("a", message, KEYS["a"].sign(message))
    assert looked_at.count(("a", messages[0])) == 2
    assert (roster, roster.fingerprint) == (SharedRoster(PUBLIC), Roster(PUBLIC).fingerprint)
