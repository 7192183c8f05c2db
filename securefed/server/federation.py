"""A server in a federation on machines of its own: one run of one agreement, from its folder.

    agreement.yaml          what is run
    memberships.jsonl       the jobs of the run; each hospital joins a job and never one twice
    anchors.jsonl           how far each hospital's ledger had come, as it signed
    checkpoint*, openings.jsonl, metrics.jsonl, exposures/      as in any run directory
    model.safetensors, held_out.json, federation.json           at the end

A job is a membership: who is missing when it begins, or is lost on the way, cannot join it any
more. When somebody is back, the job ends at the next round's boundary and another one begins. A
server that was killed goes on from its last round, in a job of its own.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from securefed.errors import NothingLearned
from securefed.files import only_writer
from securefed.model.network import DualEncoderNetwork
from securefed.model.sharing import load_vector
from securefed.privacy.accounting import Guarantee
from securefed.record import anchors, jobs, metrics, model_file
from securefed.record.federation import FederationSummary
from securefed.record.memberships import Outcome
from securefed.record.recording import Recording
from securefed.record.run_file import unit_in_words
from securefed.record.summary import performance
from securefed.server import check_point, results
from securefed.server.jobs import begin, note
from securefed.server.membership import Among, Present, take_leave
from securefed.server.opening import open_server
from securefed.server.recording import RecordingTransport
from securefed.server.rounds import RoundRecord, Server
from securefed.server.survey import serve_survey
from securefed.wire import agreement as agreement_file
from securefed.wire.agreement import FederationAgreement
from securefed.wire.description import JobDescription
from securefed.wire.transport import Transport

HELLO_S = 120.0  # for all hospitals to open: patients are read, noise is solved
RECORDED_MB = 256

Tell = Callable[[str], None]
Leave = Callable[[], bool]


def _stay() -> bool:
    return False


def serve(
    folder: Path,
    transport: Transport,
    tell: Tell,
    *,
    leave: Leave = _stay,
    hello_s: float = HELLO_S,
) -> FederationSummary | None:
    """Carry the run of `folder` through one job, as far as it goes.

    Args:
        tell: told what happens, for the operator's eyes.
        leave: asked between rounds whether the job should end, so that another one can begin.
        hello_s: how long hospitals are waited for.

    Returns:
        The summary of the finished run; None where the job ended before.

    Raises:
        RunError: somebody else serves this folder, it is damaged, or too few hospitals are there.
        NothingLearned: no round of it opened a sum.
    """
    if (folder / FederationSummary.NAME).is_file():
        tell("the run is finished already")
        return FederationSummary.read(folder)
    agreement = agreement_file.read(folder / agreement_file.NAME)
    with only_writer(folder):
        if agreement.survey:
            return serve_survey(folder, agreement, transport, tell, hello_s)
        job = _Job.begin(folder, agreement, transport, tell, hello_s)
        return job.to_its_end(leave)


@dataclass
class _Job:
    folder: Path
    agreement: FederationAgreement
    description: JobDescription
    membership: int
    server: Server
    connected: Transport
    transport: RecordingTransport
    present: Present
    tell: Tell
    started: float

    @classmethod
    def begin(
        cls,
        folder: Path,
        agreement: FederationAgreement,
        transport: Transport,
        tell: Tell,
        hello_s: float,
    ) -> "_Job":
        current = check_point.current(folder)
        finished, before_s = (current.round, current.elapsed_s) if current else (0, 0.0)
        membership, present = begin(folder, agreement, finished, transport, tell, hello_s)
        description = agreement.job(membership)
        recording = Recording(folder / "exposures", RECORDED_MB * 2**20)
        recorded = RecordingTransport(Among(transport, present.refused), recording)
        server = open_server(description, recorded, folder)
        if finished:
            check_point.restore(folder, finished, server)
        about = jobs.Job(
            recording.messages,
            finished,
            description.roster,
            description.rules,
            description.shared_noise,
        )
        jobs.append(folder / "exposures", about)
        started = time.perf_counter() - before_s
        return cls(
            folder=folder,
            agreement=agreement,
            description=description,
            membership=membership,
            server=server,
            connected=transport,
            transport=recorded,
            present=present,
            tell=tell,
            started=started,
        )

    def to_its_end(self, leave: Leave) -> FederationSummary | None:
        for record in self.server.train():
            self._account(record)
            self._tell_round(record)
            check_point.save(self.folder, self.server)
            elapsed_s = time.perf_counter() - self.started
            check_point.commit(self.folder, self.server, elapsed_s)
            # Nobody comes back into a running job, so that the next round would fail as this one.
            if self.server.finished < self.server.rounds and (record.aborted or leave()):
                self.tell(f"ending the job after round {record.round}: hospitals are to rejoin")
                self._note("left")
                return None
        final = self.server.evaluate()
        self._account(final)
        if final.aborted:
            self.tell(f"the final model was not scored: {final.aborted}")
        return self._finish(final)

    def _finish(self, final: RoundRecord) -> FederationSummary:
        settings, privacy = self.description.settings, self.description.settings.privacy
        lines = metrics.read(self.folder).rounds
        rounds = [line for line in lines if line.round <= self.server.finished]
        aborted = sum(not line.survivors for line in rounds)
        promised = self._promised()
        summary = FederationSummary(
            name=self.agreement.name,
            agreement=self.agreement.digest,
            configuration=settings.configuration,
            hospitals=self.description.hospitals,
            memberships=self.membership,
            rounds=self.server.finished,
            rounds_aborted=aborted,
            survivors_by_round=tuple(len(line.survivors) for line in rounds),
            simulation=self.present.simulation or None,
            noise=privacy.noise,
            epsilon=promised.epsilon if promised else None,
            delta=privacy.delta if privacy.dp else None,
            privacy_unit=privacy.unit if privacy.dp else None,
            accountant=privacy.accountant if privacy.dp else None,
            **performance(final.metrics),
        )
        if aborted < len(rounds):
            shape, made_up = settings.model.model_dump_json(), self.present.simulation
            model_file.write(self.folder, self._network(), shape, promised, made_up, 0)
            if final.scores is not None:
                results.write_held_out(self.folder, final.scores)
        summary.write(self.folder)
        self._note("finished")
        if aborted == len(rounds):
            raise NothingLearned(
                f"none of {len(rounds)} rounds opened a sum: there is no model",
                hint=f"{self.folder / metrics.NAME} has the reason of each",
            )
        return summary

    def _promised(self) -> Guarantee | None:
        """What every hospital's ledger holds this run to; None without differential privacy."""
        privacy, noise = self.description.settings.privacy, self.description.shared_noise
        if not privacy.dp:
            return None
        return Guarantee(
            counted=privacy.epsilon,
            delta=privacy.delta,
            unit=unit_in_words(privacy.unit, self.present.simulation),
            accountant=privacy.accountant,
            noise=privacy.noise,
            noise_from=noise.counted if noise else 1,
        )

    def _network(self) -> DualEncoderNetwork:
        network = copy.deepcopy(self.description.network)
        load_vector(network, self.description.shared_names, self.server.shared.astype(np.float32))
        return network

    def _account(self, record: RoundRecord) -> None:
        # Epsilon is in the hospitals' ledgers, which this room does not see.
        noise = self.description.settings.privacy.noise
        line = self.transport.line_of(record, noise, epsilon=None)
        metrics.append(self.folder, [line])
        self.transport.reset()

    def _tell_round(self, record: RoundRecord) -> None:
        text = f"round {record.round} of {self.server.rounds}: "
        if record.aborted:
            text += f"no sum ({record.aborted})"
        else:
            text += f"{len(record.survivors)} of {len(record.cohort)} hospitals"
        lost = "; ".join(f"{name}: {why}" for name, why in record.dropped.items())
        auc = record.metrics.auc if record.metrics else None
        text += f"; AUC before it {auc:.3f}" if auc is not None else ""
        self.tell(text + (f"; without {lost}" if lost else ""))

    def _note(self, outcome: Outcome) -> None:
        signed = take_leave(self.connected, self.agreement.roster, self.present)
        anchors.append(self.folder, signed)
        note(self.folder, self.membership, outcome, self.server.finished)
