"""What clients sign and commit to, and how everybody else checks it.

Two statements are signed in a round: "these are my keys for this round" (an advert) and "these
are the survivors I was shown" (a confirmation). Both cover the digest of the round, hence the
job, the roster, the cohort and the thresholds. The server runs the same checks as the clients,
to drop a liar early; the clients do not rely on it.
"""

from protocols.errors import BadSignature, CohortEquivocation, UnknownSender, WrongRound
from protocols.identity import Roster
from protocols.messages import Advert, Confirmation
from protocols.parameters import RoundRules
from protocols.transcript import digest, transcript


def advert_transcript(round_digest: bytes, name: str, *keys: bytes) -> bytes:
    """What an advert's signature covers."""
    return transcript("advert", round_digest, name.encode(), *keys)


def survivors_transcript(rules: RoundRules, survivors: bytes) -> bytes:
    """What a confirmation's signature covers."""
    return transcript("survivors", rules.digest, survivors)


def commitment(rules: RoundRules, self_mask_seed: bytes) -> bytes:
    """A hash that pins a self-mask seed; hiding, because the seed has 256 random bits."""
    return digest("self-mask commitment", rules.digest, self_mask_seed)


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
    keys = (advert.channel_key, advert.mask_key, advert.self_mask_commitment)
    roster.verify(name, advert_transcript(advert.round_digest, name, *keys), advert.signature)
    if advert.round_digest != rules.digest:
        raise CohortEquivocation(
            f"{name} signed keys for another cohort or other rules of round {rules.round_number}"
        )


def check_confirmation(
    roster: Roster, rules: RoundRules, confirmation: Confirmation, survivors: bytes
) -> None:
    """Return only if the client at that place signed these survivors.

    Raises:
        UnknownSender: for a place outside the cohort.
        CohortEquivocation: if it signed something else, another set of survivors above all.
    """
    if confirmation.sender >= len(rules.cohort):
        raise UnknownSender(f"place {confirmation.sender} in a cohort of {len(rules.cohort)}")
    name = rules.cohort[confirmation.sender]
    try:
        roster.verify(name, survivors_transcript(rules, survivors), confirmation.signature)
    except BadSignature as error:
        raise CohortEquivocation(f"{name} did not sign these survivors") from error
