"""From settings to the parts of a federation. Settings stop here: parts take plain values."""

import copy
import uuid
from collections.abc import Callable

import torch

from protocols.parameters import JobRules
from securefed.config import Settings
from securefed.data.load import (
    FederatedData,
    HospitalData,
)
from securefed.errors import ConfigurationError, PrivacyError, RunError
from securefed.model.network import DualEncoderNetwork
from securefed.model.patients import PatientTensors
from securefed.privacy.accounting import solve_noise_multiplier
from securefed.privacy.distributed import calibrate, counted_shares
from securefed.privacy.ledger import Ledger
from securefed.privacy.ring_code import RingCode, padded
from securefed.record.directory import RunDirectory
from securefed.training import canaries
from securefed.training.canaries import CanarySecret
from securefed.training.patients import one_slice_records, stack
from securefed.training.trainer import LocalPlan, LocalTrainer, PrivateSteps, sample_rate

View = Callable[[PatientTensors], PatientTensors]


def choose_device(name: str) -> torch.device:
    """The device of a settings name; ConfigurationError if there is no such device here."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("device: cuda is not available here", hint="use --device cpu")
    available = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(available if name == "auto" else name)


def build_trainer(
    settings: Settings,
    directory: RunDirectory,
    hospital: HospitalData,
    network: DualEncoderNetwork,
    device: torch.device,
    run: str,
    view: View | None = None,
    ring: RingCode | None = None,
    canaries: CanarySecret | None = None,
) -> tuple[LocalTrainer, Ledger | None]:
    """A hospital's trainer and its ledger (None without DP).

    Args:
        view: what the hospital sees of its patients, for baselines.
        ring: where hospitals share out the noise; None: the hospital's own.
        canaries: the run's; they join the records of their own hospital only.
    """
    if len(hospital.train) > settings.secure_aggregation.max_patients:
        raise ConfigurationError(
            f"{hospital.name} has {len(hospital.train)} training patients, "
            f"secure_aggregation.max_patients is {settings.secure_aggregation.max_patients}",
            hint="raise it, the same for all hospitals",
        )
    train = stack(hospital.train, settings.training.max_slices).to(device)
    # A hospital too small to hold anybody out trains, and adds nothing to the evaluation.
    test = (
        stack(hospital.test, settings.training.max_slices).to(device)
        if hospital.test
        else train[:0]
    )
    if view:
        train, test = view(train), view(test)
    private, ledger = None, None
    if settings.privacy.dp:
        private, ledger = _private_steps(settings, directory, hospital.name, train, ring)
    training, federation = settings.training, settings.federation
    plan = LocalPlan(
        shared=federation.shared,
        train_encoders=settings.model.train_encoders,
        optimizer=training.optimizer,
        learning_rate=training.learning_rate,
        local_steps=training.local_steps,
        batch_size=training.batch_size,
        proximal=federation.proximal if federation.strategy == "fedprox" else 0.0,
        unit=settings.privacy.unit,
        seed=settings.seed,
        private=private,
    )
    own = copy.deepcopy(network).to(device)
    theirs = canaries if canaries and canaries.hospital == hospital.name else None
    return LocalTrainer(hospital.name, own, train, test, plan, ledger, run, theirs), ledger


def build_canaries(
    settings: Settings, directory: RunDirectory, data: FederatedData, parameters: int
) -> CanarySecret | None:
    """The run's canaries, drawn when it starts and read again when it is resumed; None without.

    Args:
        parameters: how many are shared.

    Raises:
        ConfigurationError: no such hospital, or no room for so many.
        RunError: the canaries of a run that has begun are missing or are not its own.
    """
    count, position = settings.canaries.count, settings.canaries.hospital
    if not count:
        return None
    if settings.evaluation.baselines:
        raise ConfigurationError(
            "canaries.count: baselines are not compared with a run that holds canaries",
            hint="leave out --canaries or --baselines",
        )
    if position > len(data.hospitals):
        raise ConfigurationError(
            f"canaries.hospital is {position}, but there are {len(data.hospitals)} hospitals"
        )
    name = data.hospitals[position - 1].name
    folder = directory.hospital(name)
    begun = (directory.path / "checkpoint.json").exists()
    if not begun and not (folder / canaries.FILE).exists():
        canaries.save(canaries.draw(name, count, parameters), folder)
    secret = canaries.read(folder)
    if (secret.hospital, len(secret), secret.parameters) != (name, count, parameters):
        raise RunError(f"{folder / canaries.FILE} holds the canaries of another run")
    return secret


def secure_rules(settings: Settings, vector_length: int) -> JobRules:
    """The rules of a new job that every client enforces."""
    return JobRules(
        job=uuid.uuid4().hex,
        vector_length=vector_length,
        allow_two_party=settings.secure_aggregation.allow_two_party,
        # No client answers for a sum over fewer hospitals than every round has.
        minimum_cohort=_cohort(settings),
        max_rounds=2**31,  # sums are numbered apart from training rounds
    )


def build_ring(settings: Settings, data: FederatedData, parameters: int) -> RingCode | None:
    """How gradients and shared noise are encoded; None if each hospital's noise is its own.

    The noise is solved at the largest sampling rate of any hospital, for the fewest survivors that
    the clients let a round have.

    Args:
        parameters: how many are shared.

    Raises:
        ConfigurationError, PrivacyError: no noise share does what is asked.
    """
    privacy, cohort = settings.privacy, _cohort(settings)
    if privacy.placement == "local":
        return None
    dimension, batch = padded(parameters), settings.training.batch_size
    fewest = secure_rules(settings, dimension).threshold(cohort)
    smallest = min(len(hospital.train) for hospital in data.hospitals)
    multiplier = solve_noise_multiplier(
        privacy.epsilon,
        privacy.delta,
        sample_rate(batch, smallest),
        settings.federation.rounds,
        privacy.accountant,
    )
    noise = calibrate(
        multiplier,
        dimension=dimension,
        rounds=settings.federation.rounds,
        counted=counted_shares(cohort, fewest, privacy.colluding),
        hospitals=cohort,
        expected_batch=batch * cohort,
    )
    return RingCode(parameters, privacy.clip_norm, noise)


def _cohort(settings: Settings) -> int:
    return settings.federation.clients_per_round or settings.federation.clients


def _private_steps(
    settings: Settings,
    directory: RunDirectory,
    name: str,
    train: PatientTensors,
    ring: RingCode | None,
) -> tuple[PrivateSteps, Ledger]:
    privacy = settings.privacy
    records = len(one_slice_records(train)) if privacy.unit == "image" else len(train)
    if privacy.delta >= 1 / records:
        raise PrivacyError(
            f"privacy.delta {privacy.delta:g} is not below 1 / {records}, the {privacy.unit}s "
            f"of {name}",
            hint=f"set privacy.delta to {0.1 / records:.1g} or smaller",
        )
    # A client that is not asked in every round spends less; the budget holds for all of them.
    steps = settings.federation.rounds * settings.training.local_steps
    multiplier = (
        ring.noise.noise_multiplier
        if ring
        else solve_noise_multiplier(
            privacy.epsilon,
            privacy.delta,
            sample_rate(settings.training.batch_size, records),
            steps,
            privacy.accountant,
        )
    )
    path = directory.hospital(name) / "ledger.sqlite"
    if path.exists():
        ledger = Ledger.open(path)
    else:
        ledger = Ledger.create(
            path,
            client=name,
            unit=privacy.unit,
            delta=privacy.delta,
            budget_epsilon=privacy.epsilon,
            accountant=privacy.accountant,
        )
    return PrivateSteps(privacy.clip_norm, multiplier, privacy.seeded_noise, ring), ledger
