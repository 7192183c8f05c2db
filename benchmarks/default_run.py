"""What `securefed run` takes, by what it goes into, and its rounds against plain Opacus.

    python benchmarks/default_run.py [--json] [--rounds 80]

Each run of ours is the command a user types, in a process of its own (run_clocks.py): the default,
`--dp-epsilon 8`, in a cache of its own; the same again, whose tokens are kept by then; and
configs/smoke.yaml. The peer holds the same patients, tokens, initial weights, noise multiplier and
server step; each hospital trains with Opacus' PrivacyEngine (hooks), and plain vectors are averaged
in memory: no masks, ledgers, check points, recordings or scores. The fusion's scalar and
placeholder parameters stay fixed in the peer, because Opacus' hooks have no rule for them.

All times are processor seconds, on one thread of torch. `rounds` is what comes once the first
patient is drawn, results included, and the only case that has a peer; `split_s` says what each
whole run went into, `training_share` how much of it was training, `first_step_s` when the first
step was done.
"""

import argparse
import copy
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

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

HERE = Path(__file__).resolve().parent
PEER = "opacus, averaged in the clear"


def clocked(folder: Path, name: str, *words: str) -> dict[str, Any]:
    """What run_clocks.py reports of `securefed run` with these words."""
    report = folder / f"{name}.json"
    script, out = str(HERE / "run_clocks.py"), str(folder / name)
    command = [sys.executable, script, str(report), "run", "--out", out]
    one_thread = {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), **one_thread}
    subprocess.run([*command, *words], env=environment, capture_output=True, check=True)
    told: dict[str, Any] = json.loads(report.read_text())
    return told


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


def run_peer(settings: Settings, folder: Path) -> float:
    """Seconds of the same rounds with plain Opacus and averages in the clear."""
    simulation = start(settings, RunDirectory.create(folder), lambda text: None)
    hospitals = [PeerHospital(simulation, name) for name in simulation.hospitals]
    weights = np.array([len(hospital.records) for hospital in hospitals], np.float64)
    strategy, shared, state = simulation.job.strategy, simulation.job.shared, State()
    began = time.process_time()
    for _ in range(settings.federation.rounds):
        updates = np.stack([hospital.step(shared) for hospital in hospitals])
        mean = weights @ updates / weights.sum()
        shared, state = strategy.step(shared, mean, state)
    return time.process_time() - began


def case(name: str, ours: float, peer: float | None = None, **more: Any) -> dict[str, Any]:
    return {
        "case": name,
        "ours": ours,
        "peers": {PEER: peer} if peer else {},
        "floor": None,
        "times_better": {PEER: peer / ours} if peer else {},
        "of_floor": None,
        **more,
    }


def whole(name: str, told: dict[str, Any]) -> dict[str, Any]:
    return case(
        name,
        told["whole_s"],
        first_step_s=told["first_step"],
        training_share=told["split_s"]["training"] / told["whole_s"],
        split_s=told["split_s"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=80)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # Opacus warns about its own hooks and its own generator
    torch.set_num_threads(1)
    settings = load(None, {"federation.rounds": arguments.rounds, "privacy.epsilon": 8.0})
    smoke = str(HERE.parent / "configs" / "smoke.yaml")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = ["--dp-epsilon", "8", "--rounds", str(arguments.rounds)]
        first, again = (clocked(folder, each, *words) for each in ("first", "again"))
        small, smaller = (clocked(folder, each, "--config", smoke) for each in ("small", "smaller"))
        peer = run_peer(settings, folder / "peer")
    rounds = f"{arguments.rounds} rounds, 4 hospitals, epsilon 8"
    report: dict[str, Any] = {
        "name": "default_run",
        "unit": "processor seconds",
        "better": "lower",
        "repetitions": 1,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"torch": torch.__version__, "opacus": opacus.__version__},
        "cases": [
            case(f"rounds: {rounds}", again["whole_s"] - again["begun"], peer),
            whole(f"whole run: {rounds}", first),
            whole(f"whole run, tokens kept: {rounds}", again),
            whole("smoke run, 2 rounds", small),
            whole("smoke run, 2 rounds, tokens kept", smaller),
        ],
    }
    if arguments.json:
        print(json.dumps(report))
        return
    for each in report["cases"]:
        print(f"{each['ours']:7.1f} s  {each['case']}")
        for kind, seconds in each.get("split_s", {}).items():
            print(f"    {seconds:7.2f} s  {kind}")
    print(f"{peer:7.1f} s  {PEER}, the rounds")


if __name__ == "__main__":
    main()
