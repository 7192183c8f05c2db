"""The default run against the same federation with plain Opacus and no secure aggregation.

    python benchmarks/run_default.py [--json] [--rounds 80]

Ours is `securefed run --dp-epsilon 8` as a user gets it: masked sums, ledgers on disk, check points
and recorded messages every round. The peer holds the same patients, tokens, initial weights, noise
multiplier and server step; each hospital trains with Opacus' PrivacyEngine (hooks), and plain
vectors are averaged in memory. The fusion's scalar and placeholder parameters stay fixed in the
peer, because Opacus' hooks have no rule for them. Times are wall seconds of the rounds, data
preparation excluded for both; `share` splits ours by where the clients, the server and the disk
spent it. Peak memory is the process's, after ours and before the peer.
"""

import argparse
import copy
import json
import os
import platform
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import opacus
import torch
from opacus import PrivacyEngine
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from securefed.config import Settings, load
from securefed.model.sharing import flatten, load_vector, shared_names
from securefed.model.strategies.strategy import State
from securefed.record.directory import RunDirectory
from securefed.simulation.opening import start
from securefed.simulation.simulation import Simulation

Result = TypeVar("Result")


class Clock:
    """Adds up the seconds of wrapped calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, work: Callable[..., Result]) -> Callable[..., Result]:
        def timed(*arguments: Any, **options: Any) -> Result:
            start = time.perf_counter()
            try:
                return work(*arguments, **options)
            finally:
                self.seconds += time.perf_counter() - start

        return timed


def run_ours(settings: Settings, folder: Path) -> tuple[Simulation, float, dict[str, float]]:
    """Returns the finished simulation, wall seconds of its rounds, and busy seconds by kind."""
    simulation = start(settings, RunDirectory.create(folder), lambda text: None)
    torch.set_num_threads(max(1, torch.get_num_threads() // len(simulation.hospitals)))
    disk = Clock()
    simulation._check_point = disk.wrap(simulation._check_point)  # type: ignore[method-assign]
    recording = simulation.transport._recording
    if recording:
        recording.add = disk.wrap(recording.add)  # type: ignore[method-assign]
    began = time.perf_counter()
    busy = {"training": 0.0, "protocol, clients": 0.0, "server": 0.0}
    for record, _ in simulation.rounds():
        busy["server"] += record.server_s
        for hospital in simulation.hospitals.values():
            client = hospital.client
            busy["training"] += client.busy_s.get("train", 0.0)
            busy["protocol, clients"] += client.busy_s.get("protocol", 0.0)
    wall = time.perf_counter() - began
    return simulation, wall, {**busy, "disk": disk.seconds}


class PeerHospital:
    """A hospital that trains with Opacus' engine, by hand."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        trainer = simulation.hospitals[name].trainer
        assert trainer.event is not None
        network = copy.deepcopy(simulation.job.network)
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        for part in network.fusion.children():  # the layers, which Opacus can differentiate
            part.requires_grad_(True)
        network.classifier.requires_grad_(True)
        self.network = network
        self.records = trainer._records
        self.names = shared_names(network, simulation.settings.federation.shared)
        head = _Head(network)
        data = TensorDataset(self.records.images, self.records.present, self.records.label)
        batch = simulation.settings.training.batch_size
        trainable = [p for p in head.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trainable, lr=simulation.settings.training.learning_rate)
        self.model, self.optimizer, self.loader = PrivacyEngine(accountant="prv").make_private(
            module=head,
            optimizer=optimizer,
            data_loader=DataLoader(data, batch_size=batch),
            noise_multiplier=trainer.event.noise_multiplier,
            max_grad_norm=simulation.settings.privacy.clip_norm,
        )
        self.batches = iter(self.loader)

    def step(self, shared: np.ndarray) -> np.ndarray:
        """One DP-SGD step from the shared parameters; their change."""
        load_vector(self.network, self.names, shared.astype(np.float32))
        before = flatten(dict(self.network.named_parameters()), self.names)
        try:
            batch = next(self.batches)
        except StopIteration:
            self.batches = iter(self.loader)
            batch = next(self.batches)
        *inputs, label = batch
        self.optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(self.model(*inputs), label).backward()
        self.optimizer.step()
        return flatten(dict(self.network.named_parameters()), self.names) - before


class _Head(nn.Module):
    """Fusion and classifier on tokens, the part that trains."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.fusion, self.classifier = network.fusion, network.classifier

    def forward(self, tokens: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.fusion(tokens, present), present.any(dim=1))
        return logits


def run_peer(simulation: Simulation) -> float:
    """Wall seconds of the same rounds with plain Opacus and averages in the clear."""
    hospitals = [PeerHospital(simulation, name) for name in simulation.hospitals]
    weights = np.array([len(hospital.records) for hospital in hospitals], np.float64)
    federation = simulation.settings.federation
    strategy, shared, state = simulation.job.strategy, simulation.job.shared, State()
    began = time.perf_counter()
    for _ in range(federation.rounds):
        updates = np.stack([hospital.step(shared) for hospital in hospitals])
        mean = weights @ updates / weights.sum()
        shared, state = strategy.step(shared, mean, state)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=80)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # Opacus warns about its own hooks and its own generator
    settings = load(None, {"federation.rounds": arguments.rounds, "privacy.epsilon": 8.0})
    begin, threads = time.perf_counter(), torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        simulation, ours, busy = run_ours(settings, Path(folder) / "run")
        whole = time.perf_counter() - begin
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        final = simulation.evaluate()
        torch.set_num_threads(threads)  # the peer's hospitals take turns, with all cores each
        peer = run_peer(simulation)
    total = sum(busy.values())
    report = {
        "name": "run_default",
        "unit": "s",
        "better": "lower",
        "repetitions": 1,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"torch": torch.__version__, "opacus": opacus.__version__},
        "cases": [
            {
                "case": f"{arguments.rounds} rounds, 4 hospitals, epsilon 8",
                "ours": ours,
                "peers": {"opacus, averaged in the clear": peer},
                "floor": None,
                "times_better": {"opacus, averaged in the clear": peer / ours},
                "of_floor": None,
                "with_data_preparation_s": whole,
                "peak_memory_mb": peak_mb,
                "share": {kind: seconds / total for kind, seconds in busy.items()},
                "auc": final.metrics.auc if final.metrics else None,
            }
        ],
    }
    if arguments.json:
        print(json.dumps(report))
        return
    case = report["cases"][0]
    print(f"ours    {ours:7.1f} s for {arguments.rounds} rounds, {whole:.1f} s with preparation")
    print(f"opacus  {peer:7.1f} s, without secure aggregation, ledger, check points, evaluation")
    print(f"peak memory {peak_mb:.0f} MB, AUC {case['auc']:.3f}")
    for kind, share in case["share"].items():
        print(f"  {kind:<18} {share:6.1%}")


if __name__ == "__main__":
    main()
