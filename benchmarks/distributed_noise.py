"""AUC with noise that hospitals share out against noise of each hospital's own, at one epsilon.

    python benchmarks/distributed_noise.py [--json] [--epsilons 8 2 1] [--seeds 3] [--rounds 80]

For each seed one federation of the default phantoms, run under the default settings with
privacy.placement distributed (ours; and without counting on a collusion), local (the peer) and
without noise (the floor: what the same steps reach without differential privacy), in turns in one
process. Noise is seeded, so that a figure can be repeated. AUC is that of the final model on all
held-out patients, the median over seeds. Beside each case stands the standard deviation of the
noise in one coordinate of the mean gradient, in clipping norms, with every hospital in the sum.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from securefed.config import Settings
from securefed.data.load import FederatedData
from securefed.record.directory import RunDirectory
from securefed.simulation.opening import start
from securefed.simulation.patients import load_data
from securefed.simulation.simulation import Simulation

VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {"placement": "distributed"},
    "ours, nobody colludes": {"placement": "distributed", "colluding": 0},
    "local noise": {"placement": "local"},
    "no privacy": {"dp": False},
}


def settings(seed: int, rounds: int, privacy: dict[str, Any]) -> Settings:
    return Settings.model_validate(
        {
            "seed": seed,
            "federation": {"rounds": rounds, "evaluate_every": rounds},
            "privacy": {"seeded_noise": True, **privacy},
            "exposures": {"record": False},
        }
    )


def train(wanted: Settings, data: FederatedData) -> tuple[float, float]:
    """(AUC, noise of one coordinate of the mean gradient over the clipping norm)."""
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory.create(Path(folder) / "run")
        simulation = start(wanted, directory, lambda text: None, data=data)
        for record, _ in simulation.rounds():
            if record.aborted or record.dropped:
                raise RuntimeError(f"round {record.round} lost hospitals: {record}")
        final = simulation.evaluate()
        if final.metrics is None or final.metrics.auc is None:
            raise RuntimeError("the held-out patients are all of one label")
        return final.metrics.auc, noise_of(simulation)


def noise_of(simulation: Simulation) -> float:
    shares = []
    shared = simulation.job.shared_noise
    for hospital in simulation.hospitals.values():
        event = hospital.trainer.event
        if event is None:
            return 0.0
        own = shared.share_sigma / shared.clip_steps if shared else event.noise_multiplier
        shares.append(own)
    batch = sum(each.trainer.expected_batch for each in simulation.hospitals.values())
    return float(sum(share**2 for share in shares) ** 0.5 / batch)


def measure(epsilons: list[float], seeds: int, rounds: int) -> list[dict[str, Any]]:
    results: dict[tuple[float, str], list[tuple[float, float]]] = {}
    for seed in range(seeds):
        data = load_data(settings(seed, rounds, {}))
        bare = train(settings(seed, rounds, VARIANTS["no privacy"]), data)
        for epsilon in epsilons:
            results.setdefault((epsilon, "no privacy"), []).append(bare)
            for name, privacy in VARIANTS.items():
                if name == "no privacy":
                    continue
                wanted = settings(seed, rounds, {"epsilon": epsilon, **privacy})
                results.setdefault((epsilon, name), []).append(train(wanted, data))
                print(
                    f"seed {seed} epsilon {epsilon:g} {name}: {results[epsilon, name][-1]}",
                    file=sys.stderr,
                    flush=True,
                )
    return [case(epsilon, results) for epsilon in epsilons]


def case(
    epsilon: float, results: dict[tuple[float, str], list[tuple[float, float]]]
) -> dict[str, Any]:
    auc = {name: statistics.median(a for a, _ in results[epsilon, name]) for name in VARIANTS}
    return {
        "case": f"epsilon {epsilon:g}",
        "ours": auc["ours"],
        "peers": {"local noise": auc["local noise"]},
        "floor": auc["no privacy"],
        "times_better": {"local noise": auc["ours"] / auc["local noise"]},
        "of_floor": auc["ours"] / auc["no privacy"],
        "ours_if_nobody_colludes": auc["ours, nobody colludes"],
        "auc_by_seed": {name: [a for a, _ in results[epsilon, name]] for name in VARIANTS},
        "noise_per_coordinate": {name: results[epsilon, name][0][1] for name in VARIANTS},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--epsilons", type=float, nargs="+", default=[8.0, 2.0, 1.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=80)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = measure(arguments.epsilons, arguments.seeds, arguments.rounds)
    if arguments.json:
        report = {
            "name": "AUC of shared against local noise",
            "unit": "area under the ROC curve, held-out patients",
            "better": "higher",
            "repetitions": arguments.seeds,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": {name: version(name) for name in ("torch", "numpy", "opacus")},
            "cases": cases,
        }
        print(json.dumps(report, indent=2))
        return
    for each in cases:
        noise = each["noise_per_coordinate"]
        print(
            f"{each['case']}: shared {each['ours']:.3f} (noise {noise['ours']:.5f}), "
            f"nobody colludes {each['ours_if_nobody_colludes']:.3f} "
            f"({noise['ours, nobody colludes']:.5f}), local {each['peers']['local noise']:.3f} "
            f"({noise['local noise']:.5f}), no noise {each['floor']:.3f}"
        )


if __name__ == "__main__":
    main()
