"""ML-KEM-768 (NIST FIPS 203): the half of every sealed box that a quantum computer does not open.

Messages recorded today must stay closed when X25519 falls. Each box is therefore sealed under two
secrets, of X25519 and of ML-KEM-768, and opens only for who has both (`sealing.box_key`); if either
mechanism turns out to be weak, the other still holds. Signatures stay Ed25519: forging one later
changes nothing in a round that is over.

One key lives for one round. Encapsulation draws from OpenSSL's generator.
"""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey

from protocols.errors import BadCiphertext, MalformedMessage, NonCanonicalKey

SEED_BYTES = 64
PUBLIC_KEY_BYTES = 1184
CIPHERTEXT_BYTES = 1088


class DecapsulationKey:
    """An ML-KEM-768 key pair for one round, made from 64 secret bytes (d and z of FIPS 203)."""

    __slots__ = ("_private", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise MalformedMessage(f"an ML-KEM-768 seed has {SEED_BYTES} bytes, got {len(seed)}")
        self._private = MLKEM768PrivateKey.from_seed_bytes(seed)
        self.public: bytes = self._private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"DecapsulationKey(public={self.public[:8].hex()}...)"

    def open(self, ciphertext: bytes) -> "Encapsulation":
        """The secret in a ciphertext. An altered one gives another secret, not an error.

        Raises:
            BadCiphertext: if it has another length.
        """
        try:
            return Encapsulation(self._private.decapsulate(ciphertext), ciphertext)
        except ValueError as error:
            raise BadCiphertext("an ML-KEM-768 ciphertext of another length") from error


@dataclass(frozen=True, slots=True)
class Encapsulation:
    """A 32-byte secret, and the ciphertext that carries it to the owner of a public key."""

    secret: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)


def public_key(public: bytes) -> MLKEM768PublicKey:
    """The ML-KEM-768 public key that these bytes are the one encoding of.

    Raises:
        NonCanonicalKey: for bytes that are no such key (FIPS 203, section 7.2).
    """
    try:
        return MLKEM768PublicKey.from_public_bytes(public)
    except ValueError as error:
        raise NonCanonicalKey("bytes that are no ML-KEM-768 public key") from error


def encapsulate(to: MLKEM768PublicKey) -> Encapsulation:
    """A fresh secret for the owner of a public key."""
    return Encapsulation(*to.encapsulate())
