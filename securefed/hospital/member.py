"""A hospital in a federation on machines of its own: it answers hello, opens, and then works.

Whatever carries the bytes calls `handle` and nothing else. Nothing is built inside a message: the
first hello of a job starts the opening on a thread of its own, and every hello is answered within
seconds, also by "not ready yet".

Of what the server says this trusts nothing. It joins under an agreement that was accepted here, as
the one run that the agreement is, in a job with a number that was never joined before; policy and
ledger are asked before a patient is read, and the hour before each piece of work. The state after
each round is on disk before what came of it leaves.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from protocols.errors import ProtocolError
from securefed.config import Settings
from securefed.errors import PolicyRefused, RunError, SecureFedError
from securefed.files import only_writer
from securefed.hospital import check_point
from securefed.hospital.client import Client
from securefed.hospital.opening import Hospital, open_hospital
from securefed.hospital.own_record import OwnRecord, write_run_file
from securefed.hospital.patients import OwnPatients, load_patients
from securefed.hospital.results import write_results
from securefed.hospital.site import Site
from securefed.hospital.site_ledger import remembers, site_ledger
from securefed.hospital.survey import open_survey
from securefed.hospital.tokens import kept_with, told_at_times
from securefed.model.encoding import tokens_of
from securefed.model_card import card
from securefed.privacy.accounting import Guarantee
from securefed.privacy.ledger import Ledger
from securefed.record import jobs, memberships, model_file
from securefed.record.agreement import Agreement
from securefed.record.memberships import Outcome
from securefed.record.run_file import unit_in_words
from securefed.training.device import choose_device
from securefed.wire import hello, messages
from securefed.wire.agreement import FederationAgreement
from securefed.wire.description import JobDescription
from securefed.wire.hello import Hello, Presence
from securefed.wire.messages import Reply, Request
from securefed.wire.plan import Step

PATIENCE_S = 5.0  # for an opening, before hello is answered by "not ready yet"

log = logging.getLogger(__name__)

Tell = Callable[[str], None]


class Member:
    """One site, as whoever is connected to the server holds it. Calls may come on any thread.

    Args:
        tell: told what happens here, in words, for the hospital's own eyes.
    """

    def __init__(self, site: Site, tell: Tell = log.info) -> None:
        self._site, self._tell = site, tell
        self._turn = threading.Lock()  # one message at a time
        self._job: _Job | None = None

    def handle(self, data: bytes) -> bytes:
        """Answer one message; never raises, so that one bad message cannot stop a hospital."""
        if hello.is_hello(data):
            return hello.encode_presence(self._greet(data))
        with self._turn:
            job = self._job
            if job is None or job.client is None:
                return _refusal(data, "NotReady")
            try:
                self._site.policy.require_hour(datetime.now())
            except PolicyRefused as error:
                self._tell(f"refused: {error}")
                return job.leaves(data, _refusal(data, type(error).__name__))
            return job.leaves(data, job.client.handle(data))

    def close(self) -> None:
        """End the job, with what it leaves: call it when the connection's job ends."""
        with self._turn:
            if self._job:
                self._job.close()
            self._job = None

    def _greet(self, data: bytes) -> Presence:
        try:
            asked = hello.decode_hello(data)
        except RunError as error:
            self._tell(f"refused: {error}")
            return Presence("refused", type(error).__name__)
        with self._turn:
            if self._job is None or self._job.asked != asked:
                if self._job:
                    self._job.close()
                self._job = _Job(self._site, asked, self._tell)
            job = self._job
        return job.presence()


class _Job:
    """One job that this hospital was asked to join."""

    def __init__(self, site: Site, asked: Hello, tell: Tell) -> None:
        self.asked = asked
        self.client: Client | None = None
        self._record: OwnRecord | None = None
        self._ledger: Ledger | None = None
        self._site, self._tell = site, tell
        self._reason, self._simulation = "", ""
        self._joined = self._ended = False
        self._locks = ExitStack()
        self._opened = threading.Event()
        # Daemon: an opening that hangs must not keep the process alive.
        threading.Thread(target=self._open, name="opening", daemon=True).start()

    def leaves(self, request: bytes, reply: bytes) -> bytes:
        """What leaves in answer to a request, once it is written down."""
        return self._record.leaves(request, reply) if self._record else reply

    def presence(self) -> Presence:
        """How far the opening is, after a little patience."""
        if not self._opened.wait(PATIENCE_S):
            return Presence("opening")
        if self.client:
            return self._ready()
        return Presence("refused", self._reason, newest=self._newest())

    def _ready(self) -> Presence:
        """That it is ready, signed, with how far the ledger has come."""
        try:
            head = self._site.ledger().head()
        except SecureFedError as error:
            self._tell(f"refused: {error}")
            return Presence("refused", type(error).__name__)
        number = self.asked.membership
        ready = Presence("ready", "", number, self._simulation, head.rows, head.hash)
        return self.asked.answered(ready).signed(self._site.identity).presence

    def close(self) -> None:
        """Release what it holds, and write down how it ended."""
        self._opened.wait()
        try:
            if self._joined and self.client:
                self._note("finished" if self._ended else "left", self._ledger)
        except (SecureFedError, OSError) as error:
            self._tell(f"the end of the job could not be written down: {error}")
        finally:
            self._locks.close()

    def _open(self) -> None:
        try:
            self.client = self._join()
            self._tell(f"ready: job {self.asked.membership}, after round {self.asked.finished}")
        except (SecureFedError, ProtocolError, OSError) as error:
            key = f"policy.{error.key}" if isinstance(error, PolicyRefused) else ""
            self._reason = key or type(error).__name__
            self._tell(f"refused: {error}" + (f" ({hint})" if (hint := _hint(error)) else ""))
            self._locks.close()
        except Exception as error:
            log.exception("opening failed")
            self._reason = type(error).__name__
            self._locks.close()
        finally:
            self._opened.set()

    def _join(self) -> Client:
        site, asked = self._site, self.asked
        agreement = site.accepted(asked.agreement)
        folder = site.run(agreement.run)
        if not remembers(site, agreement, asked.remembered):
            self._tell("the server remembers of this ledger what was not signed here; not heeded")
        self._locks.enter_context(only_writer(folder))
        if asked.membership <= self._newest():
            raise RunError(
                f"job {asked.membership} of this run was joined before",
                hint="the server's folder is an old copy, or another server has it too",
            )
        begun = (folder / Agreement.NAME).exists()
        self._require_whole(folder, begun=begun)
        site.policy.require_hour(datetime.now())
        if agreement.survey:
            return self._join_survey(agreement, folder)
        job = agreement.job(asked.membership, site.own_settings())
        own = self._patients(agreement, job.settings, begun=begun)
        patients = own.patients
        site.policy.require(job.settings, asked.agreement, job.parameters, len(patients.train))
        ledger = site_ledger(site, job, own, begun=begun)
        # From here on something may be spent, so the number is used.
        self._note("joined", ledger)
        self._joined = True
        device = choose_device(job.settings.device)
        write_run_file(job, own, device, folder)
        identity = site.identity if job.roster else None
        encode = partial(tokens_of, told=told_at_times(self._tell))
        hospital = open_hospital(
            job,
            folder,
            patients,
            identity,
            device,
            ledger=ledger,
            keeps_messages=True,
            encode=kept_with(job.settings, own.simulation, encode),
        )
        check_point.restore(hospital, asked.finished)
        self._record, self._ledger = hospital.record, ledger
        if hospital.record.recording:
            jobs.begin(hospital.record.recording, job, asked.finished)
        hospital.client.begin_after(asked.finished)
        hospital.client.refused = self._tell
        hospital.client.worked = lambda step: self._worked(hospital, job, step)
        return hospital.client

    def _join_survey(self, agreement: FederationAgreement, folder: Path) -> Client:
        """Nothing is trained: all patients are counted, once."""
        site = self._site
        job = agreement.survey_job(self.asked.membership, site.own_settings())
        own = self._patients(agreement, job.settings, begun=False)
        site.policy.require(job.settings, agreement.digest, 0, len(own.patients.train))
        ledger = site.ledger(job.settings.privacy)
        client = open_survey(job, folder, own.patients, own.participants, site.identity, ledger)
        self._record, self._ledger = OwnRecord(site.name, folder, job.plan), ledger
        self._note("joined", ledger)
        self._joined = True
        client.refused = self._tell
        client.worked = lambda step: self._counted(ledger)
        return client

    def _counted(self, ledger: Ledger) -> None:
        self._ended = True
        self._tell(
            f"finished: counted with noise; spent here, over all runs: {self._spent(ledger)}"
        )

    def _patients(
        self, agreement: FederationAgreement, settings: Settings, *, begun: bool
    ) -> OwnPatients:
        self._tell(f"reading patients for {agreement.name}")
        own = load_patients(self._site.name, settings, begun=begun)
        for line in own.told:
            self._tell(line)
        self._simulation = own.simulation
        return own

    def _require_whole(self, folder: Path, *, begun: bool) -> None:
        """Refuse what is left of a run after a loss: what it remembers is what it must not repeat.

        Raises:
            RunError: its folder or the list of its jobs is missing, or the folder is an old copy.
        """
        jobs = self._site.jobs(folder.name)
        if begun and not memberships.newest(jobs):
            raise RunError(
                f"{folder} holds a run, and {jobs / memberships.NAME} does not say which jobs of "
                "it were joined",
                hint="put it back from a backup",
            )
        trained, kept = memberships.trained(jobs), check_point.newest(folder)
        if kept < trained:
            found = f"ends with round {kept}" if kept else "is empty"
            raise RunError(
                f"round {trained} of this run was trained here, and its folder {found}",
                hint=f"put the newest {folder} back from a backup; what was answered is in it",
            )

    def _worked(self, hospital: Hospital, job: JobDescription, step: Step) -> None:
        check_point.after_work(hospital, step)
        if step.train:
            self._note("trained", finished=step.round)
            spent = self._spent(hospital.ledger)
            told = f"; spent here, over all runs: {spent}" if spent else ""
            self._tell(f"trained round {step.round} of {job.plan.rounds}{told}")
        elif step == job.plan.final:
            self._finish(hospital, job)

    def _finish(self, hospital: Hospital, job: JobDescription) -> None:
        """Write this hospital's own results, and its model."""
        write_results(hospital, None)
        spent = hospital.spent.guarantee() if hospital.spent else None
        promised = spent and replace(spent, unit=unit_in_words(spent.unit, self._simulation))
        network = hospital.trainer.network
        made_up = self._simulation
        # Uncalibrated: the total of scores is the server's, and its own has no epsilon.
        model_file.write(hospital.folder, network, job.settings, promised, made_up, job.run)
        card.renew(hospital.folder)
        self._ended = True
        self._tell(f"finished: results and model are in {hospital.folder}")

    def _spent(self, ledger: Ledger | None) -> Guarantee | None:
        """Over all runs; None without differential privacy."""
        if ledger is None:
            return None
        spent = ledger.largest()
        return replace(spent, unit=unit_in_words(spent.unit, self._simulation))

    def _newest(self) -> int:
        return memberships.newest(self._site.jobs(self.asked.agreement[:32]))

    def _note(
        self, outcome: Outcome, ledger: Ledger | None = None, finished: int | None = None
    ) -> None:
        site, asked, joins = self._site, self.asked, outcome == "joined"
        jobs = site.jobs(asked.agreement[:32])
        jobs.mkdir(mode=0o700, parents=True, exist_ok=True)
        memberships.note(
            jobs,
            asked.membership,
            outcome,
            asked.finished if finished is None else finished,
            policy=site.policy.model_dump(mode="json") if joins else None,
            spent=ledger.largest().counted if ledger else None,
        )


def _refusal(data: bytes, reason: str) -> bytes:
    """Of a message that reached no hospital at work."""
    try:
        asked = messages.decode_request(data)
    except RunError:
        asked = Request(round=0, stage="work")
    return messages.encode(Reply(round=asked.round, stage=asked.stage, refusal=reason))


def _hint(error: Exception) -> str | None:
    return getattr(error, "hint", None)
