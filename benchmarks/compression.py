"""Bytes against AUC: a share of the shared parameters travels in a round (federation.sent_share).

    python benchmarks/compression.py [--json] [--seeds 3] [--shares 1 .25 .1 .05] [--epsilons 8]

The default run (four hospitals of 300 phantom patients, 80 rounds, masks on), with seeded noise, so
that a figure can be repeated. For each seed the same hospitals train once for each share, in turns
and in one process; `--epsilons 0` is without differential privacy. The models are compared on 400
patients of a fifth hospital that nobody trained on. AUC is the mean over the seeds; `interval` is
Student's 95% of that mean, and `change` that of the differences, pair by pair, from sending all.
`bytes_up` is what a hospital sent in the last round, protocol and all, `bytes_down` what it got.
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

import torch
from means import mean_and_interval

from securefed.config import Settings
from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.model.auc import area_of_scores
from securefed.model.encoding import tokens_of
from securefed.model.patients import PatientTensors
from securefed.model.scores import score
from securefed.prediction.model import load_model
from securefed.record import metrics
from securefed.simulation.execution import execute
from securefed.training.patients import stack

UNSEEN = 10  # a hospital's number that no run here has
HOSPITALS = 4


def settings(seed: int, rounds: int, share: float, epsilon: float) -> Settings:
    privacy = {"seeded_noise": True, "epsilon": epsilon} if epsilon else {"dp": False}
    return Settings.model_validate(
        {
            "seed": seed,
            "federation": {"rounds": rounds, "evaluate_every": rounds, "sent_share": share},
            "privacy": privacy,
            "exposures": {"record": False},
        }
    )


def train(wanted: Settings, test: PatientTensors) -> tuple[float, int, int]:
    """AUC of the final model, and bytes up and down of a hospital in the last round."""
    with tempfile.TemporaryDirectory() as folder:
        execute(wanted, Path(folder) / "run")
        network = load_model(Path(folder) / "run").network
        last = metrics.read(Path(folder) / "run").rounds[wanted.federation.rounds - 1]
    logits = score(network, tokens_of(network, test), encoded=True)
    auc = area_of_scores(logits.numpy(), test.label.numpy() == 1)
    return auc, last.bytes_up // HOSPITALS, last.bytes_down // HOSPITALS


def measure(
    seeds: int, rounds: int, shares: list[float], epsilons: list[float]
) -> list[dict[str, Any]]:
    found: dict[tuple[float, float], list[tuple[float, int, int]]] = {}
    for seed in range(seeds):
        spec = PhantomSpec()
        made = generate(spec, SiteProfile.draw(spec, UNSEEN, seed), 400, seed)
        test = stack([each.patient for each in made], 12)
        for epsilon in epsilons:
            for share in shares:
                each = train(settings(seed, rounds, share, epsilon), test)
                found.setdefault((epsilon, share), []).append(each)
                told = f"seed {seed}, epsilon {epsilon:g}, share {share:g}: {each}"
                print(told, file=sys.stderr, flush=True)
    return [case(found, *cell) for cell in found]


def case(
    found: dict[tuple[float, float], list[tuple[float, int, int]]], epsilon: float, share: float
) -> dict[str, Any]:
    aucs, up, down = zip(*found[epsilon, share], strict=True)
    whole = [auc for auc, _, _ in found.get((epsilon, 1.0), [])]
    mean, interval = mean_and_interval(list(aucs))
    privacy = f"epsilon {epsilon:g}" if epsilon else "no privacy"
    peers = {"all": mean_and_interval(whole)[0]} if whole and share < 1 else {}
    change = [mine - other for mine, other in zip(aucs, whole, strict=False)]
    return {
        "case": f"share {share:g}, {privacy}",
        "ours": mean,
        "peers": peers,
        "floor": None,
        "times_better": {name: mean / value for name, value in peers.items()},
        "of_floor": None,
        "interval": interval,
        "change": mean_and_interval(change)[1] if peers else None,
        "auc_by_seed": list(aucs),
        "bytes_up": max(up),
        "bytes_down": max(down),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=80)
    parser.add_argument("--shares", type=float, nargs="*", default=[1.0, 0.25, 0.1, 0.05])
    parser.add_argument("--epsilons", type=float, nargs="*", default=[8.0])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = measure(arguments.seeds, arguments.rounds, arguments.shares, arguments.epsilons)
    if arguments.json:
        report = {
            "name": "AUC where a share of the shared parameters travels in a round",
            "unit": "area under the ROC curve, 400 patients of a hospital that did not train",
            "better": "higher",
            "repetitions": arguments.seeds,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": {name: version(name) for name in ("torch", "numpy", "opacus")},
            "cases": cases,
        }
        print(json.dumps(report, indent=2))
        return
    for each in cases:
        print(each["case"], f"AUC {each['ours']:.3f}", each["interval"], each["bytes_up"], sep="  ")


if __name__ == "__main__":
    main()
