"""What all rounds together say of a patient: a likelihood ratio, and a cosine as the baseline.

A round's release is a sum over hospitals h of f_h sum_i b_i g_i, plus noise: each training patient
i, with the clipped gradient g_i at the parameters that the round started from, is drawn with
probability q. An attacker who has everybody's scans, and does not know who was trained on, expects
of patient i of the pool that it is drawn with probability a = q x (share of the pool that trains):

    mean         f a g_i                          covariance   f^2 a (1 - a) g_i g_i^T

summed over all patients but the target, and noise. Whether the target is in is then a test of one
mean shift (Neyman & Pearson), as for canaries (attacks.epsilon.scores):

    x      = f z - f^2 e / 2      z = g^T C^-1 (release - mean),  e = g^T C^-1 g
    score  = log(1 - q + q e^x)   of one round; rounds add up

(Zari, Xu and Neglia 2021 and arXiv 2512.15143 pool rounds in the same way.) The target is taken out
of mean and covariance of its own hospital by the formula for a rank of one, so that one
decomposition of a release serves all targets. Without added noise what is left is rounding, and the
test then solves for who was drawn.

Noise is fitted to each release, never below the claim: a peer infers a mean with an error, later
local steps start from other parameters, and canaries are in nobody's pool.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np

from attacks.family import Case
from attacks.membership.federation_replay import Pool, ReplayPlan
from attacks.membership.patient_gradients import incomputable, patient_gradients
from attacks.membership.scores import gradient_cosine
from attacks.membership.shadow_models import NoShadows, candidates
from attacks.parallel import Step, side_by_side
from attacks.releases import Release, releases
from attacks.result import Effort, Progress
from attacks.statistics.targets import Bools, Floats
from attacks.statistics.whitened import Whitened
from securefed.exposure import Exposure, Observer

GRADIENTS = {Effort.QUICK: 19_200, Effort.DEFAULT: 64_000, Effort.THOROUGH: 10**9}  # in an audit
SMALLEST = 1e-12  # of 1: what is left of a target that no other patient can stand for
_POOLED: "WeakKeyDictionary[Case, dict[Observer, Pooled] | NoShadows]" = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Pooled:
    """What one observer's rounds say together.

    Attributes:
        rounds: that were looked at.
        ratios: (patients, hospitals), logarithm of the likelihood ratio between "trained on there"
            and "nowhere"; 0 where the hospital is in no release.
        cosines: (patients,) mean cosine with what its own hospital's releases moved; 0 likewise.
        present: (releases, hospitals) bool, who is in which release.
        unknown: why the ratios mean nothing, or "".
    """

    rounds: tuple[int, ...]
    ratios: Floats = field(repr=False)
    cosines: Floats = field(repr=False)
    present: Bools = field(repr=False)
    unknown: str

    @property
    def seen(self) -> Bools:
        """(hospitals,) who is in any release."""
        return np.asarray(self.present.any(axis=0))


def pooled_of(case: Case, progress: Progress) -> dict[Observer, Pooled] | NoShadows:
    """Of every observer in an audit, once for all families; or why nobody can be a candidate."""
    if case not in _POOLED:
        subject = case.subject
        who = candidates(subject, case.released.tobytes())
        if isinstance(who, NoShadows):
            return who
        why = "encoders train too, and gradients of whole networks are beyond an audit"
        _POOLED[case] = pool_rounds(
            who.plan,
            who.pool,
            case.exposures,
            GRADIENTS[case.effort],
            progress,
            unknown=why if subject.encoders_train else "",
        )
    progress(1.0)
    return _POOLED[case]


def pool_rounds(
    plan: ReplayPlan,
    pool: Pool,
    exposures: Mapping[Observer, Exposure],
    most: int,
    progress: Progress,
    unknown: str = "",
) -> dict[Observer, Pooled]:
    """For every observer who saw a release; patients' gradients are computed once for all.

    Args:
        most: gradients to compute.
        unknown: why what a release holds cannot be computed from the patients, or "".
    """
    seen: dict[int, dict[Observer, list[Release]]] = {}
    for observer, exposure in exposures.items():
        for view in exposure.rounds:
            if found := releases(plan.training, plan.hospitals, view, exposure.members):
                seen.setdefault(view.number, {})[observer] = found
    chosen = evenly(sorted(seen), max(2, most // len(pool)))
    judge = _Judge(plan, pool, unknown or incomputable(plan, pool))

    def work(number: int, told: Step) -> dict[Observer, list[_Said]]:
        said = judge.round(seen[number])
        told()
        return said

    parts = side_by_side(work, chosen, steps=1, progress=progress)
    return {
        observer: judge.pooled(
            [number for number in chosen if observer in seen[number]],
            [said for part in parts for said in part.get(observer, [])],
        )
        for observer in exposures
        if any(observer in seen[number] for number in chosen)
    }


def evenly(numbers: Sequence[int], most: int) -> list[int]:
    """At most `most` of them, evenly spaced, the first and the last among them."""
    places = np.linspace(0, len(numbers) - 1, min(most, len(numbers))).round().astype(int)
    return [numbers[place] for place in np.unique(places)]


@dataclass(frozen=True, eq=False)
class _Said:
    """One release's say.

    Attributes:
        ratios: (patients, hospitals), 0 for hospitals that are not in it.
        cosines: (patients,), 0 for patients of other hospitals.
        present: (hospitals,) bool.
    """

    ratios: Floats = field(repr=False)
    cosines: Floats = field(repr=False)
    present: Bools = field(repr=False)


class _Judge:
    """Holds the releases of a round against the patients of the pool."""

    def __init__(self, plan: ReplayPlan, pool: Pool, unknown: str) -> None:
        self._plan, self._pool, self._unknown = plan, pool, unknown
        self._names = [each.name for each in plan.hospitals]
        self._hospital = pool.hospital.numpy()
        # Every patient of a pool is as likely as any other to have been trained on.
        trained = np.array([each.weight for each in plan.hospitals])
        sizes = np.bincount(self._hospital, minlength=len(self._names))
        self._trained = np.minimum(trained / np.maximum(sizes, 1), 1.0)
        steps = plan.training.local_steps
        # Several steps are taken as one in which as many patients are drawn.
        self._rate = np.array([min(steps * each.sample_rate, 1.0) for each in plan.hospitals])

    def round(self, seen: Mapping[Observer, Sequence[Release]]) -> dict[Observer, list[_Said]]:
        """What every release of one round says; the same one is judged once."""
        start = next(iter(seen.values()))[0].start
        rows, clipped = patient_gradients(self._plan, self._pool, start)
        judged: dict[bytes, _Said] = {}
        for release in (each for several in seen.values() for each in several):
            key = release.value.tobytes()
            if key not in judged:
                judged[key] = self._said(release, rows, clipped)
        return {
            observer: [judged[each.value.tobytes()] for each in several]
            for observer, several in seen.items()
        }

    def pooled(self, rounds: Iterable[int], said: Sequence[_Said]) -> Pooled:
        present = np.stack([each.present for each in said])
        often = np.maximum(present.sum(axis=0), 1)[self._hospital]
        return Pooled(
            tuple(rounds),
            np.sum([each.ratios for each in said], axis=0),
            np.sum([each.cosines for each in said], axis=0) / often,
            present,
            self._unknown,
        )

    def _said(self, release: Release, rows: Floats, clipped: Floats) -> _Said:
        here = np.array([name in release.factors for name in self._names])
        moved = release.value[self._plan.others :]
        cosines = np.zeros(len(rows))
        own = here[self._hospital]
        cosines[own] = gradient_cosine([(-moved, rows[own])])
        ratios = np.zeros((len(rows), len(self._names)))
        if not self._unknown:
            ratios[:, here] = self._ratios(release, moved, clipped)[:, here]
        return _Said(ratios, cosines, here)

    def _ratios(self, release: Release, moved: Floats, clipped: Floats) -> Floats:
        """(patients, hospitals); of hospitals in the release."""
        factors = np.array([release.factors.get(name, 0.0) for name in self._names])
        factors /= release.noise  # everything in units of the claimed noise
        own, rate = factors[self._hospital], self._rate[self._hospital]
        drawn = self._trained[self._hospital] * rate
        mean = (own * drawn) @ clipped
        spread = own * np.sqrt(drawn * (1 - drawn))
        there = spread > 0
        white = Whitened.of(spread[there, None] * clipped[there], moved / release.noise - mean)
        along, energy = white.against(clipped)  # (patients,) twice
        # The target out of the covariance, and its expected part out of the mean.
        left = np.maximum(1 - spread**2 * energy, SMALLEST)
        along, energy = (along + own * drawn * energy) / left, energy / left
        # Only now, or the target would leave a part behind where the covariance is too small.
        along, energy = along / white.excess, energy / white.excess
        shift = factors * along[:, None] - factors**2 * energy[:, None] / 2
        with np.errstate(divide="ignore"):  # log 0 where everybody is drawn
            score: Floats = np.logaddexp(np.log1p(-self._rate), np.log(self._rate) + shift)
        return score
