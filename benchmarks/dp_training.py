"""The private step against plain SGD of the same network, and against two other ways to it.

    python benchmarks/dp_training.py [--json] [--repetitions 5]

`ours` is the product's own step (draw and noise left out: benchmarks/noise.py has those): gradients
of patients by book-keeping, clipped and summed. The floor is plain SGD as one would write it, one
forward and one backward pass over the whole batch. Peers: `torch.func` is vmap over grad with
Opacus' DPOptimizer, which was the product's way before; `loop` takes patients one after another
with plain autograd. Opacus' own hooks refuse several slices, and the fusion's parameters.

Ways take turns in each repetition, on one thread, and figures are medians of processor seconds: on
a machine with other work their ratios can be used, themselves they cannot. Two cases are the peak
of resident memory beyond what was there before the step, each in a process of its own.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import opacus
import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.privacy.noise import SeededSource
from securefed.training.step import Step

CLIP_NORM = 1.0
Way = Callable[["Case"], Any]


@dataclass(frozen=True)
class Shape:
    """A benchmark's patients and network; `fewest` slices to `slices`, images of `size` pixels."""

    encoder: str
    size: int
    patients: int
    fewest: int
    slices: int
    train_encoders: bool = True


SHAPES = {
    "head on tokens, 64 px, 100 patients x 4 to 9 slices": Shape("compact", 64, 100, 4, 9, False),
    "compact, 64 px, 64 patients x 1 slice": Shape("compact", 64, 64, 1, 1),
    "compact, 64 px, 16 patients x 9 slices": Shape("compact", 64, 16, 9, 9),
    "2 x ResNet-18, 128 px, 8 patients x 1 slice": Shape("resnet18", 128, 8, 1, 1),
    "2 x ResNet-18, 240 px, 8 patients x 1 slice": Shape("resnet18", 240, 8, 1, 1),
}
LARGE = "2 x ResNet-18, 240 px, 8 patients x 1 slice"
PEAKS = {"8 patients": ("plain", "ours"), "64 patients": ("ours",)}


class Case:
    """Random patients of a shape, and the network that scores them."""

    def __init__(self, shape: Shape, patients: int | None = None) -> None:
        torch.manual_seed(0)
        count = patients or shape.patients
        self.network = FusionNetwork(NetworkShape(shape.encoder, shape.size))
        modalities = self.network.shape.modalities
        pictures = (len(modalities), count, shape.slices, shape.size, shape.size)
        images = torch.randint(0, 256, pictures, dtype=torch.uint8).transpose(0, 1)
        there = torch.randint(shape.fewest, shape.slices + 1, (count, 1))
        real = torch.arange(shape.slices) < there
        present = real[:, None].expand(images.shape[:3])
        label = torch.randint(0, 2, (count,)).float()
        self.group = PatientTensors(modalities, images, present, label)
        self.encoded = not shape.train_encoders
        if self.encoded:
            for encoder in self.network.encoders:
                encoder.requires_grad_(False)
            self.group = tokens_of(self.network, self.group)
        self.trained = {n: p for n, p in self.network.named_parameters() if p.requires_grad}

    def logits(self, group: PatientTensors) -> Tensor:
        logits: Tensor = self.network(group.images, group.present, encoded=self.encoded)
        return logits


def plain(case: Case) -> None:
    case.network.zero_grad()
    group = case.group
    F.binary_cross_entropy_with_logits(case.logits(group), group.label, reduction="sum").backward()


def ours(case: Case) -> dict[str, Tensor]:
    step = Step(
        network=case.network,
        trained=case.trained,
        patients=case.group,
        canaries=None,
        drawn_canaries=torch.zeros(0, dtype=torch.long),
        shared=[],
        encoded=case.encoded,
        expected=1.0,
    )
    return step.noised_gradient(CLIP_NORM, 0.0, SeededSource(0))


def loop(case: Case) -> dict[str, Tensor]:
    totals = {name: torch.zeros_like(p) for name, p in case.trained.items()}
    for row in range(len(case.group)):
        one = case.group[row : row + 1]
        loss = F.binary_cross_entropy_with_logits(case.logits(one), one.label, reduction="sum")
        found = torch.autograd.grad(loss, list(case.trained.values()), materialize_grads=True)
        length = float(torch.stack([g.norm() for g in found]).norm())
        for total, gradient in zip(totals.values(), found, strict=True):
            total.add_(gradient, alpha=min(1.0, CLIP_NORM / (length + 1e-6)))
    return totals


def torch_func(case: Case) -> dict[str, Tensor]:
    group = case.group
    batch = (group.images, group.present, group.label)

    def loss(parameters: dict[str, Tensor], *patient: Tensor) -> Tensor:
        options = {"encoded": case.encoded}
        logit: Tensor = functional_call(case.network, parameters, patient[:2], options)
        return F.binary_cross_entropy_with_logits(logit, patient[2])

    optimizer = DPOptimizer(
        torch.optim.SGD(case.trained.values(), lr=0.0),
        noise_multiplier=0.0,
        max_grad_norm=CLIP_NORM,
        expected_batch_size=1,
    )
    values = {name: p.detach() for name, p in case.trained.items()}
    chunk = len(group) if case.encoded else 16  # as the product had it
    totals = {name: torch.zeros_like(p) for name, p in case.trained.items()}
    for start in range(0, len(group), chunk):
        part = tuple(tensor[start : start + chunk] for tensor in batch)
        rows = vmap(grad(loss), in_dims=(None, 0, 0, 0))(values, *part)
        optimizer.zero_grad()
        for name, parameter in case.trained.items():
            parameter.grad_sample = rows[name]  # type: ignore[attr-defined]
        optimizer.clip_and_accumulate()
        for name, parameter in case.trained.items():
            totals[name] += parameter.summed_grad  # type: ignore[attr-defined]
    optimizer.zero_grad()
    return totals


WAYS: dict[str, Way] = {"plain": plain, "ours": ours, "torch.func": torch_func, "loop": loop}


def time_case(name: str, shape: Shape, repetitions: int) -> dict[str, Any]:
    case = Case(shape)
    require_agreement(case)
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(repetitions):
        for way, step in WAYS.items():
            start = time.process_time()
            step(case)
            taken[way].append(time.process_time() - start)
    median = {way: statistics.median(values) for way, values in taken.items()}
    peers = {way: median[way] for way in ("torch.func", "loop")}
    return {
        "case": f"{name}, seconds",
        "ours": median["ours"],
        "peers": peers,
        "floor": median["plain"],
        "times_better": {way: value / median["ours"] for way, value in peers.items()},
        "of_floor": median["ours"] / median["plain"],
    }


def require_agreement(case: Case) -> None:
    """Exit unless all ways to the private step give about the same; it warms them up, too."""
    plain(case)
    expected = torch.cat([g.flatten() for g in loop(case).values()])
    for way in (ours, torch_func):
        got = torch.cat([g.flatten() for g in way(case).values()])
        off = float((got - expected).norm() / expected.norm())
        # Of the whole: in float32 a unit at its ReLU's kink may fall either way.
        if off > 1e-2:
            sys.exit(f"{way.__name__} is off by {off:.2g} of the gradient's length")


def peak(way: str, patients: int) -> float:
    """Megabytes that one step takes at its peak, in this process."""
    torch.set_num_threads(1)
    case = Case(SHAPES[LARGE], patients)
    before = _peak_so_far()
    WAYS[way](case)
    return _peak_so_far() - before


def _peak_so_far() -> float:
    """Megabytes. Of this program alone: getrusage also remembers the one that started it."""
    status = Path("/proc/self/status").read_text()  # Linux
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def peak_case(patients: str, ways: tuple[str, ...]) -> dict[str, Any]:
    found = {
        way: float(
            subprocess.run(  # this script again
                [sys.executable, __file__, "--peak", way, patients.split()[0]],
                capture_output=True,
                check=True,
                text=True,
            ).stdout
        )
        for way in ways
    }
    floor = found.get("plain")
    return {
        "case": f"2 x ResNet-18, 240 px, {patients} x 1 slice, peak MB",
        "ours": found["ours"],
        "peers": {},
        "floor": floor,
        "times_better": {},
        "of_floor": found["ours"] / floor if floor else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print(peak(arguments.peak[0], int(arguments.peak[1])))
        return
    torch.set_num_threads(1)
    peaks = [peak_case(*each) for each in PEAKS.items()]
    cases = [time_case(*each, arguments.repetitions) for each in SHAPES.items()] + peaks
    result = {
        "name": "dp_training",
        "unit": "s",
        "better": "lower",
        "repetitions": arguments.repetitions,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one used; other work on it",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "opacus": opacus.__version__,
        },
        "cases": cases,
    }
    if arguments.json:
        json.dump(result, sys.stdout, indent=2)
        print()
        return
    for each in cases:
        peers = "  ".join(f"{way} {value:.3g}" for way, value in each["peers"].items())
        floor = (
            f"  floor {each['floor']:.3g}, of it {each['of_floor']:.2f}" if each["floor"] else ""
        )
        print(f"{each['case']:<58} ours {each['ours']:.3g}  {peers}{floor}")


if __name__ == "__main__":
    main()
