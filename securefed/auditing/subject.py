"""A run directory as the material of an audit: its truth, its exposures, its canaries.

Here the auditor's knowledge comes together, which no observer has: the patients are loaded again
and must be the run's own, rates and noise are those that each hospital's ledger holds. The command
line is the one place that may know both the federation and the attacks.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from attacks.subject import Canaries, Hospital, Subject, Training
from securefed.auditing.malicious_client import clients
from securefed.config import Settings
from securefed.data.load import FederatedData, HospitalData
from securefed.errors import RunError
from securefed.exposure import Exposure, Observer
from securefed.model.patients import PatientTensors
from securefed.model.sharing import shared_names
from securefed.model.strategies import build_strategy
from securefed.playback.observers import Observers
from securefed.privacy.accounting import sample_rate
from securefed.privacy.distributed import RingNoise
from securefed.privacy.ledger import Ledger
from securefed.record import jobs
from securefed.record.directory import RunDirectory, settings_of
from securefed.simulation.patients import load_data
from securefed.training import canaries
from securefed.training.patients import one_slice_records, stack
from securefed.wire.description import initial_network


def subject_of(directory: Path) -> Subject:
    """The subject of an audit of a finished run.

    Raises:
        RunError: no such run, not finished, its patients differ from those it was made with, or a
            ledger is missing.
        ConfigurationError, DataError: its patients cannot be loaded.
    """
    run = RunDirectory.open(directory)
    settings = settings_of(directory)
    rounds = _rounds(run)
    data = _same_patients(run, settings)
    network, _ = initial_network(settings)
    noise = _shared_noise(run, settings)
    return Subject(
        configuration=settings.configuration,
        network=network,
        shared=tuple(shared_names(network, settings.federation.shared)),
        encoders_train=settings.model.train_encoders,
        hospitals=tuple(_hospital(run, settings, each, noise) for each in data.hospitals),
        training=_training(settings, rounds),
        seed=settings.seed,
        canaries=canaries_of(directory),
        clients=partial(clients, settings.seed),
    )


def exposures_of(
    directory: Path, observers: Sequence[Observer], member: str | None = None
) -> dict[Observer, Exposure]:
    """What each observer of a run saw.

    Args:
        member: the peer, and the coalition's victim. None: the victim is the hospital that holds
            the canaries, or else the first; the peer is the one after it.

    Raises:
        ConfigurationError: no such hospital.
        RunError: the run was not recorded, or the recording is damaged.
    """
    names = _hospitals(RunDirectory.open(directory))
    held = canaries_of(directory)
    victim = member or (held.hospital if held else names[0])
    peer = member or names[(names.index(victim) + 1) % len(names)]
    saw = Observers(directory)
    return {each: saw.of(each, peer if each == "peer" else victim) for each in observers}


def canaries_of(directory: Path) -> Canaries | None:
    """The run's canaries, None if it held none; RunError if they are missing or damaged."""
    run = RunDirectory.open(directory)
    settings = settings_of(directory)
    if not settings.canaries.count:
        return None
    name = _hospitals(run)[settings.canaries.hospital - 1]
    secret = canaries.read(run.path / "hospitals" / name)
    return Canaries(secret.hospital, secret.included, secret.directions())


def _hospitals(run: RunDirectory) -> list[str]:
    return list(run.read_json("run.json")["data"]["hospitals"])


def _rounds(run: RunDirectory) -> int:
    """Training rounds that were finished."""
    if not (run.path / "summary.json").exists():
        raise RunError(
            f"the run in {run.path} is not finished (no summary.json)",
            hint=f"finish it: securefed run --resume {run.path}",
        )
    return int(run.read_json("summary.json")["rounds"])


def _same_patients(run: RunDirectory, settings: Settings) -> FederatedData:
    data = load_data(settings)
    recorded = run.read_json("run.json")["data"]["fingerprint"]
    if data.fingerprint != recorded:
        raise RunError(
            f"the patients differ from those of the run (fingerprint {data.fingerprint[:12]}..., "
            f"run.json has {recorded[:12]}...)",
            hint="an audit needs the very same scans, and for phantoms the same version",
        )
    return data


def _shared_noise(run: RunDirectory, settings: Settings) -> RingNoise | None:
    if settings.privacy.placement == "local":
        return None
    return jobs.read(run.exposures)[-1].noise


def _hospital(
    run: RunDirectory, settings: Settings, hospital: HospitalData, shared: RingNoise | None
) -> Hospital:
    train = stack(hospital.train, settings.training.max_slices)
    held_out = stack(hospital.test, settings.training.max_slices) if hospital.test else train[:0]
    records = _records(settings, train)
    rate = sample_rate(settings.training.batch_size, records)
    noise, claim = 0.0, None
    if settings.privacy.dp:
        path = run.path / "hospitals" / hospital.name / "ledger.sqlite"
        if not path.exists():
            raise RunError(f"{hospital.name} has no ledger at {path}")
        ledger = Ledger.open(path)
        claim = ledger.spent()
        spent = ledger.history()
        if spent:
            rate, noise = spent[-1].sample_rate, spent[-1].noise_multiplier
        if shared:  # the ledger holds the noise of all the shares that count
            noise = shared.share_sigma / shared.clip_steps
    return Hospital(
        name=hospital.name,
        train=train,
        held_out=held_out,
        sample_rate=rate,
        noise_multiplier=noise,
        claimed_epsilon=claim,
    )


def _records(settings: Settings, train: PatientTensors) -> int:
    return len(one_slice_records(train)) if settings.privacy.unit == "image" else len(train)


def _training(settings: Settings, rounds: int) -> Training:
    training, federation, privacy = settings.training, settings.federation, settings.privacy
    return Training(
        rounds=rounds,
        local_steps=training.local_steps,
        batch_size=training.batch_size,
        optimizer=training.optimizer,
        learning_rate=training.learning_rate,
        clip_norm=privacy.clip_norm if privacy.dp else None,
        unit=privacy.unit,
        shared_noise=privacy.placement == "distributed",
        strategy=build_strategy(federation.strategy, federation),
        delta=privacy.delta,
    )
