"""audit.json against itself: a verdict is the gravest of its lines, a line what its figures say."""

from collections.abc import Iterator

from securefed.evidence.spending import SAME_EPSILON
from securefed.privacy.accounting import at_most
from securefed.record.audit import AuditFile, Finding, Judgement
from securefed.record.mismatch import Mismatch
from securefed.run_directory import Run
from securefed.verdict import Verdict, gravest


def of_lines(run: Run) -> Iterator[Mismatch]:
    """Verdict, judgements, findings, controls and checks."""
    audit = run.audit
    if audit is None:
        return
    follows = gravest(line.verdict for line in audit.judgements) or Verdict.INCONCLUSIVE
    if audit.evidence:
        follows = Verdict.FAIL
    if audit.verdict is not follows:
        yield _told(f"the verdict is {audit.verdict}, its lines give {follows}")
    findings = {_key(each): each for each in audit.findings}
    for line in audit.judgements:
        found = findings.get(_key(line))
        if line.value is not None and (found is None or not _is_of(line, found)):
            yield _told(f"{_name(line)}: {line.value} is no figure of its findings")
        if wrong := _contradiction(line):
            yield _told(f"{_name(line)} is {line.verdict}, and {wrong}")
    judged = {_key(line): line for line in audit.judgements}
    for each in audit.findings:
        if each.value is not None and _key(each) not in judged:
            yield _told(f"a finding of {each.attack} by the {each.observer} is not judged")
    yield from _checks(audit)


def _checks(audit: AuditFile) -> Iterator[Mismatch]:
    """What a malicious server tried, and what each line says of it."""
    lines = {line.method: line for line in audit.judgements if not line.metric}
    for check in audit.checks:
        line = lines.get(check.name)
        expected = None
        if check.expected:
            expected = Verdict.PASS if check.refused else Verdict.FAIL
        if line is None or line.verdict is not expected:
            found = line.verdict if line else "not there"
            yield _told(f"what was tried as {check.name} is {found}, the check gives {expected}")


def of_claims(run: Run) -> Iterator[Mismatch]:
    """The epsilon that was tested is what the ledgers count, of one hospital or the largest."""
    audit = run.audit
    if audit is None or not run.settings.privacy.dp:
        return
    counted = [one.guarantee().counted for one in run.ledgers.values()]
    for test in audit.epsilon:
        claimed = test.claimed_epsilon
        if claimed is None or any(abs(claimed - each) <= SAME_EPSILON for each in counted):
            continue
        told = f"the {test.observer} tested a claim of {at_most(claimed)}"
        yield _told(f"{told}, the ledgers give {', '.join(sorted(map(at_most, counted)))}")


def _told(text: str) -> Mismatch:
    return Mismatch(AuditFile.NAME, text)


def _key(line: Judgement | Finding) -> tuple[str, str | None, str, str, str]:
    return line.attack, line.observer, line.method, line.metric, line.scene


def _name(line: Judgement) -> str:
    return ", ".join(part for part in (line.attack, line.observer or "", line.title) if part)


def _is_of(line: Judgement, found: Finding) -> bool:
    return line.value == found.value and line.interval == found.interval


def _contradiction(line: Judgement) -> str | None:
    """What in a line's own figures speaks against its verdict; None where nothing does."""
    if line.interval is None or line.threshold is None or line.verdict is None:
        return None
    low, high = line.interval
    over = low is not None and low > line.threshold
    under = high is not None and high < line.threshold
    match line.verdict:
        case Verdict.PASS if line.of_epsilon and line.value is not None:
            return "its bound is over the claim" if line.value > line.threshold else None
        case Verdict.PASS:
            return None if under else "its interval is not under the threshold"
        case Verdict.FAIL:
            return None if over else "its interval is not over the threshold"
        case _:
            return None
