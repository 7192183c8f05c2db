"""Verdicts: from findings and controls to PASS, FAIL, INCONCLUSIVE or INVALID.

    PASS          the upper confidence limit is under the threshold
    FAIL          the lower limit is over it; or the certified epsilon is over the claimed one
    INCONCLUSIVE  between; or not attacked, withheld, without a threshold, without power
    (none)        reported, not judged: the policy wants it so, the attack has nothing to work on,
                  or another line decides (below)
    INVALID       a control of that attack is off its gate, or was not run

Two lines may leave the decision to another. Of a family with a primary attack, named in advance,
the others can pass or, after Holm's correction, fail; where their interval holds the threshold, the
primary decides. And a claimed epsilon is of the mechanism, not of an observer: anyone who
contradicts it fails it, and who could not have noticed half the noise leaves the answer to whoever
could.

A control speaks for the attacks of its family. Of the whole audit: FAIL if anything fails whose
controls stand, since a leak shown by a sound attack is shown whatever became of the others; then
INVALID, INCONCLUSIVE, PASS. Nothing judged is INCONCLUSIVE, never PASS. A PASS says that these
attacks found little, with this confidence. It does not say that none could.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from attacks.epsilon.canaries import EpsilonAudit
from attacks.errors import InvalidScores
from attacks.policy import Attack, Gate, Policy, Scene, Threshold
from attacks.statistics.intervals import Estimate, Interval, holm, tail


class Verdict(Enum):
    PASS = "PASS"  # noqa: S105  # a verdict, not a password
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"
    FAIL = "FAIL"

    @property
    def exit_code(self) -> int:
        """3 on FAIL, for pipelines; 0 otherwise."""
        return 3 if self is Verdict.FAIL else 0


GRAVITY = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.INVALID, Verdict.FAIL)


@dataclass(frozen=True)
class Finding:
    """What one attack found, by one observer, in one scene.

    Attributes:
        method: the attack within its family, for instance "lira".
        metric: of leakage, larger is worse; named as in the policy.
        estimate: the figure; None where there is none.
        absent: why there is none (not applicable, withheld); None where there is one.
        applies: False where the observer saw nothing that this attack could start from.

    Raises:
        InvalidScores: both or neither of estimate and absent, or a figure that is not finite.
    """

    attack: Attack
    method: str
    metric: str
    observer: str
    scene: Scene
    estimate: Estimate | None = None
    absent: str | None = None
    applies: bool = True

    def __post_init__(self) -> None:
        if (self.estimate is None) == (not self.absent):
            raise InvalidScores(f"{self.name}: a finding is a figure, or says why there is none")
        if self.estimate is not None and not self.applies:
            raise InvalidScores(f"{self.name}: a figure from an attack that does not apply")
        if self.estimate is not None and not math.isfinite(self.estimate.value):
            raise InvalidScores(f"{self.name}: the figure is {self.estimate.value}")

    @property
    def name(self) -> str:
        return f"{self.attack} / {self.method} / {self.metric} / {self.observer} / {self.scene}"


@dataclass(frozen=True)
class Control:
    """A control's figure; `interval` where its gate asks for one."""

    attack: Attack
    control: str
    metric: str
    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Check:
    """One thing a malicious server tried on a client.

    Attributes:
        refused: whether the client refused.
        expected: whether a sound client refuses; False where no client can tell.
        detail: the refusal's name, or what follows from acceptance.
    """

    name: str
    refused: bool
    expected: bool
    detail: str

    @property
    def sound(self) -> bool:
        return self.refused == self.expected


@dataclass(frozen=True)
class Judgement:
    """One line of the verdict.

    Attributes:
        observer: None where nobody attacked.
        verdict: None where the policy reports the figure without judging it.
        reason: in words, with the figures that decided.
        adjusted_p: Holm's p-value against the threshold, for an attack that is not the primary.
        decides: False for what stands behind another line: a method beside its family's primary
            that neither fails nor leaves a gap, or what no policy judges.
    """

    attack: Attack | Literal["malicious server"]
    observer: str | None
    name: str
    verdict: Verdict | None
    reason: str
    value: float | None = None
    interval: Interval | None = None
    threshold: float | None = None
    adjusted_p: float | None = None
    decides: bool = True


@dataclass(frozen=True)
class AuditVerdict:
    verdict: Verdict
    judgements: tuple[Judgement, ...]
    broken_controls: dict[Attack, tuple[str, ...]]


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
    epsilon_audits: Mapping[str, EpsilonAudit] | None = None,
    checks: Sequence[Check] = (),
) -> AuditVerdict:
    """Apply the policy. Every threshold of the policy is answered, found or not.

    Args:
        epsilon_audits: observer -> what its canaries say.
        checks: what a malicious server tried on a client.
    """
    epsilon_audits = epsilon_audits or {}
    broken: dict[Attack, tuple[str, ...]] = {}
    attacked: set[Attack] = {f.attack for f in findings if f.estimate is not None}
    if epsilon_audits:
        attacked.add("epsilon")
    for attack in sorted(attacked):
        complaints = (gate_complaint(g, controls) for g in policy.gates if g.attack == attack)
        if found := tuple(c for c in complaints if c):
            broken[attack] = found

    adjusted = _adjusted_p_values(findings, policy)
    decided = {
        _question(finding)
        for finding in findings
        if finding.estimate is not None and finding.method == policy.primary.get(finding.attack)
    }
    judgements = [
        _judge_finding(finding, policy, broken, adjusted.get(i), _question(finding) in decided)
        for i, finding in enumerate(findings)
    ]
    answered = {(f.attack, f.metric, f.scene) for f in findings}
    judgements += [
        _not_attacked(t)
        for t in policy.thresholds
        if t.at_most is not None and (t.attack, t.metric, t.scene) not in answered
    ]
    powers = {name: each.power_halved_noise or 0.0 for name, each in epsilon_audits.items()}
    ablest = max(powers, key=lambda name: powers[name], default="")
    judgements += [
        _judge_epsilon(observer, each, policy, broken, ablest)
        for observer, each in epsilon_audits.items()
    ]
    judgements += [_judge_check(check) for check in checks]
    verdicts = [j.verdict for j in judgements if j.verdict is not None]
    overall = max(verdicts, key=GRAVITY.index, default=Verdict.INCONCLUSIVE)
    return AuditVerdict(overall, tuple(judgements), broken)


def _question(finding: Finding) -> tuple[str, ...]:
    """What several methods of a family answer, the primary among them."""
    return (finding.attack, finding.metric, finding.observer, finding.scene)


def _judge_check(check: Check) -> Judgement:
    """A client that takes what it must refuse is broken, whatever the policy says."""
    name = f"malicious server / {check.name}"
    verdict = None
    if check.expected:
        verdict = Verdict.PASS if check.refused else Verdict.FAIL
    told = "refused" if check.refused else "accepted"
    return Judgement(
        "malicious server",
        "server",
        name,
        verdict,
        f"{told}: {check.detail}",
        decides=verdict is not None,
    )


def _not_attacked(limit: Threshold) -> Judgement:
    name = f"{limit.attack} / {limit.metric} / {limit.scene}"
    return Judgement(limit.attack, None, name, Verdict.INCONCLUSIVE, "not attacked")


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


def _judge_finding(
    finding: Finding,
    policy: Policy,
    broken: dict[Attack, tuple[str, ...]],
    adjusted_p: float | None,
    decided: bool,
) -> Judgement:
    """One finding; `decided` where the family's primary attack answers the same question."""
    estimate = finding.estimate
    limit = policy.threshold(finding.attack, finding.metric, finding.scene)
    if estimate is None:
        return _judge_absence(finding, limit)
    interval = estimate.interval(policy.confidence)
    most = None if limit is None else limit.at_most

    primary = policy.primary.get(finding.attack)
    secondary = primary is not None and finding.method != primary

    def line(verdict: Verdict | None, reason: str) -> Judgement:
        return Judgement(
            finding.attack,
            finding.observer,
            finding.name,
            verdict,
            reason,
            estimate.value,
            interval,
            most,
            adjusted_p,
            verdict is not None and not (secondary and verdict is Verdict.PASS),
        )

    if finding.attack in broken:
        return line(Verdict.INVALID, "; ".join(broken[finding.attack]))
    if limit is None:
        return line(Verdict.INCONCLUSIVE, "the policy sets no threshold for it")
    if most is None:
        return line(None, f"reported, not judged: {limit.reason}")
    if interval.upper < most:
        return line(Verdict.PASS, f"upper limit {interval.upper:.4g} is under {most:g}")
    if interval.lower <= most:
        between = f"{_limits(interval)} holds {most:g}"
        if decided and secondary:
            return line(None, f"{between}; the primary attack, {primary}, decides")
        return line(Verdict.INCONCLUSIVE, between)
    if adjusted_p is not None and adjusted_p >= tail(policy.confidence):
        return line(
            Verdict.INCONCLUSIVE,
            f"lower limit {interval.lower:.4g} is over {most:g}, but not after Holm's correction "
            f"for several attacks (p {adjusted_p:.3g})",
        )
    return line(Verdict.FAIL, f"lower limit {interval.lower:.4g} is over {most:g}")


def _judge_absence(finding: Finding, limit: Threshold | None) -> Judgement:
    """A figure that is missing counts where the policy asks for it and there could be one."""

    def line(verdict: Verdict | None, reason: str) -> Judgement:
        return Judgement(
            finding.attack,
            finding.observer,
            finding.name,
            verdict,
            reason,
            decides=verdict is not None,
        )

    if not finding.applies:
        return line(None, f"does not apply: {finding.absent}")
    if limit is not None and (limit.at_most is None or not limit.required):
        return line(None, f"no figure, and the policy does not insist: {finding.absent}")
    return line(Verdict.INCONCLUSIVE, str(finding.absent))


def _judge_epsilon(
    observer: str,
    audit: EpsilonAudit,
    policy: Policy,
    broken: dict[Attack, tuple[str, ...]],
    ablest: str,
) -> Judgement:
    """A claim can be refuted; it cannot be confirmed, only survive a test that had power.

    Args:
        ablest: the observer whose audit had the most power.
    """
    certified, claimed, power = audit.certified, audit.claimed_epsilon, audit.power_halved_noise
    level = 1 - audit.plan.significance
    seen = f"the least epsilon this audit could have seen is {audit.visible_epsilon:.3g}"

    def line(verdict: Verdict | None, reason: str) -> Judgement:
        interval = Interval(certified, math.inf, level)
        name = f"epsilon / canaries / {observer}"
        return Judgement(
            "epsilon",
            observer,
            name,
            verdict,
            reason,
            certified,
            interval,
            claimed,
            decides=verdict is not None,
        )

    if "epsilon" in broken:
        return line(Verdict.INVALID, "; ".join(broken["epsilon"]))
    if claimed is None or power is None:
        return line(None, f"the run claims no epsilon; {seen}")
    if certified > claimed:
        return line(
            Verdict.FAIL,
            f"epsilon is at least {certified:.4g}, the claim is {claimed:.4g}: "
            "the implementation of differential privacy is broken",
        )
    if power < policy.epsilon.minimum_power:
        weak = (
            f"not contradicted, but half the noise would have been noticed with probability "
            f"{power:.2g} only; {seen}"
        )
        if observer == ablest:
            return line(Verdict.INCONCLUSIVE, weak)
        return line(None, f"{weak}. The {ablest} tests the same claim with more power")
    return line(Verdict.PASS, f"not contradicted by a test of power {power:.2g}; {seen}")
