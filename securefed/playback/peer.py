"""What one hospital saw of a run: the shared parameters it was sent, and what it sent itself.

From successive shared parameters it tells the mean update of a round, as the strategy explains its
steps. Masks make no difference to that. It learns who is in a masked sum when it is asked to
confirm it.

Its own messages only are read, and its own folder. The mean update is unknown for rounds after
which it was not asked; where the strategy remembers, for everything after the first such round.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protocols import messages as protocol
from protocols.errors import ProtocolError
from securefed.errors import RunError
from securefed.exposure import RoundView
from securefed.model.sharing import Vector
from securefed.model.strategies.strategy import MeanEstimate, Strategy
from securefed.playback.attempts import Attempt, Exchange, attempts_by_job, work_request
from securefed.playback.contributions import SentContributions
from securefed.playback.recorded import Notes, RecordedRun
from securefed.record.recording import content
from securefed.server.rounds import stepped_aside
from securefed.wire.contribution import Layout
from securefed.wire.messages import decode_reply, decode_request
from securefed.wire.plain import plain_contribution
from securefed.wire.plan import Step

LARGEST_ERROR = 0.01  # relative, of a mean update; beyond, it is not known
LARGEST_AMBIGUITY = 0.1  # share of coordinates with a second solution


@dataclass(frozen=True, eq=False)
class _Seen:
    """One round as the hospital saw it; own is its update (P,) and patients."""

    number: int
    shared: Vector = field(repr=False)
    own: tuple[Vector, int] | None = field(repr=False)
    survivors: tuple[str, ...]


def peer_rounds(run: RecordedRun, name: str, released: Vector) -> tuple[tuple[RoundView, ...], str]:
    """The training rounds that a hospital took part in, and what is missing.

    Raises:
        RunError: the recording is missing or damaged.
    """
    notes = Notes()
    seen = _seen(run, name, notes)
    means = _means(run, _successive(run, seen, released), notes)
    views = tuple(
        RoundView(
            number=each.number,
            shared=each.shared,
            updates={name: each.own[0]} if each.own else {},
            patients={name: each.own[1]} if each.own else {},
            mean=means.get(each.number),
            survivors=each.survivors,
        )
        for each in (seen[number] for number in sorted(seen))
    )
    return views, notes.text()


def own_rounds(run: RecordedRun, name: str) -> tuple[tuple[RoundView, ...], str]:
    """What a hospital gave away, as itself: its own updates alone, and what is missing.

    Raises:
        RunError: the recording is missing or damaged.
    """
    notes = Notes()
    seen = _seen(run, name, notes)
    views = tuple(
        RoundView(
            number=number,
            shared=seen[number].shared,
            updates={name: own[0]},
            patients={name: own[1]},
            mean=None,
            survivors=(),
        )
        for number in sorted(seen)
        if (own := seen[number].own)
    )
    return views, notes.text()


def _seen(run: RecordedRun, name: str, notes: Notes) -> dict[int, _Seen]:
    sent = SentContributions(run, name) if run.job.settings.secure_aggregation.enabled else None
    seen: dict[int, _Seen] = {}
    for job, attempts in attempts_by_job(run.folder, name):
        layout = run.layout(job)
        for attempt in attempts:
            step, work = run.step(attempt.number), attempt.stage("work")
            if work is None or not step.train:
                continue  # scores tell a hospital of nothing that it does not know
            number = step.round
            if seen.pop(number, None):
                notes.add("repeated by a resumed run; the earlier attempt is left out", number)
            request = work_request(run.folder, work)
            if request is None:
                notes.add("only sizes were kept (exposures.limit_mb)", number)
                continue
            own = sent.update(number, layout) if sent else _plain(run, name, layout, work)
            survivors = _survivors(run, attempt, step)
            seen[number] = _Seen(number, run.shared(request), own, survivors)
    return seen


def _plain(
    run: RecordedRun, name: str, layout: Layout, work: Exchange
) -> tuple[Vector, int] | None:
    """The hospital's contribution as it sent it; None if it refused, or it was not kept."""
    reply = work.replies.get(name)
    if reply is None or reply.offset is None:
        return None
    decoded = decode_reply(content(run.folder, reply))
    if decoded.refusal:
        return None
    update, patients, _ = plain_contribution(
        decoded.body, run.job.parameters, layout, train=True, number=decoded.round
    )
    return update, patients


def _survivors(run: RecordedRun, attempt: Attempt, step: Step) -> tuple[str, ...]:
    """Who is in the sum, as the hospital was asked to confirm."""
    confirm = attempt.stage("confirm")
    if confirm is None or not confirm.kept:
        return ()
    (seen,) = confirm.requests.values()
    cohort = sorted(step.cohort)
    kind, members = protocol.ConfirmRequest, len(cohort)
    try:
        body = decode_request(content(run.folder, seen)).body
        message = protocol.decode(kind, body, protocol.limit(kind, members, members))
        places = protocol.places(message.survivors, members)
    except ProtocolError as error:
        raise RunError(f"a recorded confirm request cannot be read: {error}") from None
    return tuple(cohort[place] for place in sorted(places))


def _successive(
    run: RecordedRun, seen: dict[int, _Seen], released: Vector
) -> dict[int, tuple[Vector, Vector]]:
    """Round -> the parameters before and after, where the hospital has both."""
    pairs = {}
    for number, each in seen.items():
        if number + 1 in seen:
            pairs[number] = (each.shared, seen[number + 1].shared)
        elif number == run.job.plan.rounds and not run.job.plan.chooses:
            pairs[number] = (each.shared, released)
    return {n: pair for n, pair in sorted(pairs.items()) if not _aborted(*pair)}


def _aborted(before: Vector, after: Vector) -> bool:
    """Whether a round moved nothing, but for a server's step aside: there is no mean update."""
    aside = stepped_aside(before.astype(np.float64)).astype(np.float32)
    return np.array_equal(before, after) or np.array_equal(aside, after)


def _means(
    run: RecordedRun, pairs: dict[int, tuple[Vector, Vector]], notes: Notes
) -> dict[int, Vector]:
    strategy, name = run.job.strategy, run.job.settings.federation.strategy
    estimates = _explained(strategy, pairs)
    means = {}
    for number in pairs:
        estimate = estimates.get(number)
        if estimate is None:
            notes.add(f"no mean update, what {name} remembers is not known", number)
        elif estimate.relative_error > LARGEST_ERROR or estimate.ambiguous > LARGEST_AMBIGUITY:
            notes.add(f"no mean update, the step of {name} does not tell it", number)
        else:
            means[number] = _float32(estimate.mean)
            if estimate.ambiguous:
                notes.add(f"mean update not certain in each value ({name} inverted)", number)
    return means


def _explained(
    strategy: Strategy, pairs: dict[int, tuple[Vector, Vector]]
) -> dict[int, MeanEstimate]:
    """The mean updates that the strategy's steps tell of."""
    if not strategy.stateful:
        return {number: strategy.explain(pair)[0] for number, pair in pairs.items()}
    chain = _chain(pairs)
    if not chain:
        return {}
    trajectory = [before for _, (before, _) in chain] + [chain[-1][1][1]]
    numbers = [number for number, _ in chain]
    return dict(zip(numbers, strategy.explain(trajectory), strict=True))


def _chain(pairs: dict[int, tuple[Vector, Vector]]) -> list[tuple[int, tuple[Vector, Vector]]]:
    """The rounds from the first on that leave out none which moved the parameters."""
    chain: list[tuple[int, tuple[Vector, Vector]]] = []
    for number, (before, after) in pairs.items():
        if chain:
            if not _aborted(chain[-1][1][1], before):
                break
        elif number != 1:
            break
        chain.append((number, (before, after)))
    return chain


def _float32(values: NDArray[np.float64]) -> Vector:
    return values.astype(np.float32)
