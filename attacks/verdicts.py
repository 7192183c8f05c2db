"""Verdicts: from findings and controls to PASS, FAIL, INCONCLUSIVE or INVALID.

    PASS          the upper confidence limit is under the threshold
    FAIL          the lower limit is over it; or a lower bound is over what the run claims; or what
                  was seen is too improbable if the claim is true; or a check did not come to
                  nothing that must, whatever the policy says
    INCONCLUSIVE  between; or not attacked, withheld, without a threshold, without power
    (none)        reported, not judged: the policy wants it so, the attack has nothing to work on,
                  or another line decides (below)
    INVALID       a control of that attack is off its gate, or was not run

Two lines may leave the decision to another. Of a family with a primary attack, named in advance,
the others can pass or, after Holm's correction, fail; where their interval holds the threshold, the
primary decides. And a claim is of the run, not of an observer: anyone who contradicts it fails it,
and who could not have noticed a breach leaves the answer to whoever could.

A control speaks for the attacks of its family. Of the whole audit: FAIL if anything fails whose
controls stand, since a leak shown by a sound attack is shown whatever became of the others; then
INVALID, INCONCLUSIVE, PASS. Nothing judged is INCONCLUSIVE, never PASS. A PASS says that these
attacks found little, with this confidence. It does not say that none could.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from attacks.findings import Check, Control, Finding, LowerBound, Scene, Surprise
from attacks.policy import Gate, Policy, Threshold
from attacks.remedies import of_nothing, remedy
from attacks.statistics.intervals import Interval, holm, tail
from securefed.exposure import Observer
from securefed.verdict import Verdict, gravest


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """One line of the verdict.

    Attributes:
        attack: the family.
        observer: None where nobody attacked.
        method: the attack within its family, or what was tried; "" where nobody attacked.
        metric, scene: "" for what was tried, which measures nothing.
        verdict: None where the policy reports the figure without judging it.
        reason: in words, with the figures that decided.
        threshold: the policy's, or the run's own claim.
        adjusted_p: Holm's p-value against the threshold, for an attack that is not the primary.
        decides: False for what stands behind another line: a method beside its family's primary
            that neither fails nor leaves a gap, or what no policy judges.
        remedy: of what is INCONCLUSIVE, what would settle it; else "".
    """

    attack: str
    observer: Observer | None
    method: str = ""
    metric: str = ""
    scene: Scene | Literal[""] = ""
    verdict: Verdict | None
    reason: str
    value: float | None = None
    interval: Interval | None = None
    threshold: float | None = None
    adjusted_p: float | None = None
    decides: bool = True
    remedy: str = ""


Answer = tuple[Verdict | None, str]  # and the reason


@dataclass(frozen=True)
class AuditVerdict:
    verdict: Verdict
    judgements: tuple[Judgement, ...]
    broken_controls: dict[str, tuple[str, ...]]


def gate_complaint(gate: Gate, controls: Sequence[Control]) -> str | None:
    """Why a gate is not met, or None. Every control of that name must meet it."""
    name = f"{gate.control}: {gate.metric}"
    key = (gate.attack, gate.control, gate.metric)
    measured = [c for c in controls if (c.attack, c.control, c.metric) == key]
    if not measured:
        return f"{name} was not run"
    for control in measured:
        value, interval = control.value, control.interval
        # Written so that NaN is off every gate.
        if gate.at_least is not None and not value >= gate.at_least:
            return f"{name} is {value:.4g}, must be at least {gate.at_least:g}"
        if gate.at_most is not None and not value <= gate.at_most:
            return f"{name} is {value:.4g}, must be at most {gate.at_most:g}"
        if gate.holds is not None and not (interval and interval.holds(gate.holds)):
            return f"{name}: the interval {_limits(interval)} does not hold {gate.holds:g}"
    return None


def _limits(interval: Interval | None) -> str:
    return f"[{interval.lower:.4g}, {interval.upper:.4g}]" if interval else "(none)"


def judge(
    findings: Sequence[Finding],
    controls: Sequence[Control],
    policy: Policy,
    checks: Sequence[Check] = (),
    asked: Collection[str] | None = None,
) -> AuditVerdict:
    """Apply the policy. Every threshold of the policy is answered, found or not.

    Args:
        asked: families whose thresholds have to be answered; None: all.
    """
    broken: dict[str, tuple[str, ...]] = {}
    for attack in sorted({f.attack for f in findings if f.estimate is not None}):
        complaints = (gate_complaint(g, controls) for g in policy.gates if g.attack == attack)
        if complaint := tuple(c for c in complaints if c):
            broken[attack] = complaint
    adjusted = _adjusted_p_values(findings, policy)
    judgements = [
        _of_finding(finding, findings, policy, broken, adjusted.get(position))
        for position, finding in enumerate(findings)
    ]
    answered = {(f.attack, f.metric, f.scene) for f in findings}
    judgements += [
        _not_attacked(t)
        for t in policy.thresholds
        if t.at_most is not None
        and (asked is None or t.attack in asked)
        and (t.attack, t.metric, t.scene) not in answered
    ]
    judgements += [_of_check(check) for check in checks]
    verdict = gravest(line.verdict for line in judgements) or Verdict.INCONCLUSIVE
    return AuditVerdict(verdict, tuple(judgements), broken)


def _of_check(check: Check) -> Judgement:
    """A program that takes what it must refuse is broken, whatever the policy says."""
    verdict = None
    if check.expected:
        verdict = Verdict.PASS if check.refused else Verdict.FAIL
    told = "refused" if check.refused else "accepted"
    return Judgement(
        attack=check.attack,
        observer=check.observer,
        method=check.name,
        verdict=verdict,
        reason=f"{told}: {check.detail}",
        decides=verdict is not None,
    )


def _not_attacked(limit: Threshold) -> Judgement:
    return Judgement(
        attack=limit.attack,
        observer=None,
        metric=limit.metric,
        scene=limit.scene,
        verdict=Verdict.INCONCLUSIVE,
        reason="not attacked",
        remedy=of_nothing(limit.attack),
    )


def _adjusted_p_values(findings: Sequence[Finding], policy: Policy) -> dict[int, float]:
    """Holm over each family's judged findings except those of its primary attack, by position."""
    families: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for i, finding in enumerate(findings):
        limit = policy.threshold(finding.attack, finding.metric, finding.scene)
        if finding.estimate is None or limit is None or limit.at_most is None:
            continue
        if finding.method != policy.primary.get(finding.attack):
            families[finding.attack].append((i, finding.estimate.p_value_at_most(limit.at_most)))
    return {
        i: adjusted
        for family in families.values()
        for (i, _), adjusted in zip(family, holm([p for _, p in family]), strict=True)
    }


def _of_finding(
    finding: Finding,
    findings: Sequence[Finding],
    policy: Policy,
    broken: Mapping[str, tuple[str, ...]],
    adjusted_p: float | None,
) -> Judgement:
    """One finding, among all of them: some are answered by another."""
    estimate = finding.estimate
    limit = policy.threshold(finding.attack, finding.metric, finding.scene)
    primary = policy.primary.get(finding.attack)
    secondary = primary is not None and finding.method != primary
    interval = None if estimate is None else estimate.interval(policy.confidence)
    most = limit.at_most if limit else None
    if isinstance(estimate, LowerBound) and limit is None:
        most = estimate.claim

    def answer() -> Answer:
        if estimate is None or interval is None:
            return _absence(finding, limit)
        if finding.attack in broken:
            return Verdict.INVALID, "; ".join(broken[finding.attack])
        if isinstance(estimate, LowerBound) and (limit is None or estimate.refutes):
            return _against_claim(finding, estimate, findings, policy)
        if limit is None:
            return Verdict.INCONCLUSIVE, "the policy sets no threshold for it"
        if most is None:
            return None, f"reported, not judged: {limit.reason}"
        if isinstance(estimate, Surprise):
            return _against_chance(estimate, most)
        decider = primary if secondary and _answers(primary, finding, findings) else None
        level = tail(policy.confidence)
        return _against_threshold(interval, most, level, adjusted_p, decider)

    verdict, reason = answer()
    return Judgement(
        attack=finding.attack,
        observer=finding.observer,
        method=finding.method,
        metric=finding.metric,
        scene=finding.scene,
        verdict=verdict,
        reason=reason,
        value=None if estimate is None else estimate.value,
        interval=interval,
        threshold=None if estimate is None else most,
        adjusted_p=adjusted_p,
        decides=verdict is not None and not (secondary and verdict is Verdict.PASS),
        remedy=remedy(finding, limit, policy) if verdict is Verdict.INCONCLUSIVE else "",
    )


def _answers(method: str | None, finding: Finding, findings: Sequence[Finding]) -> bool:
    """Whether a method has a figure for the very question of a finding."""
    question = (finding.attack, finding.metric, finding.observer, finding.scene)
    return any(
        f.method == method and f.estimate is not None
        for f in findings
        if (f.attack, f.metric, f.observer, f.scene) == question
    )


def _absence(finding: Finding, limit: Threshold | None) -> Answer:
    """A figure that is missing counts where the policy asks for it and there could be one."""
    if not finding.applies:
        return None, f"does not apply: {finding.absent}"
    if limit is not None and (limit.at_most is None or not limit.required):
        return None, f"no figure, and the policy does not insist: {finding.absent}"
    return Verdict.INCONCLUSIVE, str(finding.absent)


def _against_threshold(
    interval: Interval, most: float, level: float, adjusted_p: float | None, decider: str | None
) -> Answer:
    """An interval against the policy's threshold.

    Args:
        level: of a one-sided test.
        decider: the primary attack, where it answers the same question.
    """
    if interval.upper < most:
        return Verdict.PASS, f"upper limit {interval.upper:.4g} is under {most:g}"
    if interval.lower <= most:
        between = f"{_limits(interval)} holds {most:g}"
        if decider:
            return None, f"{between}; the primary attack, {decider}, decides"
        return Verdict.INCONCLUSIVE, between
    over = f"lower limit {interval.lower:.4g} is over {most:g}"
    if adjusted_p is not None and adjusted_p >= level:
        return (
            Verdict.INCONCLUSIVE,
            f"{over}, but not after Holm's correction for several attacks (p {adjusted_p:.3g})",
        )
    return Verdict.FAIL, over


def _against_chance(surprise: Surprise, most: float) -> Answer:
    """A test of the claim at the policy's own level, which is that of each test by itself."""
    said = f"{surprise.of}: p {10.0**-surprise.value:.2g}"
    if surprise.value > most:
        return Verdict.FAIL, f"{said}; an honest run falls below {10.0**-most:.2g} that rarely"
    return Verdict.PASS, f"{said}, as an honest run may"


def _against_claim(
    finding: Finding, bound: LowerBound, findings: Sequence[Finding], policy: Policy
) -> Answer:
    """A claim can be refuted; it cannot be confirmed, only survive a test that had power."""
    visible = f"the least {finding.metric} this audit could have seen is {bound.least_visible:.3g}"
    if bound.told:
        visible = f"{bound.told}; {visible}"
    if bound.claim is None or bound.power is None:
        return None, f"the run claims no {finding.metric}; {visible}"
    if bound.refutes:
        return (
            Verdict.FAIL,
            f"{finding.metric} is at least {bound.value:.4g}, the claim is {bound.claim:.4g}: "
            f"{bound.if_refuted}",
        )
    rule = policy.power(finding.attack)
    if rule is None:
        return Verdict.INCONCLUSIVE, f"the policy does not say how much power counts; {visible}"
    if bound.power >= rule.minimum_power:
        return Verdict.PASS, f"not contradicted by a test of power {bound.power:.2g}; {visible}"
    weak = (
        f"not contradicted, but {bound.breach} would have been noticed with probability "
        f"{bound.power:.2g} only; {visible}"
    )
    ablest = _ablest(finding, findings)
    if finding is ablest:
        return Verdict.INCONCLUSIVE, weak
    who = f"The {ablest.observer}" if ablest.observer != finding.observer else "It"
    return None, f"{weak}. {who} tests the same claim with more power, by {ablest.method}"


def _ablest(finding: Finding, findings: Sequence[Finding]) -> Finding:
    """Of the tests of a finding's claim the one that had most power."""

    def power(each: Finding) -> float:
        bound = each.estimate
        return (bound.power or 0.0) if isinstance(bound, LowerBound) else -1.0

    return max((each for each in findings if each.attack == finding.attack), key=power)
