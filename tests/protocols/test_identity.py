"""Identities and rosters: keys stay private on disk, rosters pin and are compared."""

import json
import os
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocols.errors import BadSignature, InvalidIdentity, UnknownSender
from protocols.identity import IdentityKey, Roster


def roster(*names: str) -> Roster:
    return Roster({name: IdentityKey.generate().public for name in names})


def test_a_saved_key_is_only_for_its_owner_and_comes_back(tmp_path):
    key = IdentityKey.generate()
    path = tmp_path / "identity.pem"
    before = os.umask(0)  # the mode must not depend on the umask
    try:
        key.save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert IdentityKey.load(path).public == key.public


def test_an_existing_key_is_never_overwritten(tmp_path):
    path = tmp_path / "identity.pem"
    IdentityKey.generate().save(path)
    before = path.read_bytes()
    with pytest.raises(InvalidIdentity, match="File exists"):
        IdentityKey.generate().save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_key_open_to_others_is_refused(tmp_path, mode):
    path = tmp_path / "identity.pem"
    IdentityKey.generate().save(path)
    path.chmod(mode)
    with pytest.raises(InvalidIdentity, match="open to other users"):
        IdentityKey.load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_file_that_is_no_key_is_refused(tmp_path, content):
    path = tmp_path / "identity.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InvalidIdentity, match="no unencrypted PEM"):
        IdentityKey.load(path)
    with pytest.raises(InvalidIdentity, match="cannot read"):
        IdentityKey.load(tmp_path / "missing.pem")


def test_another_kind_of_key_is_refused(tmp_path):
    path = tmp_path / "identity.pem"
    pem = X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(pem)
    path.chmod(0o600)
    with pytest.raises(InvalidIdentity, match="another kind"):
        IdentityKey.load(path)


def test_the_private_key_is_not_printed():
    seed = bytes(range(32))
    assert seed.hex() not in repr(IdentityKey.from_seed(seed))
    for length in (31, 33):
        with pytest.raises(InvalidIdentity, match=f"got {length}"):
            IdentityKey.from_seed(bytes(length))


def test_a_roster_comes_back_and_its_fingerprint_says_when_it_is_another(tmp_path):
    first = roster("b", "a", "c")
    path = tmp_path / "roster.json"
    first.save(path)
    again = Roster.load(path)
    assert again.names == ("a", "b", "c")
    assert again.fingerprint == first.fingerprint
    renamed = Roster({name.upper(): key for name, key in first.keys.items()})
    swapped = Roster(dict(zip("abc", [first.keys[n] for n in "bac"], strict=True)))
    assert len({first.fingerprint, renamed.fingerprint, swapped.fingerprint}) == 3


def test_a_roster_cannot_be_changed():
    with pytest.raises(TypeError):
        roster("a").keys["a"] = bytes(32)  # type: ignore[index]


@pytest.mark.parametrize("name", ["", "a b", "../x", "-a", "ä", "a" * 65, "a\n"])
def test_names_that_could_be_paths_or_tricks_are_refused(name):
    with pytest.raises(InvalidIdentity, match="not allowed"):
        roster(name)


def test_one_key_under_two_names_would_count_twice_and_is_refused():
    key = IdentityKey.generate().public
    with pytest.raises(InvalidIdentity, match="same public key"):
        Roster({"a": key, "b": key})


@pytest.mark.parametrize("length", [0, 31, 33])
def test_public_keys_of_another_length_are_refused(length):
    with pytest.raises(InvalidIdentity, match=f"{length} bytes"):
        Roster({"a": bytes(length)})


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"clients": {}},
        {"clients": {"a": "not base64!"}},
        {"clients": {"a": "AAAA"}},
        {"clients": {"a": 1}},
        {"extra": 1},
    ],
)
def test_a_roster_file_that_is_not_exactly_one_is_refused(tmp_path, change):
    path = tmp_path / "roster.json"
    roster("a").save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InvalidIdentity):
        Roster.load(path)


def test_signatures_verify_only_for_their_signer_and_message():
    key, other = IdentityKey.generate(), IdentityKey.generate()
    pinned = Roster({"a": key.public, "b": other.public})
    signature = key.sign(b"message")
    pinned.verify("a", b"message", signature)
    for name, message, sig in (
        ("b", b"message", signature),
        ("a", b"massage", signature),
        ("a", b"message", signature[:-1]),
        ("a", b"message", b""),
    ):
        with pytest.raises(BadSignature):
            pinned.verify(name, message, sig)
    with pytest.raises(UnknownSender):
        pinned.verify("c", b"message", signature)


SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
]
NOT_CANONICAL = [
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # 0
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # 1
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",  # -1, its x negative
    "0100000000000000000000000000000000000000000000000000000000000080",  # 1, its x negative
    "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # 3
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]


@pytest.mark.parametrize("key", SMALL_ORDER + NOT_CANONICAL)
def test_public_keys_of_small_order_or_in_a_second_encoding_are_refused(key):
    """The keys of Chalkias et al. (2020), table 6. Under the first, all zeros sign everything."""
    with pytest.raises(InvalidIdentity, match="public key of a is of small order"):
        Roster({"a": bytes.fromhex(key)})


def test_a_pinned_key_that_is_no_point_verifies_nothing():
    no_point = (2).to_bytes(32, "little")  # (y^2 - 1) / (d y^2 + 1) has no root
    with pytest.raises(BadSignature):
        Roster({"a": no_point}).verify("a", b"", bytes(64))
