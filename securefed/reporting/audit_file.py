"""audit.json as the report reads it: what an audit found, with what power, under which controls.

Optional keys may be missing and unknown ones are let be; a wrong type or an unknown verdict is
refused, because a page must not turn a damaged file into a verdict.
"""

from pathlib import Path
from typing import Literal

import msgspec

from securefed.errors import RunError
from securefed.reporting.facts import (
    Audit,
    Check,
    Control,
    EpsilonTest,
    Exposed,
    Family,
    Finding,
    Judgement,
    Picture,
)
from securefed.reporting.sources import read_json
from securefed.reporting.words import number, span

Pair = tuple[float | None, float | None]
GRAVITY = (None, "PASS", "INCONCLUSIVE", "INVALID", "FAIL")
FAMILIES = ("membership", "inversion", "head leakage", "epsilon", "malicious server")
PICTURES = (".png", ".svg")
SCENES = ("as configured", "worst case")


class PolicyPart(msgspec.Struct, frozen=True):
    name: str
    set_by: str = "not said"
    confidence: float | None = None
    sha256: str | None = None


class ExposureLine(msgspec.Struct, frozen=True):
    observer: str
    members: list[str] = msgspec.field(default_factory=list)
    rounds: int = 0
    sees_updates: bool = False
    sees_means: bool = False
    missing: str | None = ""


class JudgementLine(msgspec.Struct, frozen=True):
    name: str
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"] | None
    reason: str
    observer: str | None = None
    attack: str | None = None
    value: float | None = None
    interval: Pair | None = None
    threshold: float | None = None
    adjusted_p: float | None = None
    decides: bool = True

    @property
    def family(self) -> str:
        return self.attack or self.name.split(" / ")[0]

    @property
    def scene(self) -> str:
        last = self.name.split(" / ")[-1]
        return last if last in SCENES else ""

    @property
    def title(self) -> str:
        """Of "membership / lira / auc / server / worst case": "lira, auc"."""
        said = {self.family, self.observer, self.scene}
        return ", ".join(part for part in self.name.split(" / ") if part not in said)


class FindingLine(msgspec.Struct, frozen=True):
    attack: str
    method: str
    metric: str
    observer: str
    scene: str
    value: float | None = None
    interval: Pair | None = None
    absent: str | None = None


class ControlLine(msgspec.Struct, frozen=True):
    attack: str
    control: str
    kind: str
    metric: str
    gate: str
    met: bool
    value: float | None = None
    interval: Pair | None = None
    reason: str = ""


class CheckLine(msgspec.Struct, frozen=True):
    name: str
    refused: bool
    expected: bool = True
    detail: str = ""


class EpsilonLine(msgspec.Struct, frozen=True):
    observer: str
    canaries: int
    guesses: int
    correct: int
    certified: float
    one_run_bound: float | None = None
    f_dp_bound: float | None = None
    point_estimate: float | None = None
    visible_epsilon: float | None = None
    claimed_epsilon: float | None = None
    power_halved_noise: float | None = None


class PictureLine(msgspec.Struct, frozen=True):
    file: str
    caption: str | None = None
    title: str | None = None


class AuditFile(msgspec.Struct, frozen=True):
    schema: Literal[1]
    run: str
    configuration: str
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
    policy: PolicyPart
    effort: str = "not said"
    seed: int | None = None
    seconds: float | None = None
    exposures: list[ExposureLine] = msgspec.field(default_factory=list)
    judgements: list[JudgementLine] = msgspec.field(default_factory=list)
    findings: list[FindingLine] = msgspec.field(default_factory=list)
    controls: list[ControlLine] = msgspec.field(default_factory=list)
    checks: list[CheckLine] = msgspec.field(default_factory=list)
    epsilon: list[EpsilonLine] = msgspec.field(default_factory=list)
    pictures: list[PictureLine] = msgspec.field(default_factory=list)
    curves: list[PictureLine] = msgspec.field(default_factory=list)


def read_audit(folder: Path, run: str, configuration: str) -> Audit | None:
    """The audit of a run, or None where it was not audited.

    Raises:
        RunError: damaged, of another schema, or of another run than the one beside it.
    """
    path = folder / "audit.json"
    if not path.exists():
        return None
    file = read_json(path, AuditFile)
    if file.configuration != configuration:
        raise RunError(
            f"{path} is of a {file.configuration} run, the run beside it is {configuration}",
            hint="audit the run again",
        )
    if len(file.run) == 32 and file.run != run:
        raise RunError(f"{path} is of another run ({file.run})", hint="audit the run again")
    return Audit(
        verdict=file.verdict,
        effort=file.effort,
        seed=file.seed,
        seconds=file.seconds,
        policy=file.policy.name,
        policy_set_by=file.policy.set_by,
        policy_sha256=file.policy.sha256,
        confidence=file.policy.confidence,
        exposures=[
            Exposed(**{**msgspec.structs.asdict(line), "missing": line.missing or ""})
            for line in file.exposures
        ],
        families=_families(file),
        judgements=[
            Judgement(
                **{
                    **msgspec.structs.asdict(line),
                    "observer": line.observer or "any",
                    "attack": line.family,
                    "title": line.title,
                    "scene": line.scene,
                }
            )
            for line in file.judgements
        ],
        findings=[Finding(**msgspec.structs.asdict(line)) for line in file.findings],
        controls=[Control(**msgspec.structs.asdict(line)) for line in file.controls],
        checks=[Check(**msgspec.structs.asdict(line)) for line in file.checks],
        epsilon=[EpsilonTest(**msgspec.structs.asdict(line)) for line in file.epsilon],
        pictures=_pictures(folder, file),
    )


def _pictures(folder: Path, file: AuditFile) -> list[Picture]:
    pictures = []
    for line in [*file.curves, *file.pictures]:
        name = Path(line.file)
        # The page embeds these files: none from outside the run's own audit folder.
        if name.is_absolute() or ".." in name.parts or name.suffix.lower() not in PICTURES:
            raise RunError(f"audit.json names {line.file!r}, which is no picture of this audit")
        place = name if name.parts[0] == "audit" else Path("audit") / name
        if not (folder / place).is_file():
            raise RunError(
                f"audit.json names {place.as_posix()}, which is not there",
                hint="audit the run again",
            )
        caption = line.caption or line.title or name.stem
        pictures.append(Picture(place.as_posix(), caption, patient=line in file.pictures))
    return pictures


def _families(file: AuditFile) -> list[Family]:
    families = [_family(file, attack) for attack in FAMILIES[:-1]]
    judged = [check for check in file.checks if check.expected]
    refused = [check for check in judged if check.refused]
    families.append(
        Family(
            attack=FAMILIES[-1],
            attacked=bool(file.checks),
            verdict=None if not judged else ("PASS" if refused == judged else "FAIL"),
            summary="no checks were run"
            if not file.checks
            else f"{len(refused)} of {len(judged)} requests that a hospital can recognise were "
            f"refused; {len(file.checks) - len(judged)} others nobody can recognise",
        )
    )
    return families


def _family(file: AuditFile, attack: str) -> Family:
    lines = [line for line in file.judgements if line.family == attack and line.value is not None]
    judged = [line for line in lines if line.verdict is not None] or lines
    if not judged:
        absent = [f.absent for f in file.findings if f.attack == attack and f.absent]
        return Family(
            attack=attack,
            attacked=False,
            verdict=None,
            summary=absent[0] if absent else "not attacked",
        )
    worst = max(judged, key=lambda line: (GRAVITY.index(line.verdict), line.value or 0.0))
    limits = f" ({span(worst.interval)})" if worst.interval else ""
    return Family(
        attack=attack,
        attacked=True,
        verdict=worst.verdict,
        summary=f"{worst.observer}, {worst.title}: {number(worst.value)}{limits}; {worst.reason}",
    )
