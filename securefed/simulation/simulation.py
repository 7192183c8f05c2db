"""A whole federation in one process: every hospital, the server, real messages between them.

Each hospital keeps its files under hospitals/NAME, and the server sees bytes only. A round is on
disk before it is yielded, so stopping between two rounds loses nothing; `opening` builds a
simulation, or continues one from its directory.
"""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from securefed.config import Settings
from securefed.data.load import FederatedData
from securefed.hospital import check_point as hospital_check_point
from securefed.hospital.opening import Hospital
from securefed.model.network import DualEncoderNetwork
from securefed.model.sharing import load_vector
from securefed.privacy.accounting import Guarantee, largest
from securefed.record import jobs, metrics, times
from securefed.record.directory import RunDirectory
from securefed.record.metrics import ClientLine, RoundLine
from securefed.record.recording import Recording
from securefed.record.times import Times
from securefed.server import check_point as server_check_point
from securefed.server.recording import RecordingTransport
from securefed.server.rounds import RoundRecord, Server
from securefed.wire.description import JobDescription


@dataclass
class Simulation:
    """A federation ready to run.

    Attributes:
        recording: of the messages on the wire; None where they are not kept.
        notes: what the user should be told about this run.
        elapsed_before_s: wall seconds of earlier parts of a resumed run.
    """

    job: JobDescription
    directory: RunDirectory
    server: Server
    hospitals: dict[str, Hospital]
    transport: RecordingTransport
    data: FederatedData
    device: torch.device
    recording: Recording | None
    notes: list[str]
    started: float = field(default_factory=time.perf_counter)
    elapsed_before_s: float = 0.0

    @property
    def settings(self) -> Settings:
        return self.job.settings

    def announce(self) -> None:
        """Record what everybody knows of this job, beside the messages that follow."""
        if self.recording:
            job = self.job
            about = jobs.Job(
                self.recording.messages,
                self.server.finished,
                job.roster,
                job.rules,
                job.shared_noise,
            )
            jobs.append(self.directory.exposures, about)

    def rounds(self) -> Iterator[tuple[RoundRecord, RoundLine]]:
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

    def guarantees(self) -> dict[str, Guarantee]:
        """What the run comes to in each hospital's ledger, by its accountant; empty without DP."""
        return {
            name: spent.guarantee()
            for name, hospital in self.hospitals.items()
            if (spent := hospital.spent)
        }

    def evaluations(self) -> dict[str, Guarantee]:
        """What held-out patients have spent, by hospital; empty where their scores are exact."""
        each = {
            name: spent.evaluation()
            for name, hospital in self.hospitals.items()
            if (spent := hospital.spent)
        }
        return {name: guarantee for name, guarantee in each.items() if guarantee}

    def elapsed_s(self) -> float:
        """Wall seconds of the run so far, earlier parts of a resumed run included."""
        return self.elapsed_before_s + time.perf_counter() - self.started

    def global_network(self) -> DualEncoderNetwork:
        """The initial network with the server's shared parameters."""
        network = copy.deepcopy(self.job.network)
        load_vector(network, self.job.shared_names, self.server.shared.astype(np.float32))
        return network

    def restore(self) -> None:
        """Continue from the directory's check point; without one, from the start.

        Raises:
            RunError: the check point is damaged.
        """
        current = server_check_point.current(self.directory.path)
        if current is None:
            return  # stopped before the first round ended
        self.elapsed_before_s = current.elapsed_s
        server_check_point.restore(self.directory.path, current.round, self.server)
        for hospital in self.hospitals.values():
            hospital_check_point.restore(hospital, current.round)
            hospital.client.begin_after(current.round)

    def fit_to_budget(self) -> None:
        """Plan fewer rounds where rounds lost in a crash have used up the budget of the last."""
        finished = self.server.finished
        left = self.server.rounds - finished
        affordable = min(each.affordable(left) for each in self.hospitals.values())
        if affordable < left:
            self.server.end_after(finished + affordable)
            self.notes.append(
                f"rounds lost in a crash count as spent: the budget holds {affordable} of the "
                f"{left} rounds that are left"
            )

    def _account(self, record: RoundRecord) -> RoundLine:
        """Add a round's lines to metrics.jsonl; returns that of the round itself."""
        guarantees, noise = self.guarantees(), self.settings.privacy.noise
        sent, received = self.transport.bytes_up, self.transport.bytes_down
        line = self.transport.line_of(record, noise, largest(guarantees.values()))
        each = [
            ClientLine(
                round=record.round,
                client=name,
                noise=noise,
                epsilon=guarantees[name].epsilon if guarantees else None,
                bytes_up=sent[name],
                bytes_down=received[name],
            )
            for name in self.hospitals
            if name in received
        ]
        metrics.append(self.directory.path, [line, *each])
        for name in received:
            hospital = self.hospitals[name]
            busy = hospital.client.busy_s
            own = Times(
                round=record.round,
                train_s=busy.get("train", 0.0),
                protocol_s=busy.get("protocol", 0.0),
            )
            times.append(hospital.folder, own)
        self.transport.reset()
        return line

    def _check_point(self) -> None:
        finished = self.server.finished
        for hospital in self.hospitals.values():
            hospital_check_point.save(hospital, finished)
        server_check_point.save(self.directory.path, self.server)
        server_check_point.commit(self.directory.path, self.server, self.elapsed_s())
        for hospital in self.hospitals.values():
            hospital_check_point.drop(hospital, finished - 1)
