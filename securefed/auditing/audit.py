"""One audit from a run directory to audit.json: attacks, verdict, pictures."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from attacks.family import Case
from attacks.policy import load_policy
from attacks.result import Effort as Efforts
from attacks.suite import Done, Step, conclude, steps
from securefed.auditing.choices import ATTACKS, Effort
from securefed.auditing.figures import draw
from securefed.auditing.record import audit_lines, exposed
from securefed.auditing.subject import exposures_of, subject_of
from securefed.exposure import OBSERVERS, Observer
from securefed.record.audit import AuditFile
from securefed.record.directory import RunDirectory, settings_of

Report = Callable[[str, float], None]  # what is being done, and the finished share of everything


def audit_run(
    directory: Path,
    *,
    effort: Effort = "default",
    observers: Sequence[Observer] = OBSERVERS,
    attacks: Sequence[str] = ATTACKS,
    policy: Path | None = None,
    report: Report = lambda text, share: None,
) -> dict[str, Any]:
    """Audit a run; writes audit.json and audit/ into it.

    Ctrl-C ends it early: what was finished is judged and written, `interrupted` is true.

    Args:
        observers, attacks: of OBSERVERS and ATTACKS.
        policy: YAML file; None: the built-in one.
        report: told what is being done, and the finished share, 0 to 1.

    Returns:
        The content of audit.json.

    Raises:
        RunError: no run there, no recording, or its patients have changed.
        PolicyError: the policy cannot be used.
    """
    started = time.perf_counter()
    judge_by = load_policy(policy)
    run = RunDirectory.open(directory)
    exposures = exposures_of(directory, observers)
    case = Case.of(subject_of(directory), exposures, Efforts(effort))
    done, interrupted = _work(steps(case, attacks), report)
    pictures, curves = draw(done, run.path / "audit")
    audit = AuditFile(
        run=run.read_json("run.json")["run"],
        configuration=settings_of(directory).configuration,
        effort=effort,
        seed=case.subject.seed,
        interrupted=interrupted,
        exposures=tuple(map(exposed, exposures.values())),
        **audit_lines(done, conclude(done, judge_by), judge_by),
        pictures=pictures,
        curves=curves,
        seconds=time.perf_counter() - started,
    )
    audit.write(run.path)
    content: dict[str, Any] = msgspec.json.decode(audit.encode())
    return content


def _work(todo: Sequence[Step], report: Report) -> tuple[list[Done], bool]:
    """Run the steps; stops at Ctrl-C and says so."""
    total = sum(step.weight for step in todo)
    done: list[Done] = []
    before = 0.0
    try:
        for step in todo:

            def progress(share: float, step: Step = step, before: float = before) -> None:
                report(step.label, (before + step.weight * share) / total)

            progress(0.0)
            done.append(Done(step, step.work(progress)))
            before += step.weight
    except KeyboardInterrupt:
        return done, True
    return done, False
