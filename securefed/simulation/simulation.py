"""A whole federation in one process: every hospital, the server, real messages between them.

Each hospital keeps its files under hospitals/NAME, and the server, which sees bytes only, its own
in the top of the directory: both with the code of machines of their own. `opening` builds a
simulation, or continues one from its directory.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from securefed.config import Settings
from securefed.data.load import FederatedData
from securefed.hospital import check_point
from securefed.hospital.opening import Hospital
from securefed.privacy.accounting import Guarantee
from securefed.record import times
from securefed.record.directory import RunDirectory
from securefed.record.metrics import RoundLine
from securefed.record.times import Times
from securefed.server.rounds import RoundRecord, Server
from securefed.server.served import Served
from securefed.wire.description import JobDescription


@dataclass
class Simulation:
    """A federation ready to run.

    Attributes:
        served: the server's part, which lies in the top of the directory.
        notes: what the user should be told about this run.
    """

    directory: RunDirectory
    served: Served
    hospitals: dict[str, Hospital]
    data: FederatedData
    device: torch.device
    notes: list[str]

    @property
    def job(self) -> JobDescription:
        return self.served.job

    @property
    def settings(self) -> Settings:
        return self.job.settings

    @property
    def server(self) -> Server:
        return self.served.server

    def rounds(self) -> Iterator[tuple[RoundRecord, RoundLine]]:
        """Train the rounds that are left; yields each with its line for metrics.jsonl."""
        for record in self.server.train():
            line = self._account(record)
            self.served.keep()
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

    def restore(self) -> None:
        """Continue from the directory's check point; without one, from the start.

        Raises:
            RunError: the check point is damaged.
        """
        finished = self.served.restore()
        for hospital in self.hospitals.values():
            check_point.restore(hospital, finished)
            hospital.client.begin_after(finished)

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
        """Add a round's lines to metrics.jsonl, and each hospital's times to its own."""
        asked = list(self.served.transport.bytes_down)
        line = self.served.account(record, self.guarantees())
        for name in asked:
            hospital = self.hospitals[name]
            busy = hospital.client.busy_s
            own = Times(
                round=record.round,
                train_s=busy.get("train", 0.0),
                protocol_s=busy.get("protocol", 0.0),
            )
            times.append(hospital.folder, own)
        return line
