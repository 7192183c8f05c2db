"""What hospitals wrote down of each message that left, against the messages that were recorded."""

import hashlib
from collections import Counter
from collections.abc import Iterator

from securefed.record import egress
from securefed.record.mismatch import Mismatch
from securefed.record.recording import INDEX, Sighting, content, sightings
from securefed.run_directory import Run

Message = tuple[int, str, int, str]  # step, stage, size, digest


def of_departures(run: Run) -> Iterator[Mismatch]:
    """Every recorded message of a hospital is in its egress.jsonl.

    At itself the reverse holds too, but for refusals of what is no step of the plan; a server may
    have missed messages that came too late.
    """
    if not (run.exposures / INDEX).is_file():
        return
    recorded = {name: Counter[Message]() for name in run.here}
    unkept = {name: Counter[tuple[int, str, int]]() for name in run.here}
    for seen in sightings(run.exposures):
        if seen.direction == "up" and seen.client in recorded:
            if seen.offset is None:
                unkept[seen.client][seen.round, seen.stage, seen.size] += 1
            else:
                recorded[seen.client][_message(run, seen)] += 1
    for name in run.here:
        left = Counter[Message](
            (each.step, each.stage, each.size, each.sha256)
            for each in egress.read(run.hospital(name))
            if not (each.refusal and run.job.plan.step(each.step) is None)
        )
        missing, more = recorded[name] - left, left - recorded[name]
        if missing:
            yield Mismatch(run.place(name, egress.NAME), f"does not hold {_told(missing)}")
        kept_sizes = Counter(message[:3] for message in more.elements())
        if run.party == "hospital" and kept_sizes - unkept[name]:
            yield Mismatch(f"exposures/{INDEX}", f"does not hold {_told(more)}")


def _message(run: Run, seen: Sighting) -> Message:
    data = content(run.exposures, seen)
    return seen.round, seen.stage, seen.size, hashlib.sha256(data).hexdigest()


def _told(messages: Counter[Message]) -> str:
    step, stage, size, digest = min(messages)
    more = messages.total() - 1
    told = f"the {size} bytes of stage {stage}, step {step}, that left as {digest[:16]}"
    return told + (f", and {more} more" if more else "")
