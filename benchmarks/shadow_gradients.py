"""Gradients of many shadow models at once against one after another, interleaved in one process.

    python benchmarks/shadow_gradients.py [--json] [--repetitions 3]

What the audit does to train shadows: clipped gradients of patients under 16 shadow models of the
default network, against the product's own per-patient gradients, model by model. Both
sides are checked to agree before anything is timed. There is no floor: no other program does this.
Times are medians of processor seconds on one operation thread, so that other work on the machine
disturbs little.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A script beside this one has the package's name: with this folder in front it would be imported.
sys.path[:] = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent]

import numpy as np  # noqa: E402  # after the path
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from attacks.membership.head_gradients import (  # noqa: E402
    Drawn,
    HeadShape,
    records_of,
    summed_gradients,
)
from securefed.model.encoding import tokens_of  # noqa: E402
from securefed.model.network import FusionNetwork, NetworkShape  # noqa: E402
from securefed.model.patients import PatientTensors  # noqa: E402
from securefed.training.per_patient import patient_gradients  # noqa: E402

SHADOWS, PATIENTS, SLICES, CLIP_NORM = 16, 32, 8, 1.0


def seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def interleaved(repetitions: int, **works: Callable[[], Any]) -> dict[str, float]:
    """Median seconds of each work, run in turns."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repetitions):
        for name, work in works.items():
            taken[name].append(seconds(work))
    return {name: statistics.median(values) for name, values in taken.items()}


def case(name: str, median: dict[str, float]) -> dict[str, Any]:
    return {
        "case": name,
        "ours": median["ours"],
        "peers": {"loop": median["loop"]},
        "floor": None,
        "times_better": {"loop": median["loop"] / median["ours"]},
        "of_floor": None,
    }


def replay_case(repetitions: int) -> dict[str, Any]:
    torch.manual_seed(0)
    network = FusionNetwork(NetworkShape())
    for encoder in network.encoders:
        encoder.requires_grad_(False)
    modalities = network.shape.modalities
    shown = (len(modalities), PATIENTS, SLICES, 64, 64)
    images = torch.randint(0, 256, shown, dtype=torch.uint8).transpose(0, 1)
    real = torch.arange(SLICES) < torch.randint(4, SLICES + 1, (PATIENTS, 1))
    labels = torch.randint(0, 2, (PATIENTS,)).float()
    present = real[:, None].expand(images.shape[:3])
    group = PatientTensors(modalities, images, present, labels)
    tokens = tokens_of(network, group)
    shape, records = HeadShape.of(network), records_of(tokens, each_slice=False)
    head = torch.cat([dict(network.named_parameters())[n].detach().flatten() for n in shape.places])
    heads = head + 0.1 * torch.randn(SHADOWS, shape.size)
    everybody = torch.arange(PATIENTS)
    drawn = Drawn(torch.arange(SHADOWS).repeat_interleave(PATIENTS), everybody.repeat(SHADOWS))
    batch = {name: getattr(tokens, name) for name in ("images", "present", "label")}

    def loss(forward: Callable[..., Tensor], one: Any) -> Tensor:
        inputs = (one[name] for name in ("images", "present"))
        return F.binary_cross_entropy_with_logits(forward(*inputs, encoded=True), one["label"])

    def loop() -> Tensor:
        trained = [p for p in network.parameters() if p.requires_grad]
        sums = []
        for vector in heads:
            nn.utils.vector_to_parameters(vector, trained)
            found = patient_gradients(network, loss, batch)
            rows = torch.cat([found[name].reshape(PATIENTS, -1) for name in shape.places], dim=1)
            factor = (CLIP_NORM / (rows.norm(dim=1) + 1e-6)).clamp(max=1.0)
            sums.append(factor @ rows)
        return torch.stack(sums)

    def ours() -> Tensor:
        return summed_gradients(shape, heads, records, drawn, CLIP_NORM)

    expected = loop()
    # Of the whole, not entry by entry: in float32 a unit at its ReLU's kink may fall either way.
    off = float((ours() - expected).norm() / expected.norm())
    if off > 1e-3:
        sys.exit(f"the two do not agree: they differ by {off:.2g} of their norm")
    name = f"clipped gradients, {SHADOWS} shadows x {PATIENTS} patients, seconds"
    return case(name, interleaved(repetitions, ours=ours, loop=loop))


def cases(repetitions: int = 3) -> list[dict[str, Any]]:
    """All cases in the benchmarks' format; torch uses one thread meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [replay_case(repetitions)]
    finally:
        torch.set_num_threads(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    result = {
        "name": "shadow_gradients",
        "unit": "s",
        "better": "lower",
        "repetitions": arguments.repetitions,
        "machine": platform.machine(),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
        },
        "cases": cases(arguments.repetitions),
    }
    if arguments.json:
        json.dump(result, sys.stdout, indent=2)
        print()
        return
    for each in result["cases"]:
        ours, loop = each["ours"], each["peers"]["loop"]
        print(f"{each['case']:<58} ours {ours:.3g}  loop {loop:.3g}  {loop / ours:.1f} times")


if __name__ == "__main__":
    main()
