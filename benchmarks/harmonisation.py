"""AUC at hospitals that did not train, with each scan on a standard scale and without.

    python benchmarks/harmonisation.py [--json] [--seeds 5] [--rounds 40] [--epsilons 8]

Four hospitals of 150 phantom patients whose scanners differ as far as phantoms can (site_shift 1)
train with model.harmonise (`ours`) and without (`as they are`), in turns, for each seed and in one
process; without differential privacy and at each epsilon (seeded noise, local, so that a figure can
be repeated). AUC is of the final model on 100 patients of each of four other hospitals, pooled
within a seed; the mean over seeds. `interval` is Student's 95% of that mean, `gain` that of the
differences, pair by pair.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from means import mean_and_interval

from securefed.config import Settings
from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.data.samples import Patient
from securefed.model.auc import area_of_scores
from securefed.prediction.model import load_model
from securefed.simulation.execution import execute

WAYS = {"ours": True, "as they are": False}
UNSEEN = range(10, 14)  # hospitals' numbers that no run here has
PATIENTS = 100


def settings(seed: int, rounds: int, epsilon: float | None, harmonise: bool) -> Settings:
    privacy = {"seeded_noise": True, "epsilon": epsilon} if epsilon else {"dp": False}
    return Settings.model_validate(
        {
            "seed": seed,
            "data": {"phantom": {"patients": 150, "test_patients": 30, "site_shift": 1.0}},
            "model": {"harmonise": harmonise},
            "training": {"batch_size": 50},
            "federation": {"rounds": rounds, "evaluate_every": rounds},
            "privacy": privacy,
            "secure_aggregation": {"enabled": False},
            "exposures": {"record": False},
        }
    )


def strangers(seed: int) -> list[Patient]:
    spec = PhantomSpec(site_shift=1.0)
    sites = [SiteProfile.draw(spec, number, seed) for number in UNSEEN]
    return [each.patient for site in sites for each in generate(spec, site, PATIENTS, seed)]


def train(wanted: Settings, test: list[Patient]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        execute(wanted, Path(folder) / "run")
        logits = load_model(Path(folder) / "run").logits(test)
    return area_of_scores(logits.numpy(), np.array([each.label == 1 for each in test]))


def measure(seeds: int, rounds: int, epsilons: list[float]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(seeds):
        test = strangers(seed)
        for epsilon in (None, *epsilons):
            privacy = f"epsilon {epsilon:g}" if epsilon else "no privacy"
            by_way = found.setdefault(privacy, {name: [] for name in WAYS})
            for name, harmonise in WAYS.items():
                by_way[name].append(train(settings(seed, rounds, epsilon, harmonise), test))
            print(f"seed {seed}, {privacy}: {by_way}", file=sys.stderr, flush=True)
    return [case(privacy, by_way) for privacy, by_way in found.items()]


def case(privacy: str, by_way: dict[str, list[float]]) -> dict[str, Any]:
    (ours, interval), (plain, plain_interval) = (mean_and_interval(by_way[n]) for n in WAYS)
    differences = np.subtract(by_way["ours"], by_way["as they are"]).tolist()
    return {
        "case": f"other hospitals, {privacy}",
        "ours": ours,
        "peers": {"as they are": plain},
        "floor": None,
        "times_better": {"as they are": ours / plain},
        "of_floor": None,
        "interval": {"ours": interval, "as they are": plain_interval},
        "gain": mean_and_interval(differences)[1],
        "auc_by_seed": by_way,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--epsilons", type=float, nargs="*", default=[8.0])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = measure(arguments.seeds, arguments.rounds, arguments.epsilons)
    if arguments.json:
        report = {
            "name": "AUC at other hospitals, grey values on a standard scale",
            "unit": "area under the ROC curve, 400 patients of four hospitals that did not train",
            "better": "higher",
            "repetitions": arguments.seeds,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": {name: version(name) for name in ("torch", "numpy", "opacus")},
            "cases": cases,
        }
        print(json.dumps(report, indent=2))
        return
    for each in cases:
        plain = each["peers"]["as they are"]
        print(f"{each['case']}: ours {each['ours']:.3f}, as they are {plain:.3f}, {each['gain']}")


if __name__ == "__main__":
    main()
