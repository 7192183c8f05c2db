"""Who still takes part in a round, as the server keeps count: who is gone and why, what is next.

A reply that is wrong costs its sender the round and nobody else anything. The round ends, for good
and with nothing opened, when fewer are left than a sum may have (`RoundRules.minimum_survivors`).
The clients do not rely on any of this: they count the survivors themselves.
"""

from collections.abc import Collection, Container, Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum

from protocols.errors import (
    ProtocolError,
    ThresholdMissed,
    UnknownSender,
    WrongRound,
    WrongStage,
)
from protocols.parameters import RoundRules


class Expecting(IntEnum):
    """What the server waits for."""

    ADVERTS = 1
    SHARES = 2
    VECTORS = 3
    CONFIRMATIONS = 4
    OPENINGS = 5
    NOTHING = 6


class Attendance:
    """The clients of one round.

    Attributes:
        expecting: what the round waits for.
        present: places that still take part.
        dropped: name -> reason, of who does not.
        failure: what ended the round; every further step raises it again.
    """

    def __init__(self, rules: RoundRules) -> None:
        self.expecting = Expecting.ADVERTS
        self.present = set(range(len(rules.cohort)))
        self.dropped: dict[str, str] = {}
        self.failure: ProtocolError | None = None
        self._rules = rules

    def expect(self, stage: Expecting) -> None:
        """Return only if the round waits for this.

        Raises:
            WrongStage: if it waits for something else.
            ThresholdMissed, BadShare: if it has ended.
        """
        if self.failure:
            raise self.failure
        if self.expecting is not stage:
            raise WrongStage(
                f"round {self._rules.round_number} expects {self.expecting.name.lower()},"
                f" not {stage.name.lower()}"
            )

    def name(self, place: int) -> str:
        """Who sits there."""
        return self._rules.cohort[place]

    def place(self, name: str) -> int:
        """Where a client sits; UnknownSender if it is not in the cohort."""
        return self._rules.place(name)

    def keep_out(self, reasons: Mapping[str, str], but: Container[str] = ()) -> None:
        """Go on without those that there is a reason to do without, but for some."""
        for name, why in reasons.items():
            if name in self._rules.cohort and name not in but:
                self.drop(name, why)

    def drop(self, name: str, why: str) -> None:
        """Go on without a client of the cohort."""
        self.dropped.setdefault(name, why)
        self.present.discard(self._rules.place(name))

    @contextmanager
    def dropping(self, name: str) -> Iterator[None]:
        """Turn a refusal of one client's reply into that client's dropout."""
        try:
            yield
        except ProtocolError as error:
            self.dropped.setdefault(name, f"{type(error).__name__}: {error}")

    def sender(self, name: str, place: int, round_number: int) -> int:
        """The place of the client that delivered a message, if the message says the same.

        Raises:
            WrongRound: for a message of another round.
            UnknownSender: if it is another's place, or the client is gone.
        """
        if round_number != self._rules.round_number:
            raise WrongRound(f"a message of round {round_number}")
        if place >= len(self._rules.cohort) or self._rules.cohort[place] != name:
            raise UnknownSender(f"{name} delivered a message of place {place}")
        if place not in self.present or name in self.dropped:
            raise UnknownSender(f"{name} no longer takes part in this round")
        return place

    def close(self, answered: Collection[int], after: Expecting) -> None:
        """Drop who did not answer, and go on to what comes after if enough did.

        Raises:
            ThresholdMissed: if too few are left.
        """
        for place in sorted(self.present.difference(answered)):
            reason = f"no reply: {self.expecting.name.lower()}"
            self.dropped.setdefault(self._rules.cohort[place], reason)
        self.present.intersection_update(answered)
        if len(self.present) < self._rules.minimum_survivors:
            self.failure = ThresholdMissed(
                f"{len(self.present)} of {len(self._rules.cohort)} clients are left, where at"
                f" least {self._rules.minimum_survivors} are needed",
                hint="nothing was revealed; run another round when more clients answer",
            )
            raise self.failure
        self.expecting = after
