"""Seconds and memory of a plain and a private step on a GPU, and of a round of configs/report.yaml.

    python benchmarks/gpu.py [--json] [--repetitions 20] [--report]

The shapes, networks and both steps are those of benchmarks/dp_training.py; here time is wall time
between two moments at which the device has nothing left to do, and memory is what torch has
allocated on it at the most. With `--report` one round of configs/report.yaml is trained besides,
which takes minutes. Where there is no GPU this says so, prints no figure, and exits with 1.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from dp_training import SHAPES, Case, ours, plain

REPORT = Path(__file__).resolve().parents[1] / "configs" / "report.yaml"
DEVICE = torch.device("cuda")
WARM = 3  # steps before the first that counts: kernels are chosen and compiled


def on_device(case: Case) -> Case:
    """The case moved to the GPU."""
    case.network.to(DEVICE)
    case.group = case.group.to(DEVICE)
    return case


def seconds(step: Callable[[Case], Any], case: Case, repetitions: int) -> tuple[float, float]:
    """Median seconds of a step, and the most megabytes allocated in any."""
    torch.cuda.reset_peak_memory_stats()
    taken = []
    for number in range(WARM + repetitions):
        torch.cuda.synchronize()
        began = time.perf_counter()
        step(case)
        torch.cuda.synchronize()
        if number >= WARM:
            taken.append(time.perf_counter() - began)
    return statistics.median(taken), torch.cuda.max_memory_allocated() / 2**20


def step_case(name: str, repetitions: int) -> dict[str, Any]:
    case = on_device(Case(SHAPES[name]))
    floor, plain_mb = seconds(plain, case, repetitions)
    private, private_mb = seconds(ours, case, repetitions)
    return {
        "case": f"{name}, seconds",
        "ours": private,
        "peers": {},
        "floor": floor,
        "times_better": {},
        "of_floor": private / floor,
        "peak_mb": {"ours": private_mb, "floor": plain_mb},
    }


def report_case() -> dict[str, Any]:
    """A round of the starting report's protocol, as people type it."""
    words = ["run", "--config", str(REPORT), "--rounds", "1", "--device", "cuda", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "securefed", *words], capture_output=True, text=True, check=True
    )
    summary = json.loads(done.stdout)
    took_s = summary["client_seconds_per_round"]
    return {"case": "configs/report.yaml, a hospital's round, seconds", "ours": took_s, "peers": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--report", action="store_true", help="a round of configs/report.yaml too")
    told = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this machine has no GPU: nothing was measured")
    cases = [step_case(name, told.repetitions) for name in SHAPES]
    if told.report:
        cases.append(report_case())
    report = {
        "name": "gpu",
        "unit": "s",
        "better": "lower",
        "repetitions": told.repetitions,
        "machine": f"{torch.cuda.get_device_name()}, {platform.machine()}",
        "versions": {"torch": torch.__version__, "cuda": str(torch.version.cuda)},
        "cases": cases,
    }
    if told.json:
        print(json.dumps(report, indent=1))
        return
    for each in cases:
        beside = f", plain {each['floor']:.4f}" if "floor" in each else ""
        print(f"{each['case']}: {each['ours']:.4f}{beside}")


if __name__ == "__main__":
    main()
