"""Our own vectors: every message of whole rounds, so that another implementation can be built.

The other tests read the messages as a stranger would, with nothing but the published formulas
and the primitives of pyca/cryptography, and take masks off and open a box by hand.
"""

import hashlib
import json
from pathlib import Path

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.vectors.write_secure_sum import build

VECTORS = Path(__file__).parent.parent / "vectors"
RECORDED = json.loads((VECTORS / "secure_sum.json").read_text())


def test_every_message_of_the_recorded_rounds_is_reproduced():
    assert json.loads(json.dumps(build(RECORDED))) == RECORDED


def framed(*parts: bytes) -> bytes:
    return b"".join(len(p).to_bytes(8, "big") + p for p in (b"securefed secure sum v3", *parts))


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def derived(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(secret)


def keystream(key: bytes, words: int) -> np.ndarray:
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(4 * words)), dtype="<u4")


def party(place: int, name: str) -> tuple[bytes, bytes]:
    return number(place), name.encode()


class Hospital:
    """One client of the first recorded case in round 1, from its recorded draws alone."""

    def __init__(self, place: int, name: str) -> None:
        self.place, self.name = place, name
        draws = [bytes.fromhex(d) for d in CASE["random_bytes_in_order_of_use"][name]]
        channel, kem, self.mask_secret, self.self_mask_seed = draws[:4]
        self.channel = X25519PrivateKey.from_private_bytes(channel)
        self.kem = MLKEM768PrivateKey.from_seed_bytes(kem)
        info = framed(b"mask key", *party(place, name))
        self.mask = X25519PrivateKey.from_private_bytes(derived(self.mask_secret, SALT, info))

    def seed_for(self, other: "Hospital") -> bytes:
        ends = (*party(self.place, self.name), *party(other.place, other.name))
        return derived(self.mask_secret, SALT, framed(b"seed for a neighbour", *ends))

    def sent(self, step: str, direction: str = "from") -> bytes | None:
        for message in CASE["messages"]:
            if (message["round"], message["step"]) != (1, step):
                continue
            if (message["direction"], message["client"]) == (direction, self.name):
                return bytes.fromhex(message["bytes"])
        return None


CASE = RECORDED["cases"][0]
SALT = bytes.fromhex(CASE["round_digests"]["1"])
HOSPITALS = [Hospital(place, name) for place, name in enumerate(sorted(CASE["identity_seeds"]))]


def stream_of(u: Hospital, v: Hospital, bound: bytes) -> bytes:
    """The key of the mask stream of two hospitals."""
    ends = sorted((u, v), key=lambda each: each.place)
    shared = u.mask.exchange(v.mask.public_key())
    context = [
        part
        for each in ends
        for part in (*party(each.place, each.name), each.mask.public_key().public_bytes_raw())
    ]
    pair = derived(shared, SALT, framed(b"pairwise mask", *context))
    seeds = ends[0].seed_for(ends[1]) + ends[1].seed_for(ends[0])
    parties = [part for each in ends for part in party(each.place, each.name)]
    seed = derived(seeds, SALT, framed(b"pair seed", *parties))
    return derived(pair + seed, SALT, framed(b"mask stream", bound))


def test_a_masked_vector_opens_by_the_published_formulas_alone():
    assert len(HOSPITALS) == 4
    asked = hashlib.sha256(framed(b"asked", b"asked by the tests")).digest()
    assert asked.hex() == CASE["statement"]
    bound = hashlib.sha256(framed(b"statement", SALT, asked)).digest()
    for each in HOSPITALS:
        sent = each.sent("mask")
        if sent is None:
            assert each.name not in CASE["survivors"]["1"]
            continue
        words = np.frombuffer(sent[-4 * CASE["vector_length"] :], dtype="<u4").copy()
        info = framed(b"self mask", *party(each.place, each.name))
        words -= keystream(derived(each.self_mask_seed, SALT, info), words.size)
        for other in HOSPITALS:
            if other is not each:
                mask = keystream(stream_of(each, other, bound), words.size)
                words = words - mask if other.place > each.place else words + mask
        assert words.tolist() == CASE["vectors"][each.name]


def test_the_blinded_seeds_are_those_of_both_ends():
    for each in HOSPITALS:
        sent = each.sent("mask")
        if sent is None:
            continue
        head = msgspec.msgpack.decode(sent[4 : 4 + int.from_bytes(sent[:4], "big")])
        others = [other for other in HOSPITALS if other is not each]
        expected = [
            bytes(a ^ b for a, b in zip(each.seed_for(o), o.seed_for(each), strict=True))
            for o in others
        ]
        assert head[4] == b"".join(expected)


def test_a_box_opens_by_the_published_formulas_alone():
    sender, recipient = HOSPITALS[1], HOSPITALS[3]
    sent = sender.sent("share")
    assert sent is not None
    _, place, _, boxes = msgspec.msgpack.decode(sent)
    assert place == sender.place
    (box,) = [box for box in boxes if box[1] == recipient.place]
    _, _, encapsulation, sealed, *digests = box
    secret = recipient.kem.decapsulate(encapsulation)
    assert [secret.hex(), encapsulation.hex()] in CASE["encapsulations_in_order_of_use"]
    ends = [
        part
        for each in (sender, recipient)
        for part in (*party(each.place, each.name), each.channel.public_key().public_bytes_raw())
    ]
    kem = recipient.kem.public_key().public_bytes_raw()
    info = framed(b"sealed shares", *ends, kem, encapsulation)
    shared = recipient.channel.exchange(sender.channel.public_key())
    key = derived(shared + secret, SALT, info)
    places = (number(sender.place), number(recipient.place))
    plain = AESGCM(key).decrypt(bytes(12), sealed, framed(b"sealed shares", SALT, *places))
    assert plain[66:] == sender.seed_for(recipient)
    both = (*party(sender.place, sender.name), *party(recipient.place, recipient.name))
    for kind, share, digest in zip(
        (b"self mask", b"mask key"), (plain[:33], plain[33:66]), digests, strict=True
    ):
        assert hashlib.sha256(framed(b"share", SALT, kind, *both, share)).digest() == digest


def test_the_round_digest_follows_from_the_published_fields():
    case, names = CASE, sorted(CASE["identity_seeds"])
    numbers = (1, case["vector_length"], 32, 3, 3, 3, 1)
    parts = [b"round", b"vectors", bytes.fromhex(case["roster_fingerprint"])]
    parts += [number(each) for each in numbers]
    parts += [name.encode() for name in names]
    assert hashlib.sha256(framed(*parts)).hexdigest() == case["round_digests"]["1"]


def test_adverts_carry_the_public_keys_and_the_commitment_of_the_recorded_draws():
    for each in HOSPITALS:
        sent = each.sent("advertise")
        assert sent is not None
        fields = msgspec.msgpack.decode(sent)
        keys = [private.public_key() for private in (each.channel, each.kem, each.mask)]
        assert fields[4:7] == [key.public_bytes_raw() for key in keys]
        commitment = framed(
            b"self-mask commitment", SALT, *party(each.place, each.name), each.self_mask_seed
        )
        assert fields[7] == hashlib.sha256(commitment).digest()
