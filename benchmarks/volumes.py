"""An encoder of volumes beside pooled slices, where only neighbours tell lesions from spots.

    python benchmarks/volumes.py [--json] [--seeds 5] [--passes 8]

Phantoms with `scattered` at 1: a tumour goes on over slices; every negative has spots of the same
sizes in as many slices, each a tumour's by itself, which jump from slice to slice. 160 patients of
one site, 8 slices of 32 pixels, lesions of .18 to .22 half widths, both modalities. Everything
trains, encoders too, from the shipped weights: Adam, batches of 16, no federation and no privacy.
`ours` is compact3d, the peer compact, the same network over slices alone, pooled. Patients, initial
weights of slices, steps and head are the same for both.

AUC is of 160 patients more, the mean over the seeds; `interval` is Student's 95% of that mean,
`gain` that of the differences, pair by pair. One seed draws patients, weights and batches.
"""

import argparse
import json
import os
import platform
import sys
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from means import mean_and_interval
from torch.nn import functional as F

from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.model import weight_files
from securefed.model.auc import area_of_scores
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.training.patients import stack

SPEC = PhantomSpec(
    image_size=32,
    slices=(8, 8),
    scattered=1.0,
    lesion_radius=(0.18, 0.22),
    missing_query=0.0,
    missing_context=0.0,
    site_shift=0.0,
)
PATIENTS = 160  # to train on, and as many to test
WAYS = {"ours": "compact3d", "pooled slices": "compact"}


def auc(encoder: str, seed: int, passes: int) -> float:
    """Of patients that were not trained on."""
    made = generate(SPEC, SiteProfile.draw(SPEC, 0, seed), 2 * PATIENTS, seed)
    group = stack([each.patient for each in made], max_slices=8)
    train, test = group[:PATIENTS], group[PATIENTS:]
    torch.manual_seed(seed)
    network = FusionNetwork(NetworkShape(encoder, 32, head_width=32))
    weight_files.load(network, weight_files.shipped())
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(passes):
        for rows in torch.randperm(PATIENTS).split(16):
            logits = network(train.images[rows], train.present[rows])
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(logits, train.label[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        parts = zip(test.images.split(32), test.present.split(32), strict=True)
        scores = torch.cat([network(*part) for part in parts])
    return area_of_scores(scores.numpy(), test.label.numpy() > 0)


def measure(seeds: int, passes: int) -> dict[str, Any]:
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in range(seeds):
        for way, encoder in WAYS.items():
            found[way].append(auc(encoder, seed, passes))
            print(f"seed {seed}, {encoder}: {found[way][-1]:.3f}", file=sys.stderr, flush=True)
    means = {way: mean_and_interval(values) for way, values in found.items()}
    ours, slices = means["ours"][0], means["pooled slices"][0]
    gains = np.subtract(found["ours"], found["pooled slices"]).tolist()
    return {
        "case": f"lesions against spots, {passes} passes",
        "ours": ours,
        "peers": {"pooled slices": slices},
        "floor": None,
        "times_better": {"pooled slices": ours / slices},
        "of_floor": None,
        "interval": {way: interval for way, (_, interval) in means.items()},
        "gain": mean_and_interval(gains)[1],
        "auc_by_seed": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--passes", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    case = measure(arguments.seeds, arguments.passes)
    if arguments.json:
        report = {
            "name": "volumes",
            "unit": "area under the ROC curve, 160 phantom patients that were not trained on",
            "better": "higher",
            "repetitions": arguments.seeds,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": {name: version(name) for name in ("torch", "numpy")},
            "cases": [case],
        }
        print(json.dumps(report, indent=2))
        return
    print(f"compact3d {case['ours']:.3f}, pooled slices {case['peers']['pooled slices']:.3f}")
    print(f"gain, 95%: {case['gain'][0]:.3f} to {case['gain'][1]:.3f}")


if __name__ == "__main__":
    main()
