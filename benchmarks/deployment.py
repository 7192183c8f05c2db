"""What machines of their own cost: seconds of a round beyond the hospitals' work, and of a start.

    python benchmarks/deployment.py [--networks head encoders] [--flower FOLDER] [--json]

Four hospitals and a server, each a command as people type it, over NVIDIA FLARE and mutual TLS
with encryption from end to end besides, on this machine, `dp+secure`. Of every stage the server's
wait is taken, and the time of the hospital that took longest for its own part, masks included: the
difference is what carrying it costs, serialisation and the waiting of four hospitals for the same
cores included. Medians over rounds, the first ones left out; a case is the sum of its stages.

`head` shares some 1e5 words (fusion and classifier), `encoders` 2.3e7 (two ResNet-18 and all).
The start is split by what the server wrote, to the second.

With `--flower`, the folder of Flower's programs (`pip install flwr` in an environment of its own),
the same number of float32 goes through its deployment engine, to four clients without work, without
TLS: the time from one sum to the next. `load` is how many processes wanted a core.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flower_deployment import seconds_a_round

from securefed.engine.flare import places
from securefed.record import activity
from securefed.record.activity import Happening
from tests.engine.four_sites import NAMES, make_four, settings
from tests.engine.machines import Orders, connect, everybody, served

NETWORKS: dict[str, dict[str, Any]] = {
    "head": {"model": {"attention_width": 170, "head_width": 512}},
    "encoders": {
        "model": {
            "encoder": "resnet18", "width": 512, "attention_width": 512, "head_width": 512,
            "initialisation": "random", "train_encoders": True,
        },
        "federation": {"shared": "all"},
        "training": {"batch_size": 2, "max_slices": 1},
    },
}  # fmt: skip
STAGES = ("work", "confirm", "unmask")  # of a round whose keys came with the one before
START = {"connected": "connected:", "job": "hello", "ready": ": ready", "round": "round 1 "}


def play(network: str, rounds: int) -> dict[str, Any]:
    """Play a run; its times."""
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder, chosen = Path(place), NETWORKS[network]
        federation = {"rounds": rounds, "evaluate_every": rounds, "timeout_s": 600.0}
        federation |= chosen.get("federation", {})
        four = make_four(
            folder, folder / "patients", settings(**{**chosen, "federation": federation})
        )
        connect(four)
        times = folder / "times"
        environment = Orders(folder / "orders").environment
        environment |= {"SECUREFED_TEST_TIMES": str(times)}
        everybody(four, stack, environment=environment)
        server = served(four, stack, environment=environment)
        if server.process.wait(3600):
            sys.exit(server.text)
        noted = [json.loads(line) for line in times.read_text().splitlines()]
        happened = [each for each, _ in activity.follow(four.server / places.ACTIVITY, 0)]
        words = four.agreement.job(1).parameters
    found = stages(noted)
    return {
        "case": f"{words:,} words",
        "words": words,
        "ours": round(sum(each["beyond"] for each in found.values()), 4),
        "stages": found,
        "start": start(happened),
    }


def stages(noted: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Stage -> medians of the server's wait, the slowest hospital's own part, and what is left."""
    waits: dict[tuple[str, int], float] = {}
    work: dict[tuple[str, int], float] = defaultdict(float)
    for line in noted:
        if line["what"] not in ("stage", "handle"):
            continue
        key = line["stage"], line["round"]
        if line["what"] == "stage":
            waits[key] = line["seconds"]
        else:
            work[key] = max(work[key], line["seconds"])
    last = max(number for _, number in waits)
    found = {}
    for stage in STAGES:
        # The first round has no keys yet, and scoring is no round.
        keys = [key for key in waits if key[0] == stage and 2 < key[1] < last - 1]
        found[stage] = {
            "wait": round(statistics.median(waits[key] for key in keys), 4),
            "work": round(statistics.median(work[key] for key in keys), 4),
            "beyond": round(statistics.median(waits[key] - work[key] for key in keys), 4),
        }
    return found


def start(happened: Iterable[Happening]) -> dict[str, float]:
    """What came about in a start -> seconds since what is named before it."""
    at = [(datetime.fromisoformat(each.at), each.text) for each in happened]
    before, found = at[0][0], {}
    for name, words in START.items():
        # The last hospital to be ready is the one that all wait for.
        times = [time for time, text in at if words in text]
        reached = times[len(NAMES) - 1] if name == "ready" else times[0]
        found[name] = (reached - before).total_seconds()
        before = reached
    return found


def flower(programs: Path, words: int, rounds: int) -> dict[str, Any]:
    """What stands beside a case."""
    try:
        figure = seconds_a_round(programs, len(NAMES), words, rounds)
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        return {"peers": {"flower": None}, "why": str(error)}
    return {"peers": {"flower": round(figure, 2)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=["head"])
    parser.add_argument("--flower", type=Path, help="folder of Flower's programs")
    told = parser.parse_args()
    cases = []
    for network in told.networks:
        case = {**play(network, told.rounds), "repetitions": told.rounds}
        if told.flower:
            case |= flower(told.flower.absolute(), case["words"], min(told.rounds, 6))
            peer = case["peers"]["flower"]
            case["times_better"] = {"flower": peer and round(peer / case["ours"], 1)}
        case["load"] = round(os.getloadavg()[2], 1)
        cases.append(case)
    report = {
        "name": "deployment",
        "unit": "seconds",
        "better": "lower",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {name: version(name) for name in ("nvflare", "grpcio", "torch")},
        "cases": cases,
    }
    if told.json:
        print(json.dumps(report, indent=1))
        return
    for case in cases:
        print(f"{case['case']}: {case['ours']:.3f} s a round; peers {case.get('peers', 'not run')}")
        for stage, each in case["stages"].items():
            print(
                f"  {stage:8} " + "  ".join(f"{key} {value:.3f} s" for key, value in each.items())
            )
        print("  start: " + ", ".join(f"{name} {s:g} s" for name, s in case["start"].items()))


if __name__ == "__main__":
    main()
