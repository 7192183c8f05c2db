"""What every scene of the head leakage attack stands on: people, a round's network, a ranking.

Targets are a hospital's training patients; decoys are its held-out patients; the attacker's
reference patients are other held-out ones. A target is identified if the matched filter
(attacks.head.matching) ranks it before all its decoys.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from attacks.findings import Finding, Scene
from attacks.head import NAME
from attacks.head.features import Floats, HeadGradient, Signatures, output_weight, signatures
from attacks.head.matching import FEWEST_REFERENCES, Filter, build_filter
from attacks.result import Progress
from attacks.statistics.intervals import Proportion
from attacks.subject import Hospital, Subject
from securefed.exposure import Observer, RoundView
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors, concatenate
from securefed.model.sharing import load_vector

DECOYS = 50
ROUNDING = 2.0**-24  # of a float32 parameter near 1, relative; what an update is uncertain by


def identification(
    observer: Observer,
    method: str,
    scene: Scene,
    hits: Sequence[bool] = (),
    absent: str | None = None,
    *,
    applies: bool = True,
) -> Finding:
    """The share of targets identified, or why there is none."""
    return Finding(
        attack=NAME,
        method=method,
        metric="identification",
        observer=observer,
        scene=scene,
        estimate=Proportion(sum(hits), len(hits)) if absent is None else None,
        absent=absent,
        applies=applies,
    )


def part(progress: Progress, start: float, end: float) -> Progress:
    """Reports 0 to 1 as start to end."""
    return lambda share: progress(start + (end - start) * share)


@dataclass(frozen=True, eq=False)
class People:
    """Who is attacked, who stands beside them, and whom the attacker knows.

    The three are disjoint: a decoy that shaped the attacker's covariance would be no decoy.
    """

    hospitals: list[Hospital]
    decoys: dict[str, PatientTensors] = field(repr=False)  # DECOYS of each
    reference: PatientTensors = field(repr=False)

    @classmethod
    def draw(
        cls, subject: Subject, hospitals: list[Hospital], rng: np.random.Generator
    ) -> "People | None":
        """None if there are too few held-out patients. Decoys are the hospital's own first."""
        beside: dict[str, PatientTensors] = {}
        known: list[PatientTensors] = []
        for hospital in subject.hospitals:
            rows = torch.from_numpy(rng.permutation(hospital.held_out.patients))
            kept = min(DECOYS, len(rows) * 2 // 3)
            beside[hospital.name] = hospital.held_out.of_patients(rows[:kept])
            known.append(hospital.held_out.of_patients(rows[kept:]))
        decoys = {}
        for hospital in hospitals:
            others = [group for name, group in beside.items() if name != hospital.name]
            everybody = concatenate([beside[hospital.name], *others])
            first = torch.arange(min(DECOYS, everybody.patients))
            decoys[hospital.name] = everybody.of_patients(first)
        reference = concatenate(known)
        enough = all(group.patients == DECOYS for group in decoys.values())
        if not hospitals or not enough or reference.patients < FEWEST_REFERENCES:
            return None
        return cls(hospitals, decoys, reference)


@dataclass(frozen=True, eq=False)
class Stage:
    """The network of one round, with the decoys' and reference patients' signatures under it.

    Good until the next stage is made: all stages are the same network.
    """

    network: FusionNetwork = field(repr=False)
    people: People = field(repr=False)  # decoys and reference as tokens
    reference: Signatures = field(repr=False)
    decoys: dict[str, Signatures] = field(repr=False)

    @property
    def output_weight(self) -> Floats:
        """Of the only logit, (m,)."""
        return output_weight(self.network)

    @property
    def logits(self) -> int:
        return len(self.network.classifier.output.bias)

    def filter(self, patients: float, noise_std: float) -> Filter:
        return build_filter(self.reference, patients, noise_std)


class Stages:
    """Makes the stage of a round; frozen encoders run once for all rounds."""

    def __init__(self, subject: Subject, people: People) -> None:
        self._subject = subject
        self._network = copy.deepcopy(subject.network).eval().requires_grad_(True)
        self.people = people
        self._encoded: People | None = None

    def at(self, view: RoundView) -> Stage:
        network = self._network
        load_vector(network, list(self._subject.shared), view.shared)
        people = self._encoded
        if people is None or self._subject.encoders_train:
            people = self._encoded = People(
                self.people.hospitals,
                {name: tokens_of(network, group) for name, group in self.people.decoys.items()},
                tokens_of(network, self.people.reference),
            )
        decoys = {name: signatures(network, group) for name, group in people.decoys.items()}
        return Stage(network, people, signatures(network, people.reference), decoys)


def identified(
    matched: Filter,
    gradient: HeadGradient,
    target: Signatures,
    decoys: Signatures,
) -> tuple[bool, float]:
    """Whether the target alone ranks first, and its cosine."""
    own = float(matched.cosines(gradient, target)[0])
    return own > float(matched.cosines(gradient, decoys).max()), own
