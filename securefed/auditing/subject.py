"""The subject of an audit: the truth of a run and its canaries.

Here the auditor's knowledge comes together, which no observer has: the patients are loaded again
and must be the run's own, rates and noise are those that each hospital's ledger holds. From one
party's folder it is what that party knows: a hospital its own patients, a server nobody's.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial

from attacks.subject import Canaries, Hospital, Subject, Training
from securefed.auditing.malicious_client import clients
from securefed.config import Settings
from securefed.data.load import HospitalData
from securefed.errors import RunError
from securefed.hospital.patients import load_patients
from securefed.hospital.tokens import kept_with
from securefed.model.encoding import Encode, tokens_of
from securefed.model.sharing import shared_names
from securefed.model.strategies import build_strategy
from securefed.privacy.distributed import RingNoise
from securefed.privacy.sampling import expected
from securefed.record import jobs
from securefed.record.agreement import Agreement
from securefed.run_directory import Run
from securefed.simulation.patients import load_data
from securefed.training import canaries
from securefed.training.mechanism import build_mechanism
from securefed.training.noising_optimizer import CLIPPED
from securefed.training.patients import stack
from securefed.training.stress import stress_records
from securefed.training.trainer import TrainingSet
from securefed.wire.contribution import ContributionLayout
from securefed.wire.description import initial_network, layout_of


def subject_of(run: Run) -> Subject:
    """The subject of an audit of a finished run.

    Raises:
        RunError: not finished, its patients differ from those it was made with, or a ledger is
            missing.
        ConfigurationError, DataError: its patients cannot be loaded.
    """
    run.require_finished()
    settings = run.settings
    network, _ = initial_network(settings)
    noise = _shared_noise(run)
    encode: Encode = tokens_of
    if not settings.model.train_encoders:  # or the next run has no use for them
        encode = kept_with(settings, run.about.data.simulation or "")
    return Subject(
        configuration=settings.configuration,
        network=network,
        shared=tuple(shared_names(network, settings.federation.shared)),
        encoders_train=settings.model.train_encoders,
        hospitals=tuple(_hospital(run, each, noise) for each in _same_patients(run)),
        training=_training(settings, run.trained),
        seed=settings.seed,
        canaries=canaries_of(run),
        clients=partial(clients, settings.seed),
        encode=encode,
    )


def canaries_of(run: Run) -> Canaries | None:
    """The run's canaries, None if it held none; RunError if they are missing or damaged."""
    held = run.settings.canaries
    if not held.count:
        return None
    secret = canaries.read(run.hospital(run.hospitals[held.hospital - 1]))
    stress = None
    if secret.stress:
        stress = stress_records(secret.seed, secret.stress, initial_network(run.settings)[0])
    return Canaries(secret.hospital, secret.included, secret.directions(), stress)


def _same_patients(run: Run) -> Sequence[HospitalData]:
    """Those whom the run was made with, as far as they are this party's."""
    recorded, settings = run.about.data.fingerprint, run.settings
    hospitals: Sequence[HospitalData]
    if recorded is None:
        return ()
    if run.party == "hospital":
        (name,) = run.here
        own = load_patients(name, settings, begun=True)
        hospitals, found = [own.patients], own.fingerprint
    else:
        data = load_data(settings, begun=True)
        hospitals, found = data.hospitals, data.fingerprint
    if found != recorded:
        raise RunError(
            f"the patients differ from those of the run (fingerprint {found[:12]}..., "
            f"run.json has {recorded[:12]}...)",
            hint="an audit needs the very same scans and their site key, and for phantoms the same "
            "version",
        )
    return hospitals


def _shared_noise(run: Run) -> RingNoise | None:
    if run.settings.privacy.placement == "local":
        return None
    return jobs.read(run.exposures)[-1].noise


def _hospital(run: Run, hospital: HospitalData, shared: RingNoise | None) -> Hospital:
    settings = run.settings
    train = stack(hospital.train, settings.training.max_slices)
    held_out = stack(hospital.test, settings.training.max_slices) if hospital.test else train[:0]
    agreed = Agreement.read(run.hospital(hospital.name))
    declared = TrainingSet(agreed.declared_patients, agreed.declared_records)
    sampling = settings.training.sampling
    rate = sampling.rate(declared.records)
    noise, claim, accounted = 0.0, None, 0.0
    reserved: Mapping[int, int] = {}
    if settings.privacy.dp:
        ledger = run.ledgers[hospital.name]
        claim, reserved = ledger.guarantee().counted, ledger.attempts(run.about.run)
        spent = [each.event for each in ledger.reservations if each.run == run.about.run]
        if spent:
            rate, accounted = spent[-1].sample_rate, spent[-1].noise_multiplier
        else:  # a ledger that claims nothing: what was released is held against the settings
            accounted = _agreed_noise(run, hospital.name, declared, rate, shared)
        # The ledger holds the noise of all the shares that count.
        noise = shared.share_sigma / shared.clip_steps if shared else accounted
    return Hospital(
        name=hospital.name,
        train=train,
        held_out=held_out,
        sample_rate=rate,
        noise_multiplier=noise,
        claimed_epsilon=claim,
        weight=declared.patients,
        expected_batch=expected(sampling, declared.records),
        accounted_noise=accounted,
        reserved=reserved,
        encoding_error=_encoding_error(settings, declared.patients),
    )


def _agreed_noise(
    run: Run, hospital: str, of: TrainingSet, rate: float, shared: RingNoise | None
) -> float:
    """The noise multiplier that the run's settings ask of a hospital with that training set."""
    if shared:
        return shared.noise_multiplier
    mechanism = build_mechanism(run.job, hospital, of.records)
    event = mechanism.event(rate, run.settings.training.local_steps)
    return event.noise_multiplier if event else 0.0


def _encoding_error(settings: Settings, patients: int) -> float:
    """Largest error of an entry of a hospital's update by fixed point; 0 where there is none."""
    secure = settings.secure_aggregation
    if not secure.enabled or settings.privacy.placement == "distributed":
        return 0.0
    layout = layout_of(settings, parameters=1, noise=None)
    assert isinstance(layout, ContributionLayout)  # noqa: S101  # without shared noise
    return layout.error_bound(clients=1, patients=patients)


def _training(settings: Settings, rounds: int) -> Training:
    training, federation, privacy = settings.training, settings.federation, settings.privacy
    return Training(
        rounds=rounds,
        local_steps=training.local_steps,
        optimizer=training.optimizer,
        learning_rate=training.learning_rate,
        clip_norm=privacy.clip_norm if privacy.dp else None,
        unit=privacy.unit,
        shared_noise=privacy.placement == "distributed",
        strategy=build_strategy(federation.strategy, federation),
        delta=privacy.delta,
        value_range=_value_range(settings),
        clipped=CLIPPED if privacy.placement == "local" else 1.0,
    )


def _value_range(settings: Settings) -> float:
    """Where masks cut entries of an update; shared noise has the whole ring."""
    secure = settings.secure_aggregation
    cut = secure.enabled and settings.privacy.placement == "local"
    return secure.value_range if cut else math.inf
