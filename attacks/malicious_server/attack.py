"""Malicious server: what the client refuses, and what it cannot refuse and what that costs.

`checks` sends a client, as shipped, the requests of a server that lies: parameters of another
architecture, not finite, or out of range; a second request for a round; an oversized message;
different parameters for different hospitals, so that a secure sum is one hospital's (Pasquini,
Francati & Ateniese 2022); and the one that nobody can refuse, imprint parameters of ordinary size
(`imprint`). The command line gives the client; this module knows neither transport nor message
format.

`measure` says what an accepted imprint yields on a run's network: identification of patients, and
how many of a batch can be told apart, in the clear and under the run's mechanism.

Not covered: attacks through fusion or encoder parameters, imprints spread over many rounds, and
poisoning. That a client accepts an imprint is as documented: differential privacy, not validation,
is the defence there.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from attacks.errors import AuditError
from attacks.head.features import Floats, signatures
from attacks.head.stage import ROUNDING, Stage, identification
from attacks.head.updates import Mechanism
from attacks.head.worst_case import mechanism_of, simulated_gradient
from attacks.malicious_server.imprint import (
    BIN_WEIGHT,
    bins_of_gradient,
    bins_of_patients,
    distances,
    imprint,
)
from attacks.result import AttackResult, Progress
from attacks.subject import Subject
from attacks.verdicts import Check
from securefed.exposure import Observer
from securefed.model.encoding import tokens_of
from securefed.model.sharing import LARGEST_PARAMETER

Vector = NDArray[np.float32]
Deliver = Callable[[int, bytes], str]

SAME = 0.1  # distance below which a bin's feature is a patient's own; wrong patients are near 1
SMALL, LARGE = 4, 100  # patients in a batch
FAINTEST = 1e-3  # of a patient's full weight in a bin: below it a bin counts as empty


def checks(
    deliver: Deliver,
    oversized: Callable[[], str],
    shared: Vector,
    imprinted: Vector,
    architecture: int,
    divided: Callable[[], str] | None,
) -> tuple[Check, ...]:
    """Try everything, each in a round of its own.

    Args:
        deliver: (round, shared parameters as sent) -> the name of the client's refusal, or "".
        oversized: sends a message over the limit; -> the refusal's name, or "".
        shared: honest shared parameters, (P,), float32.
        imprinted: of attacks.malicious_server.imprint, (P,).
        architecture: number of shared parameters of another architecture.
        divided: opens a secure sum whose other hospitals got `silenced` parameters of
            attacks.malicious_server.imprint; -> why it does not give the victim away, or "". None
            without secure aggregation: there the server has each update anyway.

    Raises:
        AuditError: the client refuses honest parameters too, so its refusals mean nothing.
    """
    if refusal := deliver(1, _bytes(shared)):
        raise AuditError(
            f"the client refuses honest parameters ({refusal}): its other refusals mean nothing"
        )
    found = [
        Check("a second, different request for a round", *_told(deliver(1, _bytes(imprinted)))),
    ]
    for number, (name, data) in enumerate(_unacceptable(shared, architecture), start=2):
        found.append(Check(name, *_told(deliver(number, data))))
    after = 1 + len(found)
    found.append(Check("an oversized message", *_told(oversized())))
    accepted = deliver(after, _bytes(imprinted))
    found.append(Check("a request of a past round", *_told(deliver(1, _bytes(shared)))))
    detail = "within the accepted range: only differential privacy bounds what it yields"
    found.append(Check("imprint parameters", accepted != "", False, accepted or detail))
    if divided:
        name = "a secure sum over different parameters"
        found.append(Check(name, *_told(divided(), "the sum gives one hospital's update away")))
    return tuple(found)


def _told(refusal: str, otherwise: str = "accepted") -> tuple[bool, bool, str]:
    """refused, expected, detail of what must come to nothing."""
    return refusal != "", True, refusal or otherwise


def _unacceptable(shared: Vector, architecture: int) -> list[tuple[str, bytes]]:
    """Shared parameters that a client must refuse, as (name, bytes)."""

    def with_first(value: float) -> bytes:
        changed = shared.copy()
        changed[0] = value
        return _bytes(changed)

    return [
        ("parameters one too short", _bytes(shared[:-1])),
        ("parameters one too long", _bytes(np.append(shared, np.float32(0)))),
        ("no parameters", b""),
        ("parameters of half a number", _bytes(shared)[:-2]),
        ("parameters of another architecture", _bytes(np.zeros(architecture, np.float32))),
        ("a parameter that is not a number", with_first(np.nan)),
        ("an infinite parameter", with_first(np.inf)),
        ("a negative infinite parameter", with_first(-np.inf)),
        ("a parameter just over the limit", with_first(1.01 * LARGEST_PARAMETER)),
        ("a hugely scaled layer", _bytes(shared * np.float32(1e30))),
    ]


def _bytes(vector: Vector) -> bytes:
    return vector.astype("<f4").tobytes()


# ---- what an accepted imprint yields -------------------------------------------------------------


def measure(
    subject: Subject,
    observer: Observer,
    stage: Stage,
    trials: int,
    large: bool,
    rng: np.random.Generator,
    progress: Progress,
) -> AttackResult:
    """Identification by an imprint under the run's mechanism (batch of four), and how many
    patients of a batch can be told apart, in the clear and under the mechanism.

    Args:
        stage: the network the imprint is put into.
        trials: batches of four; of a hundred a tenth as many, at least two.
        large: whether to try batches of a hundred at all.
    """
    private = subject.training.clip_norm is not None
    details: dict[str, float] = {}
    hits: list[bool] = []
    kinds = ("in the clear", "under the run's mechanism") if private else ("in the clear",)
    sizes = (SMALL, LARGE) if large else (SMALL,)
    for done, (kind, size) in enumerate(product(kinds, sizes), start=1):
        count = trials if size == SMALL else max(2, trials // 10)
        outcomes = _outcomes(subject, stage, size, count, kind == kinds[0], rng)
        apart = float(np.mean([number for _, number in outcomes]))
        details[f"patients told apart of {size}, {kind}"] = apart
        if (kind, size) == (kinds[-1], SMALL):
            hits = [hit for hit, _ in outcomes]
        progress(done / (len(kinds) * len(sizes)))
    finding = identification(observer, f"imprint, batch {SMALL}", "worst case", hits)
    return AttackResult(findings=(finding,), details={"imprint": details})


def _outcomes(
    subject: Subject,
    stage: Stage,
    size: int,
    trials: int,
    plain: bool,
    rng: np.random.Generator,
) -> list[tuple[bool, int]]:
    """Of each batch: whether its first patient is identified, and how many are told apart."""
    people = stage.people
    network = imprint(stage.network, people.reference, size)
    output = network.classifier.output.weight[0].detach().double().numpy()
    spread = _spread(bins_of_patients(signatures(network, people.reference)).feature)
    decoys = {name: signatures(network, group) for name, group in people.decoys.items()}
    outcomes = []
    for trial in range(trials):
        hospital = people.hospitals[trial % len(people.hospitals)]
        rows = rng.permutation(len(hospital.train))[:size]
        batch = hospital.train[torch.from_numpy(rows)]
        mechanism = mechanism_of(subject, hospital)
        if plain:
            mechanism = replace(mechanism, clip_norm=None, noise_std=0.0)
        gradient = simulated_gradient(subject, network, batch, mechanism, rng)
        seen = bins_of_gradient(gradient, output, _faintest(mechanism, size))
        own = bins_of_patients(signatures(network, tokens_of(network, batch)))
        near = distances(seen, own, spread)
        wrong = distances(seen, bins_of_patients(decoys[hospital.name]), spread)
        outcomes.append((bool(near[0] < wrong.min()), int((near < SAME).sum())))
    return outcomes


def _spread(features: Floats) -> Floats:
    """Standard deviation of each bin's feature over patients, (m - 1, d); 1 in an empty bin."""
    known = np.isfinite(features)  # (patients, m - 1, d)
    counts = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, features, 0).sum(axis=0) / counts
    squares = np.where(known, features - mean, 0) ** 2
    spread: Floats = np.sqrt(squares.sum(axis=0) / counts)
    return np.where(spread > 0, spread, 1.0)


def _faintest(mechanism: Mechanism, size: int) -> float:
    """The weight below which a bin is rounding or noise."""
    rounding = 10 * ROUNDING * size / mechanism.learning_rate
    return max(FAINTEST, rounding / BIN_WEIGHT, mechanism.noise_std / BIN_WEIGHT)
