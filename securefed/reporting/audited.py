"""audit.json as the report shows it: each family in a sentence, and the pictures."""

import msgspec

from securefed.errors import RunError
from securefed.record.audit import CHECKED, MORE_EFFORT, AuditFile
from securefed.reporting.attack_facts import Audit, Family, MeasuredEpsilon, Picture
from securefed.reporting.meanings import metrics, says
from securefed.reporting.refusals import attempts
from securefed.reporting.words import figure, limits
from securefed.run_directory import Run
from securefed.verdict import Verdict, gravity


def audit_facts(run: Run) -> Audit | None:
    """The audit of a run, or None where it was not audited.

    Raises:
        RunError: damaged, of another schema, of another run, or a picture of it is missing.
    """
    file = run.audit
    if file is None:
        return None
    return Audit(
        verdict=file.of_the_run,
        effort=file.effort,
        more_effort=MORE_EFFORT.get(file.effort),
        seed=file.seed,
        seconds=file.seconds,
        policy=file.policy.name,
        policy_set_by=file.policy.set_by,
        policy_sha256=file.policy.sha256,
        confidence=file.policy.confidence,
        exposures=file.exposures,
        families=families(file),
        judgements=file.judgements,
        findings=file.findings,
        controls=file.controls,
        attempts=attempts(file.checks),
        epsilon=tuple(
            MeasuredEpsilon(**msgspec.structs.asdict(test), says=says(test))
            for test in file.epsilon
        ),
        metrics=metrics(line.metric for line in file.judgements),
        pictures=_pictures(run, file),
    )


def _pictures(run: Run, file: AuditFile) -> list[Picture]:
    curves = [Picture(each.file, each.title, patient=False) for each in file.curves]
    scans = [Picture(each.file, each.caption, patient=True) for each in file.pictures]
    for picture in (*curves, *scans):
        if not (run.path / picture.file).is_file():
            raise RunError(
                f"audit.json names {picture.file}, which is not there", hint="audit the run again"
            )
    return [*curves, *scans]


def families(file: AuditFile) -> list[Family]:
    """Every family that the audit speaks of; the malicious server last."""
    attacks = [_attack(file, name) for name in file.families if name != CHECKED]
    return [*attacks, _malicious_server(file)]


def _malicious_server(file: AuditFile) -> Family:
    judged = [check for check in file.checks if check.expected]
    refused = [check for check in judged if check.refused]
    if not file.checks:
        return Family(attack=CHECKED, attacked=False, verdict=None, summary="no checks were run")
    verdict = Verdict.PASS if refused == judged else Verdict.FAIL
    return Family(
        attack=CHECKED,
        attacked=True,
        verdict=verdict if judged else None,
        summary=f"{len(refused)} of {len(judged)} requests that a hospital can recognise were "
        f"refused; {len(file.checks) - len(judged)} others nobody can recognise",
    )


def _attack(file: AuditFile, attack: str) -> Family:
    lines = [line for line in file.judgements if line.attack == attack and line.value is not None]
    judged = [line for line in lines if line.verdict is not None] or lines
    if not judged:
        reasons = [each.absent for each in file.findings if each.attack == attack and each.absent]
        summary = reasons[0] if reasons else "not attacked"
        return Family(attack=attack, attacked=False, verdict=None, summary=summary)
    worst = max(judged, key=lambda line: (gravity(line.verdict), line.share_of_threshold))
    interval = f" ({limits(worst)})" if worst.interval else ""
    who = ", ".join(filter(None, (worst.observer, worst.title)))
    return Family(
        attack=attack,
        attacked=True,
        verdict=worst.verdict,
        summary=f"{who}: {figure(worst)}{interval}; {worst.reason}",
    )
