"""The client as shipped, under the requests of a malicious server (attacks.malicious_server).

Four tiny hospitals of phantom patients with real clients, in the clear and behind secure
aggregation. Nothing of a run is touched: what is tried here is the client's code, which is the same
in every run. Secure sums are driven by the real server's state machine; the lies are in the shared
parameters, and in what the server pretends a masked vector answers.

Four, because three of them agree: the victim is sent parameters of its own, and the signatures and
shares of the rest are enough to open a sum with the victim's vector in it. What is left to protect
the victim is that its masks do not cancel.
"""

import logging
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from attacks.errors import AuditError
from attacks.head.features import head_gradient
from attacks.head.imprint import imprint, silenced, vector_of
from attacks.subject import Client
from protocols import messages as protocol
from protocols.attestations import binding
from protocols.client import SecureSumClient
from protocols.errors import ProtocolError
from protocols.identity import IdentityKey, Roster
from protocols.parameters import JobRules
from protocols.server import SecureSumServer
from securefed.auditing.broken_rules import RuleBreaker
from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.hospital.client import Client as HospitalClient
from securefed.hospital.questions import Questions
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.model.sharing import Vector, shared_names
from securefed.privacy.sampling import Batch
from securefed.training.mechanism import NoNoise
from securefed.training.patients import stack
from securefed.training.trainer import LocalPlan, LocalTrainer
from securefed.wire import messages
from securefed.wire.contribution import ContributionLayout
from securefed.wire.messages import Reply, Request, Stage
from securefed.wire.openings import Openings
from securefed.wire.plan import Plan

NAMES = ("victim", "second", "third", "fourth")
SHAPE = NetworkShape(image_size=32)
SHARED = "fusion+classifier"
PATIENTS = 8
# Cosine from which a sum tells of one hospital. Of noise in the 136 dimensions of the hidden layer
# it has a deviation of .09 and is over this with a probability below 1e-12.
LEAKS = 0.6
ROUNDING = 0.01  # relative error of an honest sum, by its fixed-point numbers
# As many rounds as nobody here asks for: the first half for parameters, the other for rules.
PLAN = Plan(NAMES, rounds=80, clients_per_round=None, evaluate_every=1, seed=0)


def clients(seed: int) -> Iterator[Client]:
    """A client in the clear, then one behind secure aggregation; each with a federation of its own.

    While one is tried, the clients' log is silent.
    """
    with _quiet():
        for secure in (False, True):
            hospitals = _Hospitals(seed, secure=secure)
            network, names = hospitals.network, hospitals.names
            yield Client(
                kind="secure" if secure else "plain",
                deliver=hospitals.deliver,
                oversized=hospitals.oversized,
                shared=vector_of(network, names),
                imprinted=vector_of(hospitals.imprinted, names),
                architecture=len(vector_of(network, shared_names(network, "all"))),
                divided=partial(_divided, seed) if secure else None,
                rules=hospitals.rule_breaker().attempts(secure=secure),
            )


def kernel_leak(seed: int) -> float:
    """Cosine between the hidden layer's gradient in a secure sum whose other hospitals got silenced
    parameters, and the victim's own: 1 if the sum hides nothing of the victim's, near 0 for noise.

    Raises:
        AuditError: if a sum of hospitals that got the same does not open either: then noise in the
            other says nothing.
    """
    with _quiet():
        plain, secure = (_Hospitals(seed, secure=secure) for secure in (False, True))
        sent = vector_of(plain.imprinted, plain.names)
        others = vector_of(silenced(plain.network), plain.names)
        own = {name: plain.update(name, 1, sent) for name in NAMES}
        # All have the same number of patients, hence the same weight.
        _require_open(secure, sent, np.mean(list(own.values()), axis=0))
        vectors = {name: sent if name == "victim" else others for name in NAMES}
        divided = secure.sum(2, vectors, claimed=others)
        both = (own["victim"], divided)
    x, y = (head_gradient(plain.network, plain.names, each).rows.ravel() for each in both)
    return abs(float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y))))


def _require_open(hospitals: "_Hospitals", sent: Vector, mean: Vector) -> None:
    """Return only if a sum of hospitals that got the same opens to the mean of their updates."""
    hint = "no statement about a sum over different parameters can be made"
    try:
        opened = hospitals.sum(1, dict.fromkeys(NAMES, sent), claimed=sent)
    except ProtocolError as error:
        raise AuditError(f"an honest secure sum does not open: {error}", hint=hint) from error
    off = float(np.linalg.norm(opened - mean) / np.linalg.norm(mean))
    if off > ROUNDING:
        raise AuditError(f"an honest secure sum is off by {off:.2g} of its size", hint=hint)


def _divided(seed: int) -> str:
    """Why a sum of hospitals that got different parameters tells nothing of one; "" if it does."""
    try:
        leak = kernel_leak(seed)
    except ProtocolError as error:
        return type(error).__name__
    return "" if leak >= LEAKS else f"the sum is noise: cosine {leak:.2f} with the victim's update"


@contextmanager
def _quiet() -> Iterator[None]:
    """Refusals are what is wanted here; the clients' own log would only alarm."""
    log = logging.getLogger("securefed.hospital.client")

    def refuse(record: logging.LogRecord) -> bool:
        return False

    log.addFilter(refuse)  # one's own: two at once end in any order
    try:
        yield
    finally:
        log.removeFilter(refuse)


def _work(number: int, shared: bytes, body: bytes) -> Request:
    return Request(round=number, stage="work", body=body, train=True, shared=shared)


class _Hospitals:
    """Four clients, and a server that may send each of them anything.

    Attributes:
        network: what all start from.
        imprinted: the same with an imprinting head.
        names: of the shared parameters.
        secure: whether contributions are masked.
    """

    def __init__(self, seed: int, *, secure: bool) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = FusionNetwork(SHAPE).eval()
        self.names = shared_names(self.network, SHARED)
        groups = _patients(seed)
        self.imprinted = imprint(
            self.network, tokens_of(self.network, groups["third"]), batch=PATIENTS
        )
        parameters = len(vector_of(self.network, self.names))
        self._layout = ContributionLayout(parameters, len(NAMES), 4.0, max_patients=100)
        keys = {name: IdentityKey.generate() for name in NAMES}
        self._roster = Roster({name: key.public for name, key in keys.items()})
        lengths = self._layout.words, (self._layout.scores.words,)
        self._rules = JobRules("checks", lengths[0], other_lengths=lengths[1])
        self._keys = keys
        self.secure = secure
        self._rounds: dict[int, SecureSumServer] = {}
        self._clients: dict[str, HospitalClient] = {}
        for name in NAMES:
            group, own = groups[name], _copy_of(self.network)
            trainer = LocalTrainer(name, own, group, group, _plan(self._layout), None, "checks")
            masks = SecureSumClient(name, keys[name], self._roster, self._rules)
            roster = self._roster if secure else None
            self._clients[name] = HospitalClient(
                name,
                trainer,
                masks if secure else None,
                questions=Questions(name, PLAN, roster, Openings(), self._layout),
            )

    def rule_breaker(self) -> RuleBreaker:
        """A server that breaks the job's rules, in rounds and sums after all others."""
        return RuleBreaker(
            self._clients,
            self._keys,
            self._roster,
            self._rules,
            PLAN,
            self._layout,
            vector_of(self.network, self.names),
            round=PLAN.rounds // 2,
            sums=PLAN.rounds // 2,
        )

    def ask(self, name: str, request: Request) -> Reply:
        return messages.decode_reply(self._clients[name].handle(messages.encode(request)))

    def deliver(self, number: int, shared: bytes) -> str:
        """Send the victim shared parameters in a round; -> the name of its refusal, or ""."""
        request = _work(number, shared, b"")
        if self.secure:
            masks = self._round(number).request_mask(messages.statement_of(request))
            request = _work(number, shared, masks["victim"])
        return self.ask("victim", request).refusal

    def update(self, name: str, number: int, vector: Vector) -> Vector:
        """What one hospital answers in the clear to shared parameters."""
        reply = self.ask(name, _work(number, messages.vector_to_bytes(vector), b""))
        return messages.vector_from_bytes(messages.decode_contribution(reply.body).update)

    def oversized(self) -> str:
        """Send the victim a message over the limit, of zeros that nobody allocates."""
        with mmap.mmap(-1, messages.LARGEST_MESSAGE + 1) as message:
            # handle() takes any buffer; it must look at nothing but the length.
            reply = self._clients["victim"].handle(message)  # type: ignore[arg-type]
        return messages.decode_reply(reply).refusal

    def sum(
        self, number: int, vectors: Mapping[str, Vector], *, claimed: Vector
    ) -> NDArray[np.float64]:
        """The mean update of a secure round in which each hospital is sent a vector of its own.

        Every masked vector is passed off as an answer to `claimed`, or the server's own code would
        not add it; who refuses a later step is left out of that step, and stays in the sum.

        Raises:
            ProtocolError: too few hospitals answer for the sum to open.
        """
        server = self._round(number)
        asked = messages.statement_of(_work(number, messages.vector_to_bytes(claimed), b""))
        for name, body in server.request_mask(asked).items():
            work = _work(number, messages.vector_to_bytes(vectors[name]), body)
            head, words = protocol.decode_masked(self.ask(name, work).body, self._layout.words)
            head = msgspec.structs.replace(head, binding=binding(server.rules, asked))
            server.add_masked(name, protocol.encode_masked(head, words)[0].getvalue())
        server.receive_mask({})
        server.receive_confirm(self._stage(number, "confirm", server.request_confirm()))
        server.receive_unmask(self._stage(number, "unmask", server.request_unmask()))
        mean = self._layout.decode(server.result()[0], number).mean_update
        if mean is None:
            raise AuditError("nobody trained in the round")
        return mean

    def _round(self, number: int) -> SecureSumServer:
        """A secure sum that has come as far as the mask."""
        if number not in self._rounds:
            server = SecureSumServer(self._roster, self._rules, number, list(NAMES))
            adverts = self._stage(number, "advertise", server.request_advertise())
            server.receive_advertise(adverts)
            server.receive_share(self._stage(number, "share", server.request_share()))
            self._rounds[number] = server
        return self._rounds[number]

    def _stage(self, number: int, stage: Stage, bodies: Mapping[str, bytes]) -> dict[str, bytes]:
        return {
            name: self.ask(name, Request(round=number, stage=stage, body=body)).body
            for name, body in bodies.items()
        }


def _plan(layout: ContributionLayout) -> LocalPlan:
    return LocalPlan(
        shared=SHARED,
        train_encoders=False,
        optimizer="sgd",
        learning_rate=0.3,
        local_steps=1,
        sampling=Batch(PATIENTS),  # every patient in every step: a round yields the same each time
        proximal=0.0,
        unit="patient",
        seed=0,
        mechanism=NoNoise(layout),
    )


def _copy_of(network: FusionNetwork) -> FusionNetwork:
    own = FusionNetwork(SHAPE)
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
