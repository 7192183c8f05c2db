"""Every refusal of the secure-sum protocol, by name.

    ProtocolError                  root; carries `hint`: the way out, and `accused`: a place
      InvalidRules                 the agreed rules or a setting are unsafe or contradictory
        ThresholdTooLow            a threshold below what the client's own rules demand
        RulesMismatch              an announced round differs from the rules agreed for the job
        UnplannedCohort            a cohort that the public plan does not give
        WouldOverflow              a sum of that many values of that size could wrap
      InvalidIdentity              a key file or a roster cannot be used
      MalformedMessage             bytes that are not a well-formed, canonical message
        OversizedMessage           longer than any honest message of this round
      OutOfOrder                   a well-formed message at the wrong time
        WrongRound                 it belongs to another round
        RoundsSkipped              more rounds were left out than a server without a choice needs
        Replay                     the round was already taken part in, or finished
        WrongStage                 a step was skipped or repeated
        SecondUnmask               a second request for shares; answering it could open one vector
      UntrustedMessage             somebody lied, or was impersonated
        UnknownSender              not in the roster, the cohort, or the neighbourhood
        DuplicateSender            one client named twice
        BadSignature               a signature that the pinned key did not make
        LowOrderPoint              an X25519 key that forces a predictable secret
        NonCanonicalKey            a second spelling of a public key
        DuplicateKey               one public key offered twice, in one name or two
        BadCiphertext              a sealed share that was altered, or made for another message
        BadShare                   a share that is not the one dealt, or shares that recover nothing
        CohortEquivocation         the server showed different clients different things
        StatementMismatch          a client answered something else than the server asked
        AliveAndDropped            one client listed as both survivor and dropped
      ThresholdMissed              too few clients are left; nothing is revealed
      BadVector                    the client's own input cannot be summed
        ValueOutOfRange            a value, weight or count beyond the agreed range
        NotFinite                  NaN or infinity

Messages name clients, places and sizes; never keys, seeds, shares or vector entries.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class ProtocolError(Exception):
    """What is wrong, with the offending value and place, and `hint`: the way out.

    `accused` is the place of the client whose message is at fault, if it is one client's. Whoever
    delivered the message may have changed it: an accusation, not a proof.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, accused: int | None = None
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.accused = accused


@contextmanager
def blaming(place: int) -> Iterator[None]:
    """Name the client at `place` in every refusal of what is its message."""
    try:
        yield
    except ProtocolError as error:
        error.accused = place
        raise


class InvalidRules(ProtocolError):
    """The agreed rules or a setting are unsafe or contradict each other."""


class ThresholdTooLow(InvalidRules):
    """A threshold below what the client's own rules demand."""


class RulesMismatch(InvalidRules):
    """The server announced a round that differs from the rules agreed for the job."""


class UnplannedCohort(InvalidRules):
    """A cohort that the plan agreed for the job does not give."""


class WouldOverflow(InvalidRules):
    """A sum of that many values of that size could wrap around the ring."""


class InvalidIdentity(ProtocolError):
    """A key file or a roster cannot be used."""


class MalformedMessage(ProtocolError):
    """The bytes are not a well-formed message in its one canonical encoding."""


class OversizedMessage(MalformedMessage):
    """The message is longer than any honest message of this round."""


class OutOfOrder(ProtocolError):
    """A well-formed message at the wrong time."""


class WrongRound(OutOfOrder):
    """The message belongs to another round."""


class RoundsSkipped(OutOfOrder):
    """So many round numbers were left out that the server could have chosen among rounds."""


class Replay(OutOfOrder):
    """The client already took part in this round, or in a later one."""


class WrongStage(OutOfOrder):
    """A step of the round was skipped or repeated."""


class SecondUnmask(OutOfOrder):
    """A second request for shares in one round; two answers could open a single vector."""


class UntrustedMessage(ProtocolError):
    """Somebody lied, or was impersonated."""


class UnknownSender(UntrustedMessage):
    """A client that is not in the roster, the cohort, or the neighbourhood."""


class DuplicateSender(UntrustedMessage):
    """One client named twice where each may stand once."""


class BadSignature(UntrustedMessage):
    """A signature that the pinned key did not make over this round's transcript."""


class LowOrderPoint(UntrustedMessage):
    """An X25519 public key of low order, which would force a predictable shared secret."""


class NonCanonicalKey(UntrustedMessage):
    """A public key in another encoding than its one: a copy that does not look like one."""


class DuplicateKey(UntrustedMessage):
    """One public key offered twice: nobody but its owner can know what it is the key of."""


class BadCiphertext(UntrustedMessage):
    """A sealed share that was altered, or was made for another round, sender or recipient."""


class BadShare(UntrustedMessage):
    """A share that is not the one its owner dealt, or shares that do not recover the secret that
    their owner committed to."""


class CohortEquivocation(UntrustedMessage):
    """The server showed different clients different cohorts, survivors or statements."""


class StatementMismatch(UntrustedMessage):
    """A client's vector answers another statement than the server's: it cannot be added."""


class AliveAndDropped(UntrustedMessage):
    """One client listed as both survivor and dropped: its vector would be opened."""


class ThresholdMissed(ProtocolError):
    """Too few clients are left; the round ends and nothing is revealed."""


class BadVector(ProtocolError):
    """The client's own input cannot be summed."""


class ValueOutOfRange(BadVector):
    """A value, weight or count beyond the range agreed for the job."""


class NotFinite(BadVector):
    """NaN or infinity, which has no place in a ring of integers."""
