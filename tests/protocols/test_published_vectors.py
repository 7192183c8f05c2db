"""Published vectors through this package's own wrappers; sources in vectors/PROVENANCE.md."""

import json
from pathlib import Path

import pytest

from protocols.encapsulation import DecapsulationKey, encapsulate, public_key
from protocols.errors import (
    BadCiphertext,
    BadSignature,
    LowOrderPoint,
    MalformedMessage,
    NonCanonicalKey,
)
from protocols.identity import IdentityKey, Roster
from protocols.key_agreement import EphemeralKey, hkdf
from protocols.mask_stream import keystream_from

VECTORS = Path(__file__).parent.parent / "vectors"


def load(name: str) -> dict:
    return json.loads((VECTORS / name).read_text())


def test_x25519_rfc7748():
    for case in load("x25519_rfc7748.json")["single"]:
        key = EphemeralKey(bytes.fromhex(case["scalar"]))
        assert key.exchange(bytes.fromhex(case["u"])).hex() == case["output"]


def test_x25519_rfc7748_one_thousand_iterations():
    iterated = load("x25519_rfc7748.json")["iterated"]
    k = u = bytes.fromhex(iterated["start"])
    for count in range(1, 1001):
        k, u = EphemeralKey(k).exchange(u), k
        if count == 1:
            assert k.hex() == iterated["after_1"]
    assert k.hex() == iterated["after_1000"]


def test_ed25519_rfc8032():
    for case in load("ed25519_rfc8032.json")["cases"]:
        key = IdentityKey.from_seed(bytes.fromhex(case["secret"]))
        assert key.public.hex() == case["public"]
        message = bytes.fromhex(case["message"])
        assert key.sign(message).hex() == case["signature"]
        roster = Roster({"a": key.public})
        roster.verify("a", message, bytes.fromhex(case["signature"]))
        with pytest.raises(BadSignature):
            roster.verify("a", message + b"x", bytes.fromhex(case["signature"]))


def test_mlkem768_known_answers():
    for case in load("mlkem768.json")["cases"]:
        d, z, public, ciphertext, secret = (
            bytes.fromhex(case[k]) for k in ("d", "z", "pk", "ct", "ss")
        )
        key = DecapsulationKey(d + z)
        assert key.public == public
        assert key.open(ciphertext).secret == secret


def test_mlkem768_of_other_lengths_or_with_coefficients_out_of_range_is_refused():
    key = DecapsulationKey(bytes(64))
    fresh = encapsulate(public_key(key.public))
    assert key.open(fresh.ciphertext).secret == fresh.secret
    for wrong in (b"", key.public[:-1], key.public + b"\0", b"\xff" * len(key.public)):
        with pytest.raises(NonCanonicalKey):
            public_key(wrong)
    for wrong in (b"", fresh.ciphertext[:-1], fresh.ciphertext + b"\0"):
        with pytest.raises(BadCiphertext):
            key.open(wrong)
    for length in (63, 65):
        with pytest.raises(MalformedMessage, match=f"got {length}"):
            DecapsulationKey(bytes(length))


def test_an_altered_mlkem768_ciphertext_opens_to_another_secret():
    key = DecapsulationKey(bytes(64))
    fresh = encapsulate(public_key(key.public))
    altered = bytes([fresh.ciphertext[0] ^ 1]) + fresh.ciphertext[1:]
    assert key.open(altered).secret != fresh.secret
    for shown in (repr(fresh), repr(key)):
        assert fresh.secret.hex()[:16] not in shown


def test_hkdf_rfc5869():
    for case in load("hkdf_rfc5869.json")["cases"]:
        secret, salt, info = (bytes.fromhex(case[k]) for k in ("secret", "salt", "info"))
        assert hkdf(secret, salt, info, case["length"]).hex() == case["output"]


def test_aes_256_ctr_sp800_38a():
    case = load("aes_ctr_sp800_38a.json")
    stream = keystream_from(bytes.fromhex(case["key"]), int(case["counter"], 16))
    assert stream.update(bytes.fromhex(case["plaintext"])).hex() == case["ciphertext"]


# The points whose multiples are zero (RFC 7748, section 6.1; orders 1, 2, 4 and 8 on the curve
# and its twist), with their non-canonical encodings.
P = 2**255 - 19
ORDER_8 = (
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
)
LOW_ORDER = [u.to_bytes(32, "little") for u in (0, 1, P - 1, P, P + 1)]
LOW_ORDER += [bytes.fromhex(u) for u in ORDER_8]


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda p: p.hex()[:8])
def test_every_low_order_point_is_refused(point):
    with pytest.raises(LowOrderPoint):
        EphemeralKey(bytes(range(32))).exchange(point)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_keys_of_another_length_are_refused(length):
    with pytest.raises(MalformedMessage, match=f"got {length}"):
        EphemeralKey(bytes(length))
    with pytest.raises(MalformedMessage, match=f"got {length}"):
        EphemeralKey(bytes(range(32))).exchange(bytes(length))
