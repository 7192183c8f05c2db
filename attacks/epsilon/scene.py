"""What an observer saw of a canary: the shared parameters' movement, in units of one draw.

updates    the hospital's own update is visible: server without secure aggregation, coalition
means      the mean over hospitals: the canary's part is the hospital's weight in it, under
           everybody's noise
changes    only parameters are visible (outsider, or a strategy that hides the mean): their
           change over the run
"""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from attacks.epsilon.composed_power import CanaryView
from attacks.epsilon.known_patients import predictable
from attacks.epsilon.trade_off import SubsampledGaussian
from attacks.errors import InvalidScores
from attacks.subject import Canaries, Hospital, Subject
from securefed.exposure import Exposure, RoundView

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Seen:
    """What an observer saw of the shared parameters' movement, in units of one canary.

    Attributes:
        kind: "updates", "means" or "changes".
        shares: (rounds, P); a canary that one step drew adds its own direction.
        starts: shared parameters of these rounds.
        factors: of each round: hospital -> factor with which its sum of clipped gradients enters
            `shares`; empty where that cannot be said.
        exact: whether `shares` are on record; a mean that a peer works out from models is not.
    """

    kind: str
    shares: Array = field(repr=False)
    starts: list[npt.NDArray[np.float32]] = field(repr=False)
    factors: list[dict[str, float]]
    exact: bool = True


class Scene:
    """The hospital with canaries, its claim, and the sizes that turn updates into canaries."""

    def __init__(self, subject: Subject, canaries: Canaries) -> None:
        named = [each for each in subject.hospitals if each.name == canaries.hospital]
        if not named:
            raise InvalidScores(f"the run has no hospital {canaries.hospital!r}")
        self.subject, self.canaries, self.hospital = subject, canaries, named[0]
        training = subject.training
        self.claimed = self.hospital.claimed_epsilon
        self.mechanism = SubsampledGaussian(
            self.hospital.sample_rate, training.rounds * training.local_steps
        )
        self.claimed_noise: float | None = None
        if self.claimed is not None:
            self.claimed_noise = self.mechanism.noise_multiplier(self.claimed, training.delta)

    def look(self, exposure: Exposure) -> Seen:
        """The best that the observer can make of its exposure."""
        name = self.canaries.hospital
        for kind, usable in (
            ("updates", [v for v in exposure.rounds if name in v.updates]),
            ("means", [v for v in exposure.rounds if v.mean is not None and name in v.survivors]),
        ):
            if usable:
                shares, factors = zip(*(self._share(v, kind) for v in usable), strict=True)
                starts = [view.shared for view in usable]
                exact = kind == "updates" or exposure.observer != "peer"
                return Seen(kind, np.stack(shares), starts, list(factors), exact)
        start = exposure.rounds[0].shared if exposure.rounds else self._initial()
        return Seen("changes", (start.astype(np.float64) - exposure.released)[None], [start], [])

    def _initial(self) -> npt.NDArray[np.float32]:
        parameters = dict(self.subject.network.named_parameters())
        flat = [parameters[name].detach().reshape(-1).numpy() for name in self.subject.shared]
        return np.concatenate(flat)

    def _share(self, view: RoundView, kind: str) -> tuple[Array, dict[str, float]]:
        """One round in units of a canary, and the factor of each hospital's sum in it."""
        name, training = self.canaries.hospital, self.subject.training
        clip = training.clip_norm or 1.0
        if kind == "updates":
            unit = self._step(self.hospital) * clip
            return -view.updates[name].astype(np.float64) / unit, {name: 1 / clip}
        assert view.mean is not None  # noqa: S101  # chosen so by look()
        there = [each for each in self.subject.hospitals if each.name in view.survivors]
        if training.shared_noise:
            union = sum(each.expected_batch for each in there)
            unit = training.learning_rate / union * clip
            return -view.mean.astype(np.float64) / unit, {each.name: 1 / clip for each in there}
        total = view.mean.astype(np.float64) * sum(each.weight for each in there)
        unit = self.hospital.weight * self._step(self.hospital) * clip
        factors = {each.name: each.weight * self._step(each) / unit for each in there}
        return -total / unit, factors

    def _step(self, hospital: Hospital) -> float:
        """Change of a parameter by one unit of a summed gradient."""
        return self.subject.training.learning_rate / hospital.expected_batch

    def in_units(self, seen: Seen) -> bool:
        """Whether a canary that was drawn once shows as 1 in what the observer saw."""
        return seen.kind != "changes" and self.subject.training.optimizer == "sgd"

    def view(self, seen: Seen) -> CanaryView:
        training, noise = self.subject.training, self.claimed_noise
        if noise is None:
            raise InvalidScores("a run without a claim has no noise to look through")
        ratio = 1.0
        if seen.kind == "means":
            clip = training.clip_norm or 1.0
            multipliers = {each.name: each.noise_multiplier for each in self.subject.hospitals}
            parts = [
                clip * f * multipliers[name] for each in seen.factors for name, f in each.items()
            ]
            seen_noise = math.sqrt(sum(part**2 for part in parts) / len(seen.factors))
            # Shared noise: the claim is for a sum of shares, of which each hospital adds one.
            own = noise if training.shared_noise else self.hospital.noise_multiplier
            ratio = seen_noise / own
        rounds = len(seen.shares) if seen.kind != "changes" else training.rounds
        return CanaryView(self.mechanism, noise, rounds, training.local_steps, ratio)

    def remarks(self, seen: Seen) -> list[str]:
        """What weakens this audit."""
        said = []
        training = self.subject.training
        if seen.kind == "changes":
            said.append(
                "only the change of the parameters over the run is visible: the power of such "
                "scores is not known and counts as 0"
            )
        if training.optimizer != "sgd":
            said.append(
                f"local {training.optimizer} scales every entry apart: the power of such scores "
                "is not known and counts as 0"
            )
        if seen.factors and not predictable(self.subject):
            said.append("the patients' own contribution is not taken off")
        if self.claimed is None:
            said.append("no claim to test: the bound shows leakage, nothing more")
        return said
