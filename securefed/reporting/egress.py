"""Egress: every byte that left each hospital, by stage of the protocol.

Counted from exposures/index.jsonl, which has a line for every message that crossed the transport,
also for those whose content was not kept. Where a run recorded no messages, metrics.jsonl still
has each hospital's bytes per round, without the stage. Both count whole messages, envelope
included; transport headers of a network engine come on top.
"""

from collections import Counter
from collections.abc import Sequence

from securefed.record.metrics import ClientLine
from securefed.record.recording import INDEX, sightings
from securefed.reporting.facts import Egress, Flow
from securefed.run_directory import Run

STAGES = {
    "advertise": "fresh public keys for this round, signed",
    "share": "secret shares for the other hospitals, encrypted to each",
    "work": "the update, or held-out counts (masked, if secure)",
    "confirm": "a signature over who is still in the round",
    "unmask": "shares that open what is left of the masks",
    "all stages": "whole messages; this run recorded no stages",
}


def egress(run: Run) -> Egress:
    """Count a run's messages.

    Raises:
        RunError: the recording is damaged.
    """
    lines = run.metrics.clients
    metered_up = Counter[str]()
    for line in lines:
        metered_up[line.client] += line.bytes_up
    metered_down = sum(line.bytes_down for line in lines)
    if not (run.exposures / INDEX).is_file():
        return _without_stages(metered_up, metered_down, lines)
    messages, up = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    down = 0
    for message in sightings(run.exposures):
        if message.direction == "down":
            down += message.size
            continue
        messages[message.client, message.stage] += 1
        up[message.client, message.stage] += message.size
    total = sum(up.values())
    agrees = total == metered_up.total()
    return Egress(
        source=f"exposures/{INDEX}",
        complete=agrees,
        note="Agrees to the byte with metrics.jsonl."
        if agrees
        else f"metrics.jsonl counts {metered_up.total()} bytes sent by hospitals, the recording "
        f"{total}: a round was repeated or cut short, or a file was changed.",
        flows=[
            Flow(hospital=name, stage=stage, messages=messages[name, stage], bytes=size)
            for (name, stage), size in sorted(up.items(), key=_place)
        ],
        total_up=total,
        total_down=down,
    )


def _place(item: tuple[tuple[str, str], int]) -> tuple[str, int]:
    (name, stage), _ = item
    order = list(STAGES)
    return name, order.index(stage) if stage in order else len(order)


def _without_stages(up: Counter[str], down: int, lines: Sequence[ClientLine]) -> Egress:
    rounds = Counter(line.client for line in lines)
    return Egress(
        source="metrics.jsonl",
        complete=True,
        note="The run recorded no messages (exposures.record: false), so stages are not told "
        "apart; a line counts as one message here.",
        flows=[
            Flow(hospital=name, stage="all stages", messages=rounds[name], bytes=size)
            for name, size in sorted(up.items())
        ],
        total_up=up.total(),
        total_down=down,
    )
