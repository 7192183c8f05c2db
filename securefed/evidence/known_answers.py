"""Known answers of what masks are made of, before any message is opened with it.

Published vectors (`known_answers.json` says whose), asked of `cryptography` itself and of what
`protocols` makes of it; and a mask of more words than are worked through at a time, against
`cryptography` alone. A program that cannot answer judges no run: it would read broken masks as it
wrote them.
"""

import json
from collections.abc import Callable, Iterator
from importlib import resources

import numpy as np
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocols.encapsulation import DecapsulationKey
from protocols.key_agreement import EphemeralKey, hkdf
from protocols.mask_stream import CHUNK_WORDS, Mask, apply_masks, keystream_from
from securefed.record.mismatch import Mismatch
from securefed.run_directory import Run

PLACE = "this program"
ANSWERS = json.loads((resources.files("securefed.evidence") / "known_answers.json").read_text())

Primitive = Callable[..., bytes]


def _aes_ctr(key: bytes, counter: bytes, text: bytes) -> bytes:
    return Cipher(algorithms.AES256(key), modes.CTR(counter)).encryptor().update(text)


def _exchange(scalar: bytes, point: bytes) -> bytes:
    private = X25519PrivateKey.from_private_bytes(scalar)
    return private.exchange(X25519PublicKey.from_public_bytes(point))


def _mask(key: bytes, words: int = 4) -> bytes:
    """A mask as `protocols` applies it."""
    masked = np.zeros(words, np.uint32)
    apply_masks(masked, [Mask(key, subtract=False)])
    return masked.astype("<u4").tobytes()


# Name of the answer, who is asked, how.
ASKED: tuple[tuple[str, str, Primitive], ...] = (
    ("AES-256-CTR", "cryptography", _aes_ctr),
    (
        "AES-256-CTR",
        "protocols.mask_stream",
        lambda key, counter, text: keystream_from(key, int.from_bytes(counter, "big")).update(text),
    ),
    ("AES-256-CTR from zero", "cryptography", lambda key: _aes_ctr(key, bytes(16), bytes(16))),
    ("AES-256-CTR from zero", "protocols.mask_stream", _mask),
    (
        "HKDF-SHA256",
        "cryptography",
        lambda secret, salt, info: HKDF(SHA256(), 42, salt, info).derive(secret),
    ),
    (
        "HKDF-SHA256",
        "protocols.key_agreement",
        lambda secret, salt, info: hkdf(secret, salt, info, 42),
    ),
    ("X25519", "cryptography", _exchange),
    ("X25519", "protocols.key_agreement", lambda own, peer: EphemeralKey(own).exchange(peer)),
    (
        "ML-KEM-768",
        "cryptography",
        lambda seed, sealed: MLKEM768PrivateKey.from_seed_bytes(seed).decapsulate(sealed),
    ),
    (
        "ML-KEM-768",
        "protocols.encapsulation",
        lambda seed, sealed: DecapsulationKey(seed).open(sealed).secret,
    ),
)


def of_program(run: Run) -> Iterator[Mismatch]:
    """Which known answer this program does not give, where the run has masks."""
    if not run.settings.secure_aggregation.enabled:
        return
    for name, who, primitive in ASKED:
        known = ANSWERS[name]
        if primitive(*map(bytes.fromhex, known["inputs"])).hex() != known["answer"]:
            yield Mismatch(
                PLACE, f"{name} of {who} is not the published answer ({known['source']})"
            )
    yield from _whole_mask()


def _whole_mask() -> Iterator[Mismatch]:
    """Every word of two masks, one added and one taken off."""
    keys, words = (bytes(range(32)), bytes(range(32, 64))), CHUNK_WORDS + 5
    masked = np.zeros(words, np.uint32)
    apply_masks(masked, [Mask(keys[0], subtract=False), Mask(keys[1], subtract=True)])
    added, taken = (
        np.frombuffer(_aes_ctr(key, bytes(16), bytes(4 * words)), "<u4") for key in keys
    )
    wrong = int(np.count_nonzero(masked != added - taken))
    if wrong:
        told = f"{wrong} of {words} words of a mask of protocols.mask_stream are not AES-256-CTR"
        yield Mismatch(PLACE, told)
