"""The recorded messages against everything that was derived from them when they travelled.

The server's side is played once more over the recording (`playback`): who was in which sum, what
the scores were, which parameters each round started from, and what was released.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from securefed.errors import RunError
from securefed.model.calibration import alike
from securefed.model.scores import Metrics
from securefed.model.sharing import flatten
from securefed.record import jobs, metrics, model_file
from securefed.record.check_point import CheckPoint
from securefed.record.directory import read_arrays
from securefed.record.metrics import RoundLine
from securefed.record.mismatch import Mismatch
from securefed.record.recording import BYTES, INDEX, sightings
from securefed.record.summary import HeldOut, Summary, performance
from securefed.run_directory import Run
from securefed.server.results import held_out
from securefed.server.summation import Summed
from securefed.wire.contribution import Total


def _recorded(run: Run) -> bool:
    return run.settings.exposures.record and (run.exposures / INDEX).is_file()


def of_bytes(run: Run) -> Iterator[Mismatch]:
    """Bytes of each round and hospital, as metrics.jsonl counts them."""
    if not _recorded(run):
        return
    plan, end = run.job.plan, len(run.metrics.rounds)
    travelled = Counter[tuple[str, str, int]]()
    for seen in sightings(run.exposures):
        step = plan.step(seen.round)
        if step is None:
            yield Mismatch(f"exposures/{INDEX}", f"step {seen.round} is not in the run's plan")
            return
        # The final scoring follows the last round, whichever that was.
        travelled[seen.client, seen.direction, min(step.round, end)] += seen.size
    counted = Counter[tuple[str, str, int]]()
    for line in run.metrics.clients:
        counted[line.client, "up", line.round] += line.bytes_up
        counted[line.client, "down", line.round] += line.bytes_down
    whole = run.finished and len(jobs.read(run.exposures)) == 1
    for key in sorted({*travelled, *counted}):
        has, says = travelled[key], counted[key]
        # What travelled in a round that a crash cut short has no line.
        if (has != says) if whole else (has < says):
            name, direction, number = key
            told = f"round {number}: {says} bytes {direction} of {name}"
            yield Mismatch(metrics.NAME, f"{told}, exposures/{INDEX} has {has}")
    for round_line in run.metrics.repeated:
        yield from _sums(run, round_line)


def _sums(run: Run, line: RoundLine) -> Iterator[Mismatch]:
    """A round's bytes are those of its hospitals; of one that was repeated, those of all times."""
    times = sum(each.round == line.round for each in run.metrics.repeated)
    clients = [each for each in run.metrics.clients if each.round == line.round]
    if times == 1:
        for name in ("bytes_up", "bytes_down"):
            total = sum(getattr(each, name) for each in clients)
            if total != getattr(line, name):
                told = f"round {line.round}: {name} is {getattr(line, name)}"
                yield Mismatch(metrics.NAME, f"{told}, its hospitals' add up to {total}")


def of_replay(run: Run) -> Iterator[Mismatch]:
    """Survivors, scores, check point and model, as they follow from the messages."""
    if not _recorded(run):
        return
    replayed = run.observers().replayed
    if run.finished and run.learned:
        names = run.job.shared_names
        released = flatten(model_file.read(run.path), names)
        try:
            chosen = run.summary.chosen_after
            replayed.trail.at(replayed.end if chosen is None else chosen + 1, released)
        except RunError as error:
            yield Mismatch(model_file.NAME, f"does not follow from the messages: {error}")
    if not run.past_a_round:
        return
    finished = CheckPoint.read(run.path).round
    yield from _check_point(run, replayed.trail.shared(finished + 1))
    # A later round may have been begun again since its line was written.
    last = finished + (run.finished and run.learned)
    lines = {line.round: line for line in run.metrics.rounds if line.round <= last}
    for number, each in replayed.rounds.items():
        if each.summed and number in lines:
            yield from _survivors(lines[number], each.summed)
    plan = run.job.plan
    for number, total in replayed.scores.items():
        if plan.chooses and number == plan.final.round:
            continue  # once more what was scored before
        if number > finished:  # the final scoring follows the last round, whichever that was
            number = finished + 1
        if number in lines:
            yield from _scores(lines[number], total.metrics, run.settings.task.classes)
    final = replayed.scores.get(plan.final.round)
    if run.finished and final is not None:
        yield from _results(run, final)


def _check_point(run: Run, shared: np.ndarray | None) -> Iterator[Mismatch]:
    place = CheckPoint.parameters(CheckPoint.read(run.path).round)
    kept = read_arrays(run.path / place).get("shared")
    if shared is not None and (kept is None or not _alike(kept, shared)):
        yield Mismatch(place, "its parameters do not follow from the messages")


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-5, atol=1e-6)


def _survivors(line: RoundLine, summed: Summed) -> Iterator[Mismatch]:
    for name, told, follows in (
        ("survivors", sorted(line.survivors), sorted(summed.survivors)),
        ("patients", line.patients, summed.total.patients),
    ):
        if told != follows:
            told_of = f"round {line.round}: {name} is {told}"
            yield Mismatch(metrics.NAME, f"{told_of}, the messages give {follows}")


def _scores(line: RoundLine, found: Metrics | None, classes: tuple[str, ...]) -> Iterator[Mismatch]:
    follow = {name: getattr(found, name, None) for name in ("auc", "loss")}
    follow["auc_by_class"] = metrics.auc_by_class(found, classes)
    for name, follows in follow.items():
        told = getattr(line, name)
        if told != follows:
            told_of = f"{name} of round {line.round} is {told}"
            yield Mismatch(metrics.NAME, f"{told_of}, the messages give {follows}")


def _results(run: Run, total: Total) -> Iterator[Mismatch]:
    """summary.json and held_out.json, from the final scores."""
    classes = run.settings.task.classes
    for name, follows in performance(total.metrics, classes).items():
        told = getattr(run.summary, name)
        if told != follows:
            yield Mismatch(Summary.NAME, f"{name} is {told}, the messages give {follows}")
    if run.held_out is None or total.scores is None:
        return
    follows = held_out(total.scores, classes)
    if run.held_out.roc != follows.roc:
        yield Mismatch(HeldOut.NAME, "its ROC curve is not that of the messages")
    if run.held_out.bins != follows.bins:
        yield Mismatch(HeldOut.NAME, "its counts are not those of the messages")
    if not alike(run.held_out.calibration, follows.calibration):
        yield Mismatch(HeldOut.NAME, "its calibration does not follow from the messages")
    if run.held_out.classes != follows.classes:
        yield Mismatch(HeldOut.NAME, "what it says of the classes is not what the messages give")


def of_kept(run: Run) -> Iterator[Mismatch]:
    """What the hospitals kept of their own, added up, is the sum that the server opened."""
    masked = run.settings.secure_aggregation.enabled
    if not (_recorded(run) and masked and run.past_a_round):
        return
    kept, finished = {}, CheckPoint.read(run.path).round
    for name in run.here:
        folder = run.hospital(name) / "contributions"
        if not (folder / INDEX).is_file():
            yield Mismatch(run.place(name, f"contributions/{INDEX}"), "missing")
            return
        kept[name] = run.observers().sent(name)
    for number, each in run.observers().replayed.rounds.items():
        if each.summed is None or each.summed.words is None or number > finished:
            continue
        survivors, rest = each.summed.survivors, each.summed.words.copy()
        parts = [kept[name].words(number, each.layout) for name in survivors]
        whole = [words for words in parts if words is not None]
        for words in whole:
            rest -= words  # modulo 2^32, and below in the ring of the masks
        rest &= np.uint32(2**each.layout.modulus_bits - 1)
        # Where some of it was not kept for want of room, nobody can tell.
        if len(whole) == len(parts) and rest.any():
            told = f"round {number}: what {', '.join(survivors)} kept does not add up"
            yield Mismatch(f"hospitals/*/contributions/{BYTES}", f"{told} to the sum")
