"""Who was in which run: epsilon of a patient is that of the runs it took part in, and no others.

A hospital enrols the patients of a run before anything is spent on them: those that train, and
those that are held out. Patients are tokens, made with a secret of the site (data.pseudonyms), so
that the ledger tells only whoever has that secret who they are. What a run releases concerns one
side of it: rounds and the declared number those that train, scores those that are held out. A
patient's history is what was released at its places, composed as one, whichever side that was; the
headline is the largest over patients.

What is not known counts. Of a run without an enrolment (of an older version), or enrolled under
another secret, anybody may have been on either side; where there are several, on both.

Guarantee: for a patient who was where the enrolments say, adding or removing it changes only what
was released there (adjacency add/remove, before patients are divided: a patient's place depends on
no other patient). Not covered: that a run is refused because of one patient's history tells whoever
sees the refusal that somebody here has such a history.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import Event, epsilon

TOKEN_BYTES = 16
MOST_COMPOSED = 16  # histories whose epsilon is worked out by PRV; of more the RDP bound counts

Side = Literal["trained", "held out"]
Place = tuple[str, Side]  # a run, and a side of it
Places = frozenset[Place]
Spent = Mapping[Place, Sequence[Event]]  # what was released about whoever was there


@dataclass(frozen=True)
class Participants:
    """Patients of a run, as tokens.

    Attributes:
        key: names the secret that the tokens were made with; no part of it.
        trained, held_out: disjoint.

    Raises:
        ValueError: a token of another length, or one on both sides.
    """

    key: str
    trained: frozenset[bytes] = field(repr=False)
    held_out: frozenset[bytes] = field(repr=False)

    def __post_init__(self) -> None:
        if self.trained & self.held_out:
            raise ValueError("a patient is on both sides")
        if any(len(token) != TOKEN_BYTES for token in self.trained | self.held_out):
            raise ValueError(f"tokens have {TOKEN_BYTES} bytes")

    def enrolments(self, run: str) -> tuple["Enrolment", "Enrolment"]:
        """Both sides, as a ledger keeps them."""
        return (
            Enrolment(run, "trained", self.key, b"".join(sorted(self.trained))),
            Enrolment(run, "held out", self.key, b"".join(sorted(self.held_out))),
        )


@dataclass(frozen=True)
class Enrolment:
    """One side of a run: who was there.

    Attributes:
        key: as in `Participants`.
        patients: tokens, ascending, one after the other.
    """

    run: str
    side: Side
    key: str
    patients: bytes = field(repr=False)

    @property
    def count(self) -> int:
        """How many patients."""
        return len(self.patients) // TOKEN_BYTES

    def tokens(self) -> Iterator[bytes]:
        """Each patient's."""
        whole = self.patients
        return (whole[at : at + TOKEN_BYTES] for at in range(0, len(whole), TOKEN_BYTES))


class Roll:
    """All enrolments of a ledger: patients by the places that they were at.

    Attributes:
        size: how many enrolments; they only become more, so an equal size is an equal roll.
    """

    def __init__(self, enrolments: Sequence[Enrolment]) -> None:
        self.size = len(enrolments)
        self._key_of = {each.run: each.key for each in enrolments}
        self._patients: dict[str, Counter[Places]] = {
            key: _by_places([each for each in enrolments if each.key == key])
            for key in sorted(set(self._key_of.values()))
        }

    def histories(self, spent: Spent, place: Place | None = None) -> list[tuple[int, list[Event]]]:
        """What was released about each patient: how many certainly have it, and the history.

        Args:
            place: only of those who are, or may be, there; None for everybody.

        Returns:
            Each history once; a count of 0 is that of whoever is not enrolled.
        """
        return [
            (count, [event for at in sorted(places) for event in spent.get(at, ())])
            for places, count in self._places({run for run, _ in spent}, place).items()
        ]

    def _places(self, runs: Collection[str], place: Place | None) -> Counter[Places]:
        at = frozenset([place] if place else [])
        run = place[0] if place else ""
        found: Counter[Places] = Counter()
        for key, patients in (self._patients or {"": Counter()}).items():
            members = dict(patients)
            if place and run in self._key_of:
                members = {each: n for each, n in patients.items() if place in each}
                if self._key_of[run] != key:
                    continue
            else:
                members.setdefault(frozenset(), 0)  # whoever is enrolled nowhere
            known = {each for each, its_key in self._key_of.items() if its_key == key}
            for rest in _anywhere(sorted(set(runs) - known - {run})):
                for each, count in members.items():
                    found[each | rest | at] += count
        return found


def largest(
    histories: Iterable[Sequence[Event]], delta: float, accountant: Accountant, floor: float = 0.0
) -> float:
    """The largest epsilon of several histories, or `floor` where all are below.

    Histories are ordered by their RDP bound, and PRV works out those that may be the largest. Where
    these are many the next RDP bound stands for all that are left: the result is an upper bound in
    any case.
    """
    histories = list(histories)
    if len(histories) == 1:  # nothing to order
        return max(floor, epsilon(histories[0], delta, accountant))
    bounds = sorted(
        ((epsilon(each, delta, "rdp"), each) for each in histories), key=lambda one: -one[0]
    )
    most = floor
    for number, (bound, history) in enumerate(bounds):
        if bound <= most:
            break
        if number == MOST_COMPOSED:
            return bound
        most = max(most, epsilon(history, delta, accountant))
    return most


def _by_places(enrolments: Sequence[Enrolment]) -> Counter[Places]:
    """Places -> how many patients were at these and no others; enrolments of one secret."""
    masks: dict[bytes, int] = {}
    for number, each in enumerate(enrolments):
        bit = 1 << number
        for token in each.tokens():
            masks[token] = masks.get(token, 0) | bit
    places: list[Place] = [(each.run, each.side) for each in enrolments]
    return Counter(
        {
            frozenset(at for number, at in enumerate(places) if mask >> number & 1): count
            for mask, count in Counter(masks.values()).items()
        }
    )


def _anywhere(runs: Sequence[str]) -> list[Places]:
    """Where somebody may have been in runs of which nobody knows who took part."""
    both: list[list[Place]] = [[(run, "trained"), (run, "held out")] for run in runs]
    if len(both) == 1:
        return [frozenset([side]) for side in both[0]]
    return [frozenset(at for sides in both for at in sides)]
