"""What machines of their own cost: seconds of each stage of a round beyond the hospitals' work.

    python benchmarks/deployment.py [--rounds 12] [--json]

Four hospitals and a server, each a command as people type it, over NVIDIA FLARE and mutual TLS with
encryption from end to end besides, on this machine, `dp+secure`, 96,420 shared parameters. Of every
stage the server's wait is taken, and the time of the hospital that took longest for its own part:
the difference is what carrying it costs, serialisation and the waiting of four hospitals for the
same cores included. Medians over rounds, the first ones left out. `load` is how many processes
wanted a core on average over the last minutes. Ten million words, and Flower's deployment engine,
are not measured here.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.engine.four_sites import make_four, settings
from tests.engine.machines import Orders, connect, everybody, served

LARGER = {"attention_width": 170, "head_width": 512}
STAGES = ("work", "confirm", "unmask")  # of a round whose keys came with the one before


def play(rounds: int) -> dict[str, Any]:
    """Play a run; its times."""
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        federation = {"rounds": rounds, "evaluate_every": rounds, "timeout_s": 120.0}
        four = make_four(folder, folder / "patients", settings(model=LARGER, federation=federation))
        connect(four)
        times = folder / "times"
        environment = Orders(folder / "orders").environment
        environment |= {"SECUREFED_TEST_TIMES": str(times)}
        everybody(four, stack, environment=environment)
        server = served(four, stack, environment=environment)
        if server.process.wait(3600):
            sys.exit(server.text)
        noted = [json.loads(line) for line in times.read_text().splitlines()]
        parameters = four.agreement.job(1).parameters
    return {"parameters": parameters, "stages": stages(noted)}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    parser.add_argument("--rounds", type=int, default=12)
    told = parser.parse_args()
    found = play(told.rounds)
    report = {
        "name": "deployment",
        "unit": "seconds",
        "better": "lower",
        "repetitions": told.rounds,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "load": round(os.getloadavg()[2], 1),
        "versions": {name: version(name) for name in ("nvflare", "grpcio", "torch")},
        **found,
    }
    if told.json:
        print(json.dumps(report, indent=1))
        return
    print(f"{found['parameters']:,} shared parameters")
    for stage, each in found["stages"].items():
        print(f"{stage:8} " + "  ".join(f"{key} {value:.3f} s" for key, value in each.items()))


if __name__ == "__main__":
    main()
