"""What a hospital lets itself be asked: the plan's steps, and no question in two companies.

    Unplanned      a step, a cohort, flags or a length that are not the public plan's
    NotEverybody   exact counts, and somebody is missing from the sum
    AskedBefore    the same question in a sum of other hospitals than one that may be open

All three are checked before anything is trained, scored or spent, as far as they can be known then;
who is in a sum is known when the server asks to confirm it, and checked there and once more before
the shares that open it are given. Sums are told apart by the protocol's own number, since a server
may put any message of a sum into a request for any step.

What is left to a server that lies: parameters that differ in the last digit are another question.
It gets one training question for each round of the plan, and without differential privacy two of
them, a hospital short in one, tell that hospital's update. Scores have no such gap: they open over
everybody, whatever the parameters.
"""

from dataclasses import dataclass
from functools import lru_cache

from protocols import messages as protocol
from protocols.identity import Roster
from securefed.errors import AskedBefore, NotEverybody, RunError, Unplanned
from securefed.wire.contribution import Layout, vector_length
from securefed.wire.limits import Limits
from securefed.wire.messages import Request
from securefed.wire.openings import Openings, question_of
from securefed.wire.plan import Plan, Step


@dataclass
class _Sum:
    """One sum of the protocol: what was announced, and what this hospital gave to it."""

    cohort: tuple[str, ...]
    words: int
    step: Step | None = None
    question: str = ""


class Questions:
    """Checks of one hospital in a job.

    Args:
        roster: of the secure sum; None where nothing is masked. Then each contribution is a sum
            of its own, always over the same hospital, and only the plan matters.
        layout: how long an answer is, to each kind of step.
    """

    def __init__(
        self, name: str, plan: Plan, roster: Roster | None, openings: Openings, layout: Layout
    ) -> None:
        self._name = name
        self._plan = plan
        self._layout = layout
        self._roster = roster
        self._openings = openings
        self._sums: dict[int, _Sum] = {}
        self.limits = Limits(layout, len(roster.names) if roster else 0)

    def step(self, request: Request) -> Step:
        """The step that a request of any stage belongs to.

        Raises:
            Unplanned: there is none, this hospital is not in it, or it is asked for something else.
        """
        step = self._plan.step(request.round)
        if step is None:
            raise Unplanned(f"there is no step {request.round} in the plan")
        if self._name not in step.cohort:
            raise Unplanned(f"{self._name} is not in the cohort of step {step.number}")
        flags = step.flags if request.stage == "work" else (False, False, False)
        if (request.train, request.evaluate, request.describe) != flags:
            raise Unplanned(
                f"step {step.number}, stage {request.stage}: train {request.train}, evaluate "
                f"{request.evaluate} and describe {request.describe} are not the plan's"
            )
        return step

    def announced(self, body: bytes) -> None:
        """Take note of a sum whose announcement the protocol's client has accepted."""
        self._note(self._read(protocol.Announcement, body))

    def ask(self, request: Request) -> None:
        """Take a mask request that the protocol's client would accept; before any work is done.

        Raises:
            Unplanned: a sum over another cohort than the step's, or of longer or shorter vectors.
            AskedBefore: no sum of this cohort can be over the same hospitals as before.
        """
        step, message = self.step(request), self._read(protocol.MaskRequest, request.body)
        found = self._sums.get(message.round_number)
        if found is None or found.cohort != _sorted(step.cohort):
            raise Unplanned(f"step {step.number} asked in a sum over another cohort than planned")
        words = vector_length(self._layout, train=step.train, describe=bool(step.describes))
        if found.words != words:
            raise Unplanned(
                f"step {step.number} asked in a sum of {found.words} words, its answer has {words}"
            )
        question = question_of(request)
        before = self._openings.over(question)
        if before is not None and not before <= set(step.cohort):
            raise AskedBefore(f"step {step.number} asks what was answered with {sorted(before)}")
        found.step, found.question = step, question
        if message.upcoming:
            self._note(message.upcoming)

    def confirm(self, body: bytes) -> None:
        """Return only if a sum over these survivors may be opened, as far as this hospital goes.

        Raises:
            NotEverybody, AskedBefore: it may not.
        """
        message = self._read(protocol.ConfirmRequest, body)
        self._survivors(message.round_number, message.survivors)

    def unmask(self, body: bytes) -> tuple[str, frozenset[str]]:
        """The same before shares are given: the question, and over whom. Give it to `opened`.

        Raises:
            NotEverybody, AskedBefore: it may not.
        """
        message = self._read(protocol.UnmaskRequest, body)
        return self._survivors(message.round_number, message.survivors)

    def opened(self, question: str, survivors: frozenset[str]) -> None:
        """Shares were made, and are about to leave: from now on the sum may be open."""
        self._openings.note(question, survivors)

    def _survivors(self, number: int, bits: bytes) -> tuple[str, frozenset[str]]:
        found = self._sums.get(number)
        if found is None or found.step is None:
            raise RunError(f"nothing was given to sum {number}")
        cohort = found.cohort
        survivors = _named(cohort, bits)
        if not found.step.train and survivors != set(cohort):
            missing = ", ".join(sorted(set(cohort) - survivors))
            what = "a sum over scans" if found.step.describes else "scores"
            raise NotEverybody(f"{what} would open without those of {missing}")
        before = self._openings.over(found.question)
        if before is not None and before != survivors:
            raise AskedBefore(
                f"the same was answered in a sum over {', '.join(sorted(before))}, "
                f"and would open now over {', '.join(sorted(survivors))}"
            )
        return found.question, survivors

    def _note(self, announced: protocol.Announcement) -> None:
        cohort = _sorted(_named(self._require_roster().names, announced.cohort))
        # The protocol's client accepts a number once: the last announcement is the one that counts.
        self._sums[announced.round_number] = _Sum(cohort, announced.vector_length)

    def _read(self, kind: type[protocol.M], body: bytes) -> protocol.M:
        members = len(self._require_roster().names)
        return protocol.decode(kind, body, protocol.limit(kind, members, members))

    def _require_roster(self) -> Roster:
        if self._roster is None:
            raise RunError("a message of a secure sum without secure aggregation")
        return self._roster


# All hospitals of a process are told the same names: what each remembers of them is one object.
@lru_cache(maxsize=8)
def _named(names: tuple[str, ...], bits: bytes) -> frozenset[str]:
    return frozenset(names[place] for place in protocol.places(bits, len(names)))


@lru_cache(maxsize=8)
def _sorted(names: tuple[str, ...] | frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(names))
