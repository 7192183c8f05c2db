"""Our own vectors: every message of whole rounds, so that another implementation can be built.

The second test reads the messages as a stranger would, with nothing but the published formulas
and the primitives of pyca/cryptography, and takes one client's masks off by hand.
"""

import hashlib
import importlib.util
import json
from pathlib import Path

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VECTORS = Path(__file__).parent.parent / "vectors"
RECORDED = json.loads((VECTORS / "secure_sum.json").read_text())


def test_every_message_of_the_recorded_rounds_is_reproduced():
    path = VECTORS / "write_secure_sum.py"
    spec = importlib.util.spec_from_file_location("write_secure_sum", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert json.loads(json.dumps(module.build())) == RECORDED


def framed(*parts: bytes) -> bytes:
    return b"".join(len(p).to_bytes(8, "big") + p for p in (b"securefed secure sum v3", *parts))


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def derived(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(secret)


def keystream(key: bytes, words: int) -> np.ndarray:
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(4 * words)), dtype="<u4")


def test_a_masked_vector_opens_by_the_published_formulas_alone():
    case = RECORDED["cases"][0]
    names = sorted(case["identity_seeds"])
    salt = bytes.fromhex(case["round_digests"]["1"])
    drawn = {
        n: [bytes.fromhex(d) for d in ds[:3]]
        for n, ds in case["random_bytes_in_order_of_use"].items()
    }
    assert len(names) == 4
    asked = hashlib.sha256(framed(b"asked", b"asked by the tests")).digest()
    assert asked.hex() == case["statement"]
    bound = hashlib.sha256(framed(b"statement", salt, asked)).digest()
    for place, name in enumerate(names):
        sent = [
            bytes.fromhex(message["bytes"])
            for message in case["messages"]
            if (message["round"], message["step"]) == (1, "mask")
            and (message["direction"], message["client"]) == ("from", name)
        ]
        if not sent:
            assert name not in case["survivors"]["1"]
            continue
        words = np.frombuffer(sent[0][-4 * case["vector_length"] :], dtype="<u4").copy()
        words -= keystream(
            derived(drawn[name][2], salt, framed(b"self mask", number(place), name.encode())),
            words.size,
        )
        private = X25519PrivateKey.from_private_bytes(drawn[name][1])
        own = private.public_key().public_bytes_raw()
        for other_place, other in enumerate(names):
            if other == name:
                continue
            theirs = X25519PrivateKey.from_private_bytes(drawn[other][1]).public_key()
            raw = theirs.public_bytes_raw()
            shared = private.exchange(X25519PublicKey.from_public_bytes(raw))
            ends = sorted([(place, name, own), (other_place, other, raw)])
            context = [part for p, n, k in ends for part in (number(p), n.encode(), k)]
            info = framed(b"pairwise mask", *context)
            pair = derived(shared, salt, info)
            mask = keystream(derived(pair, salt, framed(b"mask stream", bound)), words.size)
            words = words - mask if other_place > place else words + mask
        assert words.tolist() == case["vectors"][name]


def test_the_round_digest_follows_from_the_published_fields():
    case = RECORDED["cases"][0]
    names = sorted(case["identity_seeds"])
    numbers = (1, case["vector_length"], 32, 3, 3, 3, 1)
    parts = [b"round", b"vectors", bytes.fromhex(case["roster_fingerprint"])]
    parts += [number(each) for each in numbers]
    parts += [name.encode() for name in names]
    assert hashlib.sha256(framed(*parts)).hexdigest() == case["round_digests"]["1"]


def test_adverts_carry_the_public_keys_of_the_recorded_draws():
    case = RECORDED["cases"][0]
    for message in case["messages"]:
        if (message["round"], message["step"], message["direction"]) != (1, "advertise", "from"):
            continue
        fields = msgspec.msgpack.decode(bytes.fromhex(message["bytes"]))
        draws = case["random_bytes_in_order_of_use"][message["client"]]
        for key, drawn in zip(fields[4:6], draws[:2], strict=True):
            private = X25519PrivateKey.from_private_bytes(bytes.fromhex(drawn))
            assert private.public_key().public_bytes_raw() == key
