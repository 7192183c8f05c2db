"""The subject of an audit: what the auditor knows of a run and no attacker is told.

Attacks get public parts of it (network, names, training settings) as their adversary would. The
patients are the truth that results are scored with, and the pool that shadow models draw from.
Built by the command line from a run directory; no attack reads files.
"""

from dataclasses import dataclass, field

from securefed.model.network import DualEncoderNetwork
from securefed.model.patients import PatientTensors
from securefed.model.strategies.strategy import Strategy


@dataclass(frozen=True)
class Hospital:
    """One hospital's truth.

    Attributes:
        train, held_out: its patients, as uint8 images.
        sample_rate: probability with which a training patient enters a step.
        noise_multiplier: of the noise this hospital adds to its own sum, over clip_norm; 0 without
            differential privacy. Under shared noise: of its share.
        claimed_epsilon: from its ledger; None without differential privacy.
    """

    name: str
    train: PatientTensors = field(repr=False)
    held_out: PatientTensors = field(repr=False)
    sample_rate: float
    noise_multiplier: float
    claimed_epsilon: float | None


@dataclass(frozen=True)
class Training:
    """How hospitals and server train; public settings.

    Attributes:
        rounds, local_steps, batch_size: of the run; batch_size is the expected number per step.
        optimizer, learning_rate: of a hospital, "sgd" or "adam".
        clip_norm: None without differential privacy.
        unit: "patient" or "image".
        shared_noise: hospitals share out one noise (privacy.placement: distributed); then what is
            shared is one SGD step over the union.
        strategy: of the server, and what it asks clients to add.
        delta: of the claim.
    """

    rounds: int
    local_steps: int
    batch_size: int
    optimizer: str
    learning_rate: float
    clip_norm: float | None
    unit: str
    shared_noise: bool
    strategy: Strategy
    delta: float


@dataclass(frozen=True)
class Subject:
    """One run as the auditor knows it.

    Attributes:
        configuration: plain, dp, secure or dp+secure.
        network: the initial network: frozen encoders are public, and every shared parameter is
            overwritten by an exposure's. Attacks copy it before they change it.
        shared: names of the shared parameters, in vector order.
        encoders_train: whether encoders are trained too (then not public).
        seed: of the run, and of everything random in the audit.
    """

    configuration: str
    network: DualEncoderNetwork = field(repr=False)
    shared: tuple[str, ...] = field(repr=False)
    encoders_train: bool
    hospitals: tuple[Hospital, ...]
    training: Training
    seed: int
