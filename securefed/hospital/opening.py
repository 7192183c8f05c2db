"""Opening a hospital: from its folder, the public job description and its own patients to a client.

Nothing about other hospitals is needed. What the description says of all hospitals is checked here
against this one's patients, and the job is refused where it does not hold.
"""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from protocols.client import SecureSumClient
from protocols.identity import IdentityKey
from securefed.config import Settings
from securefed.data.load import HospitalData
from securefed.errors import ConfigurationError, PrivacyError, RunError
from securefed.hospital import declaration
from securefed.hospital.client import Client
from securefed.hospital.describing import Describing
from securefed.hospital.own_record import OwnRecord
from securefed.hospital.questions import Questions
from securefed.hospital.scoring import NoisedScoring
from securefed.model.encoding import Encode, tokens_of
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors
from securefed.model.scan_sums import Scans
from securefed.privacy import ledger_file
from securefed.privacy.ledger import Ledger
from securefed.privacy.statement import Statement
from securefed.record.agreement import Agreement, differing_setting
from securefed.record.check_point import CheckPoint
from securefed.record.recording import Recording
from securefed.training import canaries
from securefed.training.canaries import CanarySecret
from securefed.training.mechanism import build_mechanism
from securefed.training.patients import one_slice_records, stack
from securefed.training.stress import stress_count
from securefed.training.trainer import LocalPlan, LocalTrainer, TrainingSet
from securefed.wire import openings as openings_file
from securefed.wire.description import JobDescription, declaration_of, scan_noises_of
from securefed.wire.openings import Openings
from securefed.wire.plan import Plan

View = Callable[[PatientTensors], PatientTensors]


@dataclass(frozen=True)
class Hospital:
    """One hospital, ready to answer.

    Attributes:
        folder: its own; nothing of it leaves.
        run: identity of the run it is opened for.
        plan: what it may be asked.
        ledger: None without differential privacy.
        record: of what it receives and sends.
    """

    name: str
    folder: Path
    run: str
    plan: Plan
    client: Client
    trainer: LocalTrainer
    ledger: Ledger | None
    record: OwnRecord

    def handle(self, data: bytes) -> bytes:
        """Answer one message; never raises, so that one bad message cannot stop a hospital."""
        return self.record.leaves(data, self.client.handle(data))

    @property
    def reservations(self) -> int:
        """How many this run has in the ledger; 0 without one."""
        return self.ledger.reservations(self.run) if self.ledger else 0

    @property
    def spent(self) -> Statement | None:
        """What this run, and no other, has spent of its ledger; None without one."""
        return self.ledger.statement().of_run(self.run) if self.ledger else None

    def affordable(self, finished: int, rounds: int) -> int:
        """How many of `rounds` more rounds its ledger has a budget for, as often as it is asked."""
        event, ledger = self.trainer.event, self.ledger
        while ledger and event and rounds:
            turns = self.plan.turns(self.name, range(finished + 1, finished + rounds + 1))
            if not ledger.would_exceed([event] * turns, self.run):
                break
            rounds -= 1
        return rounds


def open_hospital(
    job: JobDescription,
    folder: Path,
    patients: HospitalData,
    identity: IdentityKey | None,
    device: torch.device,
    view: View | None = None,
    ledger: Ledger | None = None,
    *,
    keeps_messages: bool = False,
    encode: Encode = tokens_of,
) -> Hospital:
    """Open a hospital for a job, new or to be continued: what `folder` holds is taken up.

    Of a run that has begun here the agreement and the ledger must be there, and be that run's: a
    ledger is made only where there is no trace of one that is lost.

    Args:
        folder: its own of this run, made if it is not there.
        identity: its long-lived key, whose public half is in the job's roster; None without masks.
        view: what it sees of its patients, for baselines.
        ledger: of all its runs; None for one in `folder`, of this run alone.
        keeps_messages: whether it records what it receives and sends itself, where settings say
            so; in one process one recording serves all parties.
        encode: its patients as tokens, where encoders do not train.

    Raises:
        ConfigurationError, PrivacyError: the job cannot be done here; nothing was trained.
        RunError: the agreement, the memory or the canaries of a run that has begun are missing,
            damaged, or of another.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name, settings = patients.name, job.settings
    agreed = _agreed(job, folder, name)
    train, test = _tensors(patients, settings, device, view)
    records = one_slice_records(train) if settings.privacy.unit == "image" else train
    exact = TrainingSet(train.patients, records.patients)
    declared, ledger = declare(settings, job.run, folder, name, exact, ledger)
    plan = _plan(job, name, declared)
    network = _own_network(job, device)
    theirs = _canaries(job, folder, declared) if job.canary_hospital == name else None
    trainer = LocalTrainer(name, network, train, test, plan, ledger, job.run, theirs, encode)
    now = Agreement(
        run=job.run,
        hospital=name,
        settings=settings.model_dump(mode="json"),
        records=exact.records,
        declared_patients=declared.patients,
        declared_records=declared.records,
        parameters=job.parameters,
        event=trainer.event,
        canaries_sha256=_digest(folder / canaries.FILE) if theirs else None,
    )
    if agreed and (difference := agreed.difference(now)):
        raise RunError(
            f"{folder / Agreement.NAME} is of another run: {difference}",
            hint="go on with the settings and the patients of then, or begin a new run",
        )
    now.write(folder)
    masks, sent, openings = None, None, Openings()
    limit = settings.exposures.limit_mb * 2**20
    if job.roster and job.rules and identity:
        masks = SecureSumClient(name, identity, job.roster, job.rules)
        openings = Openings(folder / openings_file.NAME, begun=_past_a_round(folder))
        if settings.exposures.record:
            sent = Recording(folder / "contributions", limit)
    elif job.layout.needs_masks:
        raise ConfigurationError(
            "privacy.placement: distributed needs secure aggregation",
            hint="set privacy.placement to local, or secure_aggregation.enabled to true",
        )
    questions = Questions(name, job.plan, job.roster, openings, job.layout)
    scoring = _scoring(job, folder, ledger, held_out=len(test))
    describing = _describing(job, folder, ledger, train)
    client = Client(name, trainer, masks, sent, questions, scoring, describing)
    kept = None
    if keeps_messages and settings.exposures.record:
        kept = Recording(folder / "exposures", limit)
    record = OwnRecord(name, folder, job.plan, kept)
    return Hospital(name, folder, job.run, job.plan, client, trainer, ledger, record)


def _scoring(
    job: JobDescription, folder: Path, ledger: Ledger | None, *, held_out: int
) -> NoisedScoring | None:
    """How held-out patients answer; None where they do so exactly."""
    settings, noise = job.settings, job.score_noise
    if noise is None or ledger is None:
        return None
    if settings.privacy.delta * held_out >= 1:
        raise PrivacyError(
            f"privacy.delta {settings.privacy.delta:g} is not below 1 / {held_out}, the held-out "
            f"patients of {ledger.client}",
            hint=f"set privacy.delta to {0.1 / held_out:.1g} or smaller",
        )
    most = settings.secure_aggregation.max_patients
    return NoisedScoring(
        noise,
        folder,
        ledger,
        run=job.run,
        words=job.layout.scores.words,
        most=most,
        seed=_seed(settings),
    )


def _describing(
    job: JobDescription, folder: Path, ledger: Ledger | None, train: PatientTensors
) -> Describing | None:
    """How training patients' scans are told of; None where nobody is asked."""
    settings, noises = job.settings, scan_noises_of(job.settings)
    if not settings.privacy.describes:
        return None
    scans, modalities = Scans.of(train), len(settings.model.modalities)
    if ledger is None:
        return Describing(scans, modalities, {})
    most = settings.secure_aggregation.max_patients
    return Describing.noised(
        scans, modalities, noises, folder, ledger, run=job.run, most=most, seed=_seed(settings)
    )


def _seed(settings: Settings) -> int | None:
    """Of noise; None for secret noise."""
    return settings.seed if settings.privacy.seeded_noise else None


def declare(
    settings: Settings,
    run: str,
    folder: Path,
    name: str,
    exact: TrainingSet,
    ledger: Ledger | None = None,
) -> tuple[TrainingSet, Ledger | None]:
    """What a hospital declares of its training set in a run, and the ledger that pays for it.

    Args:
        folder: its own, made if it is not there.
        exact: the training set as it is.
        ledger: of all its runs; None for one in `folder`.

    Raises:
        ConfigurationError, PrivacyError: the job cannot be done here; nothing was declared.
        RunError: what was declared before is missing, damaged, or of another run.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    privacy, most = settings.privacy, settings.secure_aggregation.max_patients
    if exact.patients > most:
        raise ConfigurationError(
            f"{name} has {exact.patients} training patients, "
            f"secure_aggregation.max_patients is {most}",
            hint="raise it, the same for all hospitals",
        )
    if privacy.dp:
        _require_delta(settings, name, exact.records)
    ledger, noise = ledger or run_ledger(settings, folder, name), declaration_of(settings)
    if ledger is None:
        return exact, None
    least = declaration.least_declared(settings)
    if noise is None:
        patients, records = max(exact.patients, least.patients), max(exact.records, least.records)
        return TrainingSet(patients, records), ledger
    declared = declaration.training_set(
        exact,
        noise,
        folder,
        ledger,
        run=run,
        least=least,
        most=max(most, least.patients),
        seed=_seed(settings),
        begun=_begun(folder),
    )
    return declared, ledger


def _tensors(
    patients: HospitalData, settings: Settings, device: torch.device, view: View | None
) -> tuple[PatientTensors, PatientTensors]:
    """Training and held-out patients as tensors."""
    train = stack(patients.train, settings.training.max_slices).to(device)
    # A hospital too small to hold anybody out trains, and adds nothing to the evaluation.
    test = train[:0]
    if patients.test:
        test = stack(patients.test, settings.training.max_slices).to(device)
    return (view(train), view(test)) if view else (train, test)


def _own_network(job: JobDescription, device: torch.device) -> FusionNetwork:
    """What the hospital trains: its own, but for encoders that nobody trains.

    Those are public and never move, so all hospitals of a process have the same ones, if they
    compute where these lie.
    """
    start, memo = job.network, {}
    here = next(start.parameters()).device == device
    if here and not job.settings.model.train_encoders:
        memo = {id(each): each for each in start.encoders}
    return copy.deepcopy(start, memo).to(device)


def _plan(job: JobDescription, name: str, declared: TrainingSet) -> LocalPlan:
    settings, training = job.settings, job.settings.training
    return LocalPlan(
        shared=settings.federation.shared,
        train_encoders=settings.model.train_encoders,
        optimizer=training.optimizer,
        learning_rate=training.learning_rate,
        local_steps=training.local_steps,
        sampling=training.sampling,
        proximal=job.strategy.proximal,
        unit=settings.privacy.unit,
        seed=settings.seed,
        mechanism=build_mechanism(job, name, declared.records),
        declared=declared,
        modality_dropout=training.modality_dropout,
        augment=training.augment,
    )


def _require_delta(settings: Settings, name: str, records: int) -> None:
    privacy = settings.privacy
    if privacy.delta >= 1 / records:
        raise PrivacyError(
            f"privacy.delta {privacy.delta:g} is not below 1 / {records}, the {privacy.unit}s "
            f"of {name}",
            hint=f"set privacy.delta to {0.1 / records:.1g} or smaller",
        )


def _agreed(job: JobDescription, folder: Path, name: str) -> Agreement | None:
    """What this hospital agreed to when the run began; None where it begins now.

    Raises:
        RunError: it agreed to something else, or what it agreed to is missing.
    """
    if not (folder / Agreement.NAME).exists():
        if _begun(folder):
            raise RunError(
                f"{name} has taken part in this run, and what it agreed to is missing "
                f"({folder / Agreement.NAME})",
                hint="put the file back from a backup, or start a new run",
            )
        return None
    agreed = Agreement.read(folder)
    changed = differing_setting(agreed.settings, job.settings.model_dump(mode="json"))
    if changed or (agreed.run, agreed.hospital) != (job.run, name):
        told = changed or f"the run is {job.run}, not {agreed.run} of {agreed.hospital}"
        raise RunError(
            f"{name} did not agree to this job: {told} ({folder / Agreement.NAME})",
            hint="a run keeps the settings it began with; start a new run for others",
        )
    return agreed


def run_ledger(settings: Settings, folder: Path, name: str) -> Ledger | None:
    """The ledger of one run, in its folder: what it began with, or a new one; None without DP.

    Raises:
        PrivacyError: it is missing, damaged, or not of this run.
    """
    path, privacy = folder / ledger_file.NAME, settings.privacy
    if not privacy.dp:
        if path.exists():
            raise PrivacyError(
                f"{name} has a ledger ({path}), and the job says privacy.dp: false",
                hint="the settings of a run that spends epsilon were changed",
            )
        return None
    if path.exists():
        return Ledger.open(
            path,
            client=name,
            unit=privacy.unit,
            delta=privacy.delta,
            accountant=privacy.accountant,
            first_budget=privacy.epsilon,
        )
    if _begun(folder):
        raise PrivacyError(
            f"{name} has no ledger ({path}), and its run has begun",
            hint="put the ledger back from a copy that is newer than its last round "
            "(securefed ledger export makes them); without it nobody knows what its patients "
            "have spent",
        )
    return Ledger.create(
        path,
        client=name,
        unit=privacy.unit,
        delta=privacy.delta,
        budget_epsilon=privacy.epsilon,
        accountant=privacy.accountant,
    )


def _begun(folder: Path) -> bool:
    """Whether anything is left of a run that has begun here."""
    traces = (Agreement.NAME, openings_file.NAME, "contributions")
    return _past_a_round(folder) or any((folder / trace).exists() for trace in traces)


def _past_a_round(folder: Path) -> bool:
    """Whether the run has come past its first round here."""
    return any(folder.glob(CheckPoint.parameters("*")))


def _canaries(job: JobDescription, folder: Path, declared: TrainingSet) -> CanarySecret:
    """The run's canaries: drawn when it starts, read again when it goes on."""
    count = job.settings.canaries.count
    if not _past_a_round(folder) and not (folder / canaries.FILE).exists():
        drawn = canaries.draw(folder.name, count, job.parameters)
        # Encoders that train have no tokens to enlarge, and without a clip nothing is tested.
        if job.settings.privacy.dp and not job.settings.model.train_encoders:
            drawn = replace(drawn, stress=stress_count(declared.records))
        canaries.save(drawn, folder)
    secret = canaries.read(folder)
    if (secret.hospital, len(secret), secret.parameters) != (folder.name, count, job.parameters):
        raise RunError(
            f"{folder / canaries.FILE} holds the canaries of another run",
            hint="put back the one that belongs here, from a backup",
        )
    return secret


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
