"""A server in a federation on machines of its own: one run of one agreement, from its folder.

    agreement.yaml          what is run
    memberships.jsonl       the jobs of the run; each hospital joins a job and never one twice
    anchors.jsonl           how far each hospital's ledger had come, as it signed
    run.json, ...           a server's part of any run (server/served.py)

No number of any hospital's patients is in the folder, and no fingerprint of any data.

A job is a membership: who is missing when it begins, or is lost on the way, cannot join it any
more. When somebody is back, the job ends at the next round's boundary and another one begins; so it
does once where the final model was not scored. A server that was killed goes on from its last
round, in a job of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch

from securefed.errors import NothingLearned
from securefed.estimate import Estimate
from securefed.files import only_writer
from securefed.model_card import card
from securefed.record import anchors, memberships, metrics, model_file
from securefed.record.memberships import Outcome
from securefed.record.provenance import about_run
from securefed.record.run_file import Data, unit_in_words
from securefed.record.summary import Summary
from securefed.server import check_point, results
from securefed.server.jobs import begin
from securefed.server.membership import Among, Present, take_leave
from securefed.server.rounds import RoundRecord
from securefed.server.served import Served
from securefed.server.survey import serve_survey
from securefed.wire import agreement as agreement_file
from securefed.wire.agreement import FederationAgreement
from securefed.wire.description import JobDescription
from securefed.wire.transport import Transport

LEAST_HELLO_S = 120.0  # patients are read, noise is solved

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
    hello_s: float | None = None,
) -> Summary | None:
    """Carry the run of `folder` through one job, as far as it goes.

    Args:
        tell: told what happens, for the operator's eyes.
        leave: asked between rounds whether the job should end, so that another one can begin.
        hello_s: how long connected hospitals may take to open; None for as long as they may take
            over a round (federation.timeout_s), since frozen encoders look at all images first.

    Returns:
        The summary of the finished run; None where the job ended before.

    Raises:
        RunError: somebody else serves this folder, it is damaged, or too few hospitals are there.
        NothingLearned: no round of it opened a sum.
    """
    if (folder / Summary.NAME).is_file():
        tell("the run is finished already")
        return Summary.read(folder)
    agreement = agreement_file.read(folder / agreement_file.NAME)
    if hello_s is None:
        hello_s = max(LEAST_HELLO_S, agreement.settings.federation.timeout_s)
    with only_writer(folder):
        if agreement.survey:
            return serve_survey(folder, agreement, transport, tell, hello_s)
        job = _Job.begin(folder, agreement, transport, tell, hello_s)
        return job.to_its_end(leave)


@dataclass
class _Job:
    agreement: FederationAgreement
    membership: int
    served: Served
    connected: Transport
    present: Present
    tell: Tell

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
        finished = current.round if current else 0
        membership, present = begin(folder, agreement, finished, transport, tell, hello_s)
        description = agreement.job(membership)
        _write_down(description, present, folder)
        served = Served.open(description, folder, Among(transport, present.refused))
        served.restore()
        served.announce()
        return cls(agreement, membership, served, transport, present, tell)

    def to_its_end(self, leave: Leave) -> Summary | None:
        served, server = self.served, self.served.server
        trains = server.finished < server.rounds and not (server.best and server.best.stops)
        left = server.rounds - server.finished
        estimate = Estimate(served.job.settings, len(served.job.hospitals), left, self.tell)
        for record in server.train():
            line = served.account(record)
            served.keep()
            self._tell_round(record)
            if not record.aborted:
                estimate.round(line.wall_s)
            # Nobody comes back into a running job, so that the next round would fail as this one.
            if server.finished < server.rounds and (record.aborted or leave()):
                self.tell(f"ending the job after round {record.round}: hospitals are to rejoin")
                self._note("left")
                return None
        served.keep_end()
        if server.best and server.best.stops:
            self.tell(f"no round after {server.best.after} is better: training ends early")
        for final in server.conclude():
            if final.aborted and trains:
                # Scores are a sum over all, and who was lost can be back in a job for them alone.
                self.tell(
                    f"no scores yet: {final.aborted}; ending the job: hospitals are to rejoin"
                )
                self._note("left")
                return None
            served.account(final)
        if final.aborted:
            self.tell(f"the final model was not scored: {final.aborted}")
        return self._finish(final)

    def _finish(self, final: RoundRecord) -> Summary:
        folder = self.served.folder
        job, made_up = self.served.job, self.present.simulation
        promised, scores = job.promised, job.promised_evaluation
        if promised:
            promised = replace(promised, unit=unit_in_words(promised.unit, made_up))
        summary = Summary(
            patients=None,
            simulation=made_up or None,
            canaries=None,
            local_auc=None,
            epsilon=promised.epsilon if promised else None,
            epsilon_by_client=None,
            evaluation_epsilon=scores.epsilon if scores else None,
            **self.served.summary(final),
        )
        learned = summary.rounds_aborted < summary.rounds
        if learned:
            network = self.served.network()
            model_file.write(
                folder,
                network,
                job.settings,
                promised,
                made_up,
                job.run,
                calibration=final.calibration,
                reference=self.served.server.reference,
            )
            if final.scores is not None:
                results.held_out(final.scores, job.settings.task.classes).write(folder)
        summary.write(folder)
        card.renew(folder)
        self._note("finished")
        if not learned:
            raise NothingLearned(
                f"none of {summary.rounds} rounds opened a sum: there is no model",
                hint=f"{folder / metrics.NAME} has the reason of each",
            )
        return summary

    def _tell_round(self, record: RoundRecord) -> None:
        text = f"round {record.round} of {self.served.server.rounds}: "
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
        anchors.append(self.served.folder, signed)
        finished = self.served.server.finished
        memberships.note(self.served.folder, self.membership, outcome, finished)


def _write_down(job: JobDescription, present: Present, folder: Path) -> None:
    """run.json: what everybody knows; nothing of anybody's patients, but whether they are real."""
    data = Data(
        kind=None,
        simulation=present.simulation or None,
        fingerprint=None,
        hospitals=job.hospitals,
        warnings=(),
    )
    about = about_run(job, data, torch.device("cpu"), party="server")
    # What is not agreed is a site's own, and has no value here.
    agreed = {key: about.settings[key] for key in agreement_file.SECTIONS}
    msgspec.structs.replace(about, settings=agreed).write(folder)
