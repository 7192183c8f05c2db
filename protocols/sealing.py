"""Sealed shares: AES-256-GCM under a key made for exactly one message.

The key of a box is derived from two secrets of sender and recipient, of X25519 and of ML-KEM-768,
the digest of the round, and place, name and keys of both in the direction of the box, so each key
seals one box and the nonce can be zero: two recipients that offer the same key get boxes under two
keys. The associated data repeat round, sender and recipient: a box moved to another place does not
open. The server sees the length of a box, which is constant, and nothing else.
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocols.encapsulation import Encapsulation
from protocols.errors import BadCiphertext
from protocols.key_agreement import EphemeralKey, derive_key
from protocols.parameters import RoundRules
from protocols.transcript import number, transcript

TAG_BYTES = 16
# Zero nonce: the key is derived for one message and never used again.
_NONCE = bytes(12)


@dataclass(frozen=True, slots=True)
class End:
    """One end of a box: its place in the cohort, and its public keys of X25519 and ML-KEM-768.

    The latter is that of a recipient: a sender's own is no part of a box.
    """

    place: int
    key: bytes
    kem_key: bytes = b""


def box_key(
    own: EphemeralKey, fresh: Encapsulation, sender: End, recipient: End, rules: RoundRules
) -> bytes:
    """The 32-byte key for the one box that `sender` seals for `recipient` in this round.

    Secret as long as one of the two mechanisms holds: both secrets go in, with all that they were
    made from (Barbosa et al., "X-Wing: the hybrid KEM you've been looking for", 2024).

    Args:
        own: the X25519 key of one of the two.
        fresh: what the sender encapsulated to the recipient's `kem_key`.
    """
    peer = recipient if own.public == sender.key else sender
    context = [part for end in (sender, recipient) for part in (*rules.party(end.place), end.key)]
    return derive_key(
        own.exchange(peer.key) + fresh.secret,
        rules.digest,
        "sealed shares",
        *context,
        recipient.kem_key,
        fresh.ciphertext,
    )


def seal(key: bytes, plaintext: bytes, round_digest: bytes, sender: int, recipient: int) -> bytes:
    """Encrypt and authenticate; the result is TAG_BYTES longer than the plaintext."""
    return AESGCM(key).encrypt(_NONCE, plaintext, _associated(round_digest, sender, recipient))


def unseal(key: bytes, box: bytes, round_digest: bytes, sender: int, recipient: int) -> bytes:
    """Decrypt what `seal` made for the same key, round, sender and recipient.

    Raises:
        BadCiphertext: if anything differs.
    """
    try:
        return AESGCM(key).decrypt(_NONCE, box, _associated(round_digest, sender, recipient))
    except (InvalidTag, ValueError) as error:
        raise BadCiphertext(
            f"the sealed share from place {sender} to place {recipient} does not open"
        ) from error


def _associated(round_digest: bytes, sender: int, recipient: int) -> bytes:
    return transcript("sealed shares", round_digest, number(sender), number(recipient))
