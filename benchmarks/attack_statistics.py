"""RMIA scored by sorting against the naive matrix, interleaved in one process.

    python benchmarks/attack_statistics.py [--json] [--repetitions 5]

Both give the share of population records that each target beats by gamma; equality is checked
before anything is timed. The naive side compares every target with every record in one matrix, as
the published tools do. The floor is numpy's sort of the population, which no method that ranks
against it avoids. Memory is the peak that numpy allocates during one scoring; it must grow with n,
not n^2. Times are medians of wall-clock seconds on one thread.
"""

import argparse
import json
import platform
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy

from attacks.membership.scores import rmia_scores
from attacks.statistics.targets import Floats

GAMMA = 2.0
SIZE = 10_000
MEMORY_SIZES = (10_000, 20_000, 40_000)


def naive_matrix(targets: Floats, population: Floats) -> Floats:
    """The whole comparison: (targets, population) doubles, then the share per row."""
    ratios = np.exp(targets)[:, None] / np.exp(population)[None, :]
    return np.asarray((ratios >= GAMMA).mean(axis=1))


def log_ratios(size: int, seed: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return rng.normal(0.3, 1.0, size), rng.normal(0.0, 1.0, size)


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_bytes(work: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def time_case(repetitions: int) -> dict[str, Any]:
    targets, population = log_ratios(SIZE, 0)
    ours, naive = rmia_scores(targets, population, GAMMA), naive_matrix(targets, population)
    # exp and division round: a pair at the bar itself may fall either way, one in 10,000.
    if np.abs(ours - naive).max() > 1 / SIZE:
        raise SystemExit("sorted and naive scores differ: nothing to compare")
    taken: dict[str, list[float]] = {"ours": [], "matrix": [], "floor": []}
    for _ in range(repetitions):
        taken["ours"].append(seconds(lambda: rmia_scores(targets, population, GAMMA)))
        taken["matrix"].append(seconds(lambda: naive_matrix(targets, population)))
        taken["floor"].append(seconds(lambda: np.sort(population)))
    median = {name: statistics.median(values) for name, values in taken.items()}
    return {
        "case": f"RMIA, {SIZE} targets x {SIZE} records, seconds",
        "ours": median["ours"],
        "peers": {"matrix": median["matrix"]},
        "floor": median["floor"],
        "times_better": {"matrix": median["matrix"] / median["ours"]},
        "of_floor": median["ours"] / median["floor"],
    }


def memory_case(size: int) -> dict[str, Any]:
    targets, population = log_ratios(size, 1)
    ours = peak_bytes(lambda: rmia_scores(targets, population, GAMMA))
    case: dict[str, Any] = {
        "case": f"RMIA, {size} x {size}, peak bytes",
        "ours": ours,
        "peers": {"matrix": None},
        "floor": population.nbytes,
        "times_better": {},
        "of_floor": ours / population.nbytes,
    }
    if size == SIZE:
        naive = peak_bytes(lambda: naive_matrix(targets, population))
        case["peers"], case["times_better"] = {"matrix": naive}, {"matrix": naive / ours}
    else:
        case["why"] = "the matrix would take more than 3 GB"
    return case


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    result = {
        "name": "attack_statistics",
        "unit": "as in each case",
        "better": "lower",
        "repetitions": arguments.repetitions,
        "machine": platform.machine(),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
        "cases": [time_case(arguments.repetitions), *(memory_case(n) for n in MEMORY_SIZES)],
    }
    if arguments.json:
        json.dump(result, sys.stdout, indent=2)
        print()
        return
    for case in result["cases"]:
        peer = case["peers"]["matrix"]
        better = case["times_better"].get("matrix")
        beside = f"matrix {peer:.4g}, {better:.0f} times" if better else case["why"]
        print(f"{case['case']:<48} ours {case['ours']:.4g}  floor {case['floor']:.4g}  {beside}")


if __name__ == "__main__":
    main()
