"""The client as shipped, under the requests of a malicious server (attacks.malicious_server).

Three tiny hospitals of phantom patients with real clients, in the clear and behind secure
aggregation. Nothing of a run is touched: what is tried here is the client's code, which is the same
in every run. Secure sums are driven by the real server's state machine up to the mask; from there
the lie is in the shared parameters.
"""

import logging
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from attacks.head.features import head_gradient, tokens_of
from attacks.malicious_server.attack import checks
from attacks.malicious_server.imprint import imprint, silenced, vector_of
from attacks.verdicts import Check
from protocols.client import SecureSumClient
from protocols.identity import IdentityKey, Roster
from protocols.parameters import JobRules
from protocols.server import SecureSumServer
from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.federation import messages
from securefed.federation.client import Client
from securefed.federation.contribution import ContributionLayout
from securefed.federation.messages import Reply, Request, Stage
from securefed.model.network import DualEncoderNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.model.sharing import shared_names
from securefed.training.local import LocalPlan, LocalTrainer
from securefed.training.patients import stack

NAMES = ("victim", "second", "third")
SHAPE = NetworkShape(image_size=32)
SHARED = "fusion+classifier"
PATIENTS = 8
PLAN = LocalPlan(
    shared=SHARED,
    train_encoders=False,
    optimizer="sgd",
    learning_rate=0.3,
    local_steps=1,
    batch_size=PATIENTS,  # every patient in every step: what a round yields is the same each time
    proximal=0.0,
    unit="patient",
    seed=0,
    private=None,
)
Vector = NDArray[np.float32]


def malicious_checks(seed: int = 0) -> tuple[Check, ...]:
    """Every check on a client in the clear and on one behind secure aggregation.

    All should be `sound`; those that no client can refuse have `expected` False.
    """
    with _quiet():
        return tuple(
            replace(check, name=f"{check.name} ({kind})")
            for kind in _KINDS
            for check in _check(_Hospitals(seed, secure=kind == "secure"))
        )


def kernel_leak(seed: int) -> float:
    """Cosine between the hidden layer's gradient in a secure sum whose other hospitals got silenced
    parameters, and the victim's own: 1 if the sum hides nothing of the victim's."""
    with _quiet():
        plain, secure = (_Hospitals(seed, secure=kind == "secure") for kind in _KINDS)
        sent = vector_of(plain.imprinted, plain.names)
        others = vector_of(silenced(plain.network), plain.names)
        reply = plain.ask("victim", _work(1, messages.vector_to_bytes(sent), b""))
        contribution = messages.decode_contribution(reply.body)
        own = messages.vector_from_bytes(contribution.update)
        summed = secure.sum(1, {name: sent if name == "victim" else others for name in NAMES})
    rows = [head_gradient(plain.network, plain.names, each).rows.ravel() for each in (own, summed)]
    return float(rows[0] @ rows[1] / (np.linalg.norm(rows[0]) * np.linalg.norm(rows[1])))


_KINDS = ("plain", "secure")


def _check(hospitals: "_Hospitals") -> tuple[Check, ...]:
    network, names = hospitals.network, hospitals.names
    wider = shared_names(network, "all")
    return checks(
        deliver=hospitals.deliver,
        oversized=hospitals.oversized,
        shared=vector_of(network, names),
        imprinted=vector_of(hospitals.imprinted, names),
        silenced=vector_of(silenced(network), names),
        architecture=len(vector_of(network, wider)),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Refusals are what is wanted here; the clients' own log would only alarm."""
    log = logging.getLogger("securefed.federation.client")
    before = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = before


def _work(number: int, shared: bytes, body: bytes) -> Request:
    return Request(round=number, stage="work", body=body, train=True, shared=shared)


@dataclass
class _Round:
    """A secure sum that has come as far as the mask."""

    server: SecureSumServer
    masks: Mapping[str, bytes] = field(repr=False)


class _Hospitals:
    """Three clients, and a server that may send each of them anything.

    Attributes:
        network: what all start from.
        imprinted: the same with an imprinting head.
        names: of the shared parameters.
    """

    def __init__(self, seed: int, *, secure: bool) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = DualEncoderNetwork(SHAPE).eval()
        self.names = shared_names(self.network, SHARED)
        groups = _patients(seed)
        self.imprinted = imprint(
            self.network, tokens_of(self.network, groups["third"]), batch=PATIENTS
        )
        parameters = len(vector_of(self.network, self.names))
        self._layout = ContributionLayout(parameters, len(NAMES), 4.0, max_patients=100)
        keys = {name: IdentityKey.generate() for name in NAMES}
        self._roster = Roster({name: key.public for name, key in keys.items()})
        self._rules = JobRules(job="checks", vector_length=self._layout.words)
        self._secure = secure
        self._rounds: dict[int, _Round] = {}
        self._clients = {}
        for name in NAMES:
            trainer = LocalTrainer(
                name, _copy_of(self.network), groups[name], groups[name], PLAN, None, "checks"
            )
            masks = SecureSumClient(name, keys[name], self._roster, self._rules)
            self._clients[name] = Client(name, trainer, self._layout, masks if secure else None)

    def ask(self, name: str, request: Request) -> Reply:
        return messages.decode_reply(self._clients[name].handle(messages.encode(request)))

    def deliver(self, number: int, shared: bytes) -> str:
        """Send the victim shared parameters in a round; -> the name of its refusal, or ""."""
        body = self._round(number).masks["victim"] if self._secure else b""
        return self.ask("victim", _work(number, shared, body)).refusal

    def oversized(self) -> str:
        """Send the victim a message over the limit, of zeros that nobody allocates."""
        with mmap.mmap(-1, messages.LARGEST_MESSAGE + 1) as message:
            # handle() takes any buffer; it must look at nothing but the length.
            reply = self._clients["victim"].handle(message)  # type: ignore[arg-type]
        return messages.decode_reply(reply).refusal

    def sum(self, number: int, vectors: Mapping[str, Vector]) -> NDArray[np.float64]:
        """A whole secure round with different parameters for each hospital; the mean update."""
        begun = self._round(number)
        server = begun.server
        masked = {
            name: self.ask(name, _work(number, messages.vector_to_bytes(vector), body)).body
            for (name, vector), body in zip(
                vectors.items(), (begun.masks[name] for name in vectors), strict=True
            )
        }
        server.receive_mask(masked)
        server.receive_confirm(self._stage(number, "confirm", server.request_confirm()))
        server.receive_unmask(self._stage(number, "unmask", server.request_unmask()))
        words, _ = server.result()
        mean = self._layout.decode(words).mean_update
        if mean is None:
            raise ValueError("nobody trained in the round")
        return mean

    def _round(self, number: int) -> _Round:
        if number not in self._rounds:
            server = SecureSumServer(self._roster, self._rules, number, list(NAMES))
            adverts = self._stage(number, "advertise", server.request_advertise())
            server.receive_advertise(adverts)
            server.receive_share(self._stage(number, "share", server.request_share()))
            self._rounds[number] = _Round(server, server.request_mask())
        return self._rounds[number]

    def _stage(self, number: int, stage: Stage, bodies: Mapping[str, bytes]) -> dict[str, bytes]:
        return {
            name: self.ask(name, Request(round=number, stage=stage, body=body)).body
            for name, body in bodies.items()
        }


def _copy_of(network: DualEncoderNetwork) -> DualEncoderNetwork:
    own = DualEncoderNetwork(SHAPE)
    own.load_state_dict(network.state_dict())
    return own


def _patients(seed: int) -> dict[str, PatientTensors]:
    spec = PhantomSpec(image_size=SHAPE.image_size, slices=(2, 3))
    return {
        name: stack(
            [
                each.patient
                for each in generate(spec, SiteProfile.draw(spec, index, seed), PATIENTS, seed)
            ],
            max_slices=3,
        )
        for index, name in enumerate(NAMES)
    }
