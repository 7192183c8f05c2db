"""Cryptographic Gaussian noise against torch's generator and Opacus' secure mode.

    python benchmarks/noise.py [--json] [--samples 1000000] [--repetitions 15]

`draw` fills a float32 tensor with N(0, 1); `add` is what a DP-SGD step does to a gradient. Peers:
`torch` is torch.normal (Mersenne Twister on the CPU: fast, and not private); `opacus_sum_of_four`
is Opacus' own noise function with secure_mode=True, which resists the floating-point attack and
still draws from torch's generator, because the cryptographic one it asks for is gone. The floor is
the AES-256-CTR keystream that our draw consumes, 6 bytes per sample, with nothing done to it.
All run in turn in each repetition, on one thread; figures are medians of processor time.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import cryptography
import numpy as np
import opacus
import torch
from opacus.optimizers.optimizer import _generate_noise

from securefed.privacy.noise import CryptographicSource, add_gaussian


def nanoseconds_per_sample(
    works: dict[str, Callable[[], object]], samples: int, repetitions: int
) -> dict[str, float]:
    """Median time of each work, all of them once in every repetition."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for repetition in range(repetitions + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            if repetition:  # the first round only warms up
                taken[name].append((time.process_time() - start) / samples * 1e9)
    return {name: statistics.median(times) for name, times in taken.items()}


def case(name: str, measured: dict[str, float]) -> dict[str, object]:
    """One entry of `cases` from the measured times."""
    ours, floor = measured.pop("ours"), measured.pop("floor")
    return {
        "case": name,
        "ours": ours,
        "peers": measured,
        "floor": floor,
        "times_better": {peer: figure / ours for peer, figure in measured.items()},
        "of_floor": ours / floor,
    }


def measure(samples: int, repetitions: int) -> dict[str, Any]:
    """The whole benchmark."""
    source = CryptographicSource()
    gradient = torch.zeros(samples)
    draw = {
        "ours": lambda: source.normal((samples,), 1.0),
        "torch": lambda: torch.normal(0.0, 1.0, (samples,)),
        "opacus_sum_of_four": lambda: _generate_noise(1.0, gradient, secure_mode=True),
        "floor": lambda: source.keystream(6 * samples),
    }
    add = {
        "ours": lambda: add_gaussian(gradient, 1.0, source),
        "torch": lambda: gradient + _generate_noise(1.0, gradient),
        "opacus_sum_of_four": lambda: gradient + _generate_noise(1.0, gradient, secure_mode=True),
        "floor": lambda: source.keystream(6 * samples),
    }
    return {
        "name": "noise",
        "unit": "ns/sample",
        "better": "lower",
        "repetitions": repetitions,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "opacus": opacus.__version__,
            "cryptography": cryptography.__version__,
        },
        "cases": [
            case("draw", nanoseconds_per_sample(draw, samples, repetitions)),
            case("add", nanoseconds_per_sample(add, samples, repetitions)),
        ],
    }


def main() -> None:
    """Print one JSON object, or a line per case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--repetitions", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(arguments.samples, arguments.repetitions)
    if arguments.json:
        print(json.dumps(result))
        return
    for entry in result["cases"]:
        peers = ", ".join(f"{peer} {figure:.2f}" for peer, figure in entry["peers"].items())
        print(
            f"{entry['case']}: {entry['ours']:.2f} ns/sample; {peers}; floor {entry['floor']:.2f}"
        )


if __name__ == "__main__":
    main()
