"""What a run will cost a hospital's patients, as far as it is known before anything is declared."""

from collections.abc import Sequence

from securefed.hospital.declaration import least_declared
from securefed.privacy.accounting import Event
from securefed.training.mechanism import build_mechanism
from securefed.wire.description import JobDescription, beside_training, score_noise_of


def planned(job: JobDescription, hospital: str, patients: int) -> Sequence[Event]:
    """For those that train: what is released beside, and its rounds, as if the true number were
    declared.

    How many records a hospital has where these are images follows from its tensors: then nothing
    is planned here, and each reservation refuses in time.

    Args:
        patients: that train.
    """
    training = job.settings.training
    if job.settings.privacy.unit == "image":
        return ()
    declared = max(patients, least_declared(job.settings).records)
    event = build_mechanism(job, hospital, declared).event(
        training.sampling.rate(declared), training.local_steps
    )
    rounds = [event] * job.plan.turns(hospital) if event else []
    return [*beside_training(job.settings), *rounds]


def scored(job: JobDescription) -> Sequence[Event]:
    """For those that are held out: the one noised scoring; nothing where scores are exact."""
    noise = score_noise_of(job.settings)
    return [noise.event] if noise else []
