"""The subject of an audit: what the auditor knows of a run and no attacker is told.

Attacks get public parts of it (network, names, training settings) as their adversary would. The
patients are the truth that results are scored with, and the pool that shadow models draw from.
Built by `securefed.auditing` from a run directory; no attack reads files.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from attacks.errors import InvalidScores
from attacks.statistics.targets import Bools, membership_vector
from securefed.model.encoding import Encode, tokens_of
from securefed.model.network import FusionNetwork
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
        weight: of its updates in a mean: the training patients that it declares.
        expected_batch: what it divides a sum of gradients by, records.
        accounted_noise: noise multiplier in its ledger, of all the noise that hides a patient.
        reserved: round -> how often its ledger reserved it, of this run.
        encoding_error: largest error of an entry of its update by fixed point; 0 in the clear.
    """

    name: str
    train: PatientTensors = field(repr=False)
    held_out: PatientTensors = field(repr=False)
    sample_rate: float
    noise_multiplier: float
    claimed_epsilon: float | None
    weight: int
    expected_batch: float
    accounted_noise: float = 0.0
    reserved: Mapping[int, int] = field(default_factory=dict, repr=False, hash=False)
    encoding_error: float = 0.0


@dataclass(frozen=True)
class Training:
    """How hospitals and server train; public settings.

    Attributes:
        rounds, local_steps: of the run.
        optimizer, learning_rate: of a hospital, "sgd" or "adam".
        clip_norm: that noise is in units of; None without differential privacy.
        clipped: share of clip_norm that a record is clipped to.
        unit: "patient" or "image".
        shared_noise: hospitals share out one noise (privacy.placement: distributed); then what is
            shared is one SGD step over the union.
        strategy: of the server, and what it asks clients to add.
        delta: of the claim.
        value_range: entries of an update are cut there before they are sent.
    """

    rounds: int
    local_steps: int
    optimizer: str
    learning_rate: float
    clip_norm: float | None
    unit: str
    shared_noise: bool
    strategy: Strategy
    delta: float
    value_range: float = math.inf
    clipped: float = 1.0

    @property
    def clipped_to(self) -> float | None:
        """Longest that a record's gradient is after clipping; None without."""
        return None if self.clip_norm is None else self.clipped * self.clip_norm


@dataclass(frozen=True, eq=False)
class Canaries:
    """The canaries of a run, as its own hospital kept them.

    Attributes:
        hospital: whose records they were among.
        included: the coins, (M,).
        directions: unit vectors in the space of the shared parameters, (M, P).
        stress: made-up patients beside them, as tokens, all included; None where there are none.

    Raises:
        InvalidScores: no canaries, or sizes that differ.
    """

    hospital: str
    included: Bools = field(repr=False)
    directions: npt.NDArray[np.float32] = field(repr=False)
    stress: PatientTensors | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.directions.ndim != 2 or not len(self.directions):
            raise InvalidScores(f"directions have shape {self.directions.shape}")
        membership_vector(self.included, len(self.directions), "included")


@dataclass(frozen=True, eq=False)
class Client:
    """A client as shipped, to which a server may send anything; not one of the run's.

    Attributes:
        kind: "plain" in the clear, "secure" behind secure aggregation.
        deliver: (round, shared parameters as sent) -> the name of the client's refusal, or "".
        oversized: sends a message over the limit; -> the refusal's name, or "".
        shared: honest shared parameters, (P,), float32.
        imprinted: the same of attacks.head.imprint, (P,).
        architecture: number of shared parameters of another architecture.
        divided: opens a secure sum whose other hospitals got `silenced` parameters of
            attacks.head.imprint; -> why it does not give the victim away, or "". None without
            secure aggregation: there the server has each update anyway.
        rules: breaks a rule of the job, by its name; -> the refusal's name, or "".
    """

    kind: str
    deliver: Callable[[int, bytes], str]
    oversized: Callable[[], str]
    shared: npt.NDArray[np.float32] = field(repr=False)
    imprinted: npt.NDArray[np.float32] = field(repr=False)
    architecture: int
    divided: Callable[[], str] | None
    rules: Mapping[str, Callable[[], str]] = field(default_factory=dict)


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
        canaries: that the run held, or None.
        clients: makes clients of every kind, to be tried one after the other.
        encode: a hospital's patients as tokens; all of them at once, as the run had them, may have
            been kept.
    """

    configuration: str
    network: FusionNetwork = field(repr=False)
    shared: tuple[str, ...] = field(repr=False)
    encoders_train: bool
    hospitals: tuple[Hospital, ...]
    training: Training
    seed: int
    canaries: Canaries | None = field(default=None, repr=False)
    clients: Callable[[], Iterable[Client]] = field(default=tuple, repr=False)
    encode: Encode = field(default=tokens_of, repr=False)
