"""What hospitals and server remember of opened sums, against the sums that the messages opened.

A memory that lost a question lets it be asked again over other hospitals, and two such sums can be
subtracted. So everything that was opened has to be in it, before a run goes on.
"""

from collections import defaultdict
from collections.abc import Iterator

from securefed.errors import RunError
from securefed.playback.attempts import attempts_by_job, contents
from securefed.record.mismatch import Mismatch
from securefed.record.recording import INDEX
from securefed.run_directory import Run
from securefed.wire import openings
from securefed.wire.messages import Request, decode_reply, vector_to_bytes
from securefed.wire.openings import question_of


def of_memories(run: Run) -> Iterator[Mismatch]:
    """Every question of a training round whose sum opened, with the hospitals of that sum."""
    if not run.settings.secure_aggregation.enabled or not (run.exposures / INDEX).is_file():
        return
    answered = _answered(run)
    memories = {openings.NAME: None} | {run.place(name, openings.NAME): name for name in run.here}
    there = {
        place: openings.read(run.path / place)[0]
        for place in memories
        if (run.path / place).is_file()  # else it is told already
    }
    for number, each in run.observers().replayed.rounds.items():
        if each.summed is None or each.summed.words is None:
            continue
        shared = vector_to_bytes(each.shared)
        question = question_of(Request(round=number, stage="work", train=True, shared=shared))
        over = frozenset(each.summed.survivors)
        for place, memory in there.items():
            name = memories[place]
            if (name is None or name in answered[number]) and memory.get(question) != over:
                told = f"what was opened in round {number}, over {', '.join(sorted(over))}"
                yield Mismatch(place, f"does not hold {told}")


def _answered(run: Run) -> dict[int, set[str]]:
    """Step -> the hospitals that gave shares in it."""
    found: defaultdict[int, set[str]] = defaultdict(set)
    for _, attempts in attempts_by_job(run.exposures):
        for attempt in attempts:
            unmask = attempt.stage("unmask")
            kept = (
                {n: s for n, s in unmask.replies.items() if s.offset is not None} if unmask else {}
            )
            for name, data in contents(run.exposures, kept).items():
                try:
                    if not decode_reply(data).refusal:
                        found[attempt.number].add(name)
                except RunError:
                    continue  # it was no answer
    return found
