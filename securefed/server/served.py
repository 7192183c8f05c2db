"""A server's part of a run, in its folder: the same in one process and among machines.

    metrics.jsonl                       a line for each round, and for each hospital in it
    checkpoint*, openings.jsonl         what it goes on from
    exposures/                          the messages, and the public half of each job
    model.safetensors, held_out.json, summary.json      at the end

A round is on disk before it is yielded, so that stopping between two rounds loses nothing.
"""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from securefed.model.network import FusionNetwork
from securefed.model.sharing import load_vector
from securefed.privacy.accounting import Guarantee, largest
from securefed.record import jobs, metrics
from securefed.record.metrics import ClientLine, RoundLine
from securefed.record.recording import Recording
from securefed.record.summary import costs, performance
from securefed.server import check_point
from securefed.server.opening import open_server
from securefed.server.recording import RecordingTransport
from securefed.server.rounds import RoundRecord, Server
from securefed.wire.description import JobDescription
from securefed.wire.transport import Transport

Guarantees = Mapping[str, Guarantee]
_UNKNOWN: Guarantees = {}  # epsilon is in the hospitals' ledgers


@dataclass
class Served:
    """One job of a run, as its server carries it.

    Attributes:
        recording: of the messages on the wire; None where they are not kept.
        before_s: wall seconds of earlier jobs of the run.
    """

    job: JobDescription
    folder: Path
    server: Server
    transport: RecordingTransport
    recording: Recording | None
    started: float = field(default_factory=time.perf_counter)
    before_s: float = 0.0

    @classmethod
    def open(cls, job: JobDescription, folder: Path, transport: Transport) -> "Served":
        """The server before its first round; `restore` takes up what the folder holds."""
        recording = None
        if job.settings.exposures.record:
            limit = job.settings.exposures.limit_mb * 2**20
            recording = Recording(folder / "exposures", limit)
        recorded = RecordingTransport(transport, recording)
        return cls(job, folder, open_server(job, recorded, folder), recorded, recording)

    def restore(self) -> int:
        """Go on from the folder's check point; how many rounds are finished, 0 without one.

        Raises:
            RunError: it is damaged.
        """
        current = check_point.current(self.folder)
        if current is None:
            return 0  # stopped before the first round ended
        self.before_s = current.elapsed_s
        check_point.restore(self.folder, current.round, self.server)
        return current.round

    def announce(self) -> None:
        """Record what everybody knows of this job, beside the messages that follow."""
        if self.recording:
            jobs.begin(self.recording, self.job, self.server.finished)

    def account(self, record: RoundRecord, spent: Guarantees = _UNKNOWN) -> RoundLine:
        """Add a round's lines to metrics.jsonl; returns that of the round itself.

        Args:
            spent: what each hospital's ledger comes to, where whoever plays them knows.
        """
        noise, wire = self.job.settings.privacy.noise, self.transport
        line = wire.line_of(record, noise, largest(spent.values()), self.job.settings.task.classes)
        each = [
            ClientLine(
                round=record.round,
                client=name,
                noise=noise,
                epsilon=spent[name].epsilon if spent else None,
                bytes_up=wire.bytes_up[name],
                bytes_down=wire.bytes_down[name],
            )
            for name in self.job.hospitals
            if name in wire.bytes_down
        ]
        metrics.append(self.folder, [line, *each])
        wire.reset()
        return line

    def keep(self) -> None:
        """Make the state after the last round the one that a later job goes on from."""
        check_point.save(self.folder, self.server, self.elapsed_s())

    def keep_end(self) -> None:
        """Where a scoring has ended training, make sure that no later job goes on with it."""
        best = self.server.best
        if best and best.stops:
            self.keep()

    def elapsed_s(self) -> float:
        """Wall seconds of the run so far, earlier jobs included."""
        return self.before_s + time.perf_counter() - self.started

    def network(self) -> FusionNetwork:
        """The initial network with the server's shared parameters."""
        network = copy.deepcopy(self.job.network)
        load_vector(network, self.job.shared_names, self.server.shared.astype(np.float32))
        return network

    def summary(self, final: RoundRecord | None) -> dict[str, Any]:
        """The fields of summary.json that a server knows; of hospitals' own it has none.

        Args:
            final: the evaluation after the last round; None where there is no model to score.
        """
        privacy, finished = self.job.settings.privacy, self.server.finished
        best = self.server.best
        lines = metrics.read(self.folder)
        fitted = final.calibration if final else None
        rounds = [line for line in lines.rounds if line.round <= finished]
        return {
            "configuration": self.job.settings.configuration,
            "rounds": finished,
            "chosen_after": best.after if final and best and best.auc is not None else None,
            "clients": len(self.job.hospitals),
            "noise": privacy.noise,
            "delta": privacy.delta if privacy.dp else None,
            "privacy_unit": privacy.unit if privacy.dp else None,
            "accountant": privacy.accountant if privacy.dp else None,
            **costs(lines, [], finished),
            "wall_seconds": self.elapsed_s(),
            "survivors_by_round": tuple(len(line.survivors) for line in rounds),
            "rounds_aborted": sum(not line.survivors for line in rounds),
            **performance(final.metrics if final else None, self.job.settings.task.classes),
            "temperature": fitted.temperature.value if fitted and fitted.temperature else None,
        }
