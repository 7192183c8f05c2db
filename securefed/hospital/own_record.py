"""What a hospital writes down of a run: what it is made of here, and each message before it leaves.

    run.json        what the run is made of, as this hospital knows it
    egress.jsonl    each message that leaves, by its digest: always
    exposures/      each message whole, in both directions, where the hospital keeps what it sends
                    (exposures.record); in one process one recording serves all parties instead

What cannot be written down does not leave. Answers to hello are no part of it: they say how far a
hospital is, and nothing of its patients but whether they are made up.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from securefed.hospital.patients import OwnPatients
from securefed.record import egress
from securefed.record.egress import Departure
from securefed.record.provenance import about_run, require_same
from securefed.record.recording import Recording
from securefed.record.run_file import Data, RunFile
from securefed.wire import messages
from securefed.wire.description import JobDescription
from securefed.wire.messages import Reply
from securefed.wire.plan import Plan

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OwnRecord:
    """One hospital's, of one run.

    Attributes:
        folder: its own of the run.
        recording: of whole messages; None where none are kept.
    """

    name: str
    folder: Path
    plan: Plan
    recording: Recording | None = None

    def leaves(self, request: bytes, reply: bytes) -> bytes:
        """What leaves in answer to a request: the reply, or on a full disk a refusal."""
        answer = messages.decode_reply(reply)
        try:
            self._note(request, reply, answer)
        except OSError as error:
            log.error("%s: an answer was not written down and stays here: %s", self.name, error)
            refusal = Reply(round=answer.round, stage=answer.stage, refusal="DiskFull")
            return messages.encode(refusal)
        return reply

    def _note(self, request: bytes, reply: bytes, answer: Reply) -> None:
        departure = Departure.of(reply, answer.round, answer.stage, answer.refusal)
        egress.append(self.folder, departure)
        # What is no step of the plan was refused, and belongs to no round.
        if self.recording and self.plan.step(answer.round):
            label = (answer.round, answer.stage, self.name)
            self.recording.add([(*label, "down", request), (*label, "up", reply)])


def write_run_file(
    job: JobDescription, own: OwnPatients, device: torch.device, folder: Path
) -> None:
    """What the run is made of here, for audits and reports; once for the run.

    Raises:
        RunError: it began with other settings, patients or weights.
    """
    data = Data(
        kind="manifest",
        simulation=own.simulation or None,
        fingerprint=own.fingerprint,
        hospitals=job.hospitals,
        warnings=own.warnings,
    )
    now = about_run(job, data, device, party="hospital", hospital=own.patients.name)
    if (folder / RunFile.NAME).exists():
        require_same(RunFile.read(folder), now)
    else:
        now.write(folder)
