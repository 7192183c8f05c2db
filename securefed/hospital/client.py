"""A hospital's side of the federation: answers the server's stages, and refuses what is not right.

The client trusts nobody for its own privacy: what is asked must be in the public plan and must not
have been answered in another company (hospital.questions), shared parameters are checked before
use, the secure sum's rules are its own (protocols.client), its masks cancel only against those of
hospitals that got the same request, epsilon is reserved in its own ledger before training, and each
stage of a step is answered once. An identical request gets the identical reply again; a *different*
request for an answered stage is refused, because a second answer under other terms is what breaks
secure aggregation. One exception: a box from another hospital that does not open is refused before
anything is computed, and the server may ask again without it.

What leaves: masked vectors and protocol messages; the update in the clear without secure
aggregation. Refusals carry only the kind of error; the text stays in the hospital's own log.
"""

import hashlib
import logging
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from protocols.client import SecureSumClient
from protocols.errors import ProtocolError
from securefed.errors import RunError, SecureFedError
from securefed.hospital.describing import Describing
from securefed.hospital.questions import Questions
from securefed.model.scores import Counts, Steps
from securefed.model.sharing import Vector
from securefed.record.recording import Recording
from securefed.training.trainer import TrainingSet
from securefed.wire import messages
from securefed.wire.contribution import Contribution, Layout, Words, counts_layout
from securefed.wire.messages import Reply, Request
from securefed.wire.openings import question_of
from securefed.wire.plain import plain_scores, plain_update
from securefed.wire.plan import Step

Result = TypeVar("Result")

_BEFORE = Step(0, 0, False, ())  # no step is earlier

log = logging.getLogger(__name__)


class Work(Protocol):
    """What a hospital does with its patients when it is asked: it trains, it scores, it counts."""

    @property
    def declared(self) -> TrainingSet:
        """What it says of the size of its training set."""
        ...

    @property
    def layout(self) -> Layout:
        """How its contributions are encoded."""
        ...

    @property
    def batch_parts(self) -> int:
        """Of the expected batch of a step (privacy.sampling)."""
        ...

    def receive(self, shared: Vector) -> None:
        """Take the parameters that it is asked about."""
        ...

    def contribute(self, round_number: int) -> Vector | Words:
        """Train, and give what the round adds."""
        ...

    def evaluate(self) -> Counts:
        """The counts that it is asked for."""
        ...


class Scoring(Protocol):
    """How counts leave with noise."""

    def answer(self, question: str, exact: Callable[[], Counts], /) -> Steps:
        """Noised counts."""
        ...


class Client:
    """Answers requests for one hospital.

    Args:
        name: as in the roster.
        trainer: what it does with its patients.
        secure: the client's side of secure aggregation, or None to contribute in the clear.
        questions: what it lets itself be asked; None lets anybody ask anything, for checks of the
            other refusals alone.
        scoring: how counts leave with noise; None for exact histograms.
        describing: how it says what its scans look like; None where nobody is asked.
        sent: where the hospital keeps, for itself, what it contributed before masking; or None.

    Attributes:
        busy_s: seconds spent on the current round so far, by kind: "train", "protocol".
        worked: told of each step that was trained or scored, before what came of it leaves; None
            tells nobody.
        refused: told in words of each request that was refused or failed; None tells nobody.
    """

    def __init__(
        self,
        name: str,
        trainer: Work,
        secure: SecureSumClient | None,
        sent: Recording | None = None,
        questions: Questions | None = None,
        scoring: Scoring | None = None,
        describing: Describing | None = None,
    ) -> None:
        self.name = name
        self.trainer = trainer
        self.busy_s: dict[str, float] = {}
        self._secure = secure
        self._sent = sent
        self._questions = questions
        self._scoring = scoring
        self._describing = describing
        self.worked: Callable[[Step], None] | None = None
        self.refused: Callable[[str], None] | None = None
        self._step = _BEFORE
        self._answered: dict[str, tuple[bytes, bytes]] = {}  # stage -> (digest of request, reply)

    def begin_after(self, rounds: int) -> None:
        """Count so many rounds, and what came before them, as over: this hospital was restarted."""
        self._step = Step(0, rounds + 1, False, (), describes=1)

    def handle(self, data: bytes) -> bytes:
        """Answer one request; never raises, so that one bad message cannot stop a hospital."""
        request = Request(round=0, stage="work")
        try:
            request = self._read(data)
            return self._once(request, data)
        except (SecureFedError, ProtocolError) as error:
            log.warning("%s: refused %s: %s", self.name, request.stage, error)
            return self._refuse("refused", request, error)
        except Exception as error:
            log.exception("%s: failed in stage %s", self.name, request.stage)
            return self._refuse("failed in", request, error)

    def _refuse(self, what: str, request: Request, error: Exception) -> bytes:
        if self.refused:
            self.refused(f"{what} {request.stage} of step {request.round}: {error}")
        return messages.encode(_refusal(request, error))

    def _read(self, data: bytes) -> Request:
        if self._questions is None:
            return messages.decode_request(data)
        limits = self._questions.limits
        request = messages.decode_request(data, limits.longest_request)
        messages.require_length(data, limits.request(request.stage))
        return request

    def _once(self, request: Request, data: bytes) -> bytes:
        step = self._questions.step(request) if self._questions else _unplanned(request)
        if step.moment < self._step.moment:
            raise RunError(f"step {step.number} is over; this is step {self._step.number}")
        if step.round > self._step.round:
            self.busy_s = {}
        if step.moment > self._step.moment:
            self._step, self._answered = step, {}
        digest = hashlib.sha256(data).digest()
        if request.stage in self._answered:
            known, reply = self._answered[request.stage]
            if known != digest:
                raise RunError(f"a second, different request for stage {request.stage}")
            return reply
        if request.stage == "work" and self._secure is not None:
            # Before training and before the ledger: a refusal here has cost nothing. Not marked as
            # answered: without the box that it accuses, the request may come again.
            self._secure.check_mask(request.body)
        # Marked before the work: a request that failed half-way is not open to a second try.
        refused = messages.encode(_refusal(request, RunError("failed before")))
        self._answered[request.stage] = (digest, refused)
        body = self._work(request) if request.stage == "work" else self._protocol(request)
        if request.stage == "work" and self.worked:
            self.worked(step)
        reply = messages.encode(Reply(round=request.round, stage=request.stage, body=body))
        self._answered[request.stage] = (digest, reply)
        return reply

    def _protocol(self, request: Request) -> bytes:
        if self._secure is None:
            raise RunError(f"stage {request.stage} without secure aggregation")
        steps: dict[str, Callable[[bytes], bytes]] = {
            "advertise": self._secure.advertise,
            "share": self._secure.share,
            "confirm": self._secure.confirm,
            "unmask": self._secure.unmask,
        }
        step, body = steps[request.stage], request.body
        questions = self._questions
        if questions and request.stage == "confirm":
            questions.confirm(body)
        opening = questions.unmask(body) if questions and request.stage == "unmask" else None
        reply = self._timed("protocol", lambda: step(body))
        if questions and request.stage == "advertise":
            questions.announced(body)
        if questions and opening:
            questions.opened(*opening)  # on disk before the shares leave
        return reply

    def _work(self, request: Request) -> bytes:
        if self._questions and self._secure is not None:
            self._questions.ask(request)
        if request.train + request.evaluate + request.describe != 1:
            raise RunError("asked to train, to score and to describe at once, or for none of them")
        shared = messages.vector_from_bytes(request.shared)
        layout = self.trainer.layout
        if request.train:
            part = self._timed("train", lambda: self._contribute(request.round, shared))
            if self._secure is None:
                return plain_update(part, layout.blocks.sent if layout.blocks else len(shared))
            return self._mask(request, layout.encode(part), self._secure)
        count = self._describe if request.describe else self._score
        counts = self._timed("train", lambda: count(request, shared))
        if self._secure is None:
            return plain_scores(counts)
        words = counts_layout(layout, describe=request.describe).encode(counts)
        return self._mask(request, words, self._secure)

    def _contribute(self, number: int, shared: Vector) -> Contribution:
        self.trainer.receive(shared)
        values = self.trainer.contribute(number)
        return Contribution(values, self.trainer.declared.patients, self.trainer.batch_parts)

    def _score(self, request: Request, shared: Vector) -> Steps:
        self.trainer.receive(shared)
        if self._scoring is None:
            return self.trainer.layout.scores.steps(self.trainer.evaluate())
        return self._scoring.answer(question_of(request), self.trainer.evaluate)

    def _describe(self, request: Request, shared: Vector) -> Steps:
        if self._describing is None:
            raise RunError("asked what scans look like, in a job that does not tell")
        return self._describing.answer(self._step.describes, shared, question_of(request))

    def _mask(self, request: Request, words: Words, secure: SecureSumClient) -> bytes:
        if self._sent and request.train:
            content = words.astype("<u4", copy=False).tobytes()
            self._sent.add([(request.round, request.stage, self.name, "up", content)])
        asked = messages.statement_of(request)
        return self._timed("protocol", lambda: secure.mask(request.body, words, asked))

    def _timed(self, kind: str, work: Callable[[], Result]) -> Result:
        start = time.perf_counter()
        try:
            return work()
        finally:
            self.busy_s[kind] = self.busy_s.get(kind, 0.0) + time.perf_counter() - start


def _unplanned(request: Request) -> Step:
    """The step of a request where no plan is held against it."""
    return Step(request.round, request.round, True, ())


def _refusal(request: Request, error: Exception) -> Reply:
    accused = error.accused if isinstance(error, ProtocolError) else None
    name = type(error).__name__
    return Reply(round=request.round, stage=request.stage, refusal=name, accused=accused)
