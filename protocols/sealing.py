"""Sealed shares: AES-256-GCM under a key made for exactly one message.

The key of a box is derived from the X25519 secret of sender and recipient, the digest of the
round, and the direction, so each key seals one box and the nonce can be zero. The associated
data repeat round, sender and recipient: a box moved to another place does not open. The server
sees the length of a box, which is constant, and nothing else.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocols.errors import BadCiphertext
from protocols.key_agreement import EphemeralKey, derive_key
from protocols.transcript import number, transcript

TAG_BYTES = 16
# Zero nonce: the key is derived for one message and never used again.
_NONCE = bytes(12)


def box_key(
    own: EphemeralKey, peer: bytes, round_digest: bytes, *, sender: bytes, recipient: bytes
) -> bytes:
    """The 32-byte key for the one box that `sender` seals for `recipient` in this round.

    `sender` and `recipient` are the two channel public keys; one of them is `own.public`.
    """
    return derive_key(own.exchange(peer), round_digest, "sealed shares", sender, recipient)


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
