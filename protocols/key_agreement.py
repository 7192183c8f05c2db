"""Ephemeral key agreement: X25519 (RFC 7748) and HKDF-SHA256 (RFC 5869) with named purposes.

One key pair lives for one round. A shared secret never leaves this module as it is: it becomes
a key only through HKDF, salted with the digest of the round and labelled with its purpose and
with place, name and public key of the two parties, so that no key of one round, pair, direction
or purpose equals another, even where somebody offers a copy of another's public key. Pairwise masks
also depend on seeds that travel in sealed boxes, so that X25519 alone does not open them. Memory is
not erased: Python cannot promise that.
"""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocols.errors import LowOrderPoint, MalformedMessage
from protocols.parameters import RoundRules
from protocols.transcript import transcript

KEY_BYTES = 32
_FIELD = 2**255 - 19


class EphemeralKey:
    """An X25519 key pair for one round, made from 32 secret bytes."""

    __slots__ = ("_agreed", "_private", "public", "secret")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise MalformedMessage(f"an X25519 private key has 32 bytes, got {len(secret)}")
        self.secret = secret
        self._private = X25519PrivateKey.from_private_bytes(secret)
        self.public: bytes = self._private.public_key().public_bytes_raw()
        self._agreed: dict[bytes, bytes] = {}

    def __repr__(self) -> str:
        return f"EphemeralKey(public={self.public.hex()})"

    def exchange(self, peer: bytes) -> bytes:
        """The raw X25519 secret with a peer's public key; 32 bytes, not yet a key.

        Worked out once for each peer and let go of with the private key that it follows from: the
        boxes of either direction are sealed under keys made from one secret.

        Raises:
            MalformedMessage: unless the public key has 32 bytes.
            LowOrderPoint: if the result would be zero (RFC 7748, section 6.1).
        """
        if len(peer) != KEY_BYTES:
            raise MalformedMessage(f"an X25519 public key has 32 bytes, got {len(peer)}")
        agreed = self._agreed.get(peer)
        if agreed is None:
            try:
                agreed = self._private.exchange(X25519PublicKey.from_public_bytes(peer))
            except ValueError as error:
                raise LowOrderPoint("an X25519 public key of low order was offered") from error
            self._agreed[peer] = agreed
        return agreed


def is_canonical(public: bytes) -> bool:
    """Whether an X25519 public key is spelt in its one way: below 2^255 - 19.

    X25519 ignores the topmost bit and reduces the rest (RFC 7748, section 5), so one point has
    several spellings, and a copy in another would pass as a key of its own.
    """
    return int.from_bytes(public, "little") < _FIELD


def hkdf(secret: bytes, salt: bytes, info: bytes, length: int = KEY_BYTES) -> bytes:
    """HKDF-SHA256 (RFC 5869), extract and expand."""
    return HKDF(SHA256(), length, salt, info).derive(secret)


def derive_key(secret: bytes, salt: bytes, label: str, *context: bytes) -> bytes:
    """A 32-byte key for one purpose: HKDF-SHA256 with info = transcript(label, context)."""
    return hkdf(secret, salt, transcript(label, *context))


def pair_key(
    own: EphemeralKey, place: int, peer: bytes, peer_place: int, rules: RoundRules
) -> bytes:
    """The key that two clients share in one round; the same on both sides.

    Place, name and mask key of both ends are in its context, in the order of places. Without
    them, whoever offers a copy of somebody's public key makes a third client use one key with two
    partners (an unknown key share, Diffie, van Oorschot and Wiener 1992; Blake-Wilson and Menezes
    1999): a mask stream that it adds for one and subtracts for the other protects nothing.
    """
    ends = {place: own.public, peer_place: peer}
    context = [part for p in sorted(ends) for part in (*rules.party(p), ends[p])]
    return derive_key(own.exchange(peer), rules.digest, "pairwise mask", *context)


def mask_key_of(mask_secret: bytes, place: int, rules: RoundRules) -> EphemeralKey:
    """The key pair for pairwise masks that follows from a client's 32-byte mask secret."""
    return EphemeralKey(derive_key(mask_secret, rules.digest, "mask key", *rules.party(place)))


def seed_for(mask_secret: bytes, place: int, peer_place: int, rules: RoundRules) -> bytes:
    """The 32-byte seed that a client seals for a neighbour, from its mask secret.

    The public mask key follows from the same secret, but the secret does not follow from it, even
    for who can compute discrete logarithms: HKDF stands between.
    """
    ends = (*rules.party(place), *rules.party(peer_place))
    return derive_key(mask_secret, rules.digest, "seed for a neighbour", *ends)


def pair_seed(
    seed: bytes, place: int, peer_seed: bytes, peer_place: int, rules: RoundRules
) -> bytes:
    """What two clients make of the seeds they sealed for each other; the same on both sides."""
    seeds = {place: seed, peer_place: peer_seed}
    context = [part for p in sorted(seeds) for part in rules.party(p)]
    both = b"".join(seeds[p] for p in sorted(seeds))
    return derive_key(both, rules.digest, "pair seed", *context)


def exclusive_or(a: bytes, b: bytes) -> bytes:
    """Bytewise, of equal lengths; ValueError otherwise."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} bytes and {len(b)} have no exclusive or")
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(len(a), "big")


def mask_key(pair: bytes, seed: bytes, rules: RoundRules, binding: bytes) -> bytes:
    """The key of the mask stream that two clients share, from their `pair_key` and `pair_seed`.

    Secret as long as either is: the first by X25519, the second by the boxes it came in, hence also
    against a quantum computer (dual use of HKDF as a combiner: Bindel, Brendel, Fischlin, Goncalves
    and Stebila, "Hybrid key encapsulation mechanisms and authenticated key exchange", 2019).

    The same on both sides only if both were asked the same: two clients with different bindings
    use two streams that are independent of each other, and their masks do not cancel.
    """
    return derive_key(pair + seed, rules.digest, "mask stream", binding)


def self_mask_key(seed: bytes, place: int, rules: RoundRules) -> bytes:
    """The key of the mask stream that a client adds alone, from its 32-byte self-mask seed."""
    return derive_key(seed, rules.digest, "self mask", *rules.party(place))
