"""The server's side of a recorded run, run again over the recorded replies.

Without masks the server reads each contribution. With masks the same `SecureSummation` that ran
then runs now over a `Playback`: it collects the shares that the survivors gave, takes the masks off
the sum, and learns what the server learned, no more. No hospital's folder is opened here.

What cannot be had is left out and told: rounds of which only sizes were kept, masked rounds whose
keys travelled in such a round, first attempts of rounds that a resumed run repeated.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from protocols import messages as protocol
from protocols.complaints import Complaints
from protocols.errors import ProtocolError
from securefed.errors import AskedBefore, RoundAborted, RunError
from securefed.model.sharing import Vector
from securefed.playback.attempts import (
    Attempt,
    Exchange,
    Playback,
    RecordingEnds,
    attempts_by_job,
    contents,
    work_request,
)
from securefed.playback.recorded import Notes, RecordedRun
from securefed.playback.trail import Trail
from securefed.record.jobs import Job
from securefed.record.recording import Sighting
from securefed.server.summation import PlainSummation, SecureSummation, Summed
from securefed.wire.contribution import Layout, Total
from securefed.wire.messages import Request, decode_reply, decode_request
from securefed.wire.openings import Openings
from securefed.wire.plain import plain_contribution
from securefed.wire.plan import Step
from securefed.wire.transport import Transport

NO_WAIT_S = 1.0  # playback never waits; the protocol wants a deadline


@dataclass(frozen=True, eq=False)
class ServerRound:
    """What the server has of a training round.

    Attributes:
        shared: (P,) parameters the round started from.
        contributions: client -> update (P,) and patients; of masked rounds empty.
        summed: None where nothing was aggregated, or cannot be had.
        layout: of the contributions.
    """

    number: int
    shared: Vector = field(repr=False)
    contributions: dict[str, tuple[Vector, int]] = field(repr=False)
    summed: Summed | None
    layout: Layout


@dataclass
class ServerReplay:
    """What the server has of a run.

    Attributes:
        rounds: number -> the attempt that the run went on from.
        trail: the shared parameters, as far as they can be followed.
        scores: totals of held-out scores, by the round that starts from what was scored; of the
            final parameters by that of the plan's last step.
        described: totals over training patients' scans, by the number of the sum.
        notes: why rounds are missing.
        end: number of the round that follows the last one trained.
    """

    rounds: dict[int, ServerRound]
    trail: Trail
    notes: Notes
    scores: dict[int, Total] = field(default_factory=dict)
    described: dict[int, Total] = field(default_factory=dict)
    end: int = 1


def replay(run: RecordedRun) -> ServerReplay:
    """Run the server again over everything that was recorded.

    Raises:
        RunError: the recording is missing, damaged, or contradicts itself.
    """
    found = ServerReplay({}, Trail(run.job.strategy), Notes())
    openings = Openings()  # the server's own memory outlives a job
    for job, attempts in attempts_by_job(run.folder):
        server = _Masked(run, job, openings) if job.rules else _Plain(run, job)
        for attempt in attempts:
            _play(run, server, attempt, found)
    return found


def _play(
    run: RecordedRun, server: "_Masked | _Plain", attempt: Attempt, found: ServerReplay
) -> None:
    step = run.step(attempt.number)
    if step.train and step.round in found.rounds:
        del found.rounds[step.round]
        found.notes.add("repeated by a resumed run; the earlier attempt is left out", step.round)
    work = attempt.stage("work")
    if work is None:  # nobody was told any parameters
        train, evaluate, describe = step.flags
        nothing = Request(
            round=step.number, stage="work", train=train, evaluate=evaluate, describe=describe
        )
        _advance(server, attempt, step, nothing, found)
        return
    request = work_request(run.folder, work)
    if request is None:
        server.skip()
        _lose(found, step, "only sizes were kept (exposures.limit_mb)")
        return
    if step.describes:
        summed = _advance(server, attempt, step, request, found)
        if summed:
            found.described[step.describes] = summed.total
        return
    shared = run.shared(request)
    if step != run.job.plan.final:
        found.trail.at(step.round, shared)
    elif run.job.plan.chooses:
        found.trail.among(found.scores, shared)
    else:  # the final parameters follow the last round, whichever that was
        found.trail.at(found.end, shared)
    summed = _advance(server, attempt, step, request, found)
    if summed and not step.train:
        found.scores[step.round] = summed.total
    contributions = server.contributions(attempt) if step.train else {}
    if step.train and (summed or contributions):
        layout = server.layout
        found.rounds[step.round] = ServerRound(step.round, shared, contributions, summed, layout)


def _advance(
    server: "_Masked | _Plain", attempt: Attempt, step: Step, work: Request, found: ServerReplay
) -> Summed | None:
    """Play one attempt, and follow the trail; None if no sum came of it."""
    if not attempt.kept:
        server.skip()
        _lose(found, step, "not all messages were kept (exposures.limit_mb)")
        return None
    try:
        summed = server.play(attempt, step, work)
    except (RoundAborted, AskedBefore) as error:
        if step.train:
            aside = isinstance(error, RoundAborted) and error.opened
            found.trail.abort(step.round, aside=aside)
            found.end = step.round + 1
            found.notes.add("aborted, nothing was aggregated", step.round)
        return None
    except RecordingEnds:
        if not attempt.last:
            raise
        # The run was stopped here; it went on, if it did, from before this round.
        if step.train:
            found.notes.add("cut short when the run was stopped", step.round)
        return None
    if summed is None:
        _lose(found, step, "its keys travelled in a round that was not kept")
        return None
    if step.train:
        found.trail.step(step.round, summed.total.mean_update)
        found.end = step.round + 1
    return summed


def _lose(found: ServerReplay, step: Step, why: str) -> None:
    if not step.train:
        return  # nothing follows from scores
    found.trail.lose(step.round)
    found.end = step.round + 1
    found.notes.add(why, step.round)


class _Plain:
    """The server without masks."""

    def __init__(self, run: RecordedRun, job: Job) -> None:
        layout = run.layout(job)
        if layout.needs_masks:
            raise RunError("the recorded job shares noise without secure aggregation")
        self.layout = layout
        self._run = run

    def play(self, attempt: Attempt, step: Step, work: Request) -> Summed:
        playback = Playback(self._run.folder, attempt)
        job = self._run.job
        summation = PlainSummation(
            playback,
            job.parameters,
            self.layout,
            job.settings.federation.minimum_clients,
            NO_WAIT_S,
        )
        summed = summation.sum(work, step.cohort, None)
        playback.require_played()
        return summed

    def skip(self) -> None:
        """Rounds do not depend on each other here."""

    def contributions(self, attempt: Attempt) -> dict[str, tuple[Vector, int]]:
        """Every contribution whose bytes were kept and that the server would accept."""
        work = attempt.stage("work")
        kept = {n: s for n, s in work.replies.items() if s.offset is not None} if work else {}
        found = {}
        for name, data in sorted(contents(self._run.folder, kept).items()):
            try:
                reply = decode_reply(data)
                if (reply.round, reply.stage) == (attempt.number, "work") and not reply.refusal:
                    update, patients, _ = plain_contribution(
                        reply.body,
                        self._run.job.parameters,
                        self.layout,
                        train=True,
                        number=attempt.number,
                    )
                    found[name] = (update, patients)
            except RunError:
                continue  # the server dropped it too
        return found


class _Masked:
    """The server of a job with masks; keys of a round may have travelled in the one before."""

    def __init__(self, run: RecordedRun, job: Job, openings: Openings) -> None:
        self.layout = run.layout(job)
        self._run = run
        self._job = job
        self._openings = openings
        self._complaints = Complaints()
        self._wire = _Switch()
        self._summation: SecureSummation | None = None

    def play(self, attempt: Attempt, step: Step, work: Request) -> Summed | None:
        first = attempt.exchanges[0]
        if first.stage == "advertise":
            self._summation = self._fresh(first)
        if self._summation is None:
            return None
        playback = self._wire.inner = Playback(self._run.folder, attempt)
        try:
            summed = self._summation.sum(work, step.cohort, self._following(attempt, step))
            playback.require_played()
            return summed
        except ProtocolError as error:
            raise RunError(
                f"step {step.number} does not open: {type(error).__name__}: {error}",
                hint="the recording in exposures/ is damaged; make the run again",
            ) from None

    def skip(self) -> None:
        """A round that cannot be played: the next may rest on its keys."""
        self._summation = None

    def contributions(self, attempt: Attempt) -> dict[str, tuple[Vector, int]]:
        """None: masked vectors are noise to the server."""
        return {}

    def _fresh(self, advertise: Exchange) -> SecureSummation:
        """The summation as it stood before a round with an exchange for its keys."""
        if self._job.roster is None or self._job.rules is None:
            raise RunError("a recorded job has rules and no roster, or the other way round")
        announced = self._read(protocol.Announcement, advertise.requests)
        return SecureSummation(
            self._wire,
            self.layout,
            self._job.roster,
            self._job.rules,
            self._run.job.settings.federation.minimum_clients,
            NO_WAIT_S,
            openings=self._openings,
            complaints=self._complaints,
            sums=announced.round_number - 1,
        )

    def _following(self, attempt: Attempt, step: Step) -> Step | None:
        """The next step, if its keys ride along."""
        work, following = attempt.stage("work"), self._run.job.plan.after(step)
        if work is None or following is None:
            return None
        # The keys are asked of the next cohort, of which not all that work now need be.
        asked = {name: seen for name, seen in work.requests.items() if name in following.cohort}
        rides = asked and self._read(protocol.MaskRequest, asked).upcoming
        return following if rides else None

    def _read(self, kind: type[protocol.M], requests: Mapping[str, Sighting]) -> protocol.M:
        """The protocol's message in the first of some requests."""
        one = dict([next(iter(requests.items()))])
        (data,) = contents(self._run.folder, one).values()
        members = len(self._run.job.hospitals)
        try:
            body = decode_request(data).body
            return protocol.decode(kind, body, protocol.limit(kind, members, members))
        except ProtocolError as error:
            raise RunError(f"a recorded request cannot be read: {error}") from None


class _Switch:
    """A transport whose messages change from attempt to attempt, under one summation."""

    inner: Transport

    def clients(self) -> list[str]:
        return self.inner.clients()

    def stage(self, requests: Mapping[str, bytes], deadline_s: float) -> dict[str, bytes]:
        return self.inner.stage(requests, deadline_s)
