"""audit.json against the policy that it says judged: thresholds, gates, verdicts, what was asked.

The rules of `attacks.verdicts` once more, from the file alone: what does not follow from the
figures and the policy beside them was changed, or judged by another one.
"""

from collections.abc import Iterator

from securefed.privacy.accounting import at_most
from securefed.record.audit import AuditFile, Control, Gate, Judgement, Policy, Threshold
from securefed.record.mismatch import Mismatch
from securefed.run_directory import Run
from securefed.verdict import Verdict

SAME_CLAIM = 1e-6


def of_policy(run: Run) -> Iterator[Mismatch]:
    """Every line by the policy in the file."""
    audit = run.audit
    if audit is None:
        return
    if not audit.policy.thresholds:
        yield _told("does not say by which thresholds it was judged; audit the run again")
        return
    if audit.seed != run.settings.seed:
        yield _told(f"seed is {audit.seed}, the run's is {run.settings.seed}")
    if audit.evidence:
        return  # nothing was attacked
    yield from _gates(audit)
    broken = {line.attack for line in audit.controls if not line.met}
    ran = {line.attack for line in audit.controls}
    broken |= {gate.attack for gate in audit.policy.gates} - ran
    for line in audit.judgements:
        if wrong := _wrong(line, audit.policy, line.attack in broken):
            yield _told(f"{_name(line)}: {wrong}")
    yield from _unanswered(audit)
    yield from _claims(run, audit)


def _gates(audit: AuditFile) -> Iterator[Mismatch]:
    """Controls by their gates; every gate of a family whose controls ran has one."""
    gates = {(gate.attack, gate.control, gate.metric): gate for gate in audit.policy.gates}
    ran = {line.attack for line in audit.controls}
    there = {(line.attack, line.control, line.metric) for line in audit.controls}
    for line in audit.controls:
        gate = gates.get((line.attack, line.control, line.metric))
        if gate is None or line.gate != str(gate):
            yield _told(f"{line.attack}, {line.control}: the gate is not the policy's ({gate})")
        elif line.met and not _met(gate, line):
            yield _told(f"{line.attack}, {line.control}: is off its gate and said to meet it")
    for attack, control, metric in gates.keys() - there:
        if attack in ran:
            yield _told(f"{attack}, {control}, {metric}: no control, where the policy has a gate")


def _met(gate: Gate, line: Control) -> bool:
    if gate.holds is not None:
        low, high = line.interval or (1.0, 0.0)
        return (low is None or low <= gate.holds) and (high is None or gate.holds <= high)
    if line.value is None:  # infinite, which JSON has no number for
        return gate.at_least is not None
    least, most = gate.at_least, gate.at_most
    return (least is None or line.value >= least) and (most is None or line.value <= most)


def _wrong(line: Judgement, policy: Policy, broken: bool) -> str | None:
    """What does not follow from the policy; None where all does."""
    if line.value is None or line.interval is None:
        return None
    if broken != (line.verdict is Verdict.INVALID):
        return f"is {line.verdict}, and a control is {'off' if broken else 'not off'} its gate"
    limit = _threshold(policy, line)
    if limit is None:
        if line.threshold is not None and not line.of_epsilon:
            return f"is held against {line.threshold:g}, the policy has no threshold for it"
        return None
    if line.threshold != limit.at_most:
        return f"is held against {line.threshold}, the policy has {limit.at_most}"
    if broken:
        return None
    if limit.at_most is None:
        return f"is {line.verdict}, and not to be judged" if line.verdict else None
    return _by_interval(line, limit.at_most, (1 - policy.confidence) / 2)


def _by_interval(line: Judgement, most: float, level: float) -> str | None:
    """A verdict that leaves open what the figures decide."""
    assert line.interval is not None  # noqa: S101  # chosen so by the caller
    low, high = line.interval
    if high is not None and high < most and line.verdict is not Verdict.PASS:
        return f"is {line.verdict}, and its interval is under the threshold"
    by_chance = line.adjusted_p is not None and line.adjusted_p >= level
    if low is not None and low > most and line.verdict is not Verdict.FAIL and not by_chance:
        return f"is {line.verdict}, and its interval is over the threshold"
    return None


def _unanswered(audit: AuditFile) -> Iterator[Mismatch]:
    answered = {(line.attack, line.metric, line.scene) for line in audit.judgements}
    for limit in audit.policy.thresholds:
        asked = not audit.asked or limit.attack in audit.asked
        key = (limit.attack, limit.metric, limit.scene)
        if asked and limit.at_most is not None and key not in answered:
            yield _told(f"{', '.join(key)}: the policy has a threshold, and no line answers it")


def _claims(run: Run, audit: AuditFile) -> Iterator[Mismatch]:
    """What bounds on epsilon were held against is what some ledger counts."""
    if not run.finished or not run.settings.privacy.dp:
        return
    counted = [one.guarantee().counted for one in run.ledgers.values()]
    for line in audit.judgements:
        claim = line.threshold if line.of_epsilon else None
        if claim is not None and all(abs(claim - each) > SAME_CLAIM for each in counted):
            told = f"is held against a claim of {at_most(claim)}"
            yield _told(f"{_name(line)}: {told}, the ledgers give another")


def of_digest(run: Run) -> Iterator[Mismatch]:
    """Every figure, by the digest that was written with it."""
    if run.audit is not None and run.audit.sha256 != run.audit.digest:
        yield _told("changed since it was written")


def _threshold(policy: Policy, line: Judgement) -> Threshold | None:
    key = (line.attack, line.metric, line.scene)
    return next((t for t in policy.thresholds if (t.attack, t.metric, t.scene) == key), None)


def _name(line: Judgement) -> str:
    return ", ".join(part for part in (line.attack, line.observer or "", line.title) if part)


def _told(text: str) -> Mismatch:
    return Mismatch(AuditFile.NAME, text)
