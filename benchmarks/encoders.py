"""What each encoder costs: parameters, operations, a plain and a private step, bytes; and an AUC.

    python benchmarks/encoders.py [--json] [--repetitions 2] [--rounds 10] [--only NAME ...]

`ours` is the private step of the whole network, encoders training (gradients of patients by
book-keeping, clipped and summed, as benchmarks/dp_training.py has it), the floor plain SGD's: 4
patients of 4 slices with CT and MRI, 64 pixels, one thread, medians of processor seconds that take
turns. Besides, for each encoder: parameters of one, 1x1 bottleneck of width 8 included; operations
of a forward pass per slice of 64 pixels (torch's counter, multiplications and additions, of a
patient of 8 slices); megabytes that a hospital sends in a round if everything is shared and masked.

AUC is of encoders of slices that start from public phantoms, made here as `securefed pretrain` does
(100 patients, 2 passes, batches of 16), and stay frozen, in a federation without privacy: 2
hospitals of 60 patients, all default settings but --rounds; 80 held-out patients. That is little of
everything, and one seed: it orders no encoders, and one whose interval holds .5 has not been shown
to have learned. Encoders of volumes: benchmarks/volumes.py.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from dp_training import Case, Shape, ours, plain
from torch.utils.flop_counter import FlopCounterMode

from securefed.config import Settings
from securefed.model.encoders import ENCODERS, encode
from securefed.model.pretraining import Schedule
from securefed.model.public_scenes import make
from securefed.model.volumes import VolumeEncoder
from securefed.simulation.execution import execute
from securefed.wire.description import JobDescription

SLICES = 8
COLUMNS = {
    "parameters": "parameters",
    "gigaflops_per_slice": "GFLOP per slice",
    "plain_step_s": "plain step, s",
    "private_step_s": "private step, s",
    "megabytes_sent": "MB sent if all is shared",
    "auc": "AUC",
    "auc_ci95": "95%",
}


def gigaflops(encoder: torch.nn.Module) -> float:
    """Of a forward pass, per slice."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        encode(encoder, torch.zeros(SLICES, 64, 64))
    return float(counter.get_total_flops()) / SLICES / 1e9


def steps(name: str, repetitions: int) -> tuple[float, float]:
    """Processor seconds of a plain and of a private step."""
    case = Case(Shape(name, 64, 4, 4, 4))
    taken: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(repetitions + 1):
        for way, step in (("plain", plain), ("ours", ours)):
            start = time.process_time()
            step(case)
            taken[way].append(time.process_time() - start)
    first_left_out = (values[1:] for values in taken.values())
    plain_s, private_s = map(statistics.median, first_left_out)
    return plain_s, private_s


def megabytes(name: str) -> float:
    """What a hospital sends in a round, masked, with everything shared."""
    settings = Settings.model_validate(
        {
            "model": {"encoder": name, "initialisation": "random", "train_encoders": True},
            "federation": {"shared": "all"},
            "privacy": {"dp": False},
        }
    )
    hospitals = tuple(f"h{number}" for number in range(settings.federation.clients))
    layout = JobDescription(settings, "unnamed", hospitals).layout
    return layout.words * layout.modulus_bits / 8 / 1e6


def auc(name: str, rounds: int) -> tuple[float | None, list[float] | None]:
    """Of a federation on public weights that are made here, and its interval."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.safetensors"
        make(
            weights,
            scenes=2000,
            encoder=name,
            width=8,
            image_size=64,
            schedule=Schedule(epochs=2, batch_size=16),
            seed=2026,
            progress=lambda name, share: None,
        )
        settings = Settings.model_validate(
            {
                "data": {"phantom": {"patients": 60, "test_patients": 40}},
                "model": {"encoder": name, "weights": [str(weights)]},
                "federation": {"clients": 2, "rounds": rounds, "evaluate_every": rounds},
                "privacy": {"dp": False},
                "secure_aggregation": {"enabled": False},
                "exposures": {"record": False},
            }
        )
        summary = execute(settings, Path(folder) / "run")
    return summary.auc, list(summary.auc_ci95) if summary.auc_ci95 else None


def measure(name: str, repetitions: int, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    encoder = ENCODERS[name](8)
    of_volumes = isinstance(encoder, VolumeEncoder)
    plain_s, private_s = steps(name, repetitions)
    area, interval = (None, None) if of_volumes else auc(name, rounds)
    found = {
        "case": f"{name}, private step",
        "ours": private_s,
        "peers": {},
        "floor": plain_s,
        "times_better": {},
        "of_floor": private_s / plain_s,
        "parameters": sum(each.numel() for each in encoder.parameters()),
        "gigaflops_per_slice": gigaflops(encoder),
        "plain_step_s": plain_s,
        "private_step_s": private_s,
        "megabytes_sent": megabytes(name),
        "auc": area,
        "auc_ci95": interval,
    }
    print(found, file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", nargs="*", choices=list(ENCODERS), default=list(ENCODERS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = [measure(name, arguments.repetitions, arguments.rounds) for name in arguments.only]
    if arguments.json:
        report = {
            "name": "encoders",
            "unit": "s",
            "better": "lower",
            "repetitions": arguments.repetitions,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, one used; other work on it",
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "torchvision")},
            },
            "cases": cases,
            "table": {
                "columns": ["encoder", *COLUMNS.values()],
                "rows": [
                    [name, *(each[column] for column in COLUMNS)]
                    for name, each in zip(arguments.only, cases, strict=True)
                ],
            },
        }
        print(json.dumps(report, indent=2))
        return
    for name, each in zip(arguments.only, cases, strict=True):
        print(f"{name:<20}", *(f"{title} {each[key]}" for key, title in COLUMNS.items()), sep="  ")


if __name__ == "__main__":
    main()
