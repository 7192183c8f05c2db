"""Shadow models trained together against one after another, interleaved in one process.

    python benchmarks/shadow_heads.py [--json] [--repetitions 3]

Three cases. Two train 64 heads of 256-64-1 on given features, 200 steps of SGD: the loop is torch's
own modules, autograd and optimizer, one head at a time. The third is what the audit does: clipped
gradients of patients under 16 shadow models of the default network, against the product's own
per-patient gradients (torch.func), model by model. Both sides are checked to agree before anything
is timed. There is no floor: no other program does this. Times are medians of processor seconds on
one operation thread, so that other work on the machine disturbs little.
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
    encoded_records,
    summed_gradients,
)
from attacks.membership.shadow_heads import train_heads  # noqa: E402
from securefed.model.encoding import tokens_of  # noqa: E402
from securefed.model.network import DualEncoderNetwork, NetworkShape  # noqa: E402
from securefed.model.patients import PatientTensors  # noqa: E402
from securefed.training.private import patient_gradients  # noqa: E402

MODELS, INPUTS, HIDDEN, STEPS, RATE = 64, 256, 64, 200, 0.1
RECORDS = (32, 64)  # per head; more of them hide the loop's overhead behind arithmetic
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


def heads_in_a_loop(features: Tensor, labels: Tensor, inside: Tensor, start: Tensor) -> Tensor:
    """As `train_heads`, one head after another with torch's modules."""
    logits = []
    for model in range(len(inside)):
        head = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))
        nn.utils.vector_to_parameters(start[model], head.parameters())
        optimizer = torch.optim.SGD(head.parameters(), lr=RATE)
        own, wanted = features[inside[model]], labels[inside[model]]
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = F.binary_cross_entropy_with_logits(head(own).squeeze(1), wanted)
            loss.backward()
            optimizer.step()
        logits.append(head(features).squeeze(1).detach())
    return torch.stack(logits)


def heads_case(repetitions: int, count: int) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(2 * count, INPUTS, generator=draw)
    labels = (torch.rand(2 * count, generator=draw) < 0.5).float()
    size = HIDDEN * INPUTS + 2 * HIDDEN + 1
    start = 0.05 * torch.randn(MODELS, size, generator=draw)
    inside = torch.stack([torch.randperm(2 * count, generator=draw) < count for _ in range(MODELS)])

    def ours() -> Tensor:
        return train_heads(features, labels, inside, start, HIDDEN, RATE, STEPS)

    def loop() -> Tensor:
        return heads_in_a_loop(features, labels, inside, start)

    torch.testing.assert_close(ours(), loop(), rtol=1e-3, atol=1e-3)
    name = f"{MODELS} heads {INPUTS}-{HIDDEN}-1, {STEPS} steps of {count}, seconds"
    return case(name, interleaved(repetitions, ours=ours, loop=loop))


def replay_case(repetitions: int) -> dict[str, Any]:
    torch.manual_seed(0)
    network = DualEncoderNetwork(NetworkShape())
    for encoder in (network.encoder_ct, network.encoder_mri):
        encoder.requires_grad_(False)
    images = torch.randint(0, 256, (2, PATIENTS, SLICES, 64, 64), dtype=torch.uint8)
    present = torch.arange(SLICES) < torch.randint(4, SLICES + 1, (PATIENTS, 1))
    labels = torch.randint(0, 2, (PATIENTS,)).float()
    group = PatientTensors(images[0], images[1], present, present, labels)
    shape, records = HeadShape.of(network), encoded_records(network, group, each_slice=False)
    head = torch.cat([dict(network.named_parameters())[n].detach().flatten() for n in shape.places])
    heads = head + 0.1 * torch.randn(SHADOWS, shape.size)
    everybody = torch.arange(PATIENTS)
    drawn = Drawn(torch.arange(SHADOWS).repeat_interleave(PATIENTS), everybody.repeat(SHADOWS))
    tokens = tokens_of(network, group)
    batch = {name: getattr(tokens, name) for name in ("ct", "mri", "has_ct", "has_mri", "label")}

    def loss(forward: Callable[..., Tensor], one: Any) -> Tensor:
        inputs = (one[name] for name in ("ct", "mri", "has_ct", "has_mri"))
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

    torch.testing.assert_close(ours(), loop(), rtol=1e-3, atol=1e-4)
    name = f"clipped gradients, {SHADOWS} shadows x {PATIENTS} patients, seconds"
    return case(name, interleaved(repetitions, ours=ours, loop=loop))


def cases(repetitions: int = 3) -> list[dict[str, Any]]:
    """All cases in the benchmarks' format; torch uses one thread meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        heads = [heads_case(repetitions, count) for count in RECORDS]
        return [*heads, replay_case(repetitions)]
    finally:
        torch.set_num_threads(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    result = {
        "name": "shadow_heads",
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
