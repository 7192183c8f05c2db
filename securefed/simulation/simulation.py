"""A whole federation in one process: every hospital, the server, real messages between them.

Each hospital keeps its files under hospitals/NAME, and the server sees bytes only. A round is on
disk before it is yielded, so stopping between two rounds loses nothing; `opening.open_run` builds a
simulation, or continues one from its directory.
"""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from securefed.config import Settings
from securefed.data.load import FederatedData
from securefed.hospital.client import Client
from securefed.model.network import DualEncoderNetwork
from securefed.model.sharing import load_vector, shared_names
from securefed.privacy.ledger import Ledger
from securefed.record.directory import (
    SCHEMA,
    RunDirectory,
    read_arrays,
    read_tensors,
    save_arrays,
    save_tensors,
)
from securefed.server.recording import RecordingTransport
from securefed.server.rounds import RoundRecord, Server


@dataclass
class Simulation:
    """A federation ready to run.

    Attributes:
        network: the initial network; the current one is `global_network()`.
        notes: what the user should be told about this run.
        elapsed_before_s: wall seconds of earlier parts of a resumed run.
    """

    settings: Settings
    directory: RunDirectory
    server: Server
    clients: dict[str, Client]
    transport: RecordingTransport
    network: DualEncoderNetwork
    data: FederatedData
    ledgers: dict[str, Ledger]
    device: torch.device
    notes: list[str]
    started: float = field(default_factory=time.perf_counter)
    elapsed_before_s: float = 0.0

    def rounds(self) -> Iterator[tuple[RoundRecord, dict[str, Any]]]:
        """Train the rounds that are left; yields each with its line for metrics.jsonl."""
        for record in self.server.train():
            line = self._account(record)
            self._check_point()
            yield record, line

    def evaluate(self) -> RoundRecord:
        """Score the final model with everybody's held-out patients."""
        record = self.server.evaluate()
        self._account(record)
        return record

    def spent(self) -> dict[str, float]:
        """Epsilon each hospital's ledger holds, by the headline accountant."""
        return {name: ledger.spent() for name, ledger in self.ledgers.items()}

    def elapsed_s(self) -> float:
        """Wall seconds of the run so far, earlier parts of a resumed run included."""
        return self.elapsed_before_s + time.perf_counter() - self.started

    def global_network(self) -> DualEncoderNetwork:
        """The initial network with the server's shared parameters."""
        names = shared_names(self.network, self.settings.federation.shared)
        network = copy.deepcopy(self.network)
        load_vector(network, names, self.server.shared.astype(np.float32))
        return network

    def restore(self) -> None:
        """Continue from the directory's check point; without one, from the start.

        Raises:
            RunError: the check point is damaged.
        """
        if not (self.directory.path / "checkpoint.json").exists():
            return  # stopped before the first round ended
        check_point = self.directory.read_json("checkpoint.json")
        finished = int(check_point["round"])
        self.elapsed_before_s = float(check_point["elapsed_s"])
        arrays = read_arrays(self.directory.path / _check_point_file(finished))
        self.server.shared = arrays.pop("shared")
        self.server.strategy.restore(
            {key.removeprefix("strategy."): value for key, value in arrays.items()}
        )
        self.server.finished = finished
        for name, client in self.clients.items():
            path = self.directory.hospital(name) / _check_point_file(finished)
            client.trainer.restore(read_tensors(path))

    def fit_to_budget(self) -> None:
        """Plan fewer rounds where rounds lost in a crash have used up the budget of the last."""
        plan, finished = self.server.plan, self.server.finished
        left = affordable = plan.rounds - finished
        for name, ledger in self.ledgers.items():
            event = self.clients[name].trainer.event
            while event and affordable and ledger.would_exceed([event] * affordable):
                affordable -= 1
        if affordable < left:
            self.server.plan = replace(plan, rounds=finished + affordable)
            self.notes.append(
                f"rounds lost in a crash count as spent: the budget holds {affordable} more "
                f"rounds, not {left}"
            )

    def _account(self, record: RoundRecord) -> dict[str, Any]:
        metrics = record.metrics
        epsilon = self.spent()
        sent, received = self.transport.bytes_up, self.transport.bytes_down
        line: dict[str, Any] = {
            "round": record.round,
            "client": None,
            "survivors": list(record.survivors),
            "dropped": record.dropped,
            "aborted": record.aborted,
            "patients": record.patients,
            "loss": metrics.loss if metrics else None,
            "auc": metrics.auc if metrics else None,
            "epsilon": max(epsilon.values()) if epsilon else None,
            "bytes_up": sum(sent.values()),
            "bytes_down": sum(received.values()),
            "wall_s": record.wall_s,
            "server_s": record.server_s,
        }
        per_client = [
            {
                "round": record.round,
                "client": name,
                "epsilon": epsilon.get(name),
                "bytes_up": sent[name],
                "bytes_down": received[name],
                "train_s": self.clients[name].busy_s.get("train", 0.0),
                "protocol_s": self.clients[name].busy_s.get("protocol", 0.0),
            }
            for name in record.cohort
        ]
        self.directory.append_metrics([line, *per_client])
        self.transport.reset()
        return line

    def _check_point(self) -> None:
        finished = self.server.finished
        for name, client in self.clients.items():
            path = self.directory.hospital(name) / _check_point_file(finished)
            save_tensors(path, client.trainer.state(), {"round": str(finished)})
        arrays = {"shared": self.server.shared}
        arrays |= {f"strategy.{key}": value for key, value in self.server.strategy.state().items()}
        save_arrays(self.directory.path / _check_point_file(finished), arrays)
        # This file makes the new check point the current one; the previous goes after it.
        self.directory.write_json(
            "checkpoint.json",
            {"schema": SCHEMA, "round": finished, "elapsed_s": self.elapsed_s()},
        )
        for folder in (self.directory.path, *map(self.directory.hospital, self.clients)):
            (folder / _check_point_file(finished - 1)).unlink(missing_ok=True)


def _check_point_file(finished: int) -> str:
    return f"checkpoint-{finished}.safetensors"
