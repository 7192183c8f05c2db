"""Hospitals with one modality: masks alone, modality dropout, and going without those hospitals.

    python benchmarks/one_modality.py [--json] [--seeds 5] [--rounds 40] [--epsilons 8]

Four hospitals of 150 phantom patients: two with CT and MRI, one with CT only, one with MRI only. In
turns, for each seed and in one process, all four train with what they have (`ours`: a modality that
is missing is masked), all four with training.modality_dropout .3, and the two complete ones by
themselves, which leaves the others out. Without differential privacy and at each epsilon (seeded
noise, local, so that a figure can be repeated).

The models are compared on 400 patients of a fifth hospital that nobody trained on, as whole
patients, as if they had no MRI, and as if they had no CT. AUC is the mean over the seeds;
`interval` is Student's 95% of that mean, and `gain` that of the differences, pair by pair, from
leaving out.
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
from securefed.model.encoding import tokens_of
from securefed.model.patients import PatientTensors
from securefed.model.scores import score
from securefed.prediction.model import load_model
from securefed.simulation.execution import execute
from securefed.training.patients import stack

SCANNERS = [["ct", "mri"], ["ct", "mri"], ["ct"], ["mri"]]
WAYS: dict[str, dict[str, Any]] = {
    "ours": {"clients": 4},
    "modality dropout": {"clients": 4, "dropout": 0.3},
    "left out": {"clients": 2},
}
UNSEEN = 10  # a hospital's number that no run here has


def settings(seed: int, rounds: int, epsilon: float | None, way: dict[str, Any]) -> Settings:
    privacy = {"seeded_noise": True, "epsilon": epsilon} if epsilon else {"dp": False}
    return Settings.model_validate(
        {
            "seed": seed,
            "data": {"phantom": {"patients": 150, "test_patients": 30, "scanners": SCANNERS}},
            "training": {"batch_size": 50, "modality_dropout": way.get("dropout", 0.0)},
            "federation": {
                "clients": way["clients"],
                "minimum_clients": 2,
                "rounds": rounds,
                "evaluate_every": rounds,
            },
            "privacy": privacy,
            "secure_aggregation": {"enabled": False},
            "exposures": {"record": False},
        }
    )


def shown(patients: list[Patient]) -> dict[str, PatientTensors]:
    """The same patients as they are, and with one modality each."""
    group = stack(patients, 12)
    return {"CT and MRI": group, "CT only": group.only("ct"), "MRI only": group.only("mri")}


def train(wanted: Settings, test: dict[str, PatientTensors]) -> dict[str, float]:
    """AUC of the final model on each kind of patients."""
    with tempfile.TemporaryDirectory() as folder:
        execute(wanted, Path(folder) / "run")
        network = load_model(Path(folder) / "run").network
    found = {}
    for kind, group in test.items():
        logits = score(network, tokens_of(network, group), encoded=True)
        found[kind] = area_of_scores(logits.numpy(), group.label.numpy() == 1)
    return found


def measure(seeds: int, rounds: int, epsilons: list[float]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str, str], list[float]] = {}
    for seed in range(seeds):
        spec = PhantomSpec(missing_query=0.0, missing_context=0.0)
        made = generate(spec, SiteProfile.draw(spec, UNSEEN, seed), 400, seed)
        test = shown([each.patient for each in made])
        for epsilon in (None, *epsilons):
            privacy = f"epsilon {epsilon:g}" if epsilon else "no privacy"
            for name, way in WAYS.items():
                aucs = train(settings(seed, rounds, epsilon, way), test)
                for kind, auc in aucs.items():
                    found.setdefault((privacy, kind, name), []).append(auc)
                print(f"seed {seed}, {privacy}, {name}: {aucs}", file=sys.stderr, flush=True)
    cells = dict.fromkeys((privacy, kind) for privacy, kind, _ in found)
    return [case(found, *cell) for cell in cells]


def case(found: dict[tuple[str, str, str], list[float]], privacy: str, kind: str) -> dict[str, Any]:
    by_way = {name: found[privacy, kind, name] for name in WAYS}
    means = {name: mean_and_interval(values) for name, values in by_way.items()}
    ours, peers = means["ours"][0], {n: m for n, (m, _) in means.items() if n != "ours"}
    left_out = np.array(by_way["left out"])
    return {
        "case": f"{kind}, {privacy}",
        "ours": ours,
        "peers": peers,
        "floor": None,
        "times_better": {name: ours / value for name, value in peers.items()},
        "of_floor": None,
        "interval": {name: interval for name, (_, interval) in means.items()},
        "gain": {
            name: mean_and_interval((np.array(values) - left_out).tolist())[1]
            for name, values in by_way.items()
            if name != "left out"
        },
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
            "name": "AUC with hospitals of one modality",
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
        figures = {"ours": each["ours"], **each["peers"]}
        print(each["case"], *(f"{n} {f:.3f}" for n, f in figures.items()), each["gain"], sep="  ")


if __name__ == "__main__":
    main()
