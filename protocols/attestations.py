"""What clients sign and commit to, and how everybody else checks it.

Two things are signed in a round: "these are my keys for this round" (an advert) and "these are
the survivors I was shown" (a confirmation). Both cover the digest of the round, hence the job,
the roster, the cohort and the thresholds. The second also covers the client's statement: a digest
of what it was asked to compute on. The server runs the same checks as the clients, to drop a liar
early; the clients do not rely on it.
"""

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

from protocols.encapsulation import public_key
from protocols.errors import (
    BadSignature,
    BadVector,
    CohortEquivocation,
    DuplicateKey,
    NonCanonicalKey,
    UnknownSender,
    WrongRound,
)
from protocols.identity import Roster
from protocols.key_agreement import is_canonical
from protocols.messages import Advert, Confirmation
from protocols.parameters import RoundRules
from protocols.transcript import digest, transcript

STATEMENT_BYTES = 32


def advert_transcript(round_digest: bytes, name: str, *keys: bytes) -> bytes:
    """What an advert's signature covers."""
    return transcript("advert", round_digest, name.encode(), *keys)


def offered(advert: Advert) -> tuple[bytes, ...]:
    """What an advert offers, in the order in which it is signed."""
    return (advert.channel_key, advert.kem_key, advert.mask_key, advert.self_mask_commitment)


def statement(*asked: bytes) -> bytes:
    """Digest of what a client was asked to compute on, e.g. shared parameters; 32 bytes.

    Every client makes it from what it received itself. Vectors add up to a sum only if all are
    answers to the same statement. Without parts: nothing was asked.
    """
    return digest("asked", *asked)


def binding(rules: RoundRules, statement: bytes) -> bytes:
    """Ties a round to a statement; 32 bytes, public."""
    return digest("statement", rules.digest, statement)


def check_statement(statement: bytes) -> None:
    """Return only if this can be a statement.

    Raises:
        BadVector: unless it has 32 bytes.
    """
    if len(statement) != STATEMENT_BYTES:
        raise BadVector(
            f"a statement has {STATEMENT_BYTES} bytes, got {len(statement)}",
            hint="make it with protocols.attestations.statement",
        )


def survivors_transcript(binding: bytes, channel_key: bytes, survivors: bytes) -> bytes:
    """What a confirmation's signature covers; `channel_key` is the signer's own for this round.

    That key makes it fresh. Round and statement alone are the same in two jobs of one name that
    start from the same parameters, and a signature of one would do in the other.
    """
    return transcript("survivors", binding, channel_key, survivors)


def commitment(rules: RoundRules, place: int, self_mask_seed: bytes) -> bytes:
    """A hash that pins a client's self-mask seed; hiding, because the seed has 256 random bits."""
    party = rules.party(place)
    return digest("self-mask commitment", rules.digest, *party, self_mask_seed)


def share_digest(rules: RoundRules, kind: str, owner: int, holder: int, share: bytes) -> bytes:
    """A hash that pins one share of one secret; hiding, because a share has 256 random bits.

    It tells a holder that gives out another share than it got from an owner that dealt shares of
    nothing: without it, either can put its lie on the other.

    Args:
        kind: "self mask" or "mask key", whichever secret it is a share of.
    """
    parties = (*rules.party(owner), *rules.party(holder))
    return digest("share", rules.digest, kind.encode(), *parties, share)


class OfferedKeys:
    """The public keys seen in one round: each in its one encoding, each once, of either kind.

    Derived keys name both ends, so a copied key opens nothing; but only its owner can know the
    secret, and whoever offers a copy takes part in bad faith. The client's own keys are put in
    first, the server's view begins empty.
    """

    def __init__(self, *own: bytes) -> None:
        self._seen = set(own)

    def take(self, name: str, advert: Advert) -> None:
        """Keep the keys a client offers, all or none.

        Raises:
            NonCanonicalKey: for a key in another encoding than its one.
            DuplicateKey: for a key offered before, by this or any other client.
        """
        keys = (advert.channel_key, advert.mask_key, advert.kem_key)
        if not all(map(is_canonical, keys[:2])):
            raise NonCanonicalKey(f"{name} offers a public key in a second spelling")
        if len(set(keys)) < len(keys) or self._seen.intersection(keys):
            raise DuplicateKey(
                f"{name} offers a public key that was offered before",
                hint="no two keys of a round are equal by accident: one of them is a copy",
            )
        self._seen.update(keys)


def kem_key_of(name: str, advert: Advert) -> MLKEM768PublicKey:
    """The key of ML-KEM-768 that a client offers.

    Raises:
        NonCanonicalKey: for bytes that are no such key.
    """
    try:
        return public_key(advert.kem_key)
    except NonCanonicalKey as error:
        raise NonCanonicalKey(f"{name} offers {error}") from error


def check_advert(roster: Roster, rules: RoundRules, advert: Advert) -> None:
    """Return only if the cohort's client at that place signed these keys for this round.

    Raises:
        WrongRound, UnknownSender: for another round, or a place outside the cohort.
        BadSignature: if the pinned key signed nothing of the kind.
        CohortEquivocation: if it signed them for another cohort or other rules.
    """
    if advert.round_number != rules.round_number:
        raise WrongRound(f"keys of round {advert.round_number} in round {rules.round_number}")
    if advert.sender >= len(rules.cohort):
        raise UnknownSender(f"place {advert.sender} in a cohort of {len(rules.cohort)}")
    name = rules.cohort[advert.sender]
    signed = advert_transcript(advert.round_digest, name, *offered(advert))
    roster.verify(name, signed, advert.signature)
    if advert.round_digest != rules.digest:
        raise CohortEquivocation(
            f"{name} signed keys for another cohort or other rules of round {rules.round_number}"
        )


def check_confirmation(
    roster: Roster,
    rules: RoundRules,
    binding: bytes,
    channel_key: bytes,
    confirmation: Confirmation,
    survivors: bytes,
) -> None:
    """Return only if the client that the confirmation names signed these survivors, this binding
    and the channel key that it offered in this round.

    Raises:
        CohortEquivocation: if it signed something else: other survivors, another statement, or in
            another job.
    """
    name = rules.cohort[confirmation.sender]
    signed = survivors_transcript(binding, channel_key, survivors)
    try:
        roster.verify(name, signed, confirmation.signature)
    except BadSignature as error:
        raise CohortEquivocation(
            f"{name} did not sign these survivors for the same statement",
            hint="the server told hospitals different survivors, or sent them different parameters",
        ) from error
