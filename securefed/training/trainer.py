"""One hospital's training: receive shared parameters, take private steps, return the update.

Every trainable parameter, shared or personal, moves only by gradients that went through
`training.private` (per-record clipping and noise). Encoders that are not trained are public: they
were initialised without any hospital's data, so features from them are computed once and kept.
Epsilon for a round is reserved in the ledger before the first patient of the round is drawn.

Without differential privacy the same Poisson sampling and the same steps are taken, without
clipping and noise, so that configurations differ only in what they must.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from securefed.errors import ConfigurationError, RunError
from securefed.model.encoding import tokens_of
from securefed.model.network import DualEncoderNetwork
from securefed.model.patients import PatientTensors
from securefed.model.scores import Counts, count_scores, score
from securefed.model.sharing import Vector, flatten, load_vector, shared_names
from securefed.privacy.accounting import Event
from securefed.privacy.ledger import Ledger, replay_key
from securefed.privacy.noise import CryptographicSource, KeystreamSource, SeededSource
from securefed.privacy.ring_code import RingCode, Rows, Words
from securefed.training.canaries import CanaryRecords, CanarySecret, NetworkWithCanaries
from securefed.training.patients import one_slice_records
from securefed.training.private import (
    Forward,
    patient_gradients,
    poisson_sample,
    private_gradients,
    refuse_batch_statistics,
    require_declared_public,
)

PUBLIC = ("encoder_ct", "encoder_mri")  # frozen encoders hold public weights (model.public_weights)
GRADIENT_CHUNK = 16  # patients whose gradients are held at once, when encoders train


@dataclass(frozen=True)
class PrivateSteps:
    """The privacy of each step: clip to `clip_norm`, add noise of `noise_multiplier` times it.

    With `ring`, the noise is the sum of several hospitals' shares, and the step is the server's.
    """

    clip_norm: float
    noise_multiplier: float
    seeded_noise: bool
    ring: RingCode | None = None


@dataclass(frozen=True)
class LocalPlan:
    """How a hospital trains.

    Attributes:
        shared: a key of SHARED_GROUPS.
        train_encoders: whether the encoders train too.
        optimizer, learning_rate: "adam" or "sgd" and its step size; state is kept over rounds.
        local_steps: steps per round.
        batch_size: expected records per step (Poisson sampling).
        proximal: FedProx mu, 0 for none.
        unit: "patient", or "image" for one record per slice.
        seed: of the sampling without DP, and of seeded noise.
        private: None trains without differential privacy.
    """

    shared: str
    train_encoders: bool
    optimizer: str
    learning_rate: float
    local_steps: int
    batch_size: int
    proximal: float
    unit: str
    seed: int
    private: PrivateSteps | None


def sample_rate(batch_size: int, records: int) -> float:
    """Probability that a record enters a step: exactly the expected batch over the records."""
    return min(1.0, batch_size / records)


class LocalTrainer:
    """A hospital's model and patients.

    Args:
        name: the hospital, separates its seeded randomness from the others'.
        network: starts from the run's initial parameters; changed in place.
        train, test: images as stacked patients.
        ledger: where epsilon is reserved; required exactly when the plan is private.
        run: the run's identity in the ledger.
        canaries: made-up records among the patients, for auditing; they count for no rate, no
            expected batch and no number of patients.
    """

    def __init__(
        self,
        name: str,
        network: DualEncoderNetwork,
        train: PatientTensors,
        test: PatientTensors,
        plan: LocalPlan,
        ledger: Ledger | None,
        run: str,
        canaries: CanarySecret | None = None,
    ) -> None:
        if (ledger is None) != (plan.private is None):
            raise ValueError("a private plan needs a ledger, and only a private plan has one")
        refuse_batch_statistics(network)
        self.name = name
        self.patients = len(train)
        self.network = network
        self._plan = plan
        self._ledger = ledger
        self._run = run
        self._shared = shared_names(network, plan.shared)
        for parameter in (*network.encoder_ct.parameters(), *network.encoder_mri.parameters()):
            parameter.requires_grad_(plan.train_encoders)
        self._encoded = not plan.train_encoders
        require_declared_public(network, [] if plan.train_encoders else PUBLIC)
        if self._encoded:
            train, test = tokens_of(network, train), tokens_of(network, test)
        self._records = one_slice_records(train) if plan.unit == "image" else train
        self._test = test
        self._rate = sample_rate(plan.batch_size, len(self._records))
        #: What a round costs, None without differential privacy.
        self.event: Event | None = None
        if plan.private:
            multiplier, ring = plan.private.noise_multiplier, plan.private.ring
            shares = ring.noise.counted if ring else 1
            self.event = Event(multiplier, self._rate, plan.local_steps, noise_from=shares)
        self._trainable = {n: p for n, p in network.named_parameters() if p.requires_grad}
        self._canaries = self._canary_records(canaries) if canaries else None
        # With its canaries, a seeded step is another release than without them.
        self._fingerprint = _fingerprint(self._records)
        self._fingerprint += self._canaries.identity if self._canaries is not None else b""
        if plan.private and plan.private.ring:
            self._require_one_shared_step()
        rule = torch.optim.Adam if plan.optimizer == "adam" else torch.optim.SGD
        self._optimizer = rule(self._trainable.values(), lr=plan.learning_rate)

    def receive(self, shared: Vector) -> None:
        """Take the server's shared parameters; RunError if they are not acceptable."""
        load_vector(self.network, self._shared, shared)

    def evaluate(self) -> Counts:
        """Histogram of held-out scores under the current parameters."""
        self.network.eval()
        logits = score(self.network, self._test, encoded=self._encoded)
        return count_scores(logits, self._test.label)

    def train(self, round_number: int) -> Vector:
        """Take the round's local steps; returns the change of the shared parameters, (P,).

        Raises:
            BudgetExceeded: the ledger refuses the round; nothing was computed.
        """
        if self._plan.private and self._plan.private.ring:
            raise ValueError("a plan with shared noise trains in the ring only")
        self._reserve(round_number)
        self.network.train()
        received = {name: self._trainable[name].detach().clone() for name in self._shared}
        before = flatten(received, self._shared)
        for step in range(self._plan.local_steps):
            source = self._source(round_number, step)
            gradients = self._gradients(self._draw(source), source)
            for name, parameter in self._trainable.items():
                parameter.grad = gradients[name]
                if self._plan.proximal and name in received:
                    # Public arithmetic on parameters: added after the noise, never clipped.
                    parameter.grad += self._plan.proximal * (parameter.detach() - received[name])
            self._optimizer.step()
        return flatten(self._trainable, self._shared) - before

    def train_in_ring(self, round_number: int) -> Words:
        """This hospital's part of one step over the union: the noised sum of clipped gradients.

        Nothing moves here: the server takes the step and sends the result.

        Raises:
            BudgetExceeded: the ledger refuses the round; nothing was computed.
        """
        private = self._plan.private
        if private is None or private.ring is None:
            raise ValueError("only a plan with shared noise trains in the ring")
        self._reserve(round_number)
        self.network.train()
        source = self._source(round_number, 0)
        gradients = self._gradient_rows(self._draw(source))
        return private.ring.encode(gradients, round_number, source)

    @property
    def expected_batch(self) -> int:
        """Records that enter a step on average."""
        return min(self._plan.batch_size, len(self._records))

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

    def _require_one_shared_step(self) -> None:
        # A personal parameter, or a second step, would need noise of the hospital's own.
        if set(self._trainable) != set(self._shared) or self._plan.local_steps != 1:
            raise ConfigurationError(
                "privacy.placement: distributed noise covers one step on shared parameters; "
                f"{len(self._trainable) - len(self._shared)} trained tensors are not shared, and "
                f"training.local_steps is {self._plan.local_steps}"
            )

    def _reserve(self, round_number: int) -> None:
        private = self._plan.private
        if self._ledger is None or private is None or self.event is None:
            return
        key = self._replay_key(round_number) if private.seeded_noise else None
        self._ledger.reserve(round_number, self.event, run=self._run, replay_key=key)

    def _replay_key(self, round_number: int) -> str:
        # Seeded steps from the same state on the same patients release the same bits again.
        state = [f"{name}\0".encode() + _bytes(value) for name, value in self.state().items()]
        plan = f"{self.name}\0{round_number}\0{self._plan}".encode()
        return replay_key(plan, self._fingerprint, *state)

    def _source(self, round_number: int, step: int) -> KeystreamSource:
        private = self._plan.private
        if private is not None and not private.seeded_noise:
            return CryptographicSource()
        return SeededSource(self._plan.seed, "training", self.name, round_number, step)

    def _draw(self, source: KeystreamSource) -> "_Drawn":
        """A Poisson sample of all records, canaries last: one draw, one rate."""
        patients, canaries = (
            len(self._records),
            len(self._canaries) if self._canaries is not None else 0,
        )
        rows = torch.as_tensor(poisson_sample(patients + canaries, self._rate, source))
        return _Drawn(self._records[rows[rows < patients]], rows[rows >= patients] - patients)

    def _gradients(self, drawn: "_Drawn", source: KeystreamSource) -> dict[str, Tensor]:
        expected = self._rate * len(self._records)
        private = self._plan.private
        if private is None:
            return self._plain_gradients(drawn, expected)
        gradients = private_gradients(
            self._model(),
            self._loss_of_record,
            self._tensors(drawn),
            clip_norm=private.clip_norm,
            noise_multiplier=private.noise_multiplier,
            expected_batch_size=expected,
            source=source,
            chunk=None if self._encoded else GRADIENT_CHUNK,
        )
        return {name.removeprefix("network."): value for name, value in gradients.items()}

    def _gradient_rows(self, drawn: "_Drawn") -> Iterator[Rows]:
        """The records' gradients in chunks (n, P), in the order of the shared vector; private."""
        batch = self._tensors(drawn)
        records = len(batch["label"])
        size = max(1, records) if self._encoded else GRADIENT_CHUNK
        for start in range(0, records, size):
            part = {name: tensor[start : start + size] for name, tensor in batch.items()}
            gradients = patient_gradients(self._model(), self._loss_of_record, part)
            named = {name.removeprefix("network."): rows for name, rows in gradients.items()}
            flat = [named[name].reshape(len(part["label"]), -1) for name in self._shared]
            yield torch.cat(flat, dim=1).double().cpu().numpy()

    def _canary_records(self, secret: CanarySecret) -> CanaryRecords:
        parameters = sum(self._trainable[name].numel() for name in self._shared)
        if secret.parameters != parameters:
            raise RunError(
                f"canaries of {secret.parameters} parameters, the network has {parameters}"
            )
        private = self._plan.private
        records = CanaryRecords(secret, private.clip_norm if private else None, self._shared)
        records.to(self._records.label.device)
        return records

    def _model(self) -> nn.Module:
        return (
            NetworkWithCanaries(self.network, self._canaries)
            if self._canaries is not None
            else self.network
        )

    def _tensors(self, drawn: "_Drawn") -> dict[str, Tensor]:
        if self._canaries is not None:
            return self._canaries.batch(drawn.patients, drawn.canaries)
        return _tensors(drawn.patients)

    def _loss_of_record(self, forward: Forward, record: Mapping[str, Tensor]) -> Tensor:
        images = (record["ct"], record["mri"], record["has_ct"], record["has_mri"])
        if self._canaries is None:
            logit = forward(*images, encoded=self._encoded)
            return F.binary_cross_entropy_with_logits(logit, record["label"])
        logit, along = forward(record["canary"], *images, encoded=self._encoded)
        loss = F.binary_cross_entropy_with_logits(logit, record["label"])
        return self._canaries.loss(loss, along, record["canary"])

    def _plain_gradients(self, drawn: "_Drawn", expected: float) -> dict[str, Tensor]:
        self.network.zero_grad()
        batch = drawn.patients
        size = GRADIENT_CHUNK if not self._encoded else max(1, len(batch))
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            logits = self.network(
                part.ct, part.mri, part.has_ct, part.has_mri, encoded=self._encoded
            )
            loss = F.binary_cross_entropy_with_logits(logits, part.label, reduction="sum")
            (loss / expected).backward()  # type: ignore[no-untyped-call]
        gradients = {
            name: torch.zeros_like(p) if p.grad is None else p.grad
            for name, p in self._trainable.items()
        }
        if self._canaries is not None:
            for name, total in self._canaries.sum(drawn.canaries, self._trainable).items():
                gradients[name] += total / expected
        return gradients


@dataclass(frozen=True)
class _Drawn:
    """One step's records: patients, and indices of canaries (none without an audit)."""

    patients: PatientTensors
    canaries: Tensor = field(repr=False)


def _tensors(batch: PatientTensors) -> dict[str, Tensor]:
    return {each.name: getattr(batch, each.name) for each in fields(batch)}


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()


def _fingerprint(group: PatientTensors) -> bytes:
    digest = hashlib.sha256()
    for each in fields(group):
        digest.update(_bytes(getattr(group, each.name)))
    return digest.digest()
