"""What the direct tests of an audit see, and how often they see what is not there; one JSON object.

    python benchmarks/audit_power.py RUN_DIR [--json] [--honest 200] [--broken 40] [--real 20]

Simulated: releases are drawn anew on the patients and along the parameters of a recorded run with
differential privacy (its clipped gradients in every round are real), honest ones and others that
are not what the run claims. Each set is one audit of its view, and fails if one of its tests is
over the default policy's threshold. Views:

    hospital         one hospital's own record, patients known
    blind            the same, patients unknown
    sum              the sum over all hospitals, patients known
    blind sum        the same, patients unknown

Real: as many small runs as told, honest, with noise of their own each (tests/sabotage.py), through
recording, ledger and audit.

A case's figure is the share of audits that fail: of honest ones lower is better, of all others
higher. The floor of an honest case is what as many tests at the threshold give on average; a
broken case has none.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np  # noqa: E402  # after the path
import scipy  # noqa: E402
import torch  # noqa: E402

from attacks.direct_tests.attack import Evidence, gather, tests  # noqa: E402
from attacks.direct_tests.blind import lengths  # noqa: E402
from attacks.direct_tests.law import Array, Law  # noqa: E402
from attacks.direct_tests.patients import Patients  # noqa: E402
from attacks.direct_tests.releases import Releases  # noqa: E402
from attacks.direct_tests.residuals import Residuals  # noqa: E402
from attacks.result import Effort  # noqa: E402
from attacks.subject import Subject  # noqa: E402
from securefed.auditing.exposures import exposures_of  # noqa: E402
from securefed.auditing.policy import read_policy  # noqa: E402
from securefed.auditing.subject import subject_of  # noqa: E402
from securefed.run_directory import Run  # noqa: E402
from tests.sabotage import honest, run_with  # noqa: E402

THRESHOLD = 4.0  # of every shipped policy, asserted in main
ONE = "hospital-1"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a simulated mechanism: factors on noise and rate, and the rest by name."""

    noise: float = 1.0
    rate: float = 1.0
    kind: str = ""


FAULTS = {
    "noise x .95": Fault(noise=0.95),
    "noise x .9": Fault(noise=0.9),
    "noise x .5": Fault(noise=0.5),
    "no noise": Fault(noise=0.0),
    "sampling x 1.2": Fault(rate=1.2),
    "sampling x 2": Fault(rate=2.0),
    "noise of one sign": Fault(kind="one sign"),
    "the same noise every round": Fault(kind="same"),
    "no noise in the last round": Fault(kind="last"),
    "no clipping": Fault(kind="unclipped"),
    "one hospital without noise": Fault(kind="silent"),
}


@dataclass(frozen=True, eq=False)
class Scene:
    """One round's records: hospital -> clipped and raw gradients (N, P), and its deviation."""

    number: int
    patients: Patients
    raw: dict[str, Array]
    clipped: dict[str, Array]


class Simulated:
    """Audits of one kind: `count` runs released anew, round by round."""

    def __init__(self, subject: Subject, names: tuple[str, ...], fault: Fault, count: int) -> None:
        self._subject, self._names, self._fault = subject, names, fault
        self._rng = np.random.default_rng([count, len(names), sum(map(ord, str(fault)))])
        self._again: Array | None = None
        self.rounds: list[list[Any]] = [[] for _ in range(count)]
        self.values: list[list[Array]] = [[] for _ in range(count)]

    def release(self, law: Law, scene: Scene, factors: dict[str, float], *, last: bool) -> None:
        """One more round of every run."""
        count, fault = len(self.rounds), self._fault
        total: Array = np.zeros((count, law.mean.size))
        for name in self._names:
            (hospital,) = (each for each in self._subject.hospitals if each.name == name)
            rows = scene.raw[name] if fault.kind == "unclipped" else scene.clipped[name]
            rate = min(1.0, fault.rate * hospital.sample_rate)
            drawn = self._rng.random((count, len(rows))) < rate
            noise = self._noise(total.shape, name, last=last)
            deviation = hospital.noise_multiplier * (self._subject.training.clip_norm or 0.0)
            total += factors[name] * (drawn @ rows + deviation * noise)
        for run, value in enumerate(total):
            self.rounds[run].append((scene.number, law.whiten(value)))
            self.values[run].append(value)

    def _noise(self, shape: tuple[int, ...], name: str, *, last: bool) -> Array:
        fault = self._fault
        if (fault.kind == "last" and last) or (fault.kind == "silent" and name == ONE):
            return np.zeros(shape)
        noise = self._rng.normal(size=shape)
        if fault.kind == "one sign":
            return np.abs(noise)
        if fault.kind == "same":
            self._again = noise if self._again is None else self._again
            return self._again
        return fault.noise * noise

    def failed(self) -> dict[str, float]:
        """Share of audits that fail, with the patients and without."""
        counts = {"known": 0, "blind": 0}
        for rounds, values in zip(self.rounds, self.values, strict=True):
            numbers = tuple(number for number, _ in rounds)
            starts = (np.zeros(1, np.float32),) * len(numbers)
            one = Releases("simulated", numbers, starts, np.stack(values), ({},) * len(numbers))
            unaware = lengths(one)
            counts["known"] += _fails(Residuals.of("simulated", rounds).tests())
            counts["blind"] += _fails(unaware.tests() if unaware else {})
        return {view: count / len(self.rounds) for view, count in counts.items()}


def _fails(surprises: dict[str, Any]) -> bool:
    return any(each.value > THRESHOLD for each in surprises.values())


def scenes(subject: Subject, starts: dict[int, Any]) -> Iterator[Scene]:
    """Every round of a recorded run, with the gradients of all its patients."""
    clip_norm = subject.training.clip_norm or 0.0
    for number, start in starts.items():
        patients = Patients(subject, start)
        clipped = {h.name: patients.part(h.name, 1.0).rows for h in subject.hospitals}
        raw = {
            name: rows * np.maximum(patients.norms[name] / clip_norm, 1.0)[:, None]
            for name, rows in clipped.items()
        }
        yield Scene(number, patients, raw, clipped)


def simulate(run: Run, honest_runs: int, broken_runs: int) -> list[dict[str, Any]]:
    """A case for every fault and view."""
    subject = replace(subject_of(run), canaries=None)
    (exposure,) = exposures_of(run, ["server"]).values()
    starts = {view.number: view.shared for view in exposure.rounds}
    everybody = tuple(each.name for each in subject.hospitals)
    kinds = {"honest": (Fault(), honest_runs)} | {n: (f, broken_runs) for n, f in FAULTS.items()}
    audits = {
        (view, kind): Simulated(subject, names, fault, count)
        for view, names in (("hospital", (ONE,)), ("sum", everybody))
        for kind, (fault, count) in kinds.items()
        if view == "sum" or fault.kind != "silent"
    }
    for scene in scenes(subject, starts):
        for view, names in (("hospital", (ONE,)), ("sum", everybody)):
            factors = _factors(subject, names)
            law = Law.of([scene.patients.part(name, factors[name]) for name in names])
            for (of, _), audit in audits.items():
                if of == view:
                    audit.release(law, scene, factors, last=scene.number == max(starts))
        print(f"round {scene.number} of {max(starts)}", file=sys.stderr)
    cases = []
    for (view, kind), audit in audits.items():
        for how, share in audit.failed().items():
            case = f"{kind}, {view if how == 'known' else f'blind {view}'}"
            cases.append(_case(case, share, len(audit.rounds)))
    return cases


def _factors(subject: Subject, names: tuple[str, ...]) -> dict[str, float]:
    """Of hospitals of one size, in standard deviations of the noise of their sum."""
    clip_norm = subject.training.clip_norm or 0.0
    variance = sum(
        (each.noise_multiplier * clip_norm) ** 2 for each in subject.hospitals if each.name in names
    )
    return dict.fromkeys(names, 1 / variance**0.5)


def real(count: int) -> dict[str, Any]:
    """Honest small runs, each with new cryptographic noise, through the whole audit."""
    alarms = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            path = Path(folder) / f"run-{number}"
            run = run_with(honest, path, privacy={"seeded_noise": False}, seed=number)
            subject = subject_of(run)
            evidence = gather(subject, exposures_of(run, ["server"]), Effort.THOROUGH, _ignore)
            alarms += any(_alarmed(subject, each) for each in evidence.values())
            print(f"real run {number + 1} of {count}", file=sys.stderr)
    return _case("honest, small real runs", alarms / count, count)


def _alarmed(subject: Subject, evidence: Evidence) -> bool:
    return _fails(tests(subject, evidence))


def _ignore(share: float) -> None:
    """Progress that nobody watches."""


def _case(name: str, share: float, runs: int) -> dict[str, Any]:
    return {
        "case": name,
        "ours": share,
        "peers": {},
        "floor": None,
        "times_better": {},
        "of_floor": None,
        "runs": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="directory of a finished, recorded run with DP")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--honest", type=int, default=200, help="simulated honest audits")
    parser.add_argument("--broken", type=int, default=40, help="simulated audits of each fault")
    parser.add_argument("--real", type=int, default=20, help="real honest small runs")
    options = parser.parse_args()
    limit = read_policy().threshold("direct tests", "surprise", "as configured")
    if limit is None or limit.at_most != THRESHOLD:
        parser.error(f"the default policy's threshold is not {THRESHOLD}")
    torch.set_num_threads(1)
    cases = simulate(Run.open(options.run), options.honest, options.broken)
    if options.real:
        cases.append(real(options.real))
    result = {
        "name": "audit_power",
        "unit": "share of audits that fail",
        "better": "higher",  # but for the honest ones
        "repetitions": options.honest,
        "machine": f"{platform.machine()} {platform.system()}, 1 thread",
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "torch": torch.__version__,
        },
        "cases": cases,
    }
    if options.json:
        print(json.dumps(result))
        return
    for case in cases:
        print(f"{case['case']:44} {case['ours']:.3f} of {case['runs']}")


if __name__ == "__main__":
    main()
