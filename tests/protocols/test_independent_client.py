"""A second client, written from docs/protocol.md alone: it answers every recorded request alike.

It shares no line with `protocols`: msgpack, primitives of pyca/cryptography, the page's formulas.
Whatever the page leaves open or has wrong shows as a byte that differs. It is not for use: it
checks nothing that a server could lie about.
"""

import hashlib
import json
from collections import deque
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VECTORS = Path(__file__).parent.parent / "vectors"
CASES = json.loads((VECTORS / "secure_sum.json").read_text())["cases"]
PRIME = 2**256 + 297
encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode


def number(value: int) -> bytes:  # N
    return value.to_bytes(8, "big")


def transcript(label: str, *parts: bytes) -> bytes:  # T
    pieces = (b"securefed secure sum v3", label.encode(), *parts)
    return b"".join(number(len(piece)) + piece for piece in pieces)


def digest(label: str, *parts: bytes) -> bytes:  # H
    return hashlib.sha256(transcript(label, *parts)).digest()


def bits(value: bytes) -> list[int]:
    return [i for i in range(8 * len(value)) if value[i // 8] >> i % 8 & 1]


def raw(private) -> bytes:
    return private.public_key().public_bytes_raw()


def exclusive_or(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


class Round:
    """What a client of a complete graph keeps of one round."""

    def __init__(self, client: "PageClient", announced: list) -> None:
        _, _, job, self.number, cohort, length, degree, threshold, fewest = announced
        roster = client.roster
        self.names = [sorted(roster)[i] for i in bits(cohort)]
        self.place = self.names.index(client.name)
        self.threshold = threshold
        fingerprint = digest(
            "roster", *(p for n in sorted(roster) for p in (n.encode(), roster[n]))
        )
        assert fingerprint.hex() == client.case["roster_fingerprint"]
        numbers = (self.number, length, 32, degree, threshold, fewest, client.lying)
        parts = [*map(number, numbers), *(n.encode() for n in self.names)]
        self.digest = digest("round", job.encode(), fingerprint, *parts)  # D
        self.channel = X25519PrivateKey.from_private_bytes(client.draw(32))
        self.kem = MLKEM768PrivateKey.from_seed_bytes(client.draw(64))
        self.z, self.b = client.draw(32), client.draw(32)
        own = self.party(self.place)
        self.mask = X25519PrivateKey.from_private_bytes(self.key(self.z, "mask key", *own))
        self.adverts: dict[int, list] = {}  # by place, from the share step on
        self.binding = b""  # B, from the mask step on
        self.held: dict[int, tuple[bytes, bytes]] = {}
        self.seeds: dict[int, bytes] = {}

    def party(self, place: int) -> tuple[bytes, bytes]:  # E
        return number(place), self.names[place].encode()

    def key(self, secret: bytes, label: str, *context: bytes) -> bytes:  # K
        return HKDF(SHA256(), 32, self.digest, transcript(label, *context)).derive(secret)

    def words(self, key: bytes, count: int) -> np.ndarray:  # M
        stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        return np.frombuffer(stream.update(bytes(4 * count)), dtype="<u4")

    def seed_for(self, place: int) -> bytes:
        ends = (*self.party(self.place), *self.party(place))
        return self.key(self.z, "seed for a neighbour", *ends)


class PageClient:
    """One hospital of a recorded case; draws come from the record."""

    def __init__(self, case: dict, name: str, encapsulations: deque) -> None:
        self.case, self.name = case, name
        seeds = {n: bytes.fromhex(s) for n, s in case["identity_seeds"].items()}
        self.identity = Ed25519PrivateKey.from_private_bytes(seeds[name])
        self.roster = {n: raw(Ed25519PrivateKey.from_private_bytes(s)) for n, s in seeds.items()}
        self.lying = int(case["server"] == "malicious")
        self.draws = deque(
            bytes.fromhex(each) for each in case["random_bytes_in_order_of_use"][name]
        )
        self.encapsulations = encapsulations
        self.rounds: dict[int, Round] = {}

    def draw(self, count: int) -> bytes:
        drawn = self.draws.popleft()
        assert len(drawn) == count
        return drawn

    def answer(self, step: str, request: bytes) -> bytes:
        message = decode(request)
        reply = getattr(self, step)(message)
        return reply if isinstance(reply, bytes) else encode(reply)

    def advertise(self, announced: list) -> list:
        now = Round(self, announced)
        self.rounds[now.number] = now
        commitment = digest("self-mask commitment", now.digest, *now.party(now.place), now.b)
        offered = (raw(now.channel), raw(now.kem), raw(now.mask), commitment)
        signed = transcript("advert", now.digest, self.name.encode(), *offered)
        signature = self.identity.sign(signed)
        return ["advert", now.place, now.number, now.digest, *offered, signature]

    def share(self, message: list) -> list:
        _, round_number, adverts = message
        now = self.rounds[round_number]
        now.adverts = {advert[1]: advert for advert in adverts}
        holders = sorted({now.place, *now.adverts})
        shares: dict[int, list[bytes]] = {place: [] for place in holders}
        for secret in (now.b, now.z):
            drawn = self.draw(48 * (now.threshold - 1))
            coefficients = [
                int.from_bytes(drawn[i : i + 48], "big") for i in range(0, len(drawn), 48)
            ]
            for place in holders:
                value = 0
                for coefficient in (*coefficients, int.from_bytes(secret, "big")):
                    value = (value * (place + 1) + coefficient) % PRIME
                shares[place].append(value.to_bytes(33, "big"))
        of_b, of_z = shares.pop(now.place)
        now.held[now.place] = of_b, of_z
        boxes = [self._box(now, place, of_b, of_z) for place, (of_b, of_z) in shares.items()]
        return ["shares", now.place, round_number, boxes]

    def _box(self, now: Round, place: int, of_b: bytes, of_z: bytes) -> list:
        _, _, _, _, channel, kem, _, _, _ = now.adverts[place]
        secret, ciphertext = map(bytes.fromhex, self.encapsulations.popleft())
        shared = now.channel.exchange(X25519PublicKey.from_public_bytes(channel))
        own, theirs = now.party(now.place), now.party(place)
        context = (*own, raw(now.channel), *theirs, channel, kem, ciphertext)
        key = now.key(shared + secret, "sealed shares", *context)
        associated = transcript("sealed shares", now.digest, own[0], theirs[0])
        plain = of_b + of_z + now.seed_for(place)
        digests = [
            digest("share", now.digest, kind, *own, *theirs, share)
            for kind, share in ((b"self mask", of_b), (b"mask key", of_z))
        ]
        return [
            "box",
            place,
            ciphertext,
            AESGCM(key).encrypt(bytes(12), plain, associated),
            *digests,
        ]

    def _open(self, now: Round, box: list) -> bytes:
        _, place, ciphertext, sealed, _, _ = box
        channel = now.adverts[place][4]
        shared = now.channel.exchange(X25519PublicKey.from_public_bytes(channel))
        own, theirs = now.party(now.place), now.party(place)
        context = (*theirs, channel, *own, raw(now.channel), raw(now.kem), ciphertext)
        key = now.key(shared + now.kem.decapsulate(ciphertext), "sealed shares", *context)
        associated = transcript("sealed shares", now.digest, theirs[0], own[0])
        return AESGCM(key).decrypt(bytes(12), sealed, associated)

    def mask(self, message: list) -> bytes:
        _, round_number, boxes, announced = message
        now = self.rounds[round_number]
        for box in boxes:
            plain = self._open(now, box)
            now.held[box[1]], now.seeds[box[1]] = (plain[:33], plain[33:66]), plain[66:]
        upcoming = self.advertise(announced) if announced else None
        statement = bytes.fromhex(self.case["statement"])
        now.binding = digest("statement", now.digest, statement)  # B
        y = np.array(self.case["vectors"][self.name], dtype=np.uint32)
        own = now.party(now.place)
        y = y + now.words(now.key(now.b, "self mask", *own), y.size)
        for place in sorted(now.seeds):
            stream = now.words(self._stream(now, place), y.size)
            y = y - stream if place < now.place else y + stream
        blinded = b"".join(
            exclusive_or(now.seed_for(p), seed) for p, seed in sorted(now.seeds.items())
        )
        head = encode(["masked", now.place, round_number, now.binding, blinded, upcoming])
        framed = len(head).to_bytes(4, "big") + head
        return framed + bytes(-len(framed) % 4) + y.astype("<u4").tobytes()

    def _stream(self, now: Round, place: int) -> bytes:
        theirs = now.adverts[place][6]
        ends = {now.place: (raw(now.mask), now.seed_for(place)), place: (theirs, now.seeds[place])}
        (u, (key_u, seed_u)), (v, (key_v, seed_v)) = sorted(ends.items())
        shared = now.mask.exchange(X25519PublicKey.from_public_bytes(theirs))
        context = (*now.party(u), key_u, *now.party(v), key_v)
        k = now.key(shared, "pairwise mask", *context)
        p = now.key(seed_u + seed_v, "pair seed", *now.party(u), *now.party(v))
        return now.key(k + p, "mask stream", now.binding)

    def confirm(self, message: list) -> list:
        _, round_number, survivors = message
        now = self.rounds[round_number]
        signed = transcript("survivors", now.binding, raw(now.channel), survivors)
        return ["confirm", now.place, round_number, self.identity.sign(signed)]

    def unmask(self, message: list) -> list:
        _, round_number, survivors, dropped, _, following = message
        now = self.rounds[round_number]
        upcoming = self.share(following) if following else None
        held = sorted(now.held.items())
        of_b = [["share", p, b] for p, (b, _) in held if p in bits(survivors)]
        of_z = [["share", p, z] for p, (_, z) in held if p in bits(dropped)]
        return ["open", now.place, round_number, of_b, of_z, upcoming]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_every_recorded_request_is_answered_alike(case):
    encapsulations = deque(case["encapsulations_in_order_of_use"])
    clients = {name: PageClient(case, name, encapsulations) for name in case["identity_seeds"]}
    waiting, compared = {}, 0
    for message in case["messages"]:
        name, step, data = message["client"], message["step"], bytes.fromhex(message["bytes"])
        if message["direction"] == "to":
            waiting[name] = clients[name].answer(step, data)
        else:
            assert waiting.pop(name) == data, (name, message["round"], step)
            compared += 1
    assert not waiting
    assert compared == {"malicious": 26, "curious": 18}[case["server"]]
    assert not encapsulations
