"""One hospital's training: receive shared parameters, take private steps, return what they give.

Every trainable parameter, shared or personal, moves only by what the hospital's mechanism makes of
its patients' gradients (`training.mechanism`). Encoders that are not trained are public: they were
initialised without any hospital's data, so features from them are computed once and kept. Epsilon
for a round is reserved in the ledger before the first patient of the round is drawn.

Without differential privacy the same Poisson sampling and the same steps are taken, without
clipping and noise, so that configurations differ only in what they must.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from securefed.errors import ConfigurationError, RunError
from securefed.model import task
from securefed.model.class_scores import count_group
from securefed.model.encoding import Encode, tokens_of
from securefed.model.network import FusionNetwork, encoder_of
from securefed.model.patients import PatientTensors, concatenate
from securefed.model.scores import Counts, score
from securefed.model.sharing import Vector, flatten, load_vector, shared_names
from securefed.privacy.ledger import Ledger, replay_key
from securefed.privacy.noise import CryptographicSource, KeystreamSource, SeededSource
from securefed.privacy.sampling import Sampling, expected
from securefed.training.augmentation import augmented
from securefed.training.canaries import CanaryRecords, CanarySecret
from securefed.training.mechanism import Gradients, Mechanism, Values
from securefed.training.patients import drop_modalities, one_slice_records
from securefed.training.private import (
    poisson_sample,
    refuse_batch_statistics,
    require_declared_public,
)
from securefed.training.step import Step
from securefed.training.stress import stress_records
from securefed.wire.contribution import Layout


@dataclass(frozen=True)
class TrainingSet:
    """How large a training set is for everything that follows from it, as the hospital declares it.

    With differential privacy the numbers carry noise (privacy.counts) and are no smaller than a
    batch: weight, sampling rate and noise follow from them alone, since each shows in what leaves.

    Attributes:
        patients: the FedAvg weight.
        records: privacy units: patients, or slices where the unit is image.
    """

    patients: int
    records: int


@dataclass(frozen=True)
class LocalPlan:
    """How a hospital trains.

    Attributes:
        shared: a key of SHARED_GROUPS.
        train_encoders: whether the encoders train too.
        optimizer, learning_rate: "adam" or "sgd" and its step size; state is kept over rounds.
        local_steps: steps per round.
        sampling: how a step draws records.
        proximal: mu of the strategy's proximal term, 0 for none.
        unit: "patient", with all its examples one record; or "image" for one per slice.
        modality_dropout: chance of a drawn example to be shown with one of its modalities only.
        seed: of the sampling without DP, and of seeded noise.
        mechanism: what it makes of its patients' gradients.
        declared: size of the training set; None takes it as it is.
        augment: whether a step sees drawn examples changed as scanners and heads differ.
    """

    shared: str
    train_encoders: bool
    optimizer: str
    learning_rate: float
    local_steps: int
    sampling: Sampling
    proximal: float
    unit: str
    seed: int
    mechanism: Mechanism
    declared: TrainingSet | None = None
    modality_dropout: float = 0.0
    augment: bool = False


class LocalTrainer:
    """A hospital's model and patients.

    Args:
        name: the hospital, separates its seeded randomness from the others'.
        network: starts from the run's initial parameters; changed in place.
        train, test: images as stacked patients.
        ledger: where epsilon is reserved; required exactly when the mechanism costs any.
        run: the run's identity in the ledger.
        canaries: made-up records among the patients, for auditing; they count for no rate, no
            expected batch and no number of patients.
        encode: patients as tokens, where encoders do not train.

    Attributes:
        patients: in the training set; the hospital's own knowledge.
        declared: what rate, expected batch and weight follow from.
        stepped: called after each step, for whoever measures how long one takes.
    """

    def __init__(
        self,
        name: str,
        network: FusionNetwork,
        train: PatientTensors,
        test: PatientTensors,
        plan: LocalPlan,
        ledger: Ledger | None,
        run: str,
        canaries: CanarySecret | None = None,
        encode: Encode = tokens_of,
    ) -> None:
        refuse_batch_statistics(network)
        for group in (train, test):
            task.require_labels(group.label, len(network.shape.classes))
        self.name = name
        self.stepped: Callable[[], object] = lambda: None
        self.patients = train.patients
        self.network = network
        self._plan = plan
        self._mechanism = plan.mechanism
        self._ledger = ledger
        self._run = run
        self._shared = shared_names(network, plan.shared)
        for encoder in network.encoders:
            encoder.requires_grad_(plan.train_encoders)
        self._encoded = not plan.train_encoders
        # Frozen encoders hold public weights (model.public_weights).
        public = [] if plan.train_encoders else map(encoder_of, network.shape.modalities)
        require_declared_public(network, list(public))
        if self._encoded:
            train, test = encode(network, train), encode(network, test)
        self._records = one_slice_records(train) if plan.unit == "image" else train
        self._test = test
        self.declared = plan.declared or TrainingSet(train.patients, self._records.patients)
        self._rate = plan.sampling.rate(self.declared.records)
        #: What a round costs, None where nothing is promised.
        self.event = plan.mechanism.event(self._rate, plan.local_steps)
        if (ledger is None) != (self.event is None):
            raise ValueError("a mechanism that costs epsilon needs a ledger, and only such a one")
        self._trainable = {n: p for n, p in network.named_parameters() if p.requires_grad}
        self._canaries = self._canary_records(canaries) if canaries else None
        #: What is drawn from: patients, then the stress records of a run with canaries.
        self._pool = self._records
        if canaries and canaries.stress:
            stress = stress_records(canaries.seed, canaries.stress, network)
            self._pool = concatenate([self._records, stress])
        # With its canaries, a seeded step is another release than without them.
        self._fingerprint = _fingerprint(self._records)
        self._fingerprint += self._canaries.identity if self._canaries is not None else b""
        if not plan.mechanism.personal_steps:
            self._require_one_shared_step()
        rule = torch.optim.Adam if plan.optimizer == "adam" else torch.optim.SGD
        self._optimizer = rule(self._trainable.values(), lr=plan.learning_rate)

    def receive(self, shared: Vector) -> None:
        """Take the server's shared parameters; RunError if they are not acceptable."""
        load_vector(self.network, self._shared, shared)

    def evaluate(self) -> Counts:
        """Counts of held-out scores under the current parameters."""
        self.network.eval()
        logits = score(self.network, self._test, encoded=self._encoded)
        return count_group(logits, self._test)

    def contribute(self, round_number: int) -> Values:
        """Train for a round; what the mechanism makes of it, for its layout.

        Raises:
            BudgetExceeded: the ledger refuses the round; nothing was computed.
        """
        self._reserve(round_number)
        self.network.train()
        return self._mechanism.contribute(self, round_number)

    def take_steps(self, round_number: int, gradients: Gradients) -> Vector:
        """The round's local steps; the change of the shared parameters, (P,), or where only a share
        of them travels (wire.blocks) of those, (k,). The others stay as they were received.

        Args:
            gradients: of a step, by parameter; whatever it returns moves the parameters.
        """
        received = {name: self._trainable[name].detach().clone() for name in self._shared}
        before, kept = flatten(received, self._shared), self._kept(round_number)
        for number in range(self._plan.local_steps):
            moved = gradients(*self.draw(round_number, number))
            for name, parameter in self._trainable.items():
                parameter.grad = moved[name]
                if self._plan.proximal and name in received:
                    # Public arithmetic on parameters: added after the noise, never clipped.
                    parameter.grad += self._plan.proximal * (parameter.detach() - received[name])
            self._optimizer.step()
            for name, ones in kept.items():  # an optimizer's memory moves them without a gradient
                parameter = self._trainable[name]
                parameter.data = torch.where(ones > 0, parameter.data, received[name])
            self.stepped()
        change = flatten(self._trainable, self._shared) - before
        blocks = self.layout.blocks
        return blocks.restrict(change, round_number) if blocks else change

    def draw(self, round_number: int, step: int) -> tuple[Step, KeystreamSource]:
        """A Poisson sample of all records, canaries last: one draw, one rate."""
        source = self._source(round_number, step)
        patients = self._pool.patients
        canaries = len(self._canaries) if self._canaries is not None else 0
        rows = torch.as_tensor(poisson_sample(patients + canaries, self._rate, source))
        drawn = self._pool.of_patients(rows[rows < patients])
        if self._plan.modality_dropout:
            drawn = drop_modalities(drawn, self._plan.modality_dropout, source)
        if self._plan.augment:
            drawn = augmented(drawn, source)
        sample = Step(
            network=self.network,
            trained=self._trainable,
            patients=drawn,
            canaries=self._canaries,
            drawn_canaries=rows[rows >= patients] - patients,
            shared=self._shared,
            encoded=self._encoded,
            expected=self.expected_batch,
            kept=self._kept(round_number),
        )
        return sample, source

    @property
    def layout(self) -> Layout:
        """How contributions are encoded."""
        return self._mechanism.layout

    @property
    def expected_batch(self) -> float:
        """Records that enter a step on average, as far as is declared; not how many were drawn."""
        return expected(self._plan.sampling, self.declared.records)

    @property
    def batch_parts(self) -> int:
        """The same in whole parts (privacy.sampling)."""
        return self._plan.sampling.parts(self.declared.records)

    def state(self) -> dict[str, Tensor]:
        """Personal parameters and optimizer state, to continue from."""
        tensors = {f"parameter.{name}": p.detach().clone() for name, p in self._trainable.items()}
        for name, parameter in self._trainable.items():
            for key, value in self._optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value.clone()
        return tensors

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state`."""
        for key, value in state.items():
            kind, rest = key.split(".", 1)
            if kind == "parameter":
                self._trainable[rest].copy_(value)
            else:
                slot, name = rest.split(".", 1)
                self._optimizer.state[self._trainable[name]][slot] = value.clone()

    def personal(self) -> dict[str, Tensor]:
        """The trained parameters that never leave the hospital."""
        return {n: p.detach() for n, p in self._trainable.items() if n not in self._shared}

    def _kept(self, round_number: int) -> dict[str, Tensor]:
        """1 for the coordinates of shared parameters that train in a round; empty if all do."""
        blocks = self.layout.blocks
        if blocks is None:
            return {}
        ones = np.ones(blocks.sent, np.float32)
        like = [self._trainable[name] for name in self._shared]
        ends = np.cumsum([each.numel() for each in like])
        parts = np.split(blocks.spread(ones, round_number), ends[:-1])
        return {
            name: torch.from_numpy(part).view_as(each).to(each.device, each.dtype)
            for name, part, each in zip(self._shared, parts, like, strict=True)
        }

    def _require_one_shared_step(self) -> None:
        # A personal parameter, or a second step, would need noise of the hospital's own.
        if set(self._trainable) != set(self._shared) or self._plan.local_steps != 1:
            raise ConfigurationError(
                "privacy.placement: distributed noise covers one step on shared parameters; "
                f"{len(self._trainable) - len(self._shared)} trained tensors are not shared, and "
                f"training.local_steps is {self._plan.local_steps}"
            )

    def _reserve(self, round_number: int) -> None:
        if self._ledger is None or self.event is None:
            return
        key = None if self._mechanism.secret_noise else self._replay_key(round_number)
        self._ledger.reserve(round_number, self.event, run=self._run, replay_key=key)

    def _replay_key(self, round_number: int) -> str:
        # Seeded steps from the same state on the same patients release the same bits again.
        state = [f"{name}\0".encode() + _bytes(value) for name, value in self.state().items()]
        plan = f"{self.name}\0{round_number}\0{self._plan}".encode()
        return replay_key(plan, self._fingerprint, *state)

    def _source(self, round_number: int, step: int) -> KeystreamSource:
        if self._mechanism.secret_noise:
            return CryptographicSource()
        return SeededSource(self._plan.seed, "training", self.name, round_number, step)

    def _canary_records(self, secret: CanarySecret) -> CanaryRecords:
        parameters = sum(self._trainable[name].numel() for name in self._shared)
        if secret.parameters != parameters:
            raise RunError(
                f"canaries of {secret.parameters} parameters, the network has {parameters}"
            )
        records = CanaryRecords(secret, self._mechanism.clip_norm, self._shared)
        records.to(self._records.label.device)
        return records


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()


def _fingerprint(group: PatientTensors) -> bytes:
    digest = hashlib.sha256()
    digest.update("\0".join(group.modalities).encode())
    for each in (group.images, group.present, group.label, group.patient):
        digest.update(_bytes(each))
    return digest.digest()
