"""One audit of a run, to audit.json: attacks, verdict, pictures."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from attacks.family import Case
from attacks.policy import Policy
from attacks.result import Effort as Efforts
from attacks.suite import Done, Step, conclude, steps
from securefed.auditing.choices import ATTACKS, Effort, require_auditable
from securefed.auditing.exposures import exposures_of, observers_of
from securefed.auditing.figures import draw
from securefed.auditing.partial import able, of_party, within
from securefed.auditing.policy import read_policy
from securefed.auditing.record import audit_lines, exposed
from securefed.auditing.subject import subject_of
from securefed.errors import ConfigurationError
from securefed.evidence import checks as evidence
from securefed.exposure import OBSERVERS, Observer
from securefed.files import only_writer
from securefed.model_card import card
from securefed.record.audit import AuditFile
from securefed.record.mismatch import Mismatch
from securefed.run_directory import Run
from securefed.verdict import Verdict

Report = Callable[[str, float], None]  # what is being done, and the finished share of everything


def audit(
    run: Run,
    *,
    effort: Effort = "default",
    observers: Sequence[Observer] | None = None,
    attacks: Sequence[str] = ATTACKS,
    policy: Path | None = None,
    report: Report = lambda text, share: None,
) -> AuditFile:
    """Audit a run; writes audit.json and audit/ into its directory.

    First the run's files are held against each other. Where they disagree the verdict is FAIL, and
    nothing is attacked: whatever came of it would be about what somebody wrote there.

    Ctrl-C ends it early: what was finished is judged and written, `interrupted` is true.

    Args:
        observers: who attacks, of OBSERVERS; None: all whose part is in the run's folder.
        attacks: of ATTACKS.
        policy: YAML file; None: the built-in one.
        report: told what is being done, and the finished share, 0 to 1.

    Raises:
        RunError: not finished, no recording, its patients have changed, or somebody else is writing
            to it.
        ConfigurationError: the policy cannot be used, or there is no such effort, observer or
            attack.
    """
    observers = observers_of(run) if observers is None else observers
    _require(effort, observers, attacks)
    judge_by = read_policy(policy)
    with only_writer(run.path):
        return _audit(run, effort, observers, attacks, judge_by, report)


def _audit(
    run: Run,
    effort: Effort,
    observers: Sequence[Observer],
    attacks: Sequence[str],
    judge_by: Policy,
    report: Report,
) -> AuditFile:
    run.require_finished()
    require_auditable(run.settings)
    started = time.perf_counter()
    if contradictions := _contradictions(run, report):
        return _failed(run, contradictions, effort, judge_by)
    exposures = exposures_of(run, observers)
    subject = subject_of(run)
    known = exposures
    if run.party != "everybody":
        known = {name: within(each, subject) for name, each in exposures.items()}
    case = Case.of(subject, known, Efforts(effort))
    todo = steps(case, attacks)
    done, interrupted = _work(of_party(todo, run, judge_by), report)
    pictures, curves = draw(done, run.path / "audit")
    file = AuditFile(
        run=run.about.run,
        configuration=run.about.configuration,
        effort=effort,
        seed=case.subject.seed,
        interrupted=interrupted,
        asked=_asked(run, attacks, todo),
        exposures=tuple(map(exposed, exposures.values())),
        **audit_lines(done, conclude(done, judge_by, attacks), judge_by),
        pictures=pictures,
        curves=curves,
        seconds=time.perf_counter() - started,
    )
    file.write(run.path)
    card.renew(run.path)
    return file.sealed()


def _asked(run: Run, attacks: Sequence[str], todo: Sequence[Step]) -> tuple[str, ...]:
    """The families that the verdict is of, where these are not all."""
    if set(attacks) != set(ATTACKS):
        return tuple(attacks)
    return () if run.party == "everybody" else able(todo, run)


def _contradictions(run: Run, report: Report) -> tuple[Mismatch, ...]:
    """But for the audit that is about to be replaced."""
    report("holding the files of the run against each other", 0.0)
    return evidence.mismatches(run, audit=False)


def _failed(
    run: Run, contradictions: tuple[Mismatch, ...], effort: Effort, policy: Policy
) -> AuditFile:
    lines = audit_lines([], conclude([], policy), policy)
    file = AuditFile(
        run=run.about.run,
        configuration=run.about.configuration,
        effort=effort,
        seed=run.about.randomness.seed,
        evidence=contradictions,
        **{**lines, "verdict": Verdict.FAIL},
    )
    # Pictures of an older audit beside this one would mislead, and so would the model's card.
    shutil.rmtree(run.path / "audit", ignore_errors=True)
    card.withdraw(run.path)
    file.write(run.path)
    return file.sealed()


def _require(effort: str, observers: Sequence[str], attacks: Sequence[str]) -> None:
    for kind, asked, offered in (
        ("effort", (effort,), get_args(Effort)),
        ("observer", observers, OBSERVERS),
        ("attack", attacks, ATTACKS),
    ):
        hint = f"choose of: {', '.join(offered)}"
        if not asked:
            raise ConfigurationError(f"an audit needs at least one {kind}", hint=hint)
        for name in asked:
            if name not in offered:
                raise ConfigurationError(f"there is no {kind} {name!r}", hint=hint)


def _work(todo: Sequence[Step], report: Report) -> tuple[list[Done], bool]:
    """Run the steps; stops at Ctrl-C and says so."""
    total = sum(step.weight for step in todo) or 1.0  # lines without a figure take no time
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
