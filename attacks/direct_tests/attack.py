"""Direct tests: what a run released, held against what it claims, patients and all.

Canaries guess; these compute. Given what was sent, the patients, and the claim of a hospital's
ledger, mean and covariance of every release follow (`law`), and what is left must be noise of the
claimed size and shape (`residuals`). Without the patients the size of the noise can still be
measured (`blind`). What is measured implies an epsilon (`noise_bound`).

    hospital      a peer's own record and patients; a server or a coalition that tells updates apart
                  is tested on every hospital's
    sum           the opened sum of a masked round, the noise of all survivors together; works for
                  noise that hospitals share out, too, where one that adds none is noticed

Every test has an error of its own under the claim; the policy says which p-value fails a run.

Not seen: noise that somebody can predict or coins that somebody knows, as long as their law is
right; faults of rounds that were not recorded; in a sum, too much noise of one hospital that makes
up for too little of another.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from attacks.direct_tests import NAME, blind, residuals
from attacks.direct_tests.blind import Lengths, lengths
from attacks.direct_tests.law import Array, Law, Whitened
from attacks.direct_tests.patients import Patients, rounds_to_look_at, unpredictable
from attacks.direct_tests.releases import SUM, Releases, series, untestable
from attacks.direct_tests.residuals import Residuals, two_hospitals, worst
from attacks.epsilon.noise_bound import Measured, implied
from attacks.findings import LARGEST_SURPRISE, Finding, LowerBound, Scene, Surprise
from attacks.result import AttackResult, Effort, NoiseChart, Progress
from attacks.subject import Hospital, Subject
from securefed.exposure import Exposure, Observer

SURPRISE, EPSILON = "surprise", "epsilon"
LEDGER = "ledger"
FEW = 0.2  # of the gradients clipped: less, and clipping is hardly tested
MORE_RELEASES = (
    "a run of more rounds; a claim that counts earlier runs of the ledger too is one that this run "
    "alone cannot test"
)
SCENE: Scene = "as configured"


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one observer has, with and without the patients.

    Attributes:
        residuals: of the same series, where patients' gradients are known.
        norms: of all gradients that were looked at, before clipping.
        unknown: why there are no residuals, or nothing.
    """

    releases: tuple[Releases, ...]
    blindly: tuple[Lengths, ...]
    residuals: tuple[Residuals, ...]
    norms: Array = field(repr=False)
    unknown: str


def gather(
    subject: Subject, exposures: Mapping[Observer, Exposure], effort: Effort, progress: Progress
) -> dict[Observer, Evidence]:
    """The evidence of every observer who saw a release; patients' gradients are computed once."""
    if untestable(subject):
        return {}
    seen = {name: series(subject, exposure) for name, exposure in exposures.items()}
    seen = {name: several for name, several in seen.items() if several}
    unknown = unpredictable(subject)
    numbers = sorted({n for each in seen.values() for one in each for n in one.numbers})
    chosen = [] if unknown or not numbers else rounds_to_look_at(numbers, subject, effort)
    white: dict[tuple[Observer, str], list[tuple[int, Whitened]]] = {}
    norms: dict[Observer, list[Array]] = {}
    for done, number in enumerate(chosen):
        progress(done / len(chosen))
        at_start: dict[bytes, Patients] = {}
        for observer, several in seen.items():
            for one in several:
                if number not in one.numbers:
                    continue
                row = one.numbers.index(number)
                start = one.starts[row]
                there = at_start.setdefault(start.tobytes(), Patients(subject, start))
                parts = [there.part(name, f) for name, f in one.factors[row].items()]
                whitened = Law.of(parts).whiten(one.values[row])
                white.setdefault((observer, one.name), []).append((number, whitened))
                norms.setdefault(observer, []).extend(
                    there.norms[name] for name in one.factors[row]
                )
    progress(1.0)
    return {
        observer: Evidence(
            tuple(several),
            tuple(filter(None, map(lengths, several))),
            tuple(
                Residuals.of(one.name, white[observer, one.name])
                for one in several
                if (observer, one.name) in white
            ),
            np.concatenate(norms[observer]) if observer in norms else np.empty(0),
            unknown,
        )
        for observer, several in seen.items()
    }


def attack(
    subject: Subject, observer: Observer, evidence: Evidence | None, covered: str = ""
) -> AttackResult:
    """Every test of what one observer saw.

    Args:
        evidence: what it has, of `gather`; None where it has nothing.
        covered: why this observer's evidence is somebody else's, or nothing.
    """
    if evidence is None:
        why = covered or untestable(subject) or "no update, and no mean of updates, was seen"
        absent = Finding(NAME, residuals.NOISE, SURPRISE, observer, SCENE, None, why, applies=False)
        return AttackResult(findings=(absent,))
    surprises = tests(subject, evidence)
    found = [Finding(NAME, m, SURPRISE, observer, SCENE, each) for m, each in surprises.items()]
    found += [
        Finding(NAME, method, SURPRISE, observer, SCENE, None, why, applies=False)
        for method, why in _left_out(subject, evidence, surprises).items()
    ]
    if bound := epsilon_of_noise(subject, evidence):
        found.append(
            Finding(NAME, residuals.NOISE, EPSILON, observer, SCENE, bound, remedy=MORE_RELEASES)
        )
    return AttackResult(
        findings=tuple(found),
        details=_details(subject, evidence, surprises),
        charts=(_chart(observer, evidence),) if evidence.blindly else (),
    )


def tests(subject: Subject, evidence: Evidence) -> dict[str, Surprise]:
    """Method -> the most surprising of what it says of the series that an observer has."""
    several = [each.tests() for each in evidence.residuals]
    several += [each.tests() for each in evidence.blindly]
    found = {
        method: worst(each[method] for each in several if method in each)
        for method in (*residuals.METHODS, *blind.METHODS)
        if any(method in each for each in several)
    }
    if (clipping := found.get(residuals.CLIPPING)) and (told := _clipped(subject, evidence.norms)):
        found[residuals.CLIPPING] = replace(clipping, of=f"{clipping.of}, {told}")
    if pair := two_hospitals(evidence.residuals):
        found[residuals.TWO] = pair
    found[LEDGER] = _ledger(subject, evidence)
    return found


def _ledger(subject: Subject, evidence: Evidence) -> Surprise:
    """A release that no ledger paid for: a run that does what it claims has none."""
    unpaid = {
        hospital.name: sorted(_rounds_of(hospital, evidence) - set(hospital.reserved))
        for hospital in subject.hospitals
    }
    name = max(unpaid, key=lambda each: len(unpaid[each]))
    if not unpaid[name]:
        return Surprise(0.0, "every round that was sent is in its hospital's ledger")
    count, first = len(unpaid[name]), unpaid[name][0]
    return Surprise(
        LARGEST_SURPRISE, f"{name} sent {count} rounds that its ledger does not hold, first {first}"
    )


def _rounds_of(hospital: Hospital, evidence: Evidence) -> set[int]:
    """Rounds in which the hospital's sum is in what was released."""
    return {
        number
        for each in evidence.releases
        for number, factors in zip(each.numbers, each.factors, strict=True)
        if hospital.name in factors
    }


def epsilon_of_noise(subject: Subject, evidence: Evidence) -> LowerBound | None:
    """The epsilon that the measured noise implies, of the hospital where it tells most.

    Of a sum it is known only that some hospital adds no more than its share of what was measured;
    the bound is then that of the hospital whose claim allows most.
    """
    measured: dict[str, list[Measured]] = {}
    for each in evidence.residuals:
        if each.quiet[1]:
            measured.setdefault(each.name, []).append(Measured(*each.quiet))
    for blind_to in evidence.blindly:
        squares, count = (each.sum() for each in blind_to.of_pairs)
        measured.setdefault(blind_to.name, []).append(Measured(float(squares), int(count)))
    bounds: list[LowerBound] = []
    for hospital in subject.hospitals:
        known = measured.get(SUM) or measured.get(hospital.name, [])
        steps = len(_rounds_of(hospital, evidence)) * subject.training.local_steps
        several = 1 if SUM in measured else len(measured)
        bound = implied(hospital, steps, subject.training.delta, known, several)
        if bound is not None:
            bounds.append(bound)
    if not bounds:
        return None

    def over(bound: LowerBound) -> float:
        return bound.value - (bound.claim or 0.0)

    return min(bounds, key=over) if SUM in measured else max(bounds, key=over)


def _clipped(subject: Subject, norms: Array) -> str:
    """How many of patients' gradients there were to clip, and what would show clipping better."""
    if not norms.size:
        return ""
    clip_norm = subject.training.clip_norm or 0.0
    share, median = float((norms > clip_norm).mean()), float(np.median(norms))
    told = f"{share:.0%} of patients' gradients are longer than the norm"
    if share < FEW:
        told += (
            f"; canaries, or an audit run with privacy.clip_norm {median / 2:.2g}, would show more"
        )
    return told


def _left_out(
    subject: Subject, evidence: Evidence, surprises: Mapping[str, Surprise]
) -> dict[str, str]:
    """Method -> why it was not tried."""
    left = {method: evidence.unknown for method in residuals.METHODS if evidence.unknown}
    if residuals.TWO not in surprises and not evidence.unknown:
        left[residuals.TWO] = "updates of two hospitals are needed, told apart"
    if residuals.CLIPPING not in surprises and not evidence.unknown:
        left[residuals.CLIPPING] = _clipped(subject, evidence.norms)
    if not evidence.blindly:
        left |= dict.fromkeys(blind.METHODS, "a single round has no neighbour to compare it with")
    return left


def _details(
    subject: Subject, evidence: Evidence, surprises: Mapping[str, Surprise]
) -> dict[str, Any]:
    by_name = {each.name: each for each in evidence.residuals}
    blindly = {each.name: each for each in evidence.blindly}
    several = []
    for each in evidence.releases:
        line: dict[str, Any] = {"of": each.name, "rounds": len(each.numbers)}
        if unaware := blindly.get(each.name):
            line["noise_without_patients"] = unaware.noise_ratio
        if known := by_name.get(each.name):
            line |= {
                "rounds_with_patients": len(known.numbers),
                "noise_over_claimed": known.noise_ratio if known.quiet[1] else None,
                "dose": known.dose.estimate if known.dose.information else None,
                "dose_error": known.dose.error if known.dose.information else None,
            }
        several.append(line)
    return {
        "series": several,
        "tests": {method: each.of for method, each in surprises.items()},
        "clipping": _clipping(subject, evidence.norms),
    }


def _clipping(subject: Subject, norms: Array) -> dict[str, Any]:
    """How much there was for clipping to do, and a norm at which it would have had plenty."""
    clip_norm = subject.training.clip_norm
    if clip_norm is None or not norms.size:
        return {}
    return {
        "clip_norm": clip_norm,
        "clipped_share": float((norms > clip_norm).mean()),
        "median_norm": float(np.median(norms)),
    }


def _chart(observer: Observer, evidence: Evidence) -> NoiseChart:
    """Noise by round, as it can be measured in every run."""
    return NoiseChart(
        f"Noise measured over noise claimed, {observer}",
        {
            each.name: np.column_stack(
                [each.numbers, np.sqrt(each.of_rounds[0] / each.of_rounds[1]), each.of_rounds[1]]
            )
            for each in evidence.blindly
        },
    )
