"""A whole federation of one owner: every hospital, the server, real messages between them.

Each hospital keeps its files under hospitals/NAME, and the server, which sees bytes only, its own
in the top of the directory: both with the code of machines of their own. `opening` builds a
simulation, or continues one from its directory.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from securefed.config import Settings
from securefed.data.load import FederatedData
from securefed.errors import RunError
from securefed.hospital.opening import Hospital
from securefed.privacy.ledger import Ledger
from securefed.record.directory import RunDirectory
from securefed.record.metrics import RoundLine
from securefed.server.rounds import RoundRecord, Server
from securefed.server.served import Served
from securefed.simulation.hospitals import Hospitals, HospitalsHere
from securefed.wire.description import JobDescription


@dataclass
class Simulation:
    """A federation ready to run.

    Attributes:
        served: the server's part, which lies in the top of the directory.
        group: its hospitals, in this process or wherever an engine has them.
        ledgers: of the hospitals in this run; none without DP.
        data: what was loaded; with patients only where baselines will train on them.
        notes: what the user should be told about this run.
    """

    directory: RunDirectory
    served: Served
    group: Hospitals
    ledgers: Mapping[str, Ledger]
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

    @property
    def hospitals(self) -> dict[str, Hospital]:
        """Those of this process, whole.

        Raises:
            RunError: they are elsewhere.
        """
        if not isinstance(self.group, HospitalsHere):
            raise RunError("the hospitals of this run are in other processes")
        return self.group.hospitals

    def rounds(self) -> Iterator[tuple[RoundRecord, RoundLine]]:
        """Train the rounds that are left; yields each with its line for metrics.jsonl."""
        for record in self.server.train():
            line = self._account(record)
            self.served.keep()
            yield record, line
        self.served.keep_end()

    def evaluate(self) -> RoundRecord:
        """Score the final model with everybody's held-out patients."""
        for record in self.server.conclude():
            self._account(record)
        return record

    def restore(self) -> None:
        """Continue from the directory's check point; without one, from the start.

        Raises:
            RunError: the check point is damaged.
        """
        self.group.restore(self.served.restore())

    def fit_to_budget(self) -> None:
        """Plan fewer rounds where rounds lost in a crash have used up the budget of the last."""
        finished = self.server.finished
        left = self.server.rounds - finished
        affordable = self.group.affordable(finished, left)
        if affordable < left:
            self.server.end_after(finished + affordable)
            self.notes.append(
                f"rounds lost in a crash count as spent: the budget holds {affordable} of the "
                f"{left} rounds that are left"
            )

    def _account(self, record: RoundRecord) -> RoundLine:
        """Add a round's lines to metrics.jsonl, and each hospital's times to its own."""
        asked = list(self.served.transport.bytes_down)
        line = self.served.account(record, self.group.guarantees())
        self.group.note_times(record.round, asked)
        return line
